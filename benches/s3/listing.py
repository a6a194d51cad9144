"""Lists a bucket of ten million objects page by page.

    cargo build --release -p lepton
    python3 benches/s3/listing.py target/release/lepton SCRATCH [--objects 10000000]

starts a server below SCRATCH, makes a bucket and one object through S3, stops the server, and copies that
object's row in `objects.db` under ten million keys by SQL (each copy shares the one body; ten million PUTs would
measure something else). Then it starts the server again and lists the bucket through S3, 1,000 keys a page, to
the end; once more with a delimiter (10,000 folders); and single pages from random places. Needs boto3.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import time

from compare import free_port, run, until

FOLDERS = 10_000


class Lepton:
    def __init__(self, binary, folder):
        self.binary, self.folder, self.port, self.s3_port = binary, folder, free_port(), free_port()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("LEPTON_", "AWS_"))}
        self.env |= {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"),
                     "LEPTON_DATA_DIR": str(folder / "data")}

    def start(self):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "up", "--data-dir", self.folder / "data", "--listen", f"127.0.0.1:{self.port}",
                 "--s3-listen", f"127.0.0.1:{self.s3_port}"], env=self.env, stdout=log, stderr=log)
        until(lambda: run(self.env, self.binary, "whoami").returncode == 0, "Lepton is up")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def memory_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return {key: int(status.split(f"{key}:")[1].split()[0]) // 1024 for key in ["VmRSS", "VmHWM", "RssAnon"]}

    def client(self):
        import boto3
        made = json.loads(run(self.env, self.binary, "keys", "create", f"k{time.time_ns()}", "--role", "admin",
                              "-o", "json").stdout)
        return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.s3_port}", region_name="us-east-1",
                            aws_access_key_id=made["access_key_id"], aws_secret_access_key=made["secret_access_key"])


def fill(file, objects):
    """Copies the one object there is."""
    index = sqlite3.connect(file, isolation_level=None)
    columns = [row[1] for row in index.execute("PRAGMA table_info(versions)")]
    others = ", ".join(column for column in columns if column != "key")
    index.execute("PRAGMA synchronous = OFF")
    index.execute("PRAGMA cache_size = -400000")
    each = objects // FOLDERS
    for folder in range(0, FOLDERS, 500):
        index.execute("BEGIN")
        index.execute(
            f"""WITH RECURSIVE folders(f) AS (SELECT {folder} UNION ALL SELECT f + 1 FROM folders WHERE f + 1 < {folder + 500}),
                files(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM files WHERE n + 1 < {each})
                INSERT INTO versions (key, {others})
                SELECT CAST(printf('folder-%05d/object-%06d', f, n) AS BLOB), {others}
                FROM folders, files, (SELECT * FROM versions WHERE key = CAST('one' AS BLOB))""")
        index.execute("COMMIT")
    body, = index.execute("SELECT body FROM versions WHERE key = CAST('one' AS BLOB)").fetchone()
    index.execute("UPDATE bodies SET shared = shared + ? WHERE id = ?", (each * FOLDERS, body))
    index.execute("UPDATE usage SET objects = objects + ?, bytes = bytes + ? * (SELECT size FROM versions LIMIT 1)",
                  (each * FOLDERS, each * FOLDERS))
    index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    index.close()


def quantiles(times):
    times = sorted(times)
    at = lambda share: times[int((len(times) - 1) * share)] * 1e3
    return f"{at(0.5):.1f} | {at(0.99):.1f}"


def list_all(lepton, s3, what, **more):
    times, seen, given = [], 0, {"Bucket": "many", "MaxKeys": 1000, **more}
    while True:
        start = time.perf_counter()
        page = s3.list_objects_v2(**given)
        times.append(time.perf_counter() - start)
        seen += page["KeyCount"]
        if not page["IsTruncated"]:
            break
        given["ContinuationToken"] = page["NextContinuationToken"]
    tenth = max(len(times) // 10, 1)
    for name, part in [("first tenth", times[:tenth]), ("last tenth", times[-tenth:]), ("all", times)]:
        print(f"| {what}: {seen:,} entries, {len(times):,} pages, {name} | {quantiles(part)} |", flush=True)
    memory = lepton.memory_mib()
    print(f"| … memory: resident {memory['VmRSS']} MiB, of which {memory['RssAnon']} its own; most {memory['VmHWM']} MiB | | |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("scratch", type=pathlib.Path)
    parser.add_argument("--objects", type=int, default=10_000_000)
    options = parser.parse_args()
    folder = options.scratch / "lepton-listing-bench"
    folder.mkdir(parents=True)
    lepton = Lepton(options.binary.resolve(), folder)
    try:
        lepton.start()
        s3 = lepton.client()
        s3.create_bucket(Bucket="many")
        s3.put_object(Bucket="many", Key="one", Body=b"1234")
        lepton.stop()
        start = time.monotonic()
        fill(folder / "data/objects.db", options.objects)
        size = (folder / "data/objects.db").stat().st_size
        print(f"filled in {time.monotonic() - start:.0f} s, {size / 1e9:.2f} GB; load average {os.getloadavg()[0]:.1f}")
        lepton.start()
        s3 = lepton.client()
        print("| | p50 ms | p99 ms |\n|---|---|---|")
        s3.list_objects_v2(Bucket="many", MaxKeys=1)
        list_all(lepton, s3, "every key")
        list_all(lepton, s3, "folders", Delimiter="/")
        chance, times = random.Random(1), []
        for _ in range(500):
            after = f"folder-{chance.randrange(FOLDERS):05d}/object-{chance.randrange(1_000):06d}"
            start = time.perf_counter()
            s3.list_objects_v2(Bucket="many", StartAfter=after)
            times.append(time.perf_counter() - start)
        print(f"| 500 pages from random places | {quantiles(times)} |")
        lepton.stop()
    finally:
        if lepton.process.poll() is None:
            lepton.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
