"""One preparation of a large CSV, by Lepton and by DuckDB, under the same limits.

    cargo build --release -p lepton-prep --example prepare
    python benches/prepare/compare.py target/release/examples/prepare SCRATCH [--gb 5]

makes a CSV of that size below SCRATCH (and deletes it at the end), then lets each tool filter,
derive, split by a hash of the id, fill a column with its mean, bring five columns to mean 0 and
deviation 1 (all fitted on the training part) and one-hot encode one, and write one Parquet file a
part. Both are pinned to two cores; a watcher reads the peak of resident memory (what the process
holds itself, files in the page cache left out), and the limit is what each is told. Needs duckdb.
"""

import argparse
import os
import pathlib
import random
import shutil
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent

DUCKDB = """
import duckdb, sys
csv, out, scratch, memory = sys.argv[1:]
db = duckdb.connect(scratch + "/bench.duckdb")
db.execute(f"SET threads = 2; SET memory_limit = '{memory}MB'; SET temp_directory = '{scratch}/duckdb-tmp'")
db.execute("SET preserve_insertion_order = false; SET enable_progress_bar = false")
db.execute(f'''CREATE TABLE t AS
    SELECT *, distance / duration AS speed, CASE WHEN hash(id) % 10 < 8 THEN 0 ELSE 1 END AS part
    FROM read_csv('{csv}') WHERE fare > 2.5 AND distance IS NOT NULL''')
columns = ["distance", "duration", "fare", "tip", "speed"]
fill = db.execute("SELECT avg(tip) FROM t WHERE part = 0").fetchone()[0]
value = {c: c for c in columns} | {"tip": f"coalesce(tip, {fill!r})"}
asks = ", ".join(f"avg({value[c]}), stddev_pop({value[c]})" for c in columns)
fitted = db.execute(f"SELECT {asks} FROM t WHERE part = 0").fetchone()
kinds = [k for (k,) in db.execute("SELECT DISTINCT payment FROM t WHERE part = 0 AND payment IS NOT NULL ORDER BY 1").fetchall()]
scaled = {c: f"({value[c]} - {fitted[2 * i]!r}) / {fitted[2 * i + 1]!r} AS {c}" for i, c in enumerate(columns)}
ones = ", ".join(f"CASE WHEN payment = '{k}' THEN 1.0::DOUBLE ELSE 0.0::DOUBLE END AS \\"payment={k}\\"" for k in kinds)
shown = ", ".join(["id", *(scaled[c] for c in ["distance", "duration", "fare", "tip"]), "passengers", "zone", ones, scaled["speed"]])
for part, name in enumerate(["train", "test"]):
    db.execute(f"COPY (SELECT {shown} FROM t WHERE part = {part}) TO '{out}/{name}.parquet' (FORMAT parquet, COMPRESSION snappy)")
    print(name, db.execute(f"SELECT count(*) FROM '{out}/{name}.parquet'").fetchone()[0], "rows")
"""


def make(path, size):
    """Trips: numbers of several widths, a category, missing values."""
    rng = random.Random(1)
    block = []
    for _ in range(20_000):
        distance = "" if rng.random() < 0.03 else f"{rng.lognormvariate(0.8, 0.9):.2f}"
        tip = "" if rng.random() < 0.2 else f"{rng.random() * 9:.2f}"
        kind = rng.choice(["card", "cash", "card", "dispute", "free"])
        block.append(
            f"{distance},{rng.randint(60, 5000)},{rng.random() * 60:.2f},{tip},{rng.randint(1, 6)},zone {rng.randint(1, 260)},{kind}\n"
        )
    with open(path, "w", buffering=1 << 22) as file:
        written = file.write("id,distance,duration,fare,tip,passengers,zone,payment\n")
        row = 0
        while written < size:
            # The id keeps rows apart; the rest repeats out of step with it.
            text = "".join(f"{row + at},{line}" for at, line in enumerate(block))
            written += file.write(text)
            row += len(block)
    return row


def measure(name, command, cores):
    """Wall clock, processor time and the peak of anonymous memory."""
    start = time.monotonic()
    process = subprocess.Popen(["taskset", "-c", cores, *map(str, command)], stdout=subprocess.PIPE, text=True)
    peak = [0]

    def watch():
        while process.poll() is None:
            try:
                for line in open(f"/proc/{process.pid}/status"):
                    if line.startswith("RssAnon"):
                        peak[0] = max(peak[0], int(line.split()[1]) // 1024)
            except OSError:
                return
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out = process.communicate()[0]
    usage = os.times()
    watcher.join()
    if process.returncode:
        sys.exit(f"{name} failed")
    print(out, file=sys.stderr)
    return name, time.monotonic() - start, peak[0], usage.children_user + usage.children_system


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prepare")
    parser.add_argument("scratch", type=pathlib.Path)
    parser.add_argument("--gb", type=float, default=5)
    parser.add_argument("--cores", default="0,1")
    parser.add_argument("--memory", type=int, default=1500, help="MiB that each is told; the process may have 2,048")
    options = parser.parse_args()
    folder = options.scratch / "lepton-prepare-bench"
    folder.mkdir(parents=True)
    try:
        csv = folder / "trips.csv"
        rows = make(csv, options.gb * 1e9)
        print(f"{csv.stat().st_size / 1e9:.2f} GB, {rows} rows", file=sys.stderr)
        for out in ["lepton", "duckdb", "scratch"]:
            (folder / out).mkdir()
        ours = [options.prepare, HERE / "prepare.yaml", folder / "lepton", folder / "scratch", 2, options.memory, f"trips={csv}"]
        theirs = [sys.executable, "-c", DUCKDB, csv, folder / "duckdb", folder / "scratch", options.memory]
        before = 0
        print("| tool | wall | processor time | peak memory |\n|---|---|---|---|")
        for name, command in [("Lepton", ours), ("DuckDB", theirs)]:
            name, wall, peak, total = measure(name, command, options.cores)
            print(f"| {name} | {wall:.1f} s | {total - before:.1f} s | {peak} MiB |", flush=True)
            before = total
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
