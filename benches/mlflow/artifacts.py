"""How long each of many small artifacts of one run takes, one after the other.

Usage: artifacts.py LEPTON [COUNT] [--server-cores 0,1]
"""

import argparse
import json
import pathlib
import shutil
import statistics
import tempfile
import time

from compare import Api, free_port, new_run, server

PATH = "/api/2.0/mlflow-artifacts/artifacts/0"


def upload(api, run, number):
    body = f"file {number}".encode()
    head = (f"PUT {PATH}/{run}/artifacts/d{number % 10}/f{number}.txt HTTP/1.1\r\nHost: 127.0.0.1\r\n{api.bearer}"
            f"Content-Length: {len(body)}\r\n\r\n")
    began = time.perf_counter()
    api.exchange(head.encode() + body)
    return (time.perf_counter() - began) * 1e3


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lepton", type=pathlib.Path)
    parser.add_argument("count", type=int, nargs="?", default=1_500)
    parser.add_argument("--server-cores", type=lambda text: {int(core) for core in text.split(",")})
    options = parser.parse_args()
    folder, port = pathlib.Path(tempfile.mkdtemp(prefix="bench-artifacts-")), free_port()
    command = [str(options.lepton.resolve()), "up", "--data-dir", str(folder / "data"), "--listen", f"127.0.0.1:{port}"]
    try:
        with server(command, port, folder, "/readyz", options.server_cores):
            api = Api(port, json.loads((folder / "data/credentials/owner.json").read_text())["token"])
            run = new_run(api)
            times = [upload(api, run, number) for number in range(options.count)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ends = (statistics.median(part) for part in (times[:100], times[-100:]))
    print("the first 100: {:.1f} ms, the last 100: {:.1f} ms (medians), all {:.1f} s".format(*ends, sum(times) / 1e3))


if __name__ == "__main__":
    main()
