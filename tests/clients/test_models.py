"""Models in and out: what others exported is served, and what Lepton trains runs anywhere."""

import csv
import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from conftest import server
from server import ROOT, eventually
from test_spine import DATA, rows_of

HERE = pathlib.Path(__file__).parent


def close(got, want):
    """Equal to 1e-5, relative from 1 on: 32 bits cannot hold 300 to 1e-5."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape
    assert np.max(np.abs(got - want) / np.maximum(1, np.abs(want))) <= 1e-5


# Made elsewhere.


def import_and_deploy(lepton, name, model):
    file = lepton.write(f"{name}.onnx", model.SerializeToString())
    lepton.ok("model", "import", name, file)
    lepton.ok("deploy", name, "--model", name, "--wait")


def infer(lepton, name, inputs):
    given = {"inputs": [
        {"name": key, "datatype": kind, "shape": list(np.shape(data)), "data": np.ravel(data).tolist()}
        for key, (kind, data) in inputs.items()]}
    answer = lepton.api("POST", f"/v2/models/{name}/infer", given)
    assert answer.status == 200, answer
    return {o["name"]: np.array(o["data"]).reshape(o["shape"]) for o in answer.json()["outputs"]}


@pytest.mark.parametrize("zipmap", [False, True])
def test_a_classifier_of_scikit_learn(lepton, zipmap):
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, truth = rows_of("wine", "cultivar")
    x = np.array([list(row.values()) for row in rows], np.float32)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(x, truth)
    import_and_deploy(lepton, "sk", to_onnx(pipeline, x[:1], options={"zipmap": zipmap}))
    wanted = pipeline.predict_proba(x)
    if zipmap:
        # Sequences of maps are no tensors of the protocol; rows have names for them.
        answer = lepton.api("POST", "/v2/models/sk")
        meta = lepton.api("GET", "/v2/models/sk")
        assert meta.status == 200, (meta, answer)
        given = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [5, 13], "data": x[:5].ravel().tolist()}]}
        answer = lepton.api("POST", "/v2/models/sk/infer", given)
        assert answer.status == 200, answer
        outputs = {o["name"]: o for o in answer.json()["outputs"]}
        assert [str(v) for v in next(iter(outputs.values()))["data"]] == list(pipeline.predict(x[:5]))
        return
    got = infer(lepton, "sk", {"X": ("FP32", x)})
    close(got["probabilities"], wanted)
    assert got["label"].tolist() == list(pipeline.predict(x))


def test_a_regression_of_scikit_learn(lepton):
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingRegressor

    target = (DATA / "diabetes.csv").read_text().splitlines()[0].split(",")[-1]
    rows, truth = rows_of("diabetes", target)
    x = np.array([list(row.values()) for row in rows], np.float32)
    model = GradientBoostingRegressor(n_estimators=20, random_state=0).fit(x, [float(t) for t in truth])
    import_and_deploy(lepton, "sk", to_onnx(model, x[:1]))
    close(infer(lepton, "sk", {"X": ("FP32", x)})["variable"].ravel(), model.predict(x))


def test_a_pipeline_with_categories_of_scikit_learn(lepton):
    """One [N, 1] input a column: rows, and so `lepton predict`, serve it like a model of Lepton's."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    random = np.random.default_rng(0)
    age = random.uniform(18, 90, 200).astype(np.float32)
    town = random.choice(["aachen", "bonn", "cologne"], 200).astype(object)
    y = ((age > 50) ^ (town == "bonn")).astype(int)
    table = np.column_stack([age.astype(object), town])
    prepare = ColumnTransformer([
        ("number", StandardScaler(), [0]), ("text", OneHotEncoder(handle_unknown="ignore"), [1])])
    pipeline = make_pipeline(prepare, LogisticRegression()).fit(table, y)
    types = [("age", FloatTensorType([None, 1])), ("town", StringTensorType([None, 1]))]
    model = to_onnx(pipeline, initial_types=types, options={"zipmap": False})
    import_and_deploy(lepton, "sk", model)
    town[:5] = "dresden"
    table = np.column_stack([age.astype(object), town])
    wanted = pipeline.predict_proba(table)
    got = infer(lepton, "sk", {"age": ("FP32", age[:, None]), "town": ("BYTES", town[:, None])})
    close(got["probabilities"], wanted)
    text = "age,town\n" + "".join(f"{a!r},{t}\n" for a, t in zip(age.tolist(), town))
    done = lepton.ok("predict", "sk", "--data", "-", "-o", "json", stdin=text)
    assert [int(row["label"]) for row in done.json()] == pipeline.predict(table).tolist()


