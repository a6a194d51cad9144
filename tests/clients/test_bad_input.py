"""What people and programs send by mistake or by intent: each refused with a status that programs
understand and a message that names what is wrong, and the server is as well as before."""

import http.client
import json
import os
import socket
import subprocess
from urllib.parse import quote

import pytest

from conftest import server
from server import PATIENCE_S, call, eventually

TABLE = "x,kind,y\n" + "".join(f"{i * 0.37 % 5:.2f},{'ab'[i % 2]},{i % 2}\n" for i in range(60))


@pytest.fixture(scope="module", autouse=True)
def still_well(shared):
    """After all of it the server is the same process, answers, and has complained of nothing."""
    yield
    assert shared.process.poll() is None
    assert shared.got("GET", "/api/v1/whoami")["name"] == "owner"
    assert "panicked" not in shared.log.read_text()


@pytest.fixture(scope="module")
def served(shared):
    """An endpoint `t` of a table with a number and a category."""
    shared.ok("data", "put", "t", shared.write("t.csv", TABLE))
    shared.ok("train", "t", "--data", "t", "--target", "y", "--trials", "1", "--wait")
    shared.ok("deploy", "t", "--model", "t", "--wait")
    return shared


def refused(done, code, *words):
    assert done.code == code, done
    for word in words:
        assert word in done.err, (word, done)
    # A sentence for people: no types, no traces.
    assert "panicked" not in done.err and "Error {" not in done.err and "src/" not in done.err


def refused_call(answer, status, *words):
    assert answer.status == status, answer
    code, message = answer.error()
    for word in words:
        assert word in message, (word, answer)
    return code


# Tables.


@pytest.mark.parametrize("name, content, words", [
    ("empty", b"", ["empty"]),
    ("blank", b"\n\n", ["empty"]),
    ("header", b"a,b,c\n", ["no rows"]),
    ("ragged", b"a,b\n1,2\n3\n4,5\n", ["line 3", "1 field", "2"]),
    ("long-row", b"a,b\n1,2\n3,4,5\n", ["line 3", "3 fields", "2"]),
    ("latin", "a,b\n1,caf\u00e9\n".encode("latin-1"), ["line 2", "UTF-8"]),
    ("utf16", "a,b\n1,2\n".encode("utf-16"), ["UTF-8"]),
    ("twice", b"a,a\n1,2\n", ["`a`"]),
    ("nul", b"a,b\n1,\0\n", ["line 2"]),
    ("open-quote", b'a,b\n1,"never closed\n', ["line"]),
    ("no-name", b"a,\n1,2\n", ["line 1"]),
])
def test_files_that_are_no_tables(shared, name, content, words):
    """Kept, as a dataset may be anything, with a note; refused where a table is needed."""
    file = shared.write(f"{name}.csv", content)
    put = shared.cli("data", "put", f"bad-{name}", file)
    train = shared.cli("train", f"bad-{name}", "--data", f"bad-{name}", "--target", "b", "--trials", "1", "--wait")
    assert train.code in (1, 8) and "panicked" not in train.err, train
    if put.code == 0 and name in ("nul", "open-quote", "no-name"):
        return  # These may be read: a value, a text, a column without a name; what remains is too little.
    for told in (put.err, train.err):
        for word in [f"`{name}.csv`", *words]:
            assert told.count(word) >= 1, (word, told)
    assert shared.api("GET", f"models/bad-{name}").status == 404


def told_of(shared, name, *words):
    """What is said of a file of this name, where it is put and where it is trained on."""
    put = shared.cli("data", "put", name.split(".")[0], shared.folder / name, timeout=600)
    train = shared.cli("train", "no", "--data", name.split(".")[0], "--target", "b", "--trials", "1", "--wait")
    assert put.code in (0, 8) and train.code in (1, 3, 8), (put, train)
    for told in (put.err, train.err if put.code == 0 else put.err):
        for word in (f"`{name}`", *words):
            assert word in told, (word, told)


def test_a_parquet_file_that_is_none(shared):
    for name, content in [("a", b""), ("b", b"PAR1garbagePAR1"), ("c", os.urandom(5000))]:
        shared.write(f"{name}.parquet", content)
        told_of(shared, f"{name}.parquet")


