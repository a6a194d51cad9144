"""Makes iris-scikit-learn.onnx: a model from elsewhere, for `lepton model import`.

Needs scikit-learn and skl2onnx; the file in this folder was made by it.
"""

from pathlib import Path

from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

rows, kinds = load_iris(return_X_y=True)
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, kinds)
onnx = to_onnx(model, rows[:1].astype("float32"), options={"zipmap": False}, target_opset=17)
Path(__file__).with_name("iris-scikit-learn.onnx").write_bytes(onnx.SerializeToString())
