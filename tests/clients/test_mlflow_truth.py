"""One truth, two faces: what MLflow's API and Lepton's own say of the same things, who may say it, and
what is refused. Plain HTTP but where MLflow's client itself matters."""

import base64
import gzip
import json

import pytest

from mlflow_rig import environment, finish, python, start
from server import eventually

BASE = "/api/2.0/mlflow"


def ask(lepton, path, given=None, method=None, token=None, headers=None, body=None):
    """A call of MLflow's API."""
    method = method or ("GET" if given is None and body is None else "POST")
    return lepton.api(method, f"{BASE}/{path}", given, body=body, token=token, headers=headers)


def got(lepton, path, given=None, **more):
    answer = ask(lepton, path, given, **more)
    assert answer.status == 200, (path, answer)
    return answer.json()


def refused(answer):
    return answer.status, answer.json()["error_code"]


def new_run(lepton, **more):
    return got(lepton, "runs/create", {"experiment_id": "0", "start_time": 1} | more)["run"]["info"]["run_id"]


def other_project(lepton, name):
    """A project, and a token that is good for it alone."""
    lepton.got("POST", "/api/v1/projects", {"name": name})
    made = lepton.got("POST", "/api/v1/tokens", {"name": f"of-{name}", "role": "editor", "project": name})
    return made["token"] if "token" in made else made["secret"]


def test_runs_of_both_faces_are_the_same(shared):
    run = new_run(shared, run_name="from mlflow", user_id="me")
    got(shared, "runs/log-batch", {"run_id": run, "metrics": [{"key": "m", "value": 0.5, "timestamp": 7, "step": 2}],
                                   "params": [{"key": "p", "value": "1"}], "tags": [{"key": "t", "value": "x"}]})
    seen = shared.got("GET", f"runs/{run}")
    assert seen["metadata"]["name"] == "from mlflow"
    assert (seen["params"], seen["tags"]) == ({"p": "1"}, {"t": "x"})
    assert [(m["key"], m["value"], m["step"]) for m in seen["metrics"]] == [("m", 0.5, 2)]
    made = shared.got("POST", "runs", {"name": "from lepton", "experiment": "both"})["metadata"]["id"]
    shared.got("POST", f"runs/{made}/log", {"params": {"a": "b"}, "metrics": [{"key": "z", "value": 3}]})
    experiment = got(shared, "experiments/get-by-name?experiment_name=both")["experiment"]["experiment_id"]
    found = got(shared, "runs/search", {"experiment_ids": [experiment], "filter": "metrics.z = 3 AND params.a = 'b'"})
    assert [r["info"]["run_name"] for r in found["runs"]] == ["from lepton"]
    shared.got("PATCH", f"runs/{made}", {"name": "renamed"})
    assert got(shared, f"runs/get?run_id={made}")["run"]["info"]["run_name"] == "renamed"


def test_artifacts_of_both_faces_are_the_same(shared):
    run = new_run(shared)
    shared.got("PUT", f"runs/{run}/artifacts/a/b.txt", body=b"hello")
    proxied = f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts"
    assert shared.api("GET", f"{proxied}/a/b.txt").body == b"hello"
    assert shared.api("PUT", f"{proxied}/c.txt", body=b"c").status == 200
    assert [f["path"] for f in shared.got("GET", f"runs/{run}/artifacts")["items"]] == ["a/b.txt", "c.txt"]
    assert refused(shared.api("GET", f"{proxied}/a")) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert shared.api("DELETE", f"{proxied}/a").status == 200
    assert [f["path"] for f in shared.got("GET", f"runs/{run}/artifacts")["items"]] == ["c.txt"]