def test_a_very_long_line(shared):
    """8 MiB here, which is over the bound; `LEPTON_LONG_LINE=1000000000` says how long instead."""
    length = int(os.environ.get("LEPTON_LONG_LINE", 8 << 20))
    file = shared.folder / "long.csv"
    with file.open("wb") as out:
        out.write(b"a,b\n1,")
        for start in range(0, length, 1 << 20):
            out.write(b"x" * min(1 << 20, length - start))
        out.write(b"\n")
    before = shared.resident_bytes()[0]
    told_of(shared, "long.csv", "line 2", "longer than")
    assert shared.resident_bytes()[1] < before + (100 << 20)
    file.unlink()


def test_a_line_with_300_000_columns(shared):
    shared.write("wide.csv", ",".join(f"c{i}" for i in range(300_000)) + "\n")
    told_of(shared, "wide.csv", "line 1", "columns")


def test_what_cannot_be_trained_on(shared, served):
    train = lambda data, target, *more: shared.cli(
        "train", "bad", "--data", data, "--target", target, "--trials", "1", "--wait", *more)
    refused(train("t", "none"), 8, "no column `none`", "`kind`")
    refused(train("nothing", "y"), 3, "`nothing`")
    refused(train("t:9", "y"), 3, "9")
    before = len(shared.got("GET", "jobs")["items"])
    refused(train("t", "y", "--metric", "nonsense"), 8, "`nonsense`", "log_loss")
    assert len(shared.got("GET", "jobs")["items"]) == before
    refused(train("t", "y", "--metric", "r2"), 1, "r2")
    shared.ok("data", "put", "text", shared.write("readme.txt", "no table"))
    assert train("text", "y").code in (1, 8)


@pytest.mark.parametrize("name, rows, words", [
    ("one-class", ["1,a", "2,a", "3,a"] * 10, ["a"]),
    ("no-target", ["1,", "2,", "3,"] * 10, ["target", "y"]),
    ("one-row", ["1,a"], []),
    ("all-distinct", [f"{i},t{i}" for i in range(40)], ["y"]),
])
def test_targets_that_cannot_be_learned(shared, name, rows, words):
    shared.ok("data", "put", name, shared.write(f"{name}.csv", "x,y\n" + "\n".join(rows) + "\n"))
    done = shared.cli("train", name, "--data", name, "--target", "y", "--trials", "1", "--wait")
    assert done.code in (1, 8), done
    told = done.err + shared.cli("logs", name).out
    for word in words:
        assert word in told, told
    assert "panicked" not in told
    assert shared.api("GET", f"models/{name}").status == 404


def test_nan_and_infinity_in_a_table(shared):
    """NaN is missing; what is infinite is named."""
    def train(name, words):
        rows = "".join(f"{words[i % 9] if i % 9 < len(words) else i},{i % 2}\n" for i in range(90))
        shared.ok("data", "put", name, shared.write(f"{name}.csv", "x,y\n" + rows))
        return shared.cli("train", name, "--data", name, "--target", "y", "--trials", "1", "--wait")
    done = train("nan", ["NaN", "", "nan", "NA"])
    assert done.code == 0, done
    for at, word in enumerate(["inf", "-inf", "Infinity", "1e400"]):
        refused(train(f"inf{at}", ["1", word]), 1, "`x`", "infinite", "row 2")


@pytest.mark.parametrize("word", ["inf", "-Infinity"])
def test_infinity_in_a_target(shared, word):
    rows = "".join(f"{i},{i * 1.5}\n" for i in range(40))
    shared.ok("data", "put", "inf", shared.write("inf.csv", f"x,y\n{rows}41,{word}\n"))
    done = shared.cli("train", "inf", "--data", "inf", "--target", "y", "--trials", "1", "--metric", "r2", "--wait")
    assert done.code in (1, 8), done
    told = done.err + shared.cli("logs", "inf").out
    assert "`y`" in told and "panicked" not in told, told