def test_versions_files_and_aliases(lepton):
    (lepton.folder / "notes.md").write_text("notes")
    onnx = ROOT / "crates/lepton-serving/tests/data/affine.onnx"
    lepton.ok("model", "import", "m", onnx, "--file", lepton.folder / "notes.md")
    lepton.ok("model", "import", "m", ROOT / "crates/lepton-serving/tests/data/echo.onnx")
    versions = lepton.got("GET", "models/m/versions")["items"]
    assert [v["spec"]["version"] for v in versions] == [1, 2]
    out = lepton.folder / "got"
    lepton.ok("model", "files", "m:1", "--to", out)
    assert (out / "model.onnx").read_bytes() == onnx.read_bytes()
    assert (out / "notes.md").read_text() == "notes"
    lepton.ok("model", "alias", "m", "champion", "1")
    assert lepton.got("GET", "models/m/versions/@champion")["spec"]["version"] == 1
    assert lepton.cli("model", "alias", "m", "champion", "9").code == 3
    lepton.ok("delete", "model-version", "m:2")
    assert lepton.got("GET", "models/m/versions/latest")["spec"]["version"] == 1
    refused = lepton.cli("delete", "model-version", "m:1")
    assert refused.code in (0, 5), refused
    # A number is never given twice.
    lepton.ok("model", "import", "m", onnx)
    assert lepton.got("GET", "models/m/versions/latest")["spec"]["version"] == 3


def test_what_is_served_is_not_deleted_under_its_endpoint(lepton):
    lepton.ok("model", "import", "m", ROOT / "crates/lepton-serving/tests/data/affine.onnx")
    lepton.ok("deploy", "e", "--model", "m", "--wait")
    refused = lepton.cli("delete", "model", "m")
    if refused.code == 0:
        # Then what answers goes on to answer, after a restart of its replica too.
        given = {"x": ("FP32", np.array([[1, 2, 3]], np.float32))}
        assert infer(lepton, "e", given)["y"].ravel().tolist() == [4.5, 6.5]
    else:
        assert refused.code == 5 and "`e`" in refused.err, refused


def test_the_client_of_triton(lepton):
    for name in ("echo", "affine"):
        lepton.ok("model", "import", name, ROOT / f"crates/lepton-serving/tests/data/{name}.onnx")
        lepton.ok("deploy", name, "--model", name, "--wait")
    env = os.environ | {"OIP_URL": f"127.0.0.1:{lepton.port}",
                        "OIP_HEADERS": json.dumps({"Authorization": f"Bearer {lepton.token}"})}
    done = subprocess.run([sys.executable, HERE / "test_oip.py"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "echo: ok" in done.stdout and "affine: ok" in done.stdout


# Made by Lepton.

TOWNS = ["aachen", "bonn", "cologne", "düren"]


def table(rows, seed):
    random = np.random.default_rng(seed)
    x, z = random.normal(0, 1, rows), random.uniform(-5, 5, rows)
    town = random.choice(TOWNS, rows)
    price = 10 * x + z**2 + 5 * (town == "bonn") + random.normal(0, 0.1, rows)
    kind = np.where(price > 12, "dear", np.where(price > 4, "fair", "cheap"))
    columns = {"x": [f"{v:.4f}" for v in x], "z": [f"{v:.4f}" for v in z], "town": list(town),
               "price": [f"{v:.4f}" for v in price], "kind": list(kind)}
    for name in ("x", "z", "town"):
        for at in random.choice(rows, rows // 10, replace=False):
            columns[name][at] = ""
    return columns


def text_of(columns):
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values()))
    return out.getvalue()


# Raw rows as people have them: missing, unseen, far out of range, in other scripts.
RAW = {
    "x": ["0.5", "", "-3", "1e6", "0", "0.25", "-1e-9", ""],
    "z": ["1", "2", "", "-1e6", "0", "", "4.75", ""],
    "town": ["bonn", "aachen", "", "paris", "düren", "東京", "Bonn", ""],
}


@pytest.fixture(scope="module")
def trained():
    """Two models of one table, served: of a class and of a number."""
    with server() as lepton:
        lepton.ok("data", "put", "homes", lepton.write("homes.csv", text_of(table(400, 1))))
        for target, name in (("kind", "kinds"), ("price", "prices")):
            columns = table(400, 1)
            del columns["price" if target == "kind" else "kind"]
            lepton.ok("data", "put", name, lepton.write(f"{name}.csv", text_of(columns)))
            lepton.ok("train", name, "--data", name, "--target", target, "--trials", "3", "--wait")
            lepton.ok("deploy", name, "--model", name, "--wait")
        yield lepton


def session_of(lepton, name):
    out = lepton.folder / f"model-{name}"
    lepton.ok("model", "files", name, "--to", out)
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    return session, json.loads((out / "signature.json").read_text())


def tensors(session, columns):
    given = {}
    for spec in session.get_inputs():
        values = columns[spec.name]
        if "string" in spec.type:
            given[spec.name] = np.array(values, object)[:, None]
        else:
            given[spec.name] = np.array([float(v) if v else np.nan for v in values], np.float32)[:, None]
    return given


def run(session, columns):
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, tensors(session, columns))))


