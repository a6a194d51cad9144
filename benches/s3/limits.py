"""How near Lepton's S3 comes to what the machine allows, for long objects.

    cargo build --release -p lepton && cargo build --release -p lepton-objects --examples
    python3 benches/s3/limits.py target/release SCRATCH [--rounds 5] [--seconds 4] [--cores 0,1]

In turns, so that other work on the machine slows all of them alike: MD5 and AES-256-GCM alone, plain files that are
written and synced (or read) by as many threads as there will be connections, then PUT and GET of 64 MiB, all
on the same cores but the client, which has the others. The table shows the median of the rounds, and
each round's figure as a share of the lowest limit of the same round: of MD5 (on as many cores as it
can use: one a connection), of the cipher, and of the disk, for PUT; of the cipher and of plain files from the page cache, for GET.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

from compare import lepton, load

SIZE, OBJECTS = 64 << 20, 12


def limits(binary, folder, cores, connections, seconds):
    done = subprocess.run(["taskset", "-c", cores, binary, folder, str(SIZE), str(connections), str(seconds)],
                          capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


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
    server = None
    try:
        server = lepton(options.release / "lepton", folder / "lepton", options.cores)
        print(f"load average at the start: {os.getloadavg()[0]:.1f}")
        print("| | MD5, a core | AES-256-GCM, a core | files, synced | files, read | Lepton | of the lowest limit |\n|---|---|---|---|---|---|---|")
        for connections in map(int, options.connections.split(",")):
            seen = {"put": [], "get": []}
            bounds = []
            for _ in range(options.rounds):
                most = limits(bare, folder / "plain", options.cores, connections, options.seconds)
                bounds.append(most)
                usable = min(cores, connections)
                for what in seen:
                    done = load(client, server, options.client_cores, what, SIZE, connections, OBJECTS, options.seconds)
                    lowest = min(most["cipher_core"] * usable, most["read"]) if what == "get" else min(
                        most["md5_core"] * usable, most["cipher_core"] * usable, most["write"])
                    seen[what].append((done["mb_s"], done["mb_s"] / lowest))
            middle = {key: statistics.median(one[key] for one in bounds) for key in bounds[0]}
            for what, figures in seen.items():
                shares = sorted(share for _, share in figures)
                print(f"| {what.upper()} 64 MiB, {connections} | " + " | ".join(f"{middle[key]:,.0f}" for key in middle)
                      + f" | {statistics.median(rate for rate, _ in figures):,.0f} | {statistics.median(shares):.0%}"
                      f" ({shares[0]:.0%} to {shares[-1]:.0%}) |", flush=True)
        print(f"most memory of the server: {server.peak_mib()} MiB; load average at the end: {os.getloadavg()[0]:.1f}")
    finally:
        if server:
            server.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