def test_nan_and_infinity_in_metrics(shared):
    run = shared.got("POST", "runs", {})["metadata"]["id"]
    points = [{"key": "m", "step": i, "timestamp": i, "value": v}
              for i, v in enumerate(["NaN", "Infinity", "-Infinity", 1.5, 1e308])]
    shared.got("POST", f"runs/{run}/log", {"metrics": points})
    back = shared.got("GET", f"runs/{run}/series?key=m")["points"]
    assert [p["value"] for p in back] == ["NaN", "Infinity", "-Infinity", 1.5, 1e308]
    # JSON has no such words, and Python writes them all the same.
    body = b'{"metrics": [{"key": "m", "value": NaN}]}'
    refused_call(shared.api("POST", f"runs/{run}/log", body=body), 400, "JSON")
    bad = {"metrics": [{"key": "m", "value": "many"}]}
    refused_call(shared.api("POST", f"runs/{run}/log", bad), 400)
    assert shared.api("GET", f"runs?metric={quote('m>0')}").status == 200
    for condition in ("m>", ">1", "m>many", "m"):
        refused_call(shared.api("GET", f"runs?metric={quote(condition)}"), 400)


# Inference.


@pytest.mark.parametrize("rows, words", [
    ([{"x": 1, "kind": "a", "extra": 2}], ["`extra`"]),
    ([{"x": "many", "kind": "a"}], ["`x`"]),
    ([{"x": {"deep": 1}, "kind": "a"}], ["`x`"]),
    ([{"x": 1, "kind": "a"}, 7], []),
    (7, []),
    ([], None),
])
def test_wrong_rows(served, rows, words):
    answer = served.predict("t", rows)
    if words is None:
        assert answer.status in (200, 400)
        return
    refused_call(answer, 400, *words)


@pytest.mark.parametrize("body", [
    b"", b"{", b"null", b"[1,2", b'{"rows": [{"x": NaN}]}', b'{"rows": [{"x": 1}]} trailing', b"\xff\xfe",
    b'{"columns": ["x"], "data": [[1, 2]]}', b'{"columns": ["x", "x"], "data": [[1, 2]]}',
    b'{"neither": 1}', b"[" * 100_000,
])
def test_wrong_bodies_of_rows(served, body):
    refused_call(served.api("POST", "endpoints/t/predict", body=body), 400)


def test_wrong_tensors(served):
    tensors = lambda **change: {"inputs": [
        {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]} | change,
        {"name": "kind", "datatype": "BYTES", "shape": [1, 1], "data": ["a"]},
    ]}
    infer = lambda given: served.api("POST", "/v2/models/t/infer", given)
    assert infer(tensors()).status == 200
    for change, words in [
        ({"datatype": "INT64", "data": [1]}, ["`x`", "FP32", "INT64"]),
        ({"datatype": "FP99"}, ["FP99"]),
        ({"shape": [1, 2], "data": [1, 2]}, ["`x`", "[1,2]"]),
        ({"shape": [2, 1]}, ["`x`"]),
        ({"shape": [-1, 1]}, []),
        ({"shape": [1 << 40, 1 << 40]}, []),
        ({"data": ["text"]}, ["`x`"]),
        ({"data": []}, ["`x`"]),
        ({"name": "none"}, ["`none`"]),
        ({"name": "kind"}, ["`kind`"]),
    ]:
        answer = infer(tensors(**change))
        assert answer.status == 400, (change, answer)
        for word in words:
            assert word in answer.json()["error"], (change, answer)
    for given in ({}, {"inputs": []}, {"inputs": 7}):
        assert infer(given).status == 400, given


def test_predict_by_the_cli(served):
    predict = lambda text, *more: served.cli("predict", "t", "--data", "-", *more, stdin=text)
    refused(predict(""), 8)
    refused(predict("x,kind,z\n1,a,2\n"), 8, "`z`", "--drop")
    refused(predict("x,kind\n1\n"), 8)
    refused(predict("{broken"), 8)
    done = predict(b"x,kind\n1,\xff\n")
    assert done.code == 8 and b"UTF-8" in done.err, done
    assert served.cli("predict", "none", "--data", "-", stdin="x\n1\n").code == 3
    assert served.cli("predict", "t", "--data", "/no/such/file").code == 8


# Names and paths.

EVIL = ["../x", "..", ".", "a/b", "a/../../b", "", "A", "-a", "a" * 64, "a\0b", "a\nb", "\u202e", "a b", "a%2fb"]


