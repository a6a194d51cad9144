"""Runs out of MLflow and into other tools: `lepton runs import`, `export`, `compare`, `series`.

The sources are MLflow's own: a folder that its file store wrote, and a server of it.
"""

import contextlib
import json
import math
import os
import pathlib
import random
import signal
import subprocess
import xml.etree.ElementTree

import pyarrow.parquet
import pytest

from server import BINARY, ROOT, call, eventually, free_port


def python(major):
    """The interpreter that has this major version of MLflow; `make clients` makes it."""
    return os.environ.get(f"MLFLOW{major}_PYTHON", str(ROOT / f".venv-mlflow{major}/bin/python"))


MAKE = """
import mlflow, os, sys
mlflow.set_tracking_uri(sys.argv[1])
if sys.argv[1].startswith("http"):
    mlflow.set_experiment("of a server")
else:
    mlflow.set_experiment("of a folder")
client = mlflow.MlflowClient()
with mlflow.start_run(run_name="parent") as parent:
    mlflow.log_params({"lr": 0.1, "text": "two\\nlines", "folder/key": "x"})
    mlflow.set_tag("stage", "one")
    points = [mlflow.entities.Metric("val/loss", 1 / (i + 1), 1_700_000_000_000 + i * 7, i) for i in range(12_000)]
    for start in range(0, len(points), 1000):
        client.log_batch(parent.info.run_id, metrics=points[start:start + 1000])
    for value in (float("nan"), float("inf"), -float("inf"), 1e308):
        client.log_metric(parent.info.run_id, "odd", value, timestamp=5, step=3)
    mlflow.log_text("hello", "notes/a file.txt")
    mlflow.log_text("top", "top.txt")
    with mlflow.start_run(run_name="child", nested=True) as child:
        mlflow.log_param("lr", 0.2)
        mlflow.log_metric("val/loss", 0.25, step=12)
doomed = client.create_run(parent.info.experiment_id)
client.delete_run(doomed.info.run_id)
failed = client.create_run(parent.info.experiment_id, run_name="failed")
client.set_terminated(failed.info.run_id, "FAILED", end_time=1_700_000_099_000)
for i in range(6):
    with mlflow.start_run(run_name=f"small-{i}"):
        mlflow.log_param("i", i)
        mlflow.log_metric("m", i * 0.5)
print(parent.info.run_id, child.info.run_id, failed.info.run_id)
"""


def make(major, uri, folder):
    """Fills an MLflow with runs; gives the ids of three."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    # Newer clients want to be told that a folder is meant.
    env["MLFLOW_ALLOW_FILE_STORE"] = "true"
    done = subprocess.run([python(major), "-c", MAKE, uri], env=env, cwd=folder,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-3:]


@contextlib.contextmanager
def mlflow_server(major, folder):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (folder / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            [python(major), "-m", "mlflow", "server", "--port", str(port), "--workers", "1",
             "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
             "--artifacts-destination", str(folder / "artifacts")],
            stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        def is_up():
            with contextlib.suppress(OSError):
                return call(port, "GET", "/health", timeout=5).status == 200
        eventually("MLflow's server is up", is_up, 120)
        yield url
    finally:
        # With the workers that it has started.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


@pytest.fixture(scope="module", params=[3, 2])
def folder(request, tmp_path_factory):
    """A folder of MLflow's, and the ids of its three runs."""
    folder = tmp_path_factory.mktemp("mlflow")
    store = folder / "mlruns"
    return store, make(request.param, store.as_uri(), folder)


def exported(lepton, *args):
    lines = lepton.ok("runs", "export", "--to", "-", *args).out.splitlines()
    return {line["run"]["metadata"]["id"]: line for line in map(json.loads, lines)}


ODD = {"NaN", "Infinity", "-Infinity", "1e+308"}
# MLflow's database has no infinities: it keeps the largest floats instead.
ODD_IN_SQL = {"NaN", "1.7976931348623157e+308", "-1.7976931348623157e+308", "1e+308"}


def check(lepton, ids, count, expected=ODD):
    """All that was logged is there, once."""
    parent, child, failed = ids
    runs = exported(lepton)
    assert len(runs) == count
    run = runs[parent]["run"]
    assert run["metadata"]["name"] == "parent" and run["status"]["phase"] == "FINISHED"
    assert run["status"]["started_at"] < run["status"]["finished_at"]
    assert run["params"] == {"lr": "0.1", "text": "two\nlines", "folder/key": "x"}
    assert run["tags"]["stage"] == "one" and run["tags"]["mlflow.runName"] == "parent"
    assert runs[child]["run"]["tags"]["mlflow.parentRunId"] == parent
    assert runs[failed]["run"]["status"]["phase"] == "FAILED"
    assert runs[failed]["run"]["status"]["finished_at"] == 1_700_000_099_000
    series = runs[parent]["series"]
    assert series["val/loss"] == [[i, 1_700_000_000_000 + i * 7, 1 / (i + 1)] for i in range(12_000)]
    odd = [value for _, _, value in series["odd"]]
    assert len(odd) == 4 and set(map(str, odd)) == expected, odd
    for path, text in (("notes/a%20file.txt", "hello"), ("top.txt", "top")):
        assert lepton.api("GET", f"runs/{parent}/artifacts/{path}").body.decode() == text


