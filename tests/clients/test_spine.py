"""The whole path, from a file of real data to a prediction, through the CLI and the API."""

import csv
import http.client
import io
import json
import pathlib
import threading
import time
import urllib.error
import urllib.request

import pytest

from conftest import server
from server import PATIENCE_S, ROOT, call, eventually

DATA = ROOT / "examples/data"


def rows_of(name, target):
    """The rows of a file as an endpoint takes them, and what they are in truth."""
    with open(DATA / f"{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    truth = [row.pop(target) for row in rows]
    return [{k: float(v) for k, v in row.items()} for row in rows], truth


@pytest.fixture(scope="module")
def wine():
    """A server on which `wine` is trained and served; tests only read and predict."""
    with server() as lepton:
        lepton.ok("data", "put", "wine", DATA / "wine.csv")
        lepton.ok("train", "wine", "--data", "wine", "--target", "cultivar", "--trials", "2", "--wait")
        lepton.ok("deploy", "wine", "--model", "wine", "--wait")
        yield lepton


# From data to a prediction.


def test_data_is_frozen_and_described(wine):
    version = wine.ok("get", "dataset-version", "wine:1", "-o", "json").json()
    assert version["status"]["rows"] == 178
    types = {c["name"]: c["type"] for c in version["status"]["columns"]}
    assert types["alcohol"] == "number" and types["cultivar"] == "text" and len(types) == 14
    file = wine.api("GET", "datasets/wine/versions/latest/files/wine.csv")
    assert file.body == (DATA / "wine.csv").read_bytes()
    out = wine.folder / "got"
    wine.ok("data", "get", "wine", "--to", out)
    assert (out / "wine.csv").read_bytes() == file.body


def test_a_second_put_makes_a_second_version(lepton):
    for at, text in enumerate(["a,b\n1,2\n", "a,b\n1,2\n3,4\n"], 1):
        lepton.ok("data", "put", "t", lepton.write("t.csv", text))
        assert lepton.got("GET", "datasets/t/versions/latest")["spec"]["version"] == at
    assert lepton.api("GET", "datasets/t/versions/1/files/t.csv").body == b"a,b\n1,2\n"
    listed = lepton.ok("get", "dataset-versions", "t", "-o", "json").json()["items"]
    assert [item["spec"]["version"] for item in listed] == [1, 2]


def test_a_version_number_never_means_other_bytes(lepton):
    for at, text in [(1, "a,b\n1,2\n"), (2, "a,b\n3,4\n")]:
        lepton.ok("data", "put", "again", lepton.write("again.csv", text))
        assert lepton.got("GET", "datasets/again/versions/latest")["spec"]["version"] == at
        lepton.ok("delete", "dataset", "again")
    assert lepton.api("GET", "datasets/again/versions/1").status == 404


def test_the_training_is_recorded(wine):
    job = wine.ok("get", "job", "wine", "-o", "json").json()
    assert job["status"]["phase"] == "succeeded"
    run = wine.ok("get", "run", job["spec"]["run"], "-o", "json").json()
    assert run["status"]["phase"] == "FINISHED"
    metrics = {m["key"]: m["value"] for m in run["metrics"]}
    assert metrics["accuracy"] > 0.9 and metrics["log_loss"] < 0.3
    assert {"precision", "recall", "f1", "roc_auc"} <= metrics.keys()
    artifacts = {a["path"] for a in run["status"]["artifacts"]}
    wanted = {"leaderboard.json", "importances.json", "plots/roc.svg", "plots/confusion_matrix.svg",
              "plots/learning_curve.svg"}
    assert wanted <= artifacts
    svg = wine.api("GET", f"runs/{job['spec']['run']}/artifacts/plots/roc.svg").body
    assert svg.lstrip().startswith((b"<svg", b"<?xml")) and b"</svg>" in svg
    leaderboard = wine.got("GET", f"runs/{job['spec']['run']}/artifacts/leaderboard.json")
    assert leaderboard
    version = wine.got("GET", "models/wine/versions/1")
    assert version["spec"]["run"] == job["spec"]["run"]
    assert {f["path"] for f in version["spec"]["files"]} >= {"model.onnx", "signature.json"}


def test_finding_runs_by_their_metrics(wine):
    found = lambda *args: wine.ok("get", "runs", "-o", "json", *args).json()["items"]
    assert len(found("--metric", "accuracy>0.5", "--experiment", "wine")) == 1
    assert not found("--metric", "accuracy>1")
    assert not found("--phase", "failed")


def test_describing_what_there_is(wine):
    for kind, name, words in [
        ("dataset", "wine", ["178", "cultivar"]),
        ("job", "wine", ["succeeded", "2 trials", "wine:1"]),
        ("model", "wine", ["model.onnx"]),
        ("endpoint", "wine", ["ready", "1 of 1", "/v2/models/wine/infer"]),
        ("pool", "local", ["CPU", "memory"]),
        ("project", "default", ["default"]),
        ("experiment", "wine", ["wine"]),
    ]:
        told = wine.ok("describe", kind, name).out
        assert all(word in told for word in words), (kind, told)


@pytest.mark.parametrize("kind", [
    "projects", "pools", "datasets", "experiments", "jobs", "runs", "models", "endpoints", "tokens"])
def test_lists_in_every_form(wine, kind):
    assert len(wine.ok("get", kind).out.splitlines()) >= 2
    assert wine.ok("get", kind, "-o", "json").json()["items"]
    assert "items:" in wine.ok("get", kind, "-o", "yaml").out


def test_predictions_of_csv(wine):
    text = (DATA / "wine.csv").read_text()
    done = wine.ok("predict", "wine", "--drop", "cultivar", "--data", "-", stdin=text)
    answers = list(csv.DictReader(io.StringIO(done.out)))
    _, truth = rows_of("wine", "cultivar")
    assert len(answers) == len(truth) == 178
    right = sum(a["label"] == t for a, t in zip(answers, truth))
    assert right / 178 > 0.95
    total = [sum(float(v) for k, v in a.items() if k.startswith("probabilities.")) for a in answers]
    assert all(abs(t - 1) < 1e-4 for t in total)


def test_predictions_of_json(wine):
    rows, truth = rows_of("wine", "cultivar")
    done = wine.ok("predict", "wine", "--data", "-", stdin=json.dumps(rows))
    by_cli = json.loads(done.out)
    answer = wine.predict("wine", rows)
    assert answer.status == 200, answer
    told = answer.json()
    assert told["model"] == "wine" and int(told["version"]) == 1
    assert [p["label"] for p in told["predictions"]] == [p["label"] for p in by_cli]
    assert sum(p["label"] == t for p, t in zip(by_cli, truth)) / 178 > 0.95
    columns = list(rows[0])
    table = {"columns": columns, "data": [[row[c] for c in columns] for row in rows]}
    assert wine.got("POST", "endpoints/wine/predict", table)["predictions"] == told["predictions"]


def test_the_inference_protocol_with_nothing_but_urllib(wine):
    base, head = f"http://127.0.0.1:{wine.port}/v2", {"Authorization": f"Bearer {wine.token}"}

    def ask(path, given=None):
        body = json.dumps(given).encode() if given is not None else None
        request = urllib.request.Request(base + path, body, head)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    ask("/health/live"), ask("/health/ready"), ask("/models/wine/ready")
    meta = ask("/models/wine")
    rows, _ = rows_of("wine", "cultivar")
    inputs = [
        {"name": i["name"], "datatype": i["datatype"], "shape": [5, 1],
         "data": [row[i["name"]] for row in rows[:5]]}
        for i in meta["inputs"]
    ]
    answer = ask("/models/wine/infer", {"id": "7", "inputs": inputs})
    assert answer["id"] == "7"
    outputs = {o["name"]: o for o in answer["outputs"]}
    by_rows = wine.predict("wine", rows[:5]).json()["predictions"]
    assert outputs["label"]["data"] == [p["label"] for p in by_rows]
    flat = [v for p in by_rows for v in p["probabilities"].values()]
    assert outputs["probabilities"]["data"] == pytest.approx(flat, abs=1e-6)
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask("/models/nothing/infer", {"inputs": inputs})
    assert refused.value.code == 404


def test_the_same_seed_gives_the_same_model(wine):
    digests = []
    for name in ("again", "once-more"):
        wine.ok("train", name, "--data", "wine:1", "--target", "cultivar", "--trials", "2",
                "--seed", "7", "--wait")
        files = wine.got("GET", f"models/{name}/versions/1")["spec"]["files"]
        digests.append({f["path"]: f["digest"] for f in files})
    assert digests[0] == digests[1]
    assert digests[0]["model.onnx"]


def test_regression(lepton):
    lepton.ok("data", "put", "diabetes", DATA / "diabetes.csv")
    target = (DATA / "diabetes.csv").read_text().splitlines()[0].split(",")[-1]
    lepton.ok("train", "diabetes", "--data", "diabetes", "--target", target, "--trials", "2",
              "--metric", "r2", "--wait")
    lepton.ok("deploy", "diabetes", "--model", "diabetes", "--wait")
    rows, truth = rows_of("diabetes", target)
    got = [p["prediction"] if isinstance(p, dict) else p
           for p in lepton.predict("diabetes", rows).json()["predictions"]]
    truth = [float(t) for t in truth]
    mean = sum(truth) / len(truth)
    squares = lambda pairs: sum((a - b) ** 2 for a, b in pairs)
    assert 1 - squares(zip(truth, got)) / squares((t, mean) for t in truth) > 0.4


# Moving and ending what is served.


def test_a_moved_alias_drops_no_request(lepton):
    lepton.ok("data", "put", "iris", DATA / "iris.csv")
    target = (DATA / "iris.csv").read_text().splitlines()[0].split(",")[-1]
    for seed in (1, 2):
        lepton.ok("train", "iris", "--data", "iris", "--target", target, "--trials", "1",
                  "--seed", seed, "--wait")
    lepton.ok("model", "alias", "iris", "champion", "1")
    lepton.ok("deploy", "iris", "--model", "iris@champion", "--replicas", "2", "--wait")
    rows, _ = rows_of("iris", target)
    stop, seen, wrong = threading.Event(), [set() for _ in range(4)], []

    def ask(mine):
        while not stop.is_set():
            answer = lepton.predict("iris", rows[:3])
            if answer.status == 200:
                mine.add(int(answer.json()["version"]))
            else:
                wrong.append(answer)

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    try:
        for version in (2, 1, 2):
            lepton.ok("model", "alias", "iris", "champion", version)
            eventually(
                f"version {version} serves alone",
                lambda: (s := lepton.got("GET", "endpoints/iris")["status"])["phase"] == "ready"
                and s["version"] == version and s["ready_replicas"] == 2)
            eventually(
                f"version {version} answers",
                lambda: lepton.predict("iris", rows[:1]).json().get("version") == str(version))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong, (len(wrong), wrong[:3])
    assert set.union(*seen) == {1, 2}


def test_deleting(lepton):
    lepton.ok("data", "put", "iris", DATA / "iris.csv")
    target = (DATA / "iris.csv").read_text().splitlines()[0].split(",")[-1]
    lepton.ok("train", "iris", "--data", "iris", "--target", target, "--trials", "1", "--wait")
    lepton.ok("deploy", "iris", "--model", "iris", "--wait")
    lepton.ok("delete", "endpoint", "iris")
    eventually("the endpoint is gone", lambda: lepton.api("GET", "endpoints/iris").status == 404)
    refused = lepton.predict("iris", [{}])
    assert refused.status == 404 and "`iris`" in refused.error()[1]
    eventually("its replicas are gone", lambda: not lepton.processes())
    run = lepton.job("iris")["spec"]["run"]
    for kind in ("job", "model", "dataset", "experiment"):
        lepton.ok("delete", kind, "iris")
        assert lepton.cli("get", kind, "iris").code == 3
        assert lepton.cli("delete", kind, "iris").code == 3
        lepton.ok("delete", kind, "iris", "--ignore-not-found")
    assert lepton.api("GET", f"runs/{run}").status == 404


# Desired state.

MANIFESTS = """\
apiVersion: lepton/v1
kind: Experiment
metadata: {name: trials}
---
apiVersion: lepton/v1
kind: Endpoint
metadata: {name: plain}
spec: {model: "wine:1", replicas: %d}
"""


def test_applying_twice_changes_nothing(wine):
    file = wine.write("state.yaml", MANIFESTS % 0)
    dry = wine.ok("apply", "-f", file, "--dry-run", "-o", "json").json()
    assert [i["action"] for i in dry["items"]] == ["create", "create"]
    assert wine.api("GET", "endpoints/plain").status == 404
    first = wine.ok("apply", "-f", file, "-o", "json").json()
    assert [i["action"] for i in first["items"]] == ["create", "create"]
    before = wine.got("GET", "endpoints/plain")["metadata"]["generation"]
    second = wine.ok("apply", "-f", file, "-o", "json").json()
    assert [i["action"] for i in second["items"]] == ["unchanged", "unchanged"]
    assert wine.got("GET", "endpoints/plain")["metadata"]["generation"] == before
    file.write_text(MANIFESTS % 1)
    third = wine.ok("apply", "-f", file, "-o", "json").json()["items"]
    assert [i["action"] for i in third] == ["unchanged", "update"]
    assert third[1]["changes"] == [{"path": "spec.replicas", "from": 0, "to": 1}]
    wine.ok("delete", "endpoint", "plain")


def test_applying_checks_everything_before_it_changes_anything(wine):
    bad = "---\napiVersion: lepton/v1\nkind: Endpoint\nmetadata: {name: bad}\nspec: {model: none}\n"
    head = MANIFESTS.replace("plain", "good").replace("trials", "never") % 1
    refused = wine.cli("apply", "-f", wine.write("bad.yaml", head + bad))
    assert refused.code != 0 and "none" in refused.err
    assert wine.api("GET", "endpoints/good").status == 404
    assert wine.api("GET", "experiments/never").status == 404


# Who may do what.


def test_tokens(lepton):
    made = lepton.ok("token", "create", "ci", "--role", "viewer", "-o", "json").json()
    viewer = made["token"]
    assert viewer.startswith("lpt_") and made["role"] == "viewer"
    listed = lepton.ok("token", "list", "-o", "json").out
    assert '"ci"' in listed and viewer not in listed and viewer.split("_")[-1] not in listed
    assert lepton.api("GET", "jobs", token=viewer).status == 200
    for method, path, given in [
        ("POST", "jobs", {"name": "x", "program": {"type": "command", "command": ["true"]}}),
        ("POST", "experiments", {"name": "x"}),
        ("PUT", "endpoints/x", {"model": "x"}),
        ("POST", "runs", {}),
        ("DELETE", "datasets/x", None),
        ("POST", "/api/v1/tokens", {"name": "more"}),
        ("POST", "/api/v1/projects", {"name": "more"}),
    ]:
        refused = lepton.api(method, path, given, token=viewer)
        assert refused.status == 403, (method, path, refused)
        code, message = refused.error()
        assert code == "permission-denied" and ("viewer" in message or "token" in message), message
    assert lepton.cli("run", "x", "--no-code", "--", "true", env={"LEPTON_TOKEN": viewer}).code == 4
    lepton.ok("token", "revoke", "ci")
    end = time.monotonic() + 1
    refused = lepton.api("GET", "jobs", token=viewer)
    assert refused.status == 401 and time.monotonic() < end, refused
    assert refused.error()[0] == "unauthenticated"
    assert lepton.cli("get", "jobs", env={"LEPTON_TOKEN": viewer}).code == 4


def test_a_token_is_good_for_its_project_alone(lepton):
    lepton.got("POST", "/api/v1/projects", {"name": "other"})
    made = lepton.got("POST", "/api/v1/tokens", {"name": "o", "role": "editor", "project": "other"})
    theirs = made["token"]
    experiment = {"name": "e"}
    assert lepton.api("POST", "/api/v1/projects/other/experiments", experiment, token=theirs).status == 201
    for method, path, given in [("GET", "jobs", None), ("POST", "experiments", experiment)]:
        refused = lepton.api(method, path, given, token=theirs)
        assert refused.status == 403 and "`default`" in refused.error()[1], refused
    # Bytes are no secret channel between projects either.
    digest = lepton.blob(b"of default")["digest"]
    assert lepton.api("GET", f"/api/v1/projects/other/blobs/{digest}", token=theirs).status == 404
    cited = {"files": [{"path": "f.csv", "digest": digest, "size_bytes": 10}]}
    taken = lepton.api("POST", "/api/v1/projects/other/datasets/d/versions", cited, token=theirs)
    assert 400 <= taken.status < 500, taken
    assert lepton.got("GET", "/api/v1/whoami", token=theirs)["project"] == "other"


def test_an_expired_token_is_refused(lepton):
    made = lepton.got("POST", "/api/v1/tokens", {"name": "brief", "expires_in": "1s"})
    assert lepton.api("GET", "jobs", token=made["token"]).status == 200
    eventually("it expires", lambda: lepton.api("GET", "jobs", token=made["token"]).status == 401, 5)


def test_every_call_needs_a_token(lepton):
    spec = lepton.got("GET", "/api/v1/openapi.json", token=lepton.token)
    assert spec["openapi"].startswith("3.1")
    open_paths = {"/healthz", "/readyz", "/version"}
    for path, operations in spec["paths"].items():
        for method in operations.keys() & {"get", "post", "put", "patch", "delete"}:
            at = path.replace("{", "").replace("}", "").replace("*", "")
            if path in open_paths:
                assert call(lepton.port, "GET", at).status == 200, path
                continue
            for headers in ({}, {"Authorization": "Bearer lpt_nonsense"}, {"Authorization": "Basic eDp5"}):
                refused = call(lepton.port, method.upper(), at, headers=headers)
                assert refused.status == 401, (method, path, refused)
                assert refused.error()[0] == "unauthenticated"
    for path in ("/metrics", "/v2/models/x", "/v2/models/x/ready"):
        assert call(lepton.port, "GET", path).status == 401, path


def test_the_owners_credential(lepton):
    """Kept for the owner alone, as is all else that lies there."""
    file = lepton.data_dir / "credentials/owner.json"
    assert file.stat().st_mode & 0o777 == 0o600
    for path in lepton.data_dir.rglob("*"):
        if path.is_file() and "workers" not in path.parts:
            reachable = all(p.stat().st_mode & 0o005 for p in path.parents if lepton.data_dir in (p, *p.parents))
            assert not (reachable and path.stat().st_mode & 0o007), f"others can open {path}"
    pointer = lepton.home / ".config/lepton/current.json"
    assert pointer.stat().st_mode & 0o777 == 0o600
    without = lepton.cli("whoami", "-o", "json", env={"LEPTON_DATA_DIR": ""})
    assert without.json()["name"] == "owner"


# Telling.


def test_env(lepton):
    told = lepton.ok("env").out
    assert f"export LEPTON_URL='http://127.0.0.1:{lepton.port}'" in told
    for name in ("LEPTON_TOKEN", "LEPTON_PROJECT", "MLFLOW_TRACKING_URI", "OPENAI_BASE_URL"):
        assert f"export {name}=" in told
    done = lepton.ok("env", "--", "sh", "-c", 'echo "$LEPTON_URL $LEPTON_PROJECT"; exit 0')
    assert done.out.split() == [f"http://127.0.0.1:{lepton.port}", "default"]
    assert lepton.cli("env", "--", "sh", "-c", "exit 9").code == 9


def test_events(wine):
    told = wine.ok("events", "-o", "json", "--about", "job/wine").out
    for word in ("Queued", "Started", "Succeeded"):
        assert word in told
    assert "Ready" in wine.ok("events", "--about", "endpoint/wine").out


def test_explain(lepton):
    codes = lepton.ok("explain").out
    for code in ("not-found", "disk-full", "invalid-data", "permission-denied"):
        assert code in codes
        told = lepton.ok("explain", code).out
        assert len(told) > 80
    assert lepton.cli("explain", "no-such-code").code != 0


def test_watching(lepton):
    connection = http.client.HTTPConnection("127.0.0.1", lepton.port, timeout=PATIENCE_S)
    connection.request("GET", "/api/v1/projects/default/watch?kinds=job",
                       headers={"Authorization": f"Bearer {lepton.token}"})
    stream = connection.getresponse()
    assert stream.status == 200
    job = lepton.submit("seen", "true")
    lepton.over(job)
    phases, versions = [], []
    while "succeeded" not in phases:
        line = stream.readline().strip()
        if line:
            event = json.loads(line)
            assert event["kind"] == "job" and event["id"] == job and event["change"] == "put"
            phases.append(event["resource"]["status"]["phase"])
            versions.append(event["version"])
    assert versions == sorted(set(versions))
    connection.close()
    # From the version seen last, nothing is missed.
    connection.request("GET", f"/api/v1/projects/default/watch?kinds=job&since={versions[-1]}",
                       headers={"Authorization": f"Bearer {lepton.token}"})
    stream = connection.getresponse()
    lepton.got("DELETE", f"jobs/{job}")
    line = b""
    while not line.strip():
        line = stream.readline()
    event = json.loads(line)
    assert event["change"] == "deleted" and event["id"] == job
    connection.close()


@pytest.mark.parametrize("kinds", ["token", "job,token", ""])
def test_no_watch_shows_digests_of_tokens(lepton, kinds):
    connection = http.client.HTTPConnection("127.0.0.1", lepton.port, timeout=PATIENCE_S)
    query = f"?since=0&kinds={kinds}" if kinds else "?since=0"
    connection.request("GET", f"/api/v1/projects/default/watch{query}",
                       headers={"Authorization": f"Bearer {lepton.token}"})
    stream = connection.getresponse()
    if stream.status != 200:
        return
    lepton.got("POST", "/api/v1/tokens", {"name": "watched"})
    mark = lepton.submit("mark", "true")
    stream.fp.raw._sock.settimeout(2)
    seen = b""
    try:
        while mark.encode() not in seen:
            seen += stream.readline()
    except TimeoutError:
        pass
    assert b"secret_digest" not in seen and b"watched" not in seen
    connection.close()


def test_completions_and_version(lepton):
    for shell in ("bash", "zsh", "fish"):
        assert "lepton" in lepton.ok("completions", shell).out
    assert lepton.got("GET", "/version")["name"] == "lepton"


# Starting and stopping.


def test_stopping_is_clean(lepton):
    lepton.got("POST", "experiments", {"name": "kept"})
    assert lepton.stop() == 0
    assert lepton.cli("get", "jobs").code == 6
    lepton.start()
    assert lepton.got("GET", "experiments/kept")["metadata"]["name"] == "kept"


def test_ready_within_a_second_and_small(lepton):
    lepton.stop()
    began = time.monotonic()
    lepton.start()
    assert time.monotonic() - began < 3, "a debug build on a busy machine gets thrice the time"
    assert lepton.resident_bytes()[0] < 120e6


def test_config_check(lepton):
    good = lepton.write("good.toml", 'listen = "127.0.0.1:7000"\n')
    lepton.ok("config", "check", good)
    bad = lepton.write("bad.toml", 'listne = "127.0.0.1:7000"\n')
    refused = lepton.cli("config", "check", bad)
    assert refused.code != 0 and "listne" in refused.err
    refused = lepton.cli("up", "--listen", "0.0.0.0:0", "--data-dir", lepton.folder / "open")
    assert refused.code != 0 and "--behind-proxy" in refused.err


def test_lineage_in_both_directions(wine):
    before = requests_of(wine)
    asked = wine.write("one.json", json.dumps(rows_of("wine", "cultivar")[0][:1]))
    for _ in range(3):
        wine.ok("predict", "wine", "--data", asked)
    eventually("the requests are counted", lambda: requests_of(wine) == before + 3)
    told = wine.ok("lineage", "dataset", "wine").out
    order = [told.index(word) for word in ["dataset wine:1  ◂", "read by run", "made model wine:1", "served by endpoint wine"]]
    assert order == sorted(order), told
    assert "requests, last" in told
    job = wine.got("GET", "jobs/wine")
    graph = wine.ok("lineage", "endpoint", "wine", "-o", "json").json()
    assert graph["downstream"] == [] and not graph["truncated"]
    assert [edge["from"]["kind"] for edge in graph["upstream"]] == ["model-version", "run", "dataset-version"]
    assert graph["upstream"][1]["from"]["id"] == job["spec"]["run"]
    assert wine.cli("lineage", "model", "no-such").code == 3
    assert wine.cli("lineage", "pool", "local").code == 8


def requests_of(lepton):
    graph = lepton.ok("lineage", "endpoint", "wine", "-o", "json").json()
    return graph["upstream"][0]["requests"]
