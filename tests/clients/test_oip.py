"""The Open Inference Protocol over HTTP with the unmodified client of its users.

    pip install "tritonclient[http]" numpy

Asks a server at OIP_URL (host:port) that serves `crates/lepton-serving/tests/data/echo.onnx`
as the model `echo` and `affine.onnx` as `affine`, with the headers of OIP_HEADERS (JSON).
Where only one of the two is served, OIP_MODELS names it.
"""

import json
import os

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

URL = os.environ["OIP_URL"]
HEADERS = json.loads(os.environ.get("OIP_HEADERS", "{}"))
MODELS = os.environ.get("OIP_MODELS", "echo,affine").split(",")

COLUMNS = {
    "f32": np.array([[0.1], [-2.5], [np.nan]], np.float32),
    "f64": np.array([[0.1], [1e300], [-1.0]], np.float64),
    "i64": np.array([[-(2**63)], [0], [2**63 - 1]], np.int64),
    "i32": np.array([[-(2**31)], [0], [7]], np.int32),
    "u8": np.array([[0], [255], [7]], np.uint8),
    "flag": np.array([[True], [False], [True]]),
    "text": np.array([["a"], [""], ["ü"]], dtype=object),
}


def headers():
    # A copy for each call: the client writes the length of its JSON into what it is given.
    return dict(HEADERS)


def tensor(name, values, binary):
    given = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    given.set_data_from_numpy(values, binary_data=binary)
    return given


def same(got, want):
    if got.dtype == object:
        text = lambda v: v.decode() if isinstance(v, bytes) else v
        got = np.vectorize(text, otypes=[object])(got)
    np.testing.assert_array_equal(got, want)


def check_health(client, model):
    assert client.is_server_live(headers=headers())
    assert client.is_server_ready(headers=headers())
    assert client.is_model_ready(model, headers=headers())
    assert not client.is_model_ready("no-such-model", headers=headers())
    assert client.get_server_metadata(headers=headers())["name"] == "lepton"
    metadata = client.get_model_metadata(model, headers=headers())
    assert metadata["name"] == model and metadata["platform"] == "onnxruntime_onnx", metadata


def check_echo(client):
    for binary_in in (True, False):
        # JSON has no NaN: the client would write Python's, which no server can read.
        columns = dict(COLUMNS)
        if not binary_in:
            columns["f32"] = np.nan_to_num(columns["f32"])
        inputs = [tensor(name, values, binary_in) for name, values in columns.items()]
        for binary_out in (True, False):
            outputs = [
                triton.InferRequestedOutput(f"{name}_out", binary_data=binary_out) for name in columns
            ]
            answer = client.infer("echo", inputs, outputs=outputs, request_id="7", headers=headers())
            assert answer.get_response()["id"] == "7"
            for name, values in columns.items():
                if not binary_out and name == "f32":
                    continue
                same(answer.as_numpy(f"{name}_out"), values)
        # What the client does when nobody chooses: every output, as raw bytes.
        answer = client.infer("echo", inputs, headers=headers())
        for name, values in columns.items():
            same(answer.as_numpy(f"{name}_out"), values)


def check_affine(client):
    x = np.array([[1, 2, 3], [0, 0, 0]], np.float32)
    answer = client.infer("affine", [tensor("x", x, True)], headers=headers())
    np.testing.assert_allclose(answer.as_numpy("y"), [[4.5, 6.5], [0.5, -0.5]])
    pending = client.async_infer("affine", [tensor("x", x, True)], headers=headers())
    np.testing.assert_allclose(pending.get_result().as_numpy("y"), [[4.5, 6.5], [0.5, -0.5]])
    none = np.zeros((0, 3), np.float32)
    answer = client.infer("affine", [tensor("x", none, True)], headers=headers())
    assert answer.get_output("y")["shape"] == [0, 2]
    for wrong, words in [
        (tensor("x", x.astype(np.float64), True), "input `x` expects FP32, got FP64"),
        (tensor("x", x[:, :2], True), "input `x` expects shape [-1,3], got [2,2]"),
        (tensor("z", x, True), "the model has no input `z`"),
    ]:
        try:
            client.infer("affine", [wrong], headers=headers())
        except InferenceServerException as error:
            assert words in error.message(), error.message()
            assert error.status() == "400", error.status()
        else:
            raise AssertionError(f"not refused: {words}")


def main():
    client = triton.InferenceServerClient(URL, concurrency=2)
    for model in MODELS:
        check_health(client, model)
        {"echo": check_echo, "affine": check_affine}[model](client)
        print(f"{model}: ok")


if __name__ == "__main__":
    main()