def test_a_folder_of_mlflow_is_imported_and_again(lepton, folder):
    store, ids = folder
    done = lepton.ok("runs", "import", store, "-o", "json").json()
    assert (done["imported"], done["unchanged"], done["left_out"]) == (9, 0, [])
    check(lepton, ids, 9)
    again = lepton.ok("runs", "import", store, "-o", "json").json()
    assert (again["imported"], again["unchanged"]) == (0, 9)
    check(lepton, ids, 9)


def test_an_import_that_is_interrupted_is_gone_on_with(lepton, folder):
    store, ids = folder
    chance = random.Random(4)
    interrupted = 0
    for _ in range(12):
        process = subprocess.Popen([BINARY, "runs", "import", str(store)],
                                   env=lepton.env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(chance.uniform(0.02, 0.4))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            interrupted += 1
    assert interrupted > 0
    lepton.ok("runs", "import", store)
    check(lepton, ids, 9)


def test_only_what_is_new_is_brought(lepton, tmp_path):
    store = tmp_path / "mlruns"
    parent, _, _ = make(3, store.as_uri(), tmp_path)
    lepton.ok("runs", "import", store)
    [metric] = store.glob(f"*/{parent}/metrics/val/loss")
    with metric.open("a") as file:
        file.write("1800000000000 0.125 12000\n")
    again = lepton.ok("runs", "import", store, "-o", "json").json()
    assert (again["imported"], again["unchanged"]) == (1, 8)
    series = exported(lepton, parent)[parent]["series"]["val/loss"]
    assert len(series) == 12_001 and series[-1] == [12_000, 1_800_000_000_000, 0.125]


def test_what_is_broken_is_left_out_and_said(lepton, tmp_path):
    store = tmp_path / "mlruns"
    files = {
        "1/meta.yaml": "name: wine\n",
        "1/not-hex/meta.yaml": "run_id: not-hex\nstatus: FINISHED\n",
        "1/not-hex/metrics/m": "1 2.5 3\n",
        "1/broken/meta.yaml": "run_id: [",
        "1/long/meta.yaml": "run_id: long\nstatus: 3\n",
        "1/long/tags/big": "x" * 9_000,
    }
    for name, text in files.items():
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_text(text)
    done = lepton.ok("runs", "import", store, "-o", "json")
    assert done.json()["imported"] == 2 and len(done.json()["left_out"]) == 2, done
    assert "broken" in done.err and "`big`" in done.err
    runs = exported(lepton)
    [run] = [run for run in runs.values() if run["series"]]
    assert run["run"]["tags"]["lepton.import.run_id"] == "not-hex"
    assert run["series"] == {"m": [[3, 1, 2.5]]}
    assert lepton.ok("runs", "import", store, "-o", "json").json()["imported"] == 0
    assert lepton.cli("runs", "import", tmp_path / "nothing").code == 8
    assert lepton.cli("runs", "import", tmp_path).code == 8


@pytest.mark.parametrize("major", [3, 2])
def test_a_server_of_mlflow_is_imported(lepton, tmp_path, major):
    with mlflow_server(major, tmp_path) as url:
        ids = make(major, url, tmp_path)
        done = lepton.ok("runs", "import", url, "-o", "json").json()
        assert (done["imported"], done["left_out"]) == (9, [])
        check(lepton, ids, 9, ODD_IN_SQL)
        again = lepton.ok("runs", "import", url, "-o", "json").json()
        assert (again["imported"], again["unchanged"]) == (0, 9)
    gone = lepton.cli("runs", "import", url)
    assert gone.code == 6 and url in gone.err


def test_the_bin_of_a_folder_is_imported_into_the_bin(lepton, tmp_path):
    store = tmp_path / "mlruns"
    files = {
        "1/meta.yaml": "name: wine\n",
        "1/kept/meta.yaml": "run_id: kept\nstatus: FINISHED\n",
        "1/gone/meta.yaml": "run_id: gone\nstatus: FINISHED\nlifecycle_stage: deleted\n",
        "1/gone/metrics/m": "1 2.5 3\n",
    }
    for name, text in files.items():
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_text(text)
    imported = lambda *args: lepton.ok("runs", "import", store, "-o", "json", *args).json()["imported"]
    binned = lambda: lepton.ok("get", "runs", "--phase", "deleted", "-o", "json").json()
    assert imported() == 1 and binned()["items"] == []
    assert imported("--deleted") == 1
    [run] = binned()["items"]
    assert [m["value"] for m in run["metrics"]] == [2.5]
    # What is written to it there comes along, into the bin.
    with (store / "1/gone/metrics/m").open("a") as file:
        file.write("2 3.5 4\n")
    assert (imported("--deleted"), imported("--deleted")) == (1, 0)
    [run] = binned()["items"]
    assert [m["value"] for m in run["metrics"]] == [3.5]


@pytest.fixture(scope="module")
def filled(shared):
    """A server with two runs that differ."""
    ids = []
    for number, rate in enumerate(("0.1", "0.2")):
        run = shared.got("POST", "runs", {"name": f"run-{number}"})["metadata"]["id"]
        points = [{"key": "loss", "step": i, "timestamp": i * 100, "value": math.exp(-i / 900) + number}
                  for i in range(9_000)]
        points[4_321]["value"] = 50
        shared.got("POST", f"runs/{run}/log", {"params": {"lr": rate, "seed": "7"}, "metrics": points})
        ids.append(run)
    return shared, ids


def test_a_curve_is_short_and_keeps_the_peak(filled):
    lepton, (run, _) = filled
    page = lepton.got("GET", f"runs/{run}/series?key=loss&max_points=200")
    values = [point["value"] for point in page["points"]]
    assert 100 < len(values) <= 200 and max(values) == 50
    assert [page["points"][i]["step"] for i in (0, -1)] == [0, 8_999]
    part = lepton.got("GET", f"runs/{run}/series?key=loss&from_step=10&to_step=19&from_time=1500")
    assert [point["step"] for point in part["points"]] == list(range(15, 20))
    seen, token = [], ""
    while token is not None:
        page = lepton.got("GET", f"runs/{run}/series?key=loss&limit=2000{token}")
        seen += [point["step"] for point in page["points"]]
        token = f"&page_token={page['next_page_token']}" if "next_page_token" in page else None
    assert seen == list(range(9_000))
    for wrong in ("axis=sideways", "page_token=x", "from_step=x"):
        assert lepton.api("GET", f"runs/{run}/series?key=loss&{wrong}").status == 400, wrong


def test_runs_are_compared(filled, tmp_path):
    lepton, ids = filled
    table = lepton.ok("runs", "compare", *ids).out
    assert "lr" in table and "seed" not in table
    assert "seed" in lepton.ok("runs", "compare", *ids, "--all").out
    values = lepton.ok("runs", "compare", *ids, "-o", "json").json()
    assert values["params"] == [{"key": "lr", "values": ["0.1", "0.2"]}]
    drawn = lepton.ok("runs", "compare", *ids, "--metric", "loss").out
    assert any("\u2801" <= c <= "\u28ff" for c in drawn) and "run-1" in drawn
    plot = tmp_path / "plot.svg"
    lepton.ok("runs", "compare", "run-0", "run-1", "--plot", plot, "--against", "time")
    tree = xml.etree.ElementTree.parse(plot)
    assert sum(1 for _ in tree.iter("{http://www.w3.org/2000/svg}path")) == 2
    wrong = lepton.cli("runs", "compare", *ids, "--metric", "lost")
    assert wrong.code == 3 and "`loss`" in wrong.err
    assert lepton.cli("runs", "compare", ids[0]).code == 2


def test_runs_are_exported_to_parquet(filled, tmp_path):
    lepton, ids = filled
    done = lepton.ok("runs", "export", *ids, "--to", tmp_path / "out", "-o", "json").json()
    assert done == {"runs": 2, "points": 18_000}
    read = lambda name: pyarrow.parquet.read_table(tmp_path / f"out/{name}.parquet")
    assert sorted(read("runs")["run_id"].to_pylist()) == sorted(ids)
    assert read("runs")["finished_at"].null_count == 2
    assert {(row["key"], row["value"]) for row in read("params").to_pylist()} == {
        ("lr", "0.1"), ("lr", "0.2"), ("seed", "7")}
    metrics = read("metrics")
    assert metrics.num_rows == 18_000
    first = metrics.slice(4_321, 1).to_pylist()[0]
    assert (first["key"], first["step"], first["value"]) == ("loss", 4_321, 50.0)
    assert not list(pathlib.Path(tmp_path / "out").glob("*.part"))
    lines = tmp_path / "runs.jsonl"
    lepton.ok("runs", "export", "--to", lines)
    assert len(lines.read_text().splitlines()) >= 2


def test_a_series_is_drawn_or_given(filled):
    lepton, (run, _) = filled
    assert "drawn" in lepton.ok("runs", "series", run, "loss").out
    given = lepton.ok("runs", "series", run, "loss", "--from-step", "8990", "-o", "json").json()
    assert len(given["points"]) == 10
    assert len(lepton.ok("runs", "series", run, "loss", "-o", "json").json()["points"]) == 9_000
    assert lepton.cli("runs", "series", run, "lost").code == 3
