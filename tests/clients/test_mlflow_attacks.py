"""What MLflow's API refuses whoever asks, and what it keeps however many ask at once."""

import base64
import concurrent.futures
import gzip
import json

from server import eventually
from test_mlflow_truth import BASE, ask, got, new_run, other_project, refused

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
THIRD = "/api/3.0/mlflow"


def at_once(do, things, threads=8):
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return list(pool.map(do, things))


def logged_model(lepton, token=None, **more):
    made = got(lepton, "logged-models", {"experiment_id": "0", "name": "m"} | more, token=token)
    return made["model"]["info"]["model_id"]


def trace(lepton, name, token=None, tags=None):
    info = {"trace_id": name, "request_time": "2026-01-01T00:00:00Z", "state": "OK", "tags": tags or {},
            "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}}
    answer = lepton.api("POST", f"{THIRD}/traces", {"trace": {"trace_info": info}}, token=token)
    assert answer.status == 200, answer
    return name


def test_nothing_is_written_into_what_is_another_projects(shared):
    stranger = other_project(shared, "stranger")
    victim_run, victim = new_run(shared), logged_model(shared)
    run = got(shared, "runs/create", {"experiment_id": "0"}, token=stranger)["run"]["info"]["run_id"]
    got(shared, "registered-models/create", {"name": "thief"}, token=stranger)
    missing = (404, "RESOURCE_DOES_NOT_EXIST")
    metric = {"key": "acc", "value": 0, "timestamp": 1, "model_id": victim}
    assert refused(ask(shared, "runs/log-metric", metric | {"run_id": run}, token=stranger)) == missing
    assert refused(ask(shared, "runs/log-batch", {"run_id": run, "metrics": [metric]}, token=stranger)) == missing
    linked = {"run_id": run, "models": [{"model_id": victim}]}
    for path in ("runs/outputs", "runs/log-inputs"):
        assert refused(ask(shared, path, linked, token=stranger)) == missing
    version = {"name": "thief", "source": f"runs:/{run}/x", "run_id": run}
    for named in (victim, f"m-{victim_run}"):
        answer = ask(shared, "model-versions/create", version | {"model_id": named}, token=stranger)
        assert refused(answer) == (400, "INVALID_PARAMETER_VALUE")
    assert "tags" not in got(shared, f"logged-models/{victim}")["model"]["info"]
    assert "metrics" not in got(shared, f"logged-models/{victim}")["model"]["data"]
    assert [t["key"] for t in got(shared, f"runs/get?run_id={victim_run}")["run"]["data"]["tags"]] == ["mlflow.runName"]
    assert "metrics" not in got(shared, f"runs/get?run_id={run}", token=stranger)["run"]["data"], "half a request"


def test_whoever_makes_a_project_again_finds_nothing_of_it(lepton):
    token = other_project(lepton, "again")
    model, seen = logged_model(lepton, token), trace(lepton, "tr-secret", token)
    assert lepton.api("PUT", f"{ARTIFACTS}/0/secret", body=b"s", token=token).status == 200
    assert lepton.api("DELETE", "/api/v1/projects/again").status == 204
    token = lepton.got("POST", "/api/v1/projects", {"name": "again"}) and lepton.got(
        "POST", "/api/v1/tokens", {"name": "next", "role": "editor", "project": "again"})["token"]
    assert refused(ask(lepton, f"logged-models/{model}", token=token))[0] == 404
    assert refused(lepton.api("GET", f"{THIRD}/traces/{seen}", token=token))[0] == 404
    assert lepton.api("GET", f"{ARTIFACTS}/0/secret", token=token).status == 404


def test_what_is_written_at_once_is_all_kept(shared):
    seen, run = trace(shared, "tr-busy"), new_run(shared)
    tag = lambda n: shared.api("PATCH", f"{THIRD}/traces/{seen}/tags", {"key": f"k{n}", "value": "v"}).status
    assert set(at_once(tag, range(60))) == {200}
    tags = shared.got("GET", f"{THIRD}/traces/{seen}")["trace"]["trace_info"]["tags"]
    assert len([key for key in tags if key.startswith("k")]) == 60
    info = {"artifact_path": "m", "flavors": {}, "utc_time_created": "now", "run_id": run}
    log = lambda n: ask(shared, "runs/log-model",
                        {"run_id": run, "model_json": json.dumps(info | {"n": n, "pad": "x" * 600})}).status
    assert set(at_once(log, range(30))) == {200}
    tags = {t["key"]: t["value"] for t in got(shared, f"runs/get?run_id={run}")["run"]["data"]["tags"]}
    assert {m["n"] for m in json.loads(tags["mlflow.log-model.history"])} == set(range(30))
    experiment = got(shared, "experiments/create", {"name": "busy"})["experiment_id"]
    tag = lambda n: ask(shared, "experiments/set-experiment-tag",
                        {"experiment_id": experiment, "key": f"k{n}", "value": "v"}).status
    assert set(at_once(tag, range(60))) == {200}
    assert len(got(shared, f"experiments/get?experiment_id={experiment}")["experiment"]["tags"]) == 60


def versions(lepton, name, count):
    got(lepton, "registered-models/create", {"name": name})
    for _ in range(count):
        got(lepton, "model-versions/create", {"name": name, "source": "s3://elsewhere/x"})


def test_stages_and_aliases_hold_whoever_moves_them_at_once(shared):
    versions(shared, "moving", 4)
    stage = lambda n: ask(shared, "model-versions/transition-stage", {
        "name": "moving", "version": str(n % 4 + 1), "stage": "Production", "archive_existing_versions": True}).status
    assert set(at_once(stage, range(40))) == {200}
    stages = [v["current_stage"] for v in got(shared, "model-versions/search?filter=name%3D'moving'")["model_versions"]]
    assert sorted(stages) == ["Archived"] * 3 + ["Production"]

    def race(number):
        if number % 2:
            return ask(shared, "model-versions/delete", {"name": "moving", "version": "4"}, method="DELETE").status
        alias = {"name": "moving", "alias": f"a{number}", "version": "4"}
        return ask(shared, "registered-models/alias", alias).status

    assert set(at_once(race, range(40))) <= {200, 404, 409}
    model = got(shared, "registered-models/get?name=moving")["registered_model"]
    assert "aliases" not in model, "an alias points at a version that is gone"


def test_no_run_is_made_in_an_experiment_that_goes(shared):
    experiment = got(shared, "experiments/create", {"name": "going"})["experiment_id"]

    def race(number):
        if number == 12:
            return ask(shared, "experiments/delete", {"experiment_id": experiment}).status
        return ask(shared, "runs/create", {"experiment_id": experiment}).status

    assert set(at_once(race, range(40))) <= {200, 400}
    assert "runs" not in got(shared, "runs/search", {"experiment_ids": [experiment]})
    got(shared, "experiments/restore", {"experiment_id": experiment})
    assert got(shared, "runs/search", {"experiment_ids": [experiment]})["runs"]


def test_a_batch_is_written_whole_or_not_at_all(shared):
    run = new_run(shared)
    batch = {"run_id": run, "metrics": [{"key": "half", "value": 1, "timestamp": 1}],
             "tags": [{"key": "mlflow.runName", "value": "x" * 300}]}
    assert refused(ask(shared, "runs/log-batch", batch)) == (400, "INVALID_PARAMETER_VALUE")
    assert "metrics" not in got(shared, f"runs/get?run_id={run}")["run"]["data"]
    batch["tags"][0]["value"] = "named"
    got(shared, "runs/log-batch", batch)
    assert got(shared, f"runs/get?run_id={run}")["run"]["info"]["run_name"] == "named"


def test_a_run_in_the_bin_takes_nothing_through_either_face(shared):
    run = new_run(shared)
    got(shared, "runs/delete", {"run_id": run})
    assert shared.api("POST", f"runs/{run}/log", {"tags": {"a": "b"}}).status == 409
    assert refused(ask(shared, "runs/set-tag", {"run_id": run, "key": "a", "value": "b"}))[0] == 400


def length_prefixed(number, inner):
    length, size = bytearray(), len(inner)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes([number << 3 | 2]) + bytes(length) + inner


def test_a_small_body_of_many_empty_spans_is_refused_at_no_cost(lepton):
    spans = length_prefixed(1, length_prefixed(2, b"\x12\0" * 1_000_000))
    head = {"Content-Type": "application/x-protobuf", "x-mlflow-experiment-id": "0", "Content-Encoding": "gzip"}
    before = lepton.resident_bytes()[0]
    answer = lepton.api("POST", "/v1/traces", body=gzip.compress(spans), headers=head)
    assert answer.status == 400, answer
    assert lepton.resident_bytes()[1] - before < 64 << 20


def test_an_answer_is_bounded_whatever_is_asked_for(lepton):
    def span(number, text):
        value = length_prefixed(1, text)
        attribute = length_prefixed(1, b"k") + length_prefixed(2, value)
        ids = length_prefixed(1, b"1" * 16) + length_prefixed(2, number.to_bytes(8, "big"))
        return length_prefixed(2, ids + length_prefixed(9, attribute))

    head = {"Content-Type": "application/x-protobuf", "x-mlflow-experiment-id": "0"}
    spans = length_prefixed(1, length_prefixed(2, span(1, b"x" * (6 << 20))))
    assert lepton.api("POST", "/v1/traces", body=spans, headers=head).status == 200
    one = "tr-" + (b"1" * 16).hex()
    before = lepton.resident_bytes()[0]
    answer = lepton.api("GET", f"{THIRD}/traces/batchGet?" + "&".join([f"trace_ids={one}"] * 400))
    assert [len(t["spans"]) for t in answer.json()["traces"]] == [1]
    assert lepton.resident_bytes()[1] - before < 128 << 20


def test_what_is_said_of_a_trace_is_bounded_and_of_nobody_elses(shared):
    stranger = other_project(shared, "gossip")
    seen = trace(shared, "tr-said")
    place = f"{THIRD}/traces/{seen}/assessments"
    said = lambda **more: {"assessment": {"assessment_name": "good", "source": {"source_type": "HUMAN", "source_id": "me"},
                                          "feedback": {"value": True}} | more}
    first = shared.api("POST", place, said()).json()["assessment"]["assessment_id"]
    bad = (400, "INVALID_PARAMETER_VALUE")
    for given in (said(feedback=None), said(expectation={"value": 1}), said(assessment_name=""), said(create_time="soon"),
                  said(feedback={"value": "x" * (300 << 10)}), {}):
        assert refused(shared.api("POST", place, given)) == bad, given
    missing = (404, "RESOURCE_DOES_NOT_EXIST")
    assert refused(shared.api("POST", place, said(overrides="a-nothing"))) == missing
    one = f"{place}/{first}"
    assert refused(shared.api("POST", place, said(), token=stranger)) == missing
    assert refused(shared.api("GET", one, token=stranger)) == missing
    as_expected = {"assessment": {"expectation": {"value": 1}}, "update_mask": "expectation"}
    assert refused(shared.api("PATCH", one, as_expected)) == bad
    # Many at once: none is lost.
    made = at_once(lambda number: shared.api("POST", place, said(assessment_name=f"n{number}")).status, range(40))
    assert set(made) == {200}
    found = shared.got("GET", f"{THIRD}/traces/get?trace_id={seen}")["trace"]["trace_info"]["assessments"]
    assert len(found) == 41
    # Spans that are told of later leave what was said.
    trace(shared, "tr-said")
    found = shared.got("GET", f"{THIRD}/traces/get?trace_id={seen}")["trace"]["trace_info"]["assessments"]
    assert len(found) == 41


def test_pages_of_traces_in_an_order_of_their_own_follow_each_other(shared):
    experiment = got(shared, "experiments/create", {"name": "ordered"})["experiment_id"]
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
    for number in range(7):
        info = {"trace_id": f"tr-o{number}", "request_time": f"2026-01-0{number + 1}T00:00:00Z", "state": "OK",
                "execution_duration": f"{number % 3}s", "trace_location": place}
        assert shared.api("POST", f"{THIRD}/traces", {"trace": {"trace_info": info}}).status == 200

    def pages(order, token=None):
        given = {"locations": [place], "max_results": 3, "order_by": order, "page_token": token}
        page = shared.got("POST", f"{THIRD}/traces/search", given)
        found = [t["trace_id"][-1] for t in page.get("traces", [])]
        return found + (pages(order, page["next_page_token"]) if "next_page_token" in page else [])

    assert pages([]) == list("6543210")
    assert pages(["execution_time DESC"]) == list("52" "41" "630")
    assert pages(["execution_time ASC", "timestamp ASC"]) == list("036" "14" "25")
    forged = base64.b64encode(json.dumps({"offset": 2 ** 63}).encode()).decode()
    given = {"locations": [place], "order_by": ["name"], "page_token": forged}
    assert shared.api("POST", f"{THIRD}/traces/search", given).status == 400


def test_a_time_that_no_client_can_read_is_refused_everywhere(shared):
    for millis in (4611686018427387904, 2 ** 63 - 1, -(2 ** 63), 253402300800000):
        for path, given in (("traces", {"experiment_id": "0", "timestamp_ms": millis}),
                            ("runs/create", {"experiment_id": "0", "start_time": millis}),
                            ("runs/update", {"run_id": new_run(shared), "end_time": millis})):
            assert refused(ask(shared, path, given)) == (400, "INVALID_PARAMETER_VALUE"), (path, millis)
    begun = got(shared, "traces", {"experiment_id": "0", "timestamp_ms": 1})["trace_info"]["request_id"]
    ended = ask(shared, f"traces/{begun}", {"timestamp_ms": 2 ** 63 - 1, "status": "OK"}, method="PATCH")
    assert refused(ended) == (400, "INVALID_PARAMETER_VALUE")


def test_a_search_of_logged_models_turns_its_pages_in_any_order(shared):
    experiment = got(shared, "experiments/create", {"name": "models"})["experiment_id"]
    run = got(shared, "runs/create", {"experiment_id": experiment})["run"]["info"]["run_id"]
    for number in range(40):
        model = logged_model(shared, experiment_id=experiment, name=f"n{number:02}")
        metric = {"run_id": run, "key": "acc", "value": number % 10, "timestamp": 1, "model_id": model}
        got(shared, "runs/log-metric", metric)

    def pages(**more):
        found, token = [], None
        while True:
            page = got(shared, "logged-models/search", {"experiment_ids": [experiment], "max_results": 7,
                                                        "page_token": token} | more)
            found += [m["info"]["name"] for m in page.get("models", [])]
            token = page.get("next_page_token")
            if not token:
                return found

    names = [f"n{number:02}" for number in range(40)]
    assert sorted(pages()) == names
    assert pages(order_by=[{"field_name": "name", "ascending": False}]) == names[::-1]
    best = pages(order_by=[{"field_name": "metrics.acc", "ascending": False}], filter="metrics.acc >= 8")
    assert sorted(best[:4]) == ["n09", "n19", "n29", "n39"] and len(best) == 8


def test_the_root_of_the_proxy_shows_folders_and_no_uploads(lepton):
    for path in ("0/a/x", "0/a/y", "0/b", "z"):
        assert lepton.api("PUT", f"{ARTIFACTS}/{path}", body=b"1").status == 200
    upload = lepton.got("POST", "/api/2.0/mlflow-artifacts/mpu/create/0/big", {"path": "0/big/f", "num_parts": 1})
    part = upload["credentials"][0]["url"].split("/api/", 1)[1]
    assert lepton.api("PUT", f"/api/{part}", body=b"p", token="").status == 200
    listed = lambda path: [(f["path"], f["is_dir"]) for f in lepton.got("GET", f"{ARTIFACTS}?path={path}")["files"]]
    assert listed("") == [("0", True), ("z", False)]
    assert listed("0") == [("a", True), ("b", False)]


def a_workload(lepton, name):
    """A job that waits; its token, its run, and the job."""
    told = lepton.marks / name
    job = lepton.submit(name, "sh", "-c", f"env > {told}.new; mv {told}.new {told}; sleep 300")
    eventually(f"{name} tells its environment", told.exists)
    env = dict(line.split("=", 1) for line in told.read_text().splitlines() if "=" in line)
    return env["LEPTON_TOKEN"], env["MLFLOW_RUN_ID"], job


def test_a_workload_adds_and_changes_only_what_is_its_own(lepton):
    mine, run, job = a_workload(lepton, "mine")
    new_run(lepton)
    others = logged_model(lepton)
    assert lepton.api("PUT", f"{ARTIFACTS}/0/models/{others}/artifacts/MLmodel", body=b"good").status == 200
    assert lepton.api("PUT", f"{ARTIFACTS}/shared/x", body=b"x").status == 200
    versions(lepton, "prod", 2)
    got(lepton, "registered-models/alias", {"name": "prod", "alias": "champion", "version": "1"})
    seen = trace(lepton, "tr-others")
    denied = (403, "PERMISSION_DENIED")

    def may(path, given=None, **more):
        return ask(lepton, path, given, token=mine, **more)

    # What is others' stays as it is.
    put = lambda path, body=b"bad": lepton.api("PUT", f"{ARTIFACTS}/{path}", body=body, token=mine)
    drop = lambda path: lepton.api("DELETE", f"{ARTIFACTS}/{path}", token=mine)
    prod = {"name": "prod", "version": "2"}
    for answer in (
            put(f"0/models/{others}/artifacts/MLmodel"), put("shared/x"), put(f"0/traces/{seen}/artifacts/x"),
            drop("0/models"), drop("shared"), drop(f"0/models/{others}/artifacts"),
            may(f"logged-models/{others}", method="DELETE"),
            may(f"logged-models/{others}/tags", {"tags": [{"key": "a", "value": "b"}]}, method="PATCH"),
            may(f"logged-models/{others}/params", {"params": [{"key": "a", "value": "b"}]}),
            may("registered-models/alias", prod | {"alias": "champion"}),
            may("registered-models/alias?name=prod&alias=champion", {"name": "prod", "alias": "champion"},
                method="DELETE"),
            may("registered-models/rename", {"name": "prod", "new_name": "stolen"}),
            may("registered-models/set-tag", prod | {"key": "a", "value": "b"}),
            may("model-versions/set-tag", prod | {"key": "a", "value": "b"}),
            may("model-versions/transition-stage", prod | {"stage": "Production"}),
            may("experiments/update", {"experiment_id": "0", "new_name": "x"}),
            may("runs/set-tag", {"run_id": new_run(lepton), "key": "a", "value": "b"}),
            lepton.api("PATCH", f"{THIRD}/traces/{seen}/tags", {"key": "a", "value": "b"}, token=mine)):
        assert refused(answer) == denied, answer
    assert lepton.api("PUT", "models/prod/aliases/champion", {"version": 2}, token=mine).status == 403
    assert lepton.api("PATCH", "models/prod", {"description": "x"}, token=mine).status == 403
    manifest = {"apiVersion": "lepton/v1", "kind": "Model", "metadata": {"name": "prod"},
                "spec": {"aliases": {"champion": 2}}}
    assert lepton.api("POST", "apply", {"manifests": [manifest]}, token=mine).status == 403
    assert lepton.api("GET", f"{ARTIFACTS}/0/models/{others}/artifacts/MLmodel").body == b"good"
    aliases = got(lepton, "registered-models/get?name=prod")["registered_model"]["aliases"]
    assert aliases == [{"alias": "champion", "version": "1"}]

    # What training needs goes on: its own models, versions, first aliases, files and traces.
    model = logged_model(lepton, mine)
    info = got(lepton, f"logged-models/{model}")["model"]["info"]
    assert info["source_run_id"] == run
    for _ in range(2):
        assert put(f"0/models/{model}/artifacts/MLmodel").status == 200
    assert put("shared/new").status == 200
    ready = {"status": "LOGGED_MODEL_READY"}
    assert may(f"logged-models/{model}", ready, method="PATCH").status == 200
    source = {"name": "prod", "source": f"models:/{model}", "run_id": run, "model_id": model}
    assert got(lepton, "model-versions/create", source, token=mine)["model_version"]["version"] == "3"
    version = {"name": "prod", "version": "3"}
    for path, given in (("model-versions/set-tag", {"key": "a", "value": "b"}),
                        ("registered-models/alias", {"alias": "candidate"})):
        assert may(path, version | given).status == 200, path
    assert refused(may("registered-models/alias", version | {"alias": "champion"})) == denied
    got(lepton, "registered-models/create", {"name": "own"}, token=mine)
    assert may("registered-models/set-tag", {"name": "own", "key": "a", "value": "b"}).status == 200
    own = trace(lepton, "tr-own", mine)
    assert lepton.api("PATCH", f"{THIRD}/traces/{own}/tags", {"key": "a", "value": "b"}, token=mine).status == 200
    assert put(f"0/traces/{own}/artifacts/traces.json").status == 200
    lepton.got("DELETE", f"jobs/{job}")


def test_a_prompt_is_registered_though_its_source_names_nothing(shared):
    got(shared, "registered-models/create", {"name": "pp", "tags": [{"key": "mlflow.prompt.is_prompt", "value": "true"}]})
    tags = [{"key": "mlflow.prompt.is_prompt", "value": "true"}, {"key": "mlflow.prompt.text", "value": "hi {{x}}"}]
    version = {"name": "pp", "source": "dummy-source", "tags": tags}
    assert got(shared, "model-versions/create", version)["model_version"]["version"] == "1"
    version = {"name": "pp", "source": "dummy-source"}
    assert refused(ask(shared, "model-versions/create", version)) == (400, "INVALID_PARAMETER_VALUE")


def test_a_run_in_the_bin_is_shown_to_who_asks_for_it(shared):
    run, kept = new_run(shared, run_name="binned"), new_run(shared, run_name="kept")
    got(shared, "runs/delete", {"run_id": run})
    ids = lambda query: {item["metadata"]["id"] for item in shared.got("GET", f"runs{query}")["items"]}
    assert kept in ids("") and run not in ids("")
    assert run in ids("?phase=deleted") and kept not in ids("?phase=deleted")
    assert shared.api("PATCH", f"runs/{run}", {"name": "x"}).status == 409
    assert shared.api("PUT", f"runs/{run}/artifacts/x", body=b"x").status == 409
    got(shared, "runs/restore", {"run_id": run})
    assert run in ids("")


def begin_upload(lepton, token=None, parts=2):
    run = got(lepton, "runs/create", {"experiment_id": "0"}, token=token)["run"]["info"]["run_id"]
    folder = f"0/{run}/artifacts"
    made = lepton.api("POST", f"/api/2.0/mlflow-artifacts/mpu/create/{folder}", {"path": "big", "num_parts": parts},
                      token=token).json()
    place = lambda number: f"/api/2.0/mlflow-artifacts/mpu/parts/{made['upload_id']}/{number}"
    send = lambda number, body=b"part": lepton.api("PUT", place(number), body=body, token="")
    finish = lambda parts: lepton.api("POST", f"/api/2.0/mlflow-artifacts/mpu/complete/{folder}", {
        "path": "big", "upload_id": made["upload_id"], "parts": parts}, token=token)
    return send, finish, f"{ARTIFACTS}/{folder}/big"


def test_an_upload_takes_its_own_parts_each_once(shared):
    send, finish, place = begin_upload(shared)
    assert send(9999).status == send(3).status == send(0).status == 400
    tags = [send(number, body).headers for number, body in ((2, b"b"), (1, b"a"))]
    etag = [next(v for k, v in headers.items() if k.lower() == "etag") for headers in tags][::-1]
    one = {"part_number": 1, "etag": etag[0]}
    assert refused(finish([one] * 100)) == (400, "INVALID_PARAMETER_VALUE")
    assert refused(finish([one, {"part_number": 3}])) == (400, "INVALID_PARAMETER_VALUE")
    assert finish([{"part_number": 2, "etag": etag[1]}, one]).status == 200
    assert shared.api("GET", place).body == b"ab"


def test_parts_are_taken_while_the_token_that_began_the_upload_is_good(lepton):
    made = lepton.got("POST", "/api/v1/tokens", {"name": "up", "role": "editor", "project": "default"})
    send, *_ = begin_upload(lepton, made.get("token") or made["secret"])
    assert send(1).status == 200
    lepton.ok("token", "revoke", "up")
    assert refused(send(2)) == (404, "RESOURCE_DOES_NOT_EXIST")
    token = other_project(lepton, "short")
    send, *_ = begin_upload(lepton, token)
    assert send(1).status == 200
    runs = lepton.got("GET", "/api/v1/projects/short/runs")["items"]
    for run in runs:
        assert lepton.api("DELETE", f"/api/v1/projects/short/runs/{run['metadata']['id']}").status == 204
    assert lepton.api("DELETE", "/api/v1/projects/short").status == 204
    assert refused(send(2))[0] == 404


def test_a_page_of_another_site_cannot_post(shared):
    basic = "Basic " + base64.b64encode(f"x:{shared.token}".encode()).decode()
    body = json.dumps({"name": "from elsewhere"}).encode()
    post = lambda **headers: shared.api("POST", f"{BASE}/experiments/create", body=body, token="",
                                        headers={"Authorization": basic} | headers)
    assert refused(post(**{"Content-Type": "text/plain"})) == (400, "INVALID_PARAMETER_VALUE")
    assert post(**{"Content-Type": "application/json", "Origin": "http://elsewhere.example"}).status == 403
    assert post(**{"Content-Type": "application/json; charset=utf-8"}).status == 200


def test_a_viewer_is_shown_the_default_experiment_and_makes_none(lepton):
    lepton.got("POST", "/api/v1/projects", {"name": "quiet"})
    made = lepton.got("POST", "/api/v1/tokens", {"name": "look", "role": "viewer", "project": "quiet"})
    token = made.get("token") or made["secret"]
    for path in ("experiments/get?experiment_id=0", "experiments/get-by-name?experiment_name=Default"):
        assert got(lepton, path, token=token)["experiment"]["experiment_id"] == "0"
    got(lepton, "experiments/search?max_results=5", token=token)
    assert lepton.got("GET", "/api/v1/projects/quiet/experiments")["items"] == []


def test_tags_and_descriptions_are_bounded(shared):
    long = (400, "INVALID_PARAMETER_VALUE")
    tags = [{"key": f"k{number}", "value": "x" * 19_000} for number in range(70)]
    assert refused(ask(shared, "experiments/create", {"name": "fat", "tags": tags})) == long
    model = {"name": "fat", "description": "x" * 200_000}
    assert refused(ask(shared, "registered-models/create", model)) == long
    got(shared, "registered-models/create", {"name": "fat"})
    assert refused(ask(shared, "registered-models/update", model, method="PATCH")) == long


def test_runs_within_a_jobs_run_go_to_its_experiment(lepton):
    told = lepton.marks / "env"
    job = lepton.submit("within", "sh", "-c", f"env > {told}", experiment="lab")
    lepton.over(job)
    env = dict(line.split("=", 1) for line in told.read_text().splitlines() if "=" in line)
    run = got(lepton, f"runs/get?run_id={env['MLFLOW_RUN_ID']}")["run"]["info"]
    assert env["MLFLOW_EXPERIMENT_ID"] == run["experiment_id"] != "0"
    assert env["USER"] and env["LOGNAME"]


def test_workspaces_are_projects(lepton):
    answer = lepton.api("POST", f"{THIRD}/workspaces", {"name": "seen", "description": "d"})
    assert (answer.status, answer.json()) == (201, {"workspace": {"name": "seen", "description": "d"}})
    names = lambda token=None: [w["name"] for w in lepton.api("GET", f"{THIRD}/workspaces", token=token).json()["workspaces"]]
    assert sorted(names()) == ["default", "seen"]
    made = lepton.got("POST", "/api/v1/tokens", {"name": "in", "role": "editor", "project": "seen"})
    token = made.get("token") or made["secret"]
    assert names(token) == ["seen"]
    assert refused(lepton.api("GET", f"{THIRD}/workspaces/default", token=token))[0] == 403
    assert refused(lepton.api("POST", f"{THIRD}/workspaces", {"name": "more"}, token=token))[0] == 403
    assert refused(lepton.api("DELETE", f"{THIRD}/workspaces/seen?mode=CASCADE"))[0] == 400
    assert lepton.api("DELETE", f"{THIRD}/workspaces/seen").status == 204
    assert refused(lepton.api("GET", f"{THIRD}/workspaces/seen"))[0] == 404