def test_what_lepton_trained_is_found_by_mlflow_and_can_be_loaded(lepton):
    rows = "".join(f"{i},{i % 7},{'yes' if i % 7 > 3 else 'no'}\n" for i in range(200))
    lepton.write("data.csv", "a,b,label\n" + rows)
    lepton.ok("data", "put", "letters", "data.csv")
    lepton.ok("train", "letters", "--data", "letters", "--target", "label", "--trials", "2", "--wait", timeout=240)
    experiments = [e["experiment_id"] for e in got(lepton, "experiments/search", {"max_results": 100})["experiments"]]
    runs = got(lepton, "runs/search", {"experiment_ids": experiments})["runs"]
    assert any(run["data"].get("metrics") for run in runs), runs
    version = got(lepton, "model-versions/get?name=letters&version=1")["model_version"]
    assert version["run_id"] in {run["info"]["run_id"] for run in runs}
    uri = got(lepton, "model-versions/get-download-uri?name=letters&version=1")["artifact_uri"]
    path = uri.removeprefix("mlflow-artifacts:/")
    files = lepton.got("GET", f"/api/2.0/mlflow-artifacts/artifacts?path={path}")["files"]
    assert "model.onnx" in [file["path"] for file in files]
    assert lepton.api("GET", f"/api/2.0/mlflow-artifacts/artifacts/{path}/model.onnx").status == 200
    assert refused(lepton.api("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}/x", body=b"")) == (
        400, "INVALID_PARAMETER_VALUE")


def test_an_onnx_model_of_mlflow_is_deployed_and_another_says_what_it_lacks(lepton, tmp_path):
    env = environment(f"http://127.0.0.1:{lepton.port}", lepton.token, MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD="true",
                      MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE=str(5 << 20), MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE=str(5 << 20))
    finish(start(3, "onnx_model.py", env, tmp_path / "said"))
    run, label = (tmp_path / "said").read_text().split()
    assert lepton.got("GET", f"runs/{run}")["metadata"]["name"] == "exported"
    files = {f["path"]: f["size_bytes"] for f in lepton.got("GET", f"runs/{run}/artifacts")["items"]}
    assert files["in/parts/large.bin"] == 256 * 4096 * 13
    lacking = lepton.cli("deploy", "pickled", "--model", "pickled")
    assert lacking.code != 0 and "sklearn" in lacking.err and "mlflow.onnx.log_model" in lacking.err, lacking
    lepton.ok("deploy", "served", "--model", "served", "--wait", timeout=120)
    columns = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}
    answer = lepton.got("POST", "/v2/models/served/infer", {"inputs": [columns]})
    assert answer["outputs"][0]["data"] == [int(label)]
    assert run in json.dumps(lepton.got("GET", "models/served/versions/1"))


def test_a_job_finds_its_run_and_logs_to_it(lepton):
    code = """
import json, os, urllib.request
def ask(path, **given):
    request = urllib.request.Request(os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/" + path,
        json.dumps(given).encode(), {"Authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"],
                                            "Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))
run = os.environ["MLFLOW_RUN_ID"]
ask("runs/log-metric", run_id=run, key="seen", value=4.5, timestamp=1, step=0)
child = ask("runs/create", experiment_id="0", run_name="its child", start_time=1,
            tags=[{"key": "mlflow.parentRunId", "value": run}])["run"]["info"]["run_id"]
ask("runs/log-metric", run_id=child, key="deeper", value=1, timestamp=1, step=0)
try:
    ask("runs/log-metric", run_id="FOREIGN", key="x", value=1, timestamp=1, step=0)
except urllib.error.HTTPError as error:
    print("refused", error.code)
"""
    foreign = new_run(lepton)
    job = lepton.submit("logs", "python3", "-c", code.replace("FOREIGN", foreign))
    assert lepton.over(job)["status"]["phase"] == "succeeded", lepton.logs(job)
    assert "refused 403" in lepton.logs(job)
    run = lepton.job(job)["spec"]["run"]
    assert [m["value"] for m in lepton.got("GET", f"runs/{run}")["metrics"]] == [4.5]
    found = got(lepton, "runs/search", {"experiment_ids": ["0"], "filter": f"tags.mlflow.parentRunId = '{run}'"})
    assert [r["info"]["run_name"] for r in found["runs"]] == ["its child"]


def test_a_nested_run_of_a_job_lies_beside_its_own(lepton):
    code = """
import mlflow
with mlflow.start_run():
    mlflow.log_metric("outer", 1)
    with mlflow.start_run(nested=True, run_name="inner"):
        mlflow.log_metric("inner", 2)
"""
    job = lepton.submit("nested", python(3), "-c", code)
    assert lepton.over(job)["status"]["phase"] == "succeeded", lepton.logs(job)
    own = got(lepton, f"runs/get?run_id={lepton.job(job)['spec']['run']}")["run"]
    assert [m["key"] for m in own["data"]["metrics"]] == ["outer"]
    wanted = f"tags.mlflow.parentRunId = '{own['info']['run_id']}'"
    found = got(lepton, "runs/search", {"experiment_ids": [own["info"]["experiment_id"]], "filter": wanted})
    assert [(r["info"]["run_name"], r["data"]["metrics"][0]["value"]) for r in found["runs"]] == [("inner", 2)]


