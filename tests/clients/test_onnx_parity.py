"""Every model that the trainer writes, loaded by an unmodified onnxruntime on raw rows, gives
the trainer's own predictions: missing values, unseen categories and infinities included.

    LEPTON_PARITY=FOLDER pytest tests/clients/test_onnx_parity.py

where FOLDER is what `cargo run -p lepton-ml --example parity -- examples/data FOLDER` wrote;
without the variable, the test runs that command itself. Needs numpy, onnx and onnxruntime.
"""

import json
import os
import pathlib
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

KINDS = ["linear", "tree", "boosting", "network", "ensemble"]
SETS = ["breast_cancer", "wine", "iris", "digits", "diabetes"]
SYNTHETIC = ["synthetic_price", "synthetic_kind", "synthetic_grade"]
CASES = SETS + [f"{s}.{k}" for s in SETS + SYNTHETIC for k in KINDS]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    if "LEPTON_PARITY" in os.environ:
        return pathlib.Path(os.environ["LEPTON_PARITY"])
    out = tmp_path_factory.mktemp("parity")
    command = ["cargo", "run", "--quiet", "-p", "lepton-ml", "--example", "parity", "--"]
    subprocess.run([*command, ROOT / "examples/data", out], cwd=ROOT, check=True)
    return out


def feeds(case):
    tensors = {}
    for spec in case["signature"]["inputs"]:
        values = case["columns"][spec["name"]]
        if spec["datatype"] == "FP32":
            values = [np.nan if v is None else float(v) for v in values]
            tensors[spec["name"]] = np.array(values, dtype=np.float64).astype(np.float32)[:, None]
        else:
            values = ["" if v is None else v for v in values]
            tensors[spec["name"]] = np.array(values, dtype=object)[:, None]
    return tensors


def load(folder, name):
    session = onnxruntime.InferenceSession(
        str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"]
    )
    return session, json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_same_predictions(folder, name):
    session, case = load(folder, name)
    inputs = feeds(case)
    results = dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs)))
    expected = np.array(case["predictions"], dtype=np.float32)
    signature = case["signature"]
    if signature["task"] == "regression":
        got = results["prediction"]
        assert got.shape == (len(expected),)
        # 32 bits cannot hold 300 to 1e-5: the difference is relative from 1 on. Where the made
        # up prices, spread over hundreds, cross zero, it is relative to their spread.
        spread = expected.std() if name.startswith("synthetic") else 0
        scale = np.maximum(max(1, spread), np.abs(expected))
        assert np.max(np.abs(got - expected) / scale) <= 1e-5
        return
    classes = signature["classes"]
    expected = expected.reshape(-1, len(classes))
    got = results["probabilities"]
    assert got.dtype == np.float32 and got.shape == expected.shape
    assert np.max(np.abs(got - expected)) <= 1e-5
    assert np.allclose(got.sum(axis=1), 1, atol=1e-5)
    # Where two classes are equally probable to 1e-5, either label is right.
    top = np.sort(expected, axis=1)
    sure = top[:, -1] - top[:, -2] > 1e-5
    labels = np.array([str(label) for label in results["label"]])
    assert (labels == np.array(classes)[expected.argmax(axis=1)])[sure].all()
    assert sure.mean() > 0.9


@pytest.mark.parametrize("name", CASES)
def test_valid_and_self_describing(folder, name):
    session, case = load(folder, name)
    onnx.checker.check_model(onnx.load(folder / f"{name}.onnx"), full_check=False)
    signature = case["signature"]
    assert [i.name for i in session.get_inputs()] == [i["name"] for i in signature["inputs"]]
    assert [o.name for o in session.get_outputs()] == [o["name"] for o in signature["outputs"]]
    about = session.get_modelmeta().custom_metadata_map
    assert about["lepton.task"] == signature["task"]
    assert about["lepton.target"] == signature["target"]
    classes = signature.get("classes", [])
    assert [about[f"lepton.class.{i}"] for i in range(len(classes))] == classes


@pytest.mark.parametrize("name", ["synthetic_kind.ensemble", "synthetic_price.boosting"])
def test_rows_do_not_influence_each_other(folder, name):
    session, case = load(folder, name)
    inputs = feeds(case)
    whole = session.run(None, inputs)[-1]
    for row in (0, 7, 31):
        one = session.run(None, {k: v[row : row + 1] for k, v in inputs.items()})[-1]
        assert np.allclose(one[0], whole[row], rtol=1e-5, atol=1e-5)
