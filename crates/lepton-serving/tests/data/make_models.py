"""Makes the small ONNX files beside this script.

    pip install onnx==1.23.2 scikit-learn==1.9.1 skl2onnx==1.20.0 numpy
    python make_models.py

The files are checked in, so the tests need neither Python nor these packages.
"""

import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
OPSET = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]


def tensor(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def save(name, nodes, inputs, outputs, initializers=(), metadata=None):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(initializers))
    model = helper.make_model(graph, opset_imports=OPSET, producer_name="lepton-tests")
    model.ir_version = 8
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    onnx.save(model, HERE / f"{name}.onnx")


def affine():
    """y = x W + b, three features to two outputs: what a foreign exporter writes."""
    weights = numpy_helper.from_array(np.array([[1, 0], [0, 2], [1, 1]], np.float32), "w")
    bias = numpy_helper.from_array(np.array([0.5, -0.5], np.float32), "b")
    save(
        "affine",
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("Add", ["xw", "b"], ["y"]),
        ],
        [tensor("x", TensorProto.FLOAT, ["N", 3])],
        [tensor("y", TensorProto.FLOAT, ["N", 2])],
        [weights, bias],
    )


def echo():
    """One column of each type, returned as it came."""
    kinds = {
        "f32": TensorProto.FLOAT,
        "f64": TensorProto.DOUBLE,
        "i64": TensorProto.INT64,
        "i32": TensorProto.INT32,
        "u8": TensorProto.UINT8,
        "flag": TensorProto.BOOL,
        "text": TensorProto.STRING,
    }
    save(
        "echo",
        [helper.make_node("Identity", [k], [f"{k}_out"]) for k in kinds],
        [tensor(k, kind, ["N", 1]) for k, kind in kinds.items()],
        [tensor(f"{k}_out", kind, ["N", 1]) for k, kind in kinds.items()],
    )


def half():
    save(
        "half",
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", TensorProto.FLOAT16, ["N"])],
        [tensor("y", TensorProto.FLOAT16, ["N"])],
    )


def brain():
    """Numbers of sixteen bits as accelerators write them, doubled by way of single precision."""
    save(
        "brain",
        [
            helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["wide", "wide"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["y"], to=TensorProto.BFLOAT16),
        ],
        [tensor("x", TensorProto.BFLOAT16, ["N"])],
        [tensor("y", TensorProto.BFLOAT16, ["N"])],
    )


def sequence():
    """An output that no inference protocol can carry."""
    output = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    save(
        "sequence",
        [helper.make_node("SequenceConstruct", ["x", "x"], ["s"])],
        [tensor("x", TensorProto.FLOAT, ["N"])],
        [output],
    )


def batch_sum():
    """Rows are not independent here: axis 0 is summed away and kept at one."""
    axes = numpy_helper.from_array(np.array([0], np.int64), "axes")
    save(
        "batch_sum",
        [helper.make_node("ReduceSum", ["x", "axes"], ["total"], keepdims=1)],
        [tensor("x", TensorProto.FLOAT, ["N", 1])],
        [tensor("total", TensorProto.FLOAT, ["M", 1])],
        [axes],
    )


def tabular():
    """Shaped as Lepton's own trainer shapes a classifier: a column an input, label and
    probabilities as tensors, their meaning in the metadata."""
    inits = [
        numpy_helper.from_array(np.array([[30.0]], np.float32), "thirty"),
        numpy_helper.from_array(np.array([[0.0]], np.float32), "zero"),
        numpy_helper.from_array(np.array([[1.0]], np.float32), "one"),
    ]
    nodes = [
        # P(yes) = sigmoid((age - 30) / 1 + hue), a missing age counts as 30.
        helper.make_node("IsNaN", ["age"], ["age_missing"]),
        helper.make_node("Where", ["age_missing", "thirty", "age"], ["age_filled"]),
        helper.make_node(
            "LabelEncoder",
            ["colour"],
            ["hue"],
            domain="ai.onnx.ml",
            keys_strings=["red", "blue"],
            values_floats=[1.0, -1.0],
            default_float=0.0,
        ),
        helper.make_node("Sub", ["age_filled", "thirty"], ["age_centred"]),
        helper.make_node("Add", ["age_centred", "hue"], ["score"]),
        helper.make_node("Sigmoid", ["score"], ["yes"]),
        helper.make_node("Sub", ["one", "yes"], ["no"]),
        helper.make_node("Concat", ["no", "yes"], ["probabilities"], axis=1),
        helper.make_node("Greater", ["score", "zero"], ["is_yes"]),
        helper.make_node("Cast", ["is_yes"], ["class_index"], to=TensorProto.INT64),
        helper.make_node(
            "LabelEncoder",
            ["class_index"],
            ["label"],
            domain="ai.onnx.ml",
            keys_int64s=[0, 1],
            values_strings=["no", "yes"],
        ),
    ]
    metadata = {
        "lepton.task": "classification",
        "lepton.target": "bought",
        "lepton.class.0": "no",
        "lepton.class.1": "yes",
    }
    save(
        "tabular",
        nodes,
        [tensor("age", TensorProto.FLOAT, ["N", 1]), tensor("colour", TensorProto.STRING, ["N", 1])],
        [tensor("label", TensorProto.STRING, ["N", 1]), tensor("probabilities", TensorProto.FLOAT, ["N", 2])],
        inits,
        metadata,
    )


def scikit():
    """What scikit-learn users export: with ZipMap (the default) and without."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LinearRegression, LogisticRegression

    iris = load_iris()
    features = iris.data.astype(np.float32)
    names = iris.target_names[iris.target]
    classifier = LogisticRegression(max_iter=500).fit(features, names)
    zipped = to_onnx(classifier, features[:1], target_opset={"": 17, "ai.onnx.ml": 3})
    plain = to_onnx(
        LogisticRegression(max_iter=500).fit(features, iris.target),
        features[:1],
        options={"zipmap": False},
        target_opset={"": 17, "ai.onnx.ml": 3},
    )
    line = to_onnx(
        LinearRegression().fit(features[:, :3], features[:, 3]),
        features[:1, :3],
        target_opset={"": 17, "ai.onnx.ml": 3},
    )
    for name, model in {"iris_zipmap": zipped, "iris_plain": plain, "iris_line": line}.items():
        (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())
    print(json.dumps(classifier.predict_proba(features[[0, 60, 120]]).tolist()))


for make in (affine, echo, half, brain, sequence, batch_sum, tabular, scikit):
    make()
