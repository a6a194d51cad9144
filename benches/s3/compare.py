"""Lepton's S3 beside Garage's, on the same disk in the same run.

    cargo build --release -p lepton && cargo build --release -p lepton-objects --example s3_load
    cargo install garage --version 2.5.0 --locked
    python3 benches/s3/compare.py target/release SCRATCH [--garage GARAGE] [--seconds 8] [--cores 0,1]

starts both servers below SCRATCH, pinned to the same cores while the client has the others, and lets one after
the other be asked the same: PUT, then GET, of 4 KiB, 1 MiB and 64 MiB, over 1 and 32 connections. Both sync
before they answer (Garage is told `metadata_fsync` and `data_fsync`, and not to compress); only Lepton encrypts.
What a server held in memory at most is read at the end of each length.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

SIZES = [(4096, 4000, "4 KiB"), (1 << 20, 200, "1 MiB"), (64 << 20, 12, "64 MiB")]
GARAGE = """
metadata_dir = "{folder}/meta"
data_dir = "{folder}/data"
db_engine = "lmdb"
metadata_fsync = true
data_fsync = true
compression_level = "none"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "{secret}"
[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:{port}"
[admin]
api_bind_addr = "127.0.0.1:{admin}"
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server that runs; `address` and `env` are for its clients."""

    def __init__(self, name, command, cores, env, folder):
        self.name = name
        self.log = open(folder / "log", "wb")
        self.process = subprocess.Popen(["taskset", "-c", cores, *map(str, command)], env=env,
                                        stdout=self.log, stderr=self.log)

    def peak_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024

    def forget_peak(self):
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def until(look, what, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    sys.exit(f"not within {seconds} s: {what}")


def run(env, *command):
    return subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True)


def lepton(binary, folder, cores):
    folder.mkdir()
    port, s3_port = free_port(), free_port()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LEPTON_", "AWS_"))}
    env |= {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), "LEPTON_DATA_DIR": str(folder / "data")}
    server = Server("Lepton", [binary, "up", "--data-dir", folder / "data", "--listen", f"127.0.0.1:{port}",
                               "--s3-listen", f"127.0.0.1:{s3_port}"], cores, env, folder)
    until(lambda: run(env, binary, "whoami").returncode == 0, "Lepton is up")
    made = json.loads(run(env, binary, "keys", "create", "bench", "--role", "admin", "-o", "json").stdout)
    server.address = f"127.0.0.1:{s3_port}"
    server.env = keys(made["access_key_id"], made["secret_access_key"], "us-east-1")
    make_bucket(server)
    return server


def garage(binary, folder, cores):
    folder.mkdir()
    port = free_port()
    config = folder / "garage.toml"
    config.write_text(GARAGE.format(folder=folder, port=port, rpc=free_port(), admin=free_port(),
                                    secret=os.urandom(32).hex()))
    server = Server("Garage", [binary, "-c", config, "server"], cores, dict(os.environ), folder)
    ask = lambda *words: run(dict(os.environ), binary, "-c", config, *words)
    node = until(lambda: ask("node", "id", "-q").stdout.strip(), "Garage is up").split("@")[0]
    until(lambda: ask("layout", "assign", "-z", "here", "-c", "100G", node).returncode == 0, "a layout")
    ask("layout", "apply", "--version", "1")
    until(lambda: ask("key", "create", "bench").returncode == 0, "a key")
    told = ask("key", "info", "--show-secret", "bench").stdout
    value = lambda label: next(line.split(":", 1)[1].strip() for line in told.splitlines() if line.startswith(label))
    ask("bucket", "create", "bench")
    ask("bucket", "allow", "--read", "--write", "--owner", "bench", "--key", "bench")
    server.address = f"127.0.0.1:{port}"
    server.env = keys(value("Key ID"), value("Secret key"), "garage")
    return server


def keys(access, secret, region):
    return dict(os.environ) | {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": region}


def make_bucket(server):
    import boto3
    boto3.client("s3", endpoint_url=f"http://{server.address}", region_name="us-east-1",
                 aws_access_key_id=server.env["AWS_ACCESS_KEY_ID"],
                 aws_secret_access_key=server.env["AWS_SECRET_ACCESS_KEY"]).create_bucket(Bucket="bench")


def load(client, server, cores, what, size, connections, objects, seconds):
    done = run(server.env, "taskset", "-c", cores, client, server.address, "bench", what, size, connections,
               objects, seconds)
    if done.returncode:
        sys.exit(f"{server.name}: {done.stderr}")
    return json.loads(done.stdout)


def shown(figures, size):
    if size < 1 << 20:
        return f"{figures['rate']:,.0f}/s, p50 {figures['p50_ms']:.2f}, p99 {figures['p99_ms']:.1f} ms"
    return f"{figures['mb_s']:,.0f} MB/s, p50 {figures['p50_ms']:.1f} ms"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=pathlib.Path, help="folder with `lepton` and `examples/s3_load`")
    parser.add_argument("scratch", type=pathlib.Path)
    parser.add_argument("--garage", help="its binary; without it, Lepton alone is measured")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--cores", default="0,1")
    parser.add_argument("--client-cores", default="2,3")
    parser.add_argument("--sizes", default="4 KiB,1 MiB,64 MiB")
    options = parser.parse_args()
    client = options.release / "examples/s3_load"
    folder = options.scratch / "lepton-s3-bench"
    folder.mkdir(parents=True)
    servers = []
    try:
        servers.append(lepton(options.release / "lepton", folder / "lepton", options.cores))
        if options.garage:
            servers.append(garage(options.garage, folder / "garage", options.cores))
        print(f"load average at the start: {os.getloadavg()[0]:.1f}")
        print("| | " + " | ".join(server.name for server in servers) + " | ratio |\n" + "|---" * (len(servers) + 2) + "|")
        for size, objects, name in SIZES:
            if name not in options.sizes.split(","):
                continue
            for server in servers:
                server.forget_peak()
            for what in ["put", "get"]:
                for connections in [1, 32]:
                    if what == "get" and connections == 1:
                        # Every object is there before any is asked for.
                        for server in servers:
                            load(client, server, options.client_cores, "put", size, 4, objects, 0)
                    figures = [load(client, server, options.client_cores, what, size, connections, objects,
                                    options.seconds) for server in servers]
                    ratio = f"{figures[0]['rate'] / figures[1]['rate']:.2f}" if len(figures) > 1 else ""
                    cells = " | ".join(shown(one, size) for one in figures)
                    print(f"| {what.upper()} {name}, {connections} | {cells} | {ratio} |", flush=True)
            print(f"| … most memory | {' | '.join(f'{server.peak_mib()} MiB' for server in servers)} | |", flush=True)
        print(f"load average at the end: {os.getloadavg()[0]:.1f}")
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