def rows(columns):
    value = lambda name, v: None if v == "" else v if name == "town" else float(v)
    count = len(next(iter(columns.values())))
    return [{name: value(name, columns[name][at]) for name in columns} for at in range(count)]


@pytest.mark.parametrize("which", ["fresh", "raw"])
def test_a_classifier_answers_as_it_does_elsewhere(trained, which):
    columns = {k: v for k, v in table(100, 2).items() if k in RAW} if which == "fresh" else RAW
    session, signature = session_of(trained, "kinds")
    outputs = run(session, columns)
    classes = signature["classes"]
    by_rows = trained.predict("kinds", rows(columns))
    assert by_rows.status == 200, by_rows
    by_rows = by_rows.json()["predictions"]
    close([[p["probabilities"][c] for c in classes] for p in by_rows], outputs["probabilities"])
    assert [p["label"] for p in by_rows] == outputs["label"].tolist()
    by_csv = trained.ok("predict", "kinds", "--data", "-", stdin=text_of(columns)).out
    by_csv = list(csv.DictReader(io.StringIO(by_csv)))
    close([[float(p[f"probabilities.{c}"]) for c in classes] for p in by_csv], outputs["probabilities"])
    if which == "fresh":
        truth = table(100, 2)["kind"]
        assert np.mean(outputs["label"] == np.array(truth)) > 0.75


@pytest.mark.parametrize("which", ["fresh", "raw"])
def test_a_regression_answers_as_it_does_elsewhere(trained, which):
    columns = {k: v for k, v in table(100, 2).items() if k in RAW} if which == "fresh" else RAW
    session, _ = session_of(trained, "prices")
    wanted = run(session, columns)["prediction"]
    by_rows = trained.predict("prices", rows(columns))
    assert by_rows.status == 200, by_rows
    close([p["prediction"] for p in by_rows.json()["predictions"]], wanted)
    by_csv = trained.ok("predict", "prices", "--data", "-", stdin=text_of(columns)).out
    close([float(p["prediction"]) for p in csv.DictReader(io.StringIO(by_csv))], wanted)


def test_rows_are_read_as_tables_are(trained):
    """Spaces around a value, and the spellings of a missing one, are the reader's, not the model's."""
    texts = ["x,z,town\n1,2,bonn\n1,,\n", "x,z,town\n 1 , 2, bonn \n1,NaN,NA\n"]
    plain, loose = (trained.ok("predict", "prices", "--data", "-", stdin=text).out for text in texts)
    assert plain == loose


def test_a_column_left_out_is_refused_or_missing(trained):
    """Whichever: it is the same by rows and by CSV, and it is told."""
    by_rows = trained.predict("prices", [{"x": 1.0, "z": 2.0}])
    by_csv = trained.cli("predict", "prices", "--data", "-", stdin="x,z\n1,2\n")
    if by_rows.status == 200:
        assert by_csv.code == 0
        close(float(by_csv.out.split()[-1]), by_rows.json()["predictions"][0]["prediction"])
        missing = trained.predict("prices", [{"x": 1.0, "z": 2.0, "town": None}])
        assert missing.json()["predictions"] == by_rows.json()["predictions"]
    else:
        assert by_rows.status == 400 and "`town`" in by_rows.error()[1]
        assert by_csv.code == 8 and "`town`" in by_csv.err


def test_many_rows_at_once_are_each_on_their_own(trained):
    columns = {k: v for k, v in table(1500, 3).items() if k in RAW}
    by_csv = trained.ok("predict", "prices", "--data", "-", stdin=text_of(columns)).out
    got = [float(p["prediction"]) for p in csv.DictReader(io.StringIO(by_csv))]
    close(got, run(session_of(trained, "prices")[0], columns)["prediction"])
    backwards = {k: v[::-1] for k, v in columns.items()}
    again = trained.ok("predict", "prices", "--batch", "7", "--data", "-", stdin=text_of(backwards)).out
    close([float(p["prediction"]) for p in csv.DictReader(io.StringIO(again))][::-1], got)


def test_a_model_brought_back_is_the_same(trained):
    """What was downloaded is imported again, and answers the same."""
    session_of(trained, "kinds")
    folder = trained.folder / "model-kinds"
    trained.ok("model", "import", "again", folder / "model.onnx", "--file", folder / "signature.json")
    trained.ok("deploy", "again", "--model", "again", "--wait")
    first, second = (trained.predict(name, rows(RAW)).json()["predictions"] for name in ("kinds", "again"))
    assert first == second
