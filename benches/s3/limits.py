"""How near Lepton's S3 comes to what the machine allows, for long objects.

    cargo build --release -p lepton && cargo build --release -p lepton-objects --examples
    python3 benches/s3/limits.py target/release SCRATCH [--rounds 5] [--seconds 4] [--cores 0,1]

In turns, so that other work on the machine slows all of them alike: MD5 and AES-256-GCM alone, plain files that are
written and synced (or read) by as many threads as there will be connections, PUT and GET of 64 MiB at a server that throws
bytes away and sends them from memory, then at Lepton. All have the same cores but the client, which has the others.
The table shows the median of the rounds; the last two columns compare within each round:

- with the slowest single limit: of MD5 (one core a connection, as far as there are cores), of the cipher and of the disk for PUT; of the
  cipher and of plain files from the page cache for GET;
- with the least of these, of the socket (what the server that does nothing reached with the same client), and of the cores:
  what all of it together takes of processor time a byte — MD5 (of sixteen streams together, where there are many connections), cipher,
  file, and socket — divided among them.

Then GET of objects that the page cache was made to forget, each once, beside `dd` of plain files that it was made to forget.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import time

from compare import free_port, keys, lepton, load, until

SIZE, OBJECTS = 64 << 20, 12


def limits(binary, folder, cores, connections, seconds):
    done = subprocess.run(["taskset", "-c", cores, binary, folder, str(SIZE), str(connections), str(seconds)],
                          capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Idle:
    """A server that keeps nothing; `load` takes it for one of S3."""

    def __init__(self, binary, cores):
        port = free_port()
        self.process = subprocess.Popen(["taskset", "-c", cores, binary, "serve", str(port), str(SIZE)])
        self.address, self.env = f"127.0.0.1:{port}", keys("none", "none", "none")
        until(self.answers, "the idle server is up")

    def answers(self):
        with socket.socket() as probe:
            host, port = self.address.split(":")
            return probe.connect_ex((host, int(port))) == 0

    def stop(self):
        self.process.kill()
        self.process.wait()


def limits_of(what, most, idle, cores, connections):
    """MB a second: by the slowest single limit, and by all together."""
    usable = min(cores, connections)
    md5 = most["md5_core"] if connections == 1 else most["md5_16_core"]
    if what == "put":
        single = min(most["md5_core"] * usable, most["cipher_core"] * usable, most["write"])
        cost = 1 / md5 + 1 / most["cipher_core"] + most["write_cost"] + idle["cost"]
    else:
        single = min(most["cipher_core"] * usable, most["read"])
        cost = 1 / most["cipher_core"] + most["read_cost"] + idle["cost"]
    return single, min(single, idle["mb_s"], cores / cost)


def forget(folder):
    """Has the page cache drop what is in the files of `folder`."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_plain(files, cores, connections):
    """MB a second of so many readers of files, each file once."""
    read = lambda path: subprocess.run(["taskset", "-c", cores, "dd", f"if={path}", "of=/dev/null", "bs=1M"],
                                       check=True, stderr=subprocess.DEVNULL)
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(connections) as pool:
        list(pool.map(read, files))
    return len(files) * SIZE / 1e6 / (time.monotonic() - start)


def from_disk(client, server, folder, options):
    plain = folder / "cold"
    plain.mkdir()
    files = [plain / str(number) for number in range(OBJECTS)]
    for path in files:
        path.write_bytes(os.urandom(SIZE))
    print("\n| from the disk | plain files | Lepton | of plain files |\n|---|---|---|---|")
    for connections in (1, 4):
        rounds = []
        for _ in range(options.rounds):
            forget(plain)
            bare = read_plain(files, options.cores, connections)
            forget(folder / "lepton")
            rounds.append((bare, load(client, server, options.client_cores, "get", SIZE, connections, OBJECTS, 0)["mb_s"]))
        shares = sorted(done / bare for bare, done in rounds)
        bare, done = (statistics.median(column) for column in zip(*rounds))
        print(f"| GET 64 MiB, {connections} | {bare:,.0f} | {done:,.0f} | {statistics.median(shares):.0%} "
              f"({shares[0]:.0%} to {shares[-1]:.0%}) |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=pathlib.Path, help="folder with `lepton`, `examples/s3_load` and `examples/limits`")
    parser.add_argument("scratch", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--cores", default="0,1")
    parser.add_argument("--client-cores", default="2,3")
    parser.add_argument("--connections", default="1,32")
    options = parser.parse_args()
    client, bare = options.release / "examples/s3_load", options.release / "examples/limits"
    folder = options.scratch / "lepton-s3-limits"
    folder.mkdir(parents=True)
    cores = len(options.cores.split(","))
    server = idle = None
    try:
        server = lepton(options.release / "lepton", folder / "lepton", options.cores)
        print(f"load average at the start: {os.getloadavg()[0]:.1f}")
        print("| | MD5, a core | of 16 streams | AES-256-GCM, a core | files, synced | files, read | socket alone | Lepton "
              "| of the slowest alone | of all together |\n|---|---|---|---|---|---|---|---|---|---|")
        idle = Idle(bare, options.cores)
        # What is read must be there.
        load(client, server, options.client_cores, "put", SIZE, 4, OBJECTS, 0)
        for connections in map(int, options.connections.split(",")):
            seen = {"put": [], "get": []}
            bounds = []
            for _ in range(options.rounds):
                most = limits(bare, folder / "plain", options.cores, connections, options.seconds)
                bounds.append(most)
                for what in seen:
                    before = processor_seconds(idle.process.pid)
                    wire = load(client, idle, options.client_cores, what, SIZE, connections, OBJECTS, options.seconds / 2)
                    moved = wire["requests"] * SIZE / 1e6
                    wire["cost"] = (processor_seconds(idle.process.pid) - before) / moved
                    done = load(client, server, options.client_cores, what, SIZE, connections, OBJECTS, options.seconds)
                    single, together = limits_of(what, most, wire, cores, connections)
                    seen[what].append((done["mb_s"], done["mb_s"] / single, done["mb_s"] / together, wire["mb_s"]))
            middle = {key: statistics.median(one[key] for one in bounds) for key in bounds[0] if "cost" not in key}
            for what, figures in seen.items():
                rates, singles, togethers, wires = (sorted(column) for column in zip(*figures))
                share = lambda shares: f"{statistics.median(shares):.0%} ({shares[0]:.0%} to {shares[-1]:.0%})"
                print(f"| {what.upper()} 64 MiB, {connections} | " + " | ".join(f"{middle[key]:,.0f}" for key in middle)
                      + f" | {statistics.median(wires):,.0f} | {statistics.median(rates):,.0f} | {share(singles)} | {share(togethers)} |",
                      flush=True)
        from_disk(client, server, folder, options)
        print(f"most memory of the server: {server.peak_mib()} MiB; load average at the end: {os.getloadavg()[0]:.1f}")
    finally:
        for running in filter(None, (server, idle)):
            running.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