@pytest.mark.parametrize("name", EVIL)
def test_names(shared, name):
    job = {"name": name, "program": {"type": "command", "command": ["true"]}}
    assert shared.api("POST", "jobs", job).status == 400
    assert shared.api("POST", "/api/v1/projects", {"name": name}).status == 400
    assert shared.api("POST", "/api/v1/tokens", {"name": name}).status == 400
    if "\0" not in name:
        file = shared.write("ok.csv", "a\n1\n")
        assert shared.cli("data", "put", name, file).code in (2, 8)
        assert shared.cli("deploy", name, "--model", "m").code in (2, 3, 8)


@pytest.mark.parametrize("name", ["../../etc", "..", ".", "a/b", "", "a:b", "a\0b", "a\nb", "x" * 501])
def test_names_of_models(shared, name):
    blob = shared.blob(b"x")
    given = {"files": [{"path": "model.onnx", **blob}]}
    answer = shared.api("POST", f"models/{quote(name, safe='')}/versions", given)
    assert answer.status in (400, 404, 405), answer
    train = {"name": "x", "program": {"type": "train", "dataset": "t", "target": "y", "model": name}}
    assert shared.api("POST", "jobs", train).status == 400
    if "\0" not in name:
        done = shared.cli("model", "import", name, shared.write("m.onnx", b"x"))
        assert done.code in (2, 8), done
    assert not (shared.folder / "etc").exists()


@pytest.mark.parametrize("path", [
    "../up.txt", "a/../../up.txt", "/abs.txt", "a//b", "./a", "a/.", "a\0b", "a\\b", "", "x" * 1025])
def test_paths_of_files(shared, path):
    blob = shared.blob(b"a\n1\n")
    files = {"files": [{"path": path, **blob}]}
    refused_call(shared.api("POST", "datasets/paths/versions", files), 400, "path")
    refused_call(shared.api("POST", "models/paths/versions", files), 400, "path")
    run = shared.got("POST", "runs", {})["metadata"]["id"]
    answer = shared.api("PUT", f"runs/{run}/artifacts/{quote(path, safe='')}", body=b"x")
    assert answer.status in (400, 404, 405), answer
    assert shared.got("GET", f"runs/{run}/artifacts")["items"] == []
    got = shared.api("GET", f"runs/{run}/artifacts/{quote('../' * 8 + 'etc/passwd', safe='')}")
    assert got.status in (400, 404) and b"root:" not in got.body


def test_raw_paths_lead_nowhere(shared):
    for path in ("/api/v1/projects/default/../../../etc/passwd", "//etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
                 "/api/v1/projects/%00/jobs", "/api/v1/projects/default/jobs/%ff", "/api/v1/projects//jobs"):
        answer = shared.api("GET", path)
        assert 400 <= answer.status < 500 and b"root:" not in answer.body, (path, answer)
        assert answer.error()[1]


def test_files_that_were_never_uploaded(shared):
    wrong = [
        ({"path": "f.csv", "digest": "0" * 64, "size_bytes": 4}, "upload"),
        ({"path": "f.csv", **shared.blob(b"a\n1\n") | {"size_bytes": 5}}, "upload"),
    ]
    for file, word in wrong:
        refused_call(shared.api("POST", "datasets/none/versions", {"files": [file]}), 400, word)
    for digest in ("0" * 63, "../../etc/passwd", "Z" * 64):
        file = {"path": "f.csv", "digest": digest, "size_bytes": 4}
        refused_call(shared.api("POST", "datasets/none/versions", {"files": [file]}), 400)
    same = {"path": "f.csv", **shared.blob(b"a\n1\n")}
    refused_call(shared.api("POST", "datasets/none/versions", {"files": [same, same]}), 400, "twice")
    refused_call(shared.api("POST", "datasets/none/versions", {"files": []}), 400, "files")


# Models made elsewhere.


