"""Registers a model of scikit-learn as such and as ONNX, and uploads a file in parts."""

import os
import pathlib
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")

import mlflow
import numpy
import skl2onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

features, labels = load_iris(return_X_y=True)
features = features.astype(numpy.float32)
model = LogisticRegression(max_iter=500).fit(features, labels)
onnx = skl2onnx.to_onnx(model, features[:1], options={"zipmap": False}, target_opset=17)
with mlflow.start_run(run_name="exported") as run:
    mlflow.sklearn.log_model(model, name="pickled", registered_model_name="pickled")
    mlflow.onnx.log_model(onnx, name="served", registered_model_name="served")
    with tempfile.TemporaryDirectory() as folder:
        large = pathlib.Path(folder) / "large.bin"
        large.write_bytes(bytes(range(256)) * 4096 * 13)
        mlflow.log_artifact(str(large), "in/parts")
        got = pathlib.Path(mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/in/parts/large.bin"))
        assert got.read_bytes() == large.read_bytes()
pathlib.Path(sys.argv[1]).write_text(f"{run.info.run_id} {int(model.predict(features[:1])[0])}")