def test_the_bin_is_shown_and_emptied(lepton):
    kept, gone = new_run(lepton), new_run(lepton)
    got(lepton, "runs/log-metric", {"run_id": gone, "key": "x", "value": 1, "timestamp": 1, "step": 0})
    path = f"/api/2.0/mlflow-artifacts/artifacts/0/{gone}/artifacts/a/b"
    assert lepton.api("PUT", path, body=b"x").status == 200
    # A path is a file or a folder.
    assert refused(lepton.api("PUT", path.removesuffix("/b"), body=b"x")) == (400, "INVALID_PARAMETER_VALUE")
    got(lepton, "runs/delete", {"run_id": gone})
    assert refused(lepton.api("PUT", f"{path}c", body=b"x"))[0] == 400
    listed = lepton.ok("get", "runs", "--phase", "deleted", "-o", "json").json()
    assert gone in json.dumps(listed) and kept not in json.dumps(listed)
    purge = lambda *args: lepton.ok("runs", "purge", *args, "-o", "json").json()["runs"]
    assert purge() == 0
    assert purge("--older-than", "0s", "--dry-run") >= 1
    assert purge("--older-than", "0s") >= 1
    assert refused(ask(lepton, f"runs/get?run_id={gone}")) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert ask(lepton, f"runs/get?run_id={kept}").status == 200