@pytest.mark.parametrize("content", [b"", b"not onnx", os.urandom(3000), b"\x08\x07\x12\x04test"])
def test_what_is_no_model(shared, content):
    """Refused when imported or, at the latest, told by the endpoint that cannot serve it."""
    file = shared.write("broken.onnx", content)
    done = shared.cli("model", "import", "broken", file)
    if done.code != 0:
        refused(done, 8, "onnx")
        return
    shared.cli("delete", "endpoint", "broken", "--ignore-not-found")
    eventually("gone", lambda: shared.api("GET", "endpoints/broken").status == 404)
    done = shared.cli("deploy", "broken", "--model", "broken", "--wait", "--wait-timeout", "20s")
    assert done.code in (1, 7, 8), done
    told = done.err + shared.cli("describe", "endpoint", "broken").out
    assert "model" in told and "panicked" not in told
    shared.ok("delete", "endpoint", "broken")


def test_models_that_cannot_be_served(shared):
    assert shared.cli("model", "import", "none", "/no/such.onnx").code == 8
    assert shared.cli("deploy", "none", "--model", "none").code == 3
    shared.got("POST", "models/files/versions", {"files": [{"path": "notes.txt", **shared.blob(b"x")}]})
    done = shared.cli("deploy", "files", "--model", "files")
    refused(done, 8, "model.onnx")


# Bodies.


def test_a_body_of_100_mb(shared):
    """Refused by its length, or where it exceeds; the server's memory hardly notices."""
    before = shared.resident_bytes()[0]
    piece, count = b" " * (1 << 20), 100
    for path in ("jobs", "endpoints/t/predict", "apply", "runs"):
        url = f"/api/v1/projects/default/{path}"
        head = {"Authorization": f"Bearer {shared.token}", "Content-Type": "application/json"}
        for length in (True, False):
            connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=PATIENCE_S)
            connection.putrequest("POST", url)
            for key, value in head.items():
                connection.putheader(key, value)
            if length:
                connection.putheader("Content-Length", str(len(piece) * count))
            else:
                connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            try:
                for _ in range(count):
                    connection.send(piece if length else b"100000\r\n" + piece + b"\r\n")
                if not length:
                    connection.send(b"0\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                pass  # It need not hear us out.
            try:
                answer = connection.getresponse()
                body = answer.read()
            except (ConnectionResetError, http.client.BadStatusLine, BrokenPipeError) as error:
                raise AssertionError(f"{path}: no answer, but {error!r}")
            finally:
                connection.close()
            assert answer.status in ((413, 404) if "predict" in path else (413,)), (path, length, body)
            if answer.status == 413:
                assert json.loads(body)["error"]["code"] == "too-large"
    assert shared.resident_bytes()[1] < before + (150 << 20)


def test_a_large_upload_is_not_held_in_memory(shared):
    size = 48 << 20
    file = shared.folder / "large.bin"
    with file.open("wb") as out:
        out.truncate(size)
    before = max(shared.resident_bytes())
    shared.ok("data", "put", "large", file)
    assert max(shared.resident_bytes()) < before + (32 << 20)
    got = shared.folder / "got"
    shared.ok("data", "get", "large", "--to", got)
    assert (got / "large.bin").stat().st_size == size
    file.unlink(), (got / "large.bin").unlink()


def test_an_upload_that_breaks_off(shared):
    with socket.create_connection(("127.0.0.1", shared.port)) as peer:
        head = (f"POST /api/v1/projects/default/blobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
                f"{shared.token}\r\nContent-Length: 1000000\r\n\r\n")
        peer.sendall(head.encode() + b"x" * 500_000)
    eventually("nothing is left of it", lambda: not shared.half_uploads())


@pytest.mark.parametrize("given, words", [
    (b"{", ["JSON"]),
    (b"[]", ["JSON"]),
    (b'{"name": 7}', ["JSON"]),
    (b'{"name": "x", "program": {"type": "nonsense"}}', ["nonsense"]),
    (b'{"name": "x", "program": {"type": "command", "command": []}}', ["command"]),
    (b'{"name": "x", "program": {"type": "command", "command": ["true"]}, "wrokers": 2}', ["wrokers"]),
    (b'{"name": "x", "program": {"type": "command", "command": ["true"]}, "workers": 0}', ["workers"]),
    (b'{"name": "x", "program": {"type": "command", "command": ["true"]}, "workers": 1000000}', ["workers"]),
    (b'{"name": "x", "program": {"type": "command", "command": ["true"]}, "workers": -1}', ["JSON"]),
    (b'{"name": "x", "program": {"type": "command", "command": ["a\\u0000b"]}}', ["NUL"]),
    (b'{"name": "x", "program": {"type": "command", "command": ["true"]}, "env": {"A=B": "c"}}', ["A=B"]),
    (b'{"name": "x", "program": {"type": "command", "command": ["true"]}, "env": {"A": "\\u0000"}}', ["NUL"]),
    (b'{"name": "x", "program": {"type": "command", "command": ["true"]}, "timeout": "soon"}', ["soon"]),
    (b'{"name": "x", "program": {"type": "command", "command": ["true"]}, "resources": {"cpu": "many"}}', ["many"]),
    (b'{"name": "x", "program": {"type": "command", "command": ["true"]}, "pool": "none"}', ["none"]),
    (b"\xff\xfe", ["JSON"]),
    (b"", ["body"]),
])
def test_wrong_jobs(shared, given, words):
    answer = shared.api("POST", "jobs", body=given)
    assert answer.status == (404 if words == ["none"] else 400), answer
    for word in words:
        assert word in answer.error()[1], answer


def test_deep_json(shared):
    for body in (b'{"name":' + b"[" * 200_000, b'{"a":' * 200_000):
        for path in ("jobs", "apply", "runs"):
            assert shared.api("POST", path, body=body).status == 400


def test_wrong_methods_and_queries(shared):
    answer = shared.api("PATCH", "jobs")
    assert refused_call(answer, 405, "PATCH") == "method-not-allowed"
    assert refused_call(shared.api("GET", "nonsense"), 404, "nonsense") == "not-found"
    for query in ("limit=many", "limit=-1", "page_token=nonsense", "phase=nonsense"):
        refused_call(shared.api("GET", f"jobs?{query}"), 400)
    job = shared.submit("q", "true")
    shared.over(job)
    for query in ("cursor=x", "stream=x", "worker=x", "wait=x", "attempt=0"):
        assert shared.api("GET", f"jobs/{job}/logs?{query}").status in (400, 404), query
    refused_call(shared.api("GET", "watch?kinds=nonsense"), 400, "nonsense")


def test_noise_on_the_port(shared):
    for noise in (b"\0" * 100, b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n", b"A" * 100_000,
                  b"GET /healthz HTTP/1.1\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", shared.port)) as peer:
            peer.settimeout(5)
            try:
                peer.sendall(noise)
                peer.shutdown(socket.SHUT_WR)
                answer = peer.recv(100)
            except (OSError, TimeoutError):
                continue
            assert not answer or b" 4" in answer or b" 5" in answer, (noise[:20], answer)


