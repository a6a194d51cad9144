"""Lists a bucket of ten million objects page by page.

    cargo build --release -p lepton
    python3 benches/s3/listing.py target/release/lepton SCRATCH [--objects 10000000]

starts a server below SCRATCH, makes a bucket and one object through S3, stops the server, and copies that
object's row in `objects.db` under ten million keys by SQL (each copy shares the one body; ten million PUTs would
measure something else). Then it starts the server again and asks for pages of 1,000 keys through S3: from the
beginning, near the end, and from random places. Needs boto3.
"""

import argparse
import http.client
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

    def processor_ms(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1_000 / os.sysconf("SC_CLK_TCK")

    def client(self):
        import boto3
        from botocore.config import Config
        made = json.loads(run(self.env, self.binary, "keys", "create", f"k{time.time_ns()}", "--role", "admin",
                              "-o", "json").stdout)
        return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.s3_port}", region_name="us-east-1",
                            config=Config(signature_version="s3v4"), aws_access_key_id=made["access_key_id"], aws_secret_access_key=made["secret_access_key"])


def fill(file, objects):
    """Copies the one object there is."""
    index = sqlite3.connect(file, isolation_level=None)
    columns = [row[1] for row in index.execute("PRAGMA table_info(versions)")]
    others = [column for column in columns if column != "key"]
    values = index.execute(f"SELECT {', '.join(others)} FROM versions").fetchone()
    index.execute("PRAGMA synchronous = OFF")
    index.execute("PRAGMA cache_size = -400000")
    each = objects // FOLDERS
    for folder in range(0, FOLDERS, 500):
        index.execute("BEGIN")
        index.execute(
            f"""WITH RECURSIVE folders(f) AS (SELECT {folder} UNION ALL SELECT f + 1 FROM folders WHERE f + 1 < {folder + 500}),
                files(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM files WHERE n + 1 < {each})
                INSERT INTO versions (key, {', '.join(others)})
                SELECT CAST(printf('folder-%05d/object-%06d', f, n) AS BLOB), {', '.join('?' for _ in others)}
                FROM folders CROSS JOIN files""", values)
        index.execute("COMMIT")
    row = dict(zip(others, values))
    index.execute("UPDATE bodies SET shared = shared + ? WHERE id = ?", (each * FOLDERS, row["body"]))
    index.execute("UPDATE usage SET objects = objects + ?, bytes = bytes + ?",
                  (each * FOLDERS, each * FOLDERS * row["size"]))
    index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    index.close()


def quantiles(times):
    times = sorted(times)
    at = lambda share: times[int((len(times) - 1) * share)] * 1e3
    return f"{at(0.5):.1f} | {at(0.99):.1f}"


def list_pages(lepton, s3, what, starts):
    """Pages of 1,000 after each of these keys, by presigned URLs, so that no client's reading of XML is timed."""
    connection, times, before = http.client.HTTPConnection("127.0.0.1", lepton.s3_port), [], lepton.processor_ms()
    for after in starts:
        given = {"Bucket": "many", "StartAfter": after, "MaxKeys": 1000}
        url = s3.generate_presigned_url("list_objects_v2", Params=given).split(str(lepton.s3_port), 1)[1]
        start = time.perf_counter()
        connection.request("GET", url)
        page = connection.getresponse().read()
        times.append(time.perf_counter() - start)
        assert page.count(b"<Key>") >= 999, page[:300]
    each, memory = (lepton.processor_ms() - before) / len(times), lepton.memory_mib()
    print(f"| {what} | {quantiles(times)} | {each:.1f} | {memory['RssAnon']} of {memory['VmHWM']} |", flush=True)


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
        print("| | p50 ms | p99 ms | processor time, ms a page | own memory, of resident at most, MiB |\n|---|---|---|---|---|")
        chance = random.Random(1)
        middle = options.objects // FOLDERS // 2
        name = lambda folder: f"folder-{folder:05d}/object-{middle:06d}"
        list_pages(lepton, s3, "the first folders", map(name, range(100)))
        list_pages(lepton, s3, "the last", map(name, range(FOLDERS - 200, FOLDERS - 100)))
        list_pages(lepton, s3, "anywhere", (name(chance.randrange(FOLDERS - 200)) for _ in range(500)))
        lepton.stop()
    finally:
        if lepton.process.poll() is None:
            lepton.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
