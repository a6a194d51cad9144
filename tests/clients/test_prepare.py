"""Data preparation, from a file to a model that takes raw rows, through the CLI."""

import csv
import io
import json

import numpy as np
import onnxruntime
import pyarrow.parquet as parquet
import pytest

from conftest import server

ROWS = 600


def people():
    """Rows with missing values, kinds, and an answer that follows from them."""
    rng = np.random.default_rng(3)
    rows = [["id", "age", "city", "pay", "bought"]]
    for at in range(ROWS):
        age, pay = int(rng.integers(18, 80)), round(float(rng.normal(30, 9)), 2)
        city = ["Oslo", "Rome", "Bonn"][int(rng.integers(3))]
        bought = "yes" if pay + (8 if city == "Rome" else 0) + age / 10 > 36 else "no"
        blank = rng.random() < 0.1
        rows.append([at, "" if blank else age, "NA" if rng.random() < 0.05 else city, pay, bought])
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


PREPARE = """
inputs: {people: people}
steps:
  - filter: pay > 5
  - split: {fractions: {train: 0.75, test: 0.25}, by: [id], seed: 2}
  - select: [age, city, pay, bought]
  - impute: {age: median, city: mode}
  - derive: {ratio: 1.0 * pay / (age + 1)}
  - normalise: {columns: [pay, age], method: standard}
  - encode: {columns: [city]}
"""


@pytest.fixture(scope="module")
def lepton():
    with server() as running:
        running.ok("data", "put", "people", running.write("people.csv", people()))
        running.ok("data", "prepare", "ready", "-f", running.write("prep.yaml", PREPARE), "--wait")
        yield running


def test_the_version_says_what_it_was_made_from(lepton):
    version = lepton.got("GET", "datasets/ready/versions/latest")
    lineage = version["spec"]["lineage"]
    assert lineage["inputs"] == [{"name": "people", "dataset": "people", "version": 1}]
    assert [part["name"] for part in lineage["parts"]] == ["train", "test"]
    assert sum(part["rows"] for part in lineage["parts"]) == version["status"]["rows"] == lineage["rows"]
    assert lineage["description"] == PREPARE and len(lineage["description_digest"]) == 64
    assert lepton.got("GET", f"jobs/{lineage['job']}")["spec"]["run"] == lineage["run"]
    columns = {column["name"]: column for column in lineage["columns"]}
    assert list(columns) == ["age", "city=Bonn", "city=Oslo", "city=Rome", "pay", "bought", "ratio"]
    assert columns["age"]["missing"] == 0
    assert "people" in lepton.ok("describe", "dataset", "ready").out


def test_the_files_are_what_the_steps_say(lepton):
    folder = lepton.folder / "ready"
    lepton.ok("data", "get", "ready", "--to", folder)
    train = parquet.read_table(folder / "train.parquet")
    pay = train["pay"].to_numpy()
    assert abs(pay.mean()) < 1e-9 and abs(pay.std() - 1) < 1e-9
    ones = np.stack([train[f"city={c}"].to_numpy() for c in ["Bonn", "Oslo", "Rome"]])
    assert (ones.sum(axis=0) == 1).all()


def test_the_same_again_is_the_same_version(lepton):
    before = lepton.got("GET", "datasets/ready/versions/latest")
    lepton.ok("data", "prepare", "ready", "-f", lepton.write("again.yaml", PREPARE), "--wait", "--cpu", "2")
    after = lepton.got("GET", "datasets/ready/versions/latest")
    assert after["spec"]["files"] == before["spec"]["files"]


def test_versions_are_looked_into(lepton):
    shown = lepton.ok("data", "preview", "people", "--rows", "3", "-o", "json").json()
    assert len(shown) == 3 and set(shown[0]) == {"id", "age", "city", "pay", "bought"}
    assert "DEVIATION" in lepton.ok("data", "stat", "ready").out
    lepton.ok("data", "put", "d", lepton.write("d.csv", "a,b\n1,2\n"))
    lepton.ok("data", "put", "d", lepton.write("d.csv", "a,c\n1,2\n3,4\n"))
    diff = lepton.ok("data", "diff", "d:1", "d:2", "-o", "json").json()
    assert diff["rows"] == [1, 2]
    assert [c["name"] for c in diff["columns"]] == ["b", "c"]
    assert [f["name"] for f in diff["files"]] == ["d.csv"]


def test_a_query_makes_a_version(lepton):
    query = "SELECT city, count(*) AS n FROM p WHERE city IS NOT NULL GROUP BY city ORDER BY city"
    lepton.ok("data", "prepare", "cities", "--sql", query, "--input", "p=people:1", "--wait")
    shown = lepton.ok("data", "preview", "cities", "-o", "json").json()
    assert [row["city"] for row in shown] == ["Bonn", "Oslo", "Rome"]


def test_a_dry_run_shows_the_plan_and_runs_nothing(lepton):
    out = lepton.ok("data", "prepare", "never", "-f", lepton.write("p.yaml", PREPARE), "--dry-run").out
    assert "normalise" in out and "city one-hot" in out
    assert lepton.api("GET", "datasets/never").status == 404


@pytest.mark.parametrize(
    "steps, said",
    [
        ("[{filter: agee > 3}]", ["step 1 (filter)", "agee"]),
        ("[{filter: 'age >'}]", ["step 1 (filter)"]),
        ("[{types: {city: int}}]", ["`people.csv`, line", "`city`"]),
        ("[{fill: {}}]", ["step 1 (fill)"]),
    ],
)
def test_what_is_wrong_is_said(lepton, steps, said):
    file = lepton.write("bad.yaml", f"inputs: {{people: people}}\nsteps: {steps}\n")
    done = lepton.cli("data", "prepare", "bad", "-f", file, "--wait")
    assert done.code != 0
    for words in said:
        assert words in done.err, done


def test_the_model_takes_raw_rows_and_does_what_was_fitted(lepton):
    lepton.ok("train", "buyers", "--data", "ready", "--target", "bought", "--trials", "3", "--wait")
    folder = lepton.folder / "model"
    lepton.ok("model", "get", "buyers", "--to", folder)
    signature = json.loads((folder / "signature.json").read_text())
    assert [i["name"] for i in signature["inputs"]] == ["age", "city", "pay"]
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    raw = list(csv.DictReader(io.StringIO(people())))
    age = np.array([float(r["age"] or "nan") for r in raw], dtype=np.float32)[:, None]
    pay = np.array([float(r["pay"]) for r in raw], dtype=np.float32)[:, None]
    city = np.array([r["city"] if r["city"] != "NA" else "" for r in raw], dtype=object)[:, None]
    labels, sure = session.run(None, {"age": age, "city": city, "pay": pay})
    right = np.mean([a == b["bought"] for a, b in zip(labels, raw)])
    assert right > 0.85
    # A value that is filled is the same as the value that fills it.
    lineage = lepton.got("GET", "datasets/ready/versions/latest")["spec"]["lineage"]
    fitted = lepton.api("GET", f"blobs/{lineage['fitted']['digest']}").json()
    fill = {s["column"]: s["value"] for s in fitted["steps"] if s["step"] == "fill"}
    given = np.where(np.isnan(age), np.float32(fill["age"]), age)
    named = np.array([[c[0] or fill["city"]] for c in city], dtype=object)
    again = session.run(None, {"age": given, "city": named, "pay": pay})[1]
    assert np.max(np.abs(again - sure)) <= 1e-5