@pytest.mark.parametrize("header", [
    None, "", "Bearer", "Bearer ", "Bearer x", "bearer lpt_00000000000000000000000000000000_x",
    "Bearer lpa_00000000000000000000000000000000_x", "Basic eDp5", "Bearer " + "x" * 5000, "Bearer \xff"])
def test_tokens_that_are_none(shared, header):
    headers = {} if header is None else {"Authorization": header}
    answer = call(shared.port, "GET", "/api/v1/projects/default/jobs", headers=headers)
    assert refused_call(answer, 401) == "unauthenticated"


def test_a_token_that_is_almost_right(shared):
    head, last = shared.token[:-1], shared.token[-1]
    for token in (head, head + ("A" if last != "A" else "B"), shared.token + "A", shared.token.upper()):
        assert shared.api("GET", "jobs", token=token).status == 401
    done = shared.cli("get", "jobs", env={"LEPTON_TOKEN": "nonsense"})
    refused(done, 4, "token")


# Manifests.


@pytest.mark.parametrize("text, words", [
    ("", []),
    ("{", []),
    ("kind: Endpoint\n", []),
    ("apiVersion: lepton/v9\nkind: Endpoint\nmetadata: {name: x}\nspec: {model: m}\n", ["lepton/v1"]),
    ("apiVersion: lepton/v1\nkind: Nonsense\nmetadata: {name: x}\n", ["Nonsense"]),
    ("apiVersion: lepton/v1\nkind: Job\nmetadata: {name: x}\n", ["job"]),
    ("apiVersion: lepton/v1\nkind: Endpoint\nmetadata: {name: ../x}\nspec: {model: m}\n", ["../x"]),
    ("apiVersion: lepton/v1\nkind: Endpoint\nmetadata: {name: x}\nspec: {model: m, replcas: 2}\n", ["replcas"]),
    ("apiVersion: lepton/v1\nkind: Endpoint\nmetadata: {name: x}\nspec: {model: m, replicas: many}\n", ["many"]),
    ("apiVersion: lepton/v1\nkind: Endpoint\nmetadata: {name: x}\nspec: {model: no-such-model}\n", ["no-such-model"]),
    ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", []),
])
def test_wrong_manifests(shared, text, words):
    done = shared.cli("apply", "-f", shared.write("bad.yaml", text))
    assert done.code != 0, done
    for word in words:
        assert word.lower() in done.err.lower(), done


