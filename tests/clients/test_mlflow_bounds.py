"""What MLflow's API keeps within bounds, and apart: sizes of traces and models, ids, and whose files go with what."""

from test_mlflow_attacks import ARTIFACTS, THIRD, logged_model, trace
from test_mlflow_truth import BASE, ask, got, new_run, other_project, refused

HERE = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}


def told(lepton, name, **more):
    """Tells the server of a trace."""
    info = {"trace_id": name, "request_time": "2026-01-01T00:00:00Z", "state": "OK", "trace_location": HERE} | more
    return lepton.api("POST", f"{THIRD}/traces", {"trace": {"trace_info": info}})


def test_a_run_cannot_have_the_id_of_a_logged_model(shared):
    victim = logged_model(shared, tags=[{"key": "secret", "value": "s"}])
    thief = other_project(shared, "namesake")
    for project, token in (("namesake", thief), ("default", None)):
        answer = shared.api("POST", f"/api/v1/projects/{project}/runs", {"id": victim[2:]}, token=token)
        assert answer.status == 409, answer
        assert shared.api("GET", f"/api/v1/projects/{project}/runs/{victim[2:]}", token=token).status == 404
    assert got(shared, f"logged-models/{victim}")["model"]["info"]["tags"] == [{"key": "secret", "value": "s"}]


def test_a_trace_stands_where_it_may_and_is_of_a_bounded_size(shared):
    for state in ("fine", "x" * 5_000_000, ""):
        assert refused(told(shared, "tr-odd", state=state)) == (400, "INVALID_PARAMETER_VALUE")
    assert shared.api("GET", f"{THIRD}/traces/tr-odd").status == 404
    # However often it is told of, it does not grow without end: neither by tags nor by what is said of it.
    tags = lambda n: {"tags": {f"k{n}-{i}": "x" * 8_000 for i in range(400)}}
    said = lambda n: {"assessments": [
        {"assessment_id": f"a-{n}-{i}", "assessment_name": "n", "trace_id": "tr-grows", "feedback": {"value": "y" * 2_000},
         "source": {"source_type": "HUMAN", "source_id": "me"}} for i in range(100)]}
    for grow in (tags, said):
        seen = [told(shared, "tr-grows", **grow(n)) for n in range(30)]
        assert seen[0].status == 200 and refused(seen[-1]) == (400, "INVALID_PARAMETER_VALUE")
    whole = shared.api("GET", f"{THIRD}/traces/tr-grows")
    assert len(whole.body) < 5 << 20
    assert shared.api("DELETE", f"{THIRD}/traces/tr-grows/tags", {"key": "k0-0"}).status == 200, "it can be made smaller"


def test_no_text_of_a_logged_model_is_a_book(shared):
    long = "x" * 100_000
    for field in ("model_type", "source_run_id"):
        made = ask(shared, "logged-models", {"experiment_id": "0", "name": "m", field: long})
        assert refused(made) == (400, "INVALID_PARAMETER_VALUE")
    pair = [{"key": "k", "value": long}]
    model = logged_model(shared, params=pair, tags=pair)
    whole = got(shared, f"logged-models/{model}")["model"]
    assert [len(p["value"]) for p in whole["data"]["params"]] == [6_000], "as a run's parameters are cut"
    assert [len(t["value"]) for t in whole["info"]["tags"]] == [8_000]
    run = new_run(shared)
    metric = {"run_id": run, "key": "m", "value": 1, "timestamp": 1, "model_id": model}
    for field in ("dataset_name", "dataset_digest"):
        assert refused(ask(shared, "runs/log-metric", metric | {field: long})) == (400, "INVALID_PARAMETER_VALUE")


def test_a_trace_takes_its_files_along_and_nobody_elses(shared):
    name, model = trace(shared, "tr-files"), logged_model(shared)
    own, other = f"0/traces/{name}/artifacts/traces.json", f"0/models/{model}/artifacts/MLmodel"
    for path in (own, other):
        assert shared.api("PUT", f"{ARTIFACTS}/{path}", body=b"x").status == 200
    # Where its files are is the server's to say, whichever version of the API a client speaks.
    place = [{"key": "mlflow.artifactLocation", "value": f"mlflow-artifacts:/0/models/{model}/artifacts"}]
    ended = shared.api("PATCH", f"{BASE}/traces/{name}", {"timestamp_ms": 2_000_000_000_000, "status": "OK", "tags": place})
    assert ended.status == 200, ended
    tags = shared.got("GET", f"{THIRD}/traces/{name}")["trace"]["trace_info"]["tags"]
    assert tags["mlflow.artifactLocation"].endswith(f"/traces/{name}/artifacts")
    gone = shared.got("POST", f"{THIRD}/traces/delete-traces", {"experiment_id": "0", "request_ids": [name]})
    assert gone == {"traces_deleted": 1}
    assert shared.api("GET", f"{ARTIFACTS}/{own}").status == 404
    assert shared.api("GET", f"{ARTIFACTS}/{other}").status == 200