def test_who_may_and_where(lepton):
    run = new_run(lepton)
    token = other_project(lepton, "others")
    assert refused(ask(lepton, f"runs/get?run_id={run}", token="")) == (401, "UNAUTHENTICATED")
    assert refused(ask(lepton, f"runs/get?run_id={run}", token="nonsense")) == (401, "UNAUTHENTICATED")
    basic = base64.b64encode(f"anybody:{lepton.token}".encode()).decode()
    seen = ask(lepton, f"runs/get?run_id={run}", token="", headers={"Authorization": f"Basic {basic}"})
    assert seen.status == 200
    # Another tenant's run is not there, whatever is asked of it.
    for path, given in [(f"runs/get?run_id={run}", None), ("runs/delete", {"run_id": run}),
                        ("runs/log-metric", {"run_id": run, "key": "x", "value": 1, "timestamp": 1}),
                        ("runs/log-batch", {"run_id": run, "params": [{"key": "x", "value": "1"}]}),
                        ("runs/set-tag", {"run_id": run, "key": "x", "value": "1"}),
                        (f"metrics/get-history?run_id={run}&metric_key=x", None),
                        (f"artifacts/list?run_id={run}", None)]:
        assert refused(ask(lepton, path, given, token=token)) == (404, "RESOURCE_DOES_NOT_EXIST"), path
    proxied = f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/x"
    assert refused(lepton.api("PUT", proxied, body=b"x", token=token)) == (404, "RESOURCE_DOES_NOT_EXIST")
    # The workspace is the project.
    own = got(lepton, "runs/create", {"experiment_id": "0"}, token=token)["run"]["info"]["run_id"]
    there = {"X-MLFLOW-WORKSPACE": "others"}
    assert got(lepton, f"runs/get?run_id={own}", headers=there)["run"]["info"]["run_id"] == own
    assert refused(ask(lepton, f"runs/get?run_id={own}")) == (404, "RESOURCE_DOES_NOT_EXIST")
    default = {"X-MLFLOW-WORKSPACE": "default"}
    assert refused(ask(lepton, f"runs/get?run_id={run}", token=token, headers=default)) == (403, "PERMISSION_DENIED")
    assert refused(ask(lepton, f"runs/get?run_id={run}", headers={"X-MLFLOW-WORKSPACE": "none-such"})) == (
        404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize("path, given", [
    ("runs/log-metric", {"key": "m", "value": 1, "timestamp": 1}),
    ("runs/log-metric", {"run_id": "RUN", "value": 1, "timestamp": 1}),
    ("runs/log-metric", {"run_id": "RUN", "key": "m", "timestamp": 1}),
    ("runs/log-metric", {"run_id": "RUN", "key": "m", "value": "abc", "timestamp": 1}),
    ("runs/log-metric", {"run_id": "RUN", "key": "m", "value": 1, "timestamp": -1}),
    ("runs/log-metric", {"run_id": "RUN", "key": "m", "value": 1, "timestamp": 1, "step": "x"}),
    ("runs/log-metric", {"run_id": "RUN", "key": "k" * 6000, "value": 1, "timestamp": 1}),
    ("runs/log-batch", {"run_id": "RUN", "metrics": [{"key": "m", "value": 1, "timestamp": 1}] * 1001}),
    ("runs/log-batch", {"run_id": "RUN", "params": [{"key": f"p{i}", "value": ""} for i in range(101)]}),
    ("runs/log-batch", {"run_id": "RUN", "tags": [{"value": "x"}]}),
    ("runs/log-batch", {"run_id": "RUN", "metrics": "all of them"}),
    ("runs/search", {"experiment_ids": ["0"], "max_results": 50001}),
    ("runs/search", {"experiment_ids": ["0"], "max_results": 0}),
    ("runs/search", {"experiment_ids": ["0"], "page_token": "nonsense"}),
    ("runs/search", {"experiment_ids": ["0"], "filter": "metrics.m > 1 AND"}),
    ("runs/search", {"experiment_ids": ["0"], "run_view_type": "SOME"}),
    ("runs/search", {"experiment_ids": ["no id"]}),
    ("logged-models/search", {"experiment_ids": ["0"], "filter": "metrics.m = 'x'"}),
    ("logged-models/search", {"experiment_ids": []}),
    ("experiments/create", {"name": ""}),
    ("experiments/create", {"name": "x" * 501}),
    ("experiments/create", {"name": "a", "artifact_location": "s3://bucket/../other"}),
    ("metrics/get-history?run_id=RUN&metric_key=m&max_results=0", None),
    ("metrics/get-history-bulk?metric_key=m", None),
    ("metrics/get-history-bulk-interval?run_ids=RUN&metric_key=m&start_step=2&end_step=1", None),
    ("metrics/get-history-bulk-interval?run_ids=RUN&metric_key=m&start_step=2", None),
])
def test_what_is_not_valid_is_refused_as_mlflow_refuses_it(shared, path, given):
    run = new_run(shared)
    text = json.dumps(given).replace("RUN", run) if given is not None else None
    answer = ask(shared, path.replace("RUN", run), body=text.encode() if text else None)
    assert refused(answer) == (400, "INVALID_PARAMETER_VALUE"), answer
    assert len(answer.json()["message"]) < 1500


def test_what_is_no_json_is_refused_and_the_server_lives_on(shared):
    for body in [b"", b"{", b"[]", b"null", b"\xff\xfe", gzip.compress(b"{}")[:-4], b'{"run_id": {}}', b'"{}"']:
        answer = ask(shared, "runs/log-metric", body=body)
        assert refused(answer) == (400, "INVALID_PARAMETER_VALUE"), (body, answer)
    assert refused(ask(shared, "no/such/operation")) == (404, "ENDPOINT_NOT_FOUND")
    assert ask(shared, "runs/log-batch", body=b" " * (9 << 20)).status == 400
    assert shared.api("GET", "/health", token="").body == b"OK"


def test_paths_never_leave_their_project(shared):
    run = new_run(shared)
    root = "/api/2.0/mlflow-artifacts/artifacts"
    for path in [f"0/{run}/artifacts/%2e%2e/x", f"0/{run}/artifacts/..%2fx", "%2e%2e/%2e%2e/x", "a/%252e%252e/b",
                 ".uploads/x/00001", "a%5cb", "a//b"]:
        for method in ("PUT", "GET", "DELETE"):
            answer = shared.api(method, f"{root}/{path}", body=b"x" if method == "PUT" else None)
            assert refused(answer) == (400, "INVALID_PARAMETER_VALUE"), (method, path, answer)


def test_nan_and_infinity_are_as_mlflow_has_them(shared):
    run = new_run(shared)
    for key, value in [("nan", "NaN"), ("inf", "Infinity"), ("neg", "-Infinity")]:
        got(shared, "runs/log-metric", {"run_id": run, "key": key, "value": value, "timestamp": 1})
    metrics = got(shared, f"runs/get?run_id={run}")["run"]["data"]["metrics"]
    assert {m["key"]: m["value"] for m in metrics} == {
        "nan": "NaN", "inf": 1.7976931348623157e308, "neg": -1.7976931348623157e308}


def test_long_histories_come_whole_in_pages_and_thinned(shared):
    run = new_run(shared)
    count = 60_000
    for first in range(0, count, 1000):
        points = [{"key": "m", "value": i, "timestamp": i, "step": i} for i in range(first, first + 1000)]
        got(shared, "runs/log-batch", {"run_id": run, "metrics": points})
    path = f"metrics/get-history?run_id={run}&metric_key=m"
    assert [m["step"] for m in got(shared, path)["metrics"]] == list(range(count))
    steps, token = [], ""
    while token is not None:
        page = got(shared, f"{path}&max_results=25000" + (f"&page_token={token}" if token else ""))
        steps += [m["step"] for m in page["metrics"]]
        token = page.get("next_page_token")
    assert steps == list(range(count))
    thin = got(shared, f"metrics/get-history-bulk-interval?run_ids={run}&metric_key=m&max_results=100")["metrics"]
    assert 50 <= len(thin) <= 100 and thin[0]["step"] == 0 and thin[-1]["step"] == count - 1
    part = got(shared, f"metrics/get-history-bulk-interval?run_ids={run}&metric_key=m&start_step=10&end_step=19")
    assert [m["step"] for m in part["metrics"]] == list(range(10, 20))
    bulk = got(shared, f"metrics/get-history-bulk?run_id={run}&metric_key=m&max_results=7")["metrics"]
    assert [m["step"] for m in bulk] == list(range(7))


def test_versions_registered_at_once_get_numbers_of_their_own(shared):
    import concurrent.futures
    got(shared, "registered-models/create", {"name": "raced"})
    source = {"name": "raced", "source": "s3://bucket/model"}
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        made = list(pool.map(lambda _: got(shared, "model-versions/create", source), range(36)))
    assert sorted(int(m["model_version"]["version"]) for m in made) == list(range(1, 37))


def test_files_uploaded_at_once_are_all_there(shared):
    import concurrent.futures
    run = new_run(shared)
    root = f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts"
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        put = lambda i: shared.api("PUT", f"{root}/f{i:03}", body=str(i).encode()).status
        assert set(pool.map(put, range(64))) == {200}
    assert len(got(shared, f"artifacts/list?run_id={run}")["files"]) == 64


def test_an_upload_in_parts_takes_its_own_secret_only(shared):
    run = new_run(shared)
    root = "/api/2.0/mlflow-artifacts"
    made = shared.got("POST", f"{root}/mpu/create/0/{run}/artifacts", {"path": "/home/me/big.bin", "num_parts": 2})
    upload = made["upload_id"]
    part = lambda upload, number, body: shared.api("PUT", f"{root}/mpu/parts/{upload}/{number}", body=body, token="")
    tags = [part(upload, n, bytes([n]) * 10).headers["etag"] for n in (1, 2)]
    identity, project, parts, holder, secret = upload.split(".")
    for wrong in [(identity, "other", parts, holder, secret), ("0" * 32, project, parts, holder, secret),
                  (identity, project, "9", holder, secret), (identity, project, parts, "t" + "0" * 32, secret),
                  (identity, project, parts, holder, "x"), ("x",)]:
        wrong = ".".join(wrong)
        assert part(wrong, 1, b"x").status == 404
    parts = [{"part_number": n, "etag": tag} for n, tag in zip((1, 2), tags)]
    whole = {"path": "/home/me/big.bin", "upload_id": upload, "parts": parts}
    wrong = whole | {"parts": [parts[0], parts[1] | {"etag": "other"}]}
    assert refused(shared.api("POST", f"{root}/mpu/complete/0/{run}/artifacts", wrong)) == (
        400, "INVALID_PARAMETER_VALUE")
    shared.got("POST", f"{root}/mpu/complete/0/{run}/artifacts", whole)
    assert shared.api("GET", f"{root}/artifacts/0/{run}/artifacts/big.bin").body == b"\x01" * 10 + b"\x02" * 10


def test_clients_find_their_variables(shared):
    env = shared.ok("env").out
    assert f"MLFLOW_TRACKING_URI='http://127.0.0.1:{shared.port}'" in env and "MLFLOW_TRACKING_TOKEN=" in env