# The place.


def test_a_second_server_on_the_same_directory(shared):
    done = shared.cli("up", "--data-dir", shared.data_dir, "--listen", "127.0.0.1:0", timeout=30)
    refused(done, 1, "another Lepton", str(shared.process.pid), str(shared.data_dir))
    assert shared.got("GET", "/api/v1/whoami")


def test_a_port_that_is_taken(shared):
    place = shared.folder / "elsewhere"
    done = shared.cli("up", "--data-dir", place, "--listen", f"127.0.0.1:{shared.port}", timeout=30)
    refused(done, 1, f"127.0.0.1:{shared.port}", "--listen")


def test_a_data_directory_that_cannot_be(shared):
    file = shared.write("file", "x")
    done = shared.cli("up", "--data-dir", file, "--listen", "127.0.0.1:0", timeout=30)
    refused(done, 1, str(file))


def test_a_database_that_is_none(shared):
    place = shared.folder / "broken"
    place.mkdir()
    (place / "lepton.db").write_bytes(b"this is not a database, whatever its name says" * 100)
    done = shared.cli("up", "--data-dir", place, "--listen", "127.0.0.1:0", timeout=30)
    assert done.code != 0 and "lepton.db" in done.err, done


def test_a_full_disk(small_disk):
    """What does not fit is refused and leaves nothing; what was kept stays; room helps at once."""
    with server(data_dir=small_disk / "data") as lepton:
        kept = lepton.blob(b"kept")["digest"]
        run = lepton.got("POST", "runs", {})["metadata"]["id"]
        lepton.got("POST", f"runs/{run}/log", {"params": {"before": "full"}})
        too_much = lepton.api("POST", "blobs", body=os.urandom(32 << 20))
        assert refused_call(too_much, 507, "disk") == "disk-full"
        assert not lepton.half_uploads()
        file = lepton.write("large.csv", "a\n" + "1\n" * (15 << 20))
        refused(lepton.cli("data", "put", "large", file), 9, "disk")
        # Full to the last byte.
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as out:
            try:
                while True:
                    out.write(b"\0" * 65536)
                    out.flush()
            except OSError:
                pass
        statuses = set()
        for at in range(40):
            given = {"params": {f"p{at}": "x" * 5000}}
            answer = lepton.api("POST", f"runs/{run}/log", given)
            statuses.add(answer.status)
            if answer.status != 204:
                assert refused_call(answer, 507, "disk") == "disk-full"
        assert 507 in statuses, statuses
        put = lepton.api("PUT", f"runs/{run}/artifacts/a.bin", body=os.urandom(1 << 20))
        assert refused_call(put, 507) == "disk-full"
        job = {"name": "j", "program": {"type": "command", "command": ["true"]}}
        answer = lepton.api("POST", "jobs", job)
        assert answer.status in (201, 507), answer
        # Reading goes on.
        assert lepton.api("GET", f"blobs/{kept}").body == b"kept"
        assert lepton.got("GET", f"runs/{run}")["params"]["before"] == "full"
        filler.unlink()
        lepton.got("POST", f"runs/{run}/log", {"params": {"after": "full"}})
        if answer.status == 201:
            assert lepton.over(answer.json()["metadata"]["id"])["status"]["phase"] == "succeeded"
        assert lepton.over(lepton.submit("well", "true"))["status"]["phase"] == "succeeded"
        lepton.kill()
        lepton.start()
        params = lepton.got("GET", f"runs/{run}")["params"]
        assert params["before"] == params["after"] == "full"
