"""Uses every call of MLflow's client against the server that MLFLOW_TRACKING_URI names, and writes
what came back as JSON to the file it is given: a list of `[step, answer]`. Runs with mlflow 2.22 and 3.x, unmodified.

Ids and times differ from server to server; the test that runs this replaces them before it compares.
"""

import json
import math
import os
import pathlib
import sys
import tempfile
import time
import warnings

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
warnings.filterwarnings("ignore")

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

MAJOR = int(mlflow.__version__.split(".")[0])
answers = []
client = MlflowClient()


def say(step, answer):
    answers.append([step, plain(answer)])


def plain(value, depth=0):
    """Entities as what they hold."""
    if isinstance(value, (str, int, bool, type(None))):
        return value
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else value
    if isinstance(value, dict):
        return {str(k): plain(v, depth + 1) for k, v in sorted(value.items(), key=lambda i: str(i[0]))}
    if isinstance(value, (list, tuple, set)):
        return [plain(v, depth + 1) for v in value]
    if depth > 12:
        return repr(type(value))
    if hasattr(value, "to_dictionary"):
        return plain(value.to_dictionary(), depth + 1)
    if hasattr(value, "_properties") or hasattr(type(value), "_properties"):
        return {k: plain(v, depth + 1) for k, v in value if k != "workspace"}
    if hasattr(value, "__dict__"):
        return {k.lstrip("_"): plain(v, depth + 1) for k, v in sorted(vars(value).items())}
    return str(value)


def tried(step, call):
    """What a call gives, or says: older servers refuse what newer ones take."""
    try:
        say(step, call())
    except MlflowException as error:
        say(step, ["refused", error.error_code])


def refused(step, call):
    """What a call that must not go well says."""
    try:
        say(step, ["not refused", plain(call())])
    except MlflowException as error:
        say(step, ["refused", error.error_code])
    except requests.HTTPError as error:
        say(step, ["refused", error.response.status_code, error.response.json()["error_code"]])


def experiments():
    say("default experiment", client.get_experiment("0"))
    plain_id = client.create_experiment("plain")
    tagged = client.create_experiment("tagged", tags={"team": "vision", "a/b c": "1"})
    client.set_experiment_tag(plain_id, "note", "über")
    say("created", client.get_experiment(plain_id))
    say("by name", client.get_experiment_by_name("tagged"))
    say("unknown name", client.get_experiment_by_name("no such thing"))
    refused("same name again", lambda: client.create_experiment("plain"))
    client.rename_experiment(plain_id, "renamed / and : more")
    say("renamed", client.get_experiment(plain_id))
    refused("name of another", lambda: client.rename_experiment(plain_id, "tagged"))
    client.delete_experiment(tagged)
    say("deleted", client.get_experiment(tagged))
    say("active", [e.name for e in client.search_experiments(order_by=["name ASC"])])
    say("bin", [e.name for e in client.search_experiments(view_type=ViewType.DELETED_ONLY)])
    refused("run in a deleted one", lambda: client.create_run(tagged))
    client.restore_experiment(tagged)
    for filter_string in ["name = 'tagged'", "name LIKE 't%'", "name ILIKE 'T%'", "tags.team = 'vision'",
                          "tags.team != 'vision'", "tags.`a/b c` = '1' AND name != 'x'",
                          "attribute.name = 'tagged'", "creation_time > 0"]:
        tried(filter_string, lambda: [e.name for e in client.search_experiments(
            filter_string=filter_string, order_by=["name DESC"])])
    pages, token = [], None
    while True:
        page = client.search_experiments(max_results=1, order_by=["name"], page_token=token)
        pages.append([e.name for e in page])
        token = page.token
        if not token:
            break
    say("pages", pages)
    for bad in ["name = tagged", "name", "nothing = 'x'", "name > 'x'", "tags.x = 1", "name = 'x' OR name = 'y'"]:
        refused(bad, lambda: client.search_experiments(filter_string=bad))
    refused("no such id", lambda: client.get_experiment("99"))
    return tagged


def runs(experiment):
    run = client.create_run(experiment, start_time=1000, tags={"mlflow.user": "me", "k": "v"}, run_name="first")
    run_id = run.info.run_id
    say("run", run)
    client.log_param(run_id, "lr", 0.1)
    client.log_param(run_id, "lr", 0.1)
    refused("other value", lambda: client.log_param(run_id, "lr", 0.2))
    client.log_metric(run_id, "loss", 1.5, timestamp=10, step=1)
    client.log_metric(run_id, "loss", 0.5, timestamp=20, step=2)
    client.log_metric(run_id, "loss", 0.7, timestamp=15, step=1)
    for value in (math.nan, math.inf, -math.inf):
        client.log_metric(run_id, f"odd{value}", value, timestamp=1, step=0)
    for value in (1.0, 2.0, 1.0):
        client.log_metric(run_id, "same moment", value, timestamp=5, step=0)
    client.log_batch(
        run_id,
        metrics=[Metric("acc", i / 10, 100 + i, i) for i in range(10)],
        params=[Param("depth", "3"), Param("long", "x" * 6000), Param("cut", "y" * 6001)],
        tags=[RunTag("phase", "one"), RunTag("long tag", "z" * 8000)])
    client.set_tag(run_id, "phase", "two")
    client.set_tag(run_id, "gone", "soon")
    client.delete_tag(run_id, "gone")
    refused("no such tag", lambda: client.delete_tag(run_id, "gone"))
    client.set_tag(run_id, "mlflow.note.content", "# hello")
    say("after logging", client.get_run(run_id))
    say("history", client.get_metric_history(run_id, "loss"))
    say("history of odd", client.get_metric_history(run_id, "oddinf"))
    say("history of a moment", client.get_metric_history(run_id, "same moment"))
    say("history of nothing", client.get_metric_history(run_id, "nothing"))
    client.update_run(run_id, name="better")
    client.set_tag(run_id, "mlflow.runName", "best")
    client.set_terminated(run_id, "FINISHED", end_time=2000)
    say("finished", client.get_run(run_id).info)
    client.update_run(run_id, status="RUNNING")
    say("running again", client.get_run(run_id).info)
    client.delete_run(run_id)
    say("deleted run", client.get_run(run_id).info.lifecycle_stage)
    refused("param of a deleted run", lambda: client.log_param(run_id, "x", 1))
    refused("metric of a deleted run", lambda: client.log_metric(run_id, "x", 1))
    refused("tag of a deleted run", lambda: client.set_tag(run_id, "x", 1))
    say("only deleted", [r.info.run_name for r in client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)])
    client.restore_run(run_id)
    say("only active", [r.info.run_name for r in client.search_runs([experiment])])
    bad = {
        "long key": lambda: client.log_param(run_id, "k" * 251, 1),
        "6000-character key": lambda: client.log_metric(run_id, "k" * 6000, 1),
        "key with a dollar": lambda: client.log_metric(run_id, "a$b", 1),
        "key that climbs": lambda: client.log_param(run_id, "../x", 1),
        "key with two slashes": lambda: client.set_tag(run_id, "a//b", 1),
        "absolute key": lambda: client.set_tag(run_id, "/a", 1),
        "twice in a batch": lambda: client.log_batch(run_id, params=[Param("q", "1"), Param("q", "2")]),
        "changed in a batch": lambda: client.log_batch(run_id, params=[Param("lr", "9")]),
        "unknown run": lambda: client.get_run("0" * 32),
        "no run": lambda: client.get_run("nonsense"),
        "log to unknown": lambda: client.log_metric("0" * 32, "x", 1),
    }
    for step, call in bad.items():
        refused(step, call)
    return run_id


def searching(experiment):
    for number in range(6):
        run = client.create_run(experiment, start_time=10_000 + number, run_name=f"s{number}",
                                tags={"parity": "even" if number % 2 == 0 else "odd"})
        client.log_batch(run.info.run_id, metrics=[Metric("m", number, 1, 0)],
                         params=[Param("p", f"v{number}"), Param("p q/r", "x")])
        if number == 3:
            client.log_metric(run.info.run_id, "rare", math.nan)
        if number == 4:
            client.log_metric(run.info.run_id, "rare", 7)
            client.set_terminated(run.info.run_id, "FAILED", end_time=30_000)
    names = lambda found: [r.info.run_name for r in found]
    for filter_string in [
            "metrics.m > 3", "metrics.m >= 3 AND metrics.m < 5", "metrics.m != 0", "metrics.rare != 5",
            "metrics.rare = 7", "metrics.rare > 0", "params.p = 'v1'", "params.p != 'v1'", "params.p LIKE 'v%'",
            "params.p LIKE 'V%'", "params.p ILIKE 'V_'", "params.`p q/r` = 'x'", "params.\"p q/r\" = 'x'",
            "tags.parity = 'even'", "tag.parity = \"odd\"", "tags.`mlflow.runName` = 's2'",
            "tags.mlflow.runName LIKE 's%'", "attributes.run_name = 's1'", "run_name ILIKE 'S%'",
            "attributes.status = 'FAILED'", "status != 'FAILED' AND metrics.m > 1", "start_time > 10002",
            "attributes.start_time <= 10002", "end_time = 30000", "attribute.user_id = 'unknown'",
            "tags.nothing IS NULL", "tags.parity IS NOT NULL", "params.p IS NULL", "metrics.m = 2.0",
            "metrics.m > -1e3"]:
        tried(filter_string, lambda: names(client.search_runs([experiment], filter_string)))
    for order in [["metrics.m DESC"], ["metrics.rare"], ["metrics.rare DESC"], ["params.p ASC"], ["tags.parity", "metrics.m DESC"],
                  ["attributes.start_time ASC"], ["start_time"], ["end_time DESC"], ["attribute.run_name DESC"],
                  ["metrics.`m` desc"]]:
        say(order, names(client.search_runs([experiment], order_by=order)))
    pages, token = [], None
    while True:
        page = client.search_runs([experiment], max_results=2, order_by=["run_name"], page_token=token)
        pages.append(names(page))
        token = page.token
        if not token:
            break
    say("pages of runs", pages)
    ids = [r.info.run_id for r in client.search_runs([experiment], order_by=["run_name"])]
    tried("in a list", lambda: names(client.search_runs([experiment], f"run_id IN ('{ids[0]}', '{ids[1]}')", order_by=["run_name"])))
    tried("not in a list", lambda: names(client.search_runs([experiment], f"attributes.run_id NOT IN ('{ids[0]}', 'x')", order_by=["run_name"])))
    say("many experiments", len(client.search_runs([experiment, "0"])))
    for bad in ["metrics.m = 'x'", "metrics.m", "params.p = 1", "params.p > 'x'", "nothing.m = 1", "attributes.bad = 'x'",
                "metrics.m > 1 OR metrics.m < 0", "metrics.m LIKE 'x'", "tags.parity = even", "status IN ('FAILED')",
                "metrics.m >", "= 1", "params.p = 'unclosed"]:
        refused(bad, lambda: client.search_runs([experiment], bad))
    for bad in [["metrics.m SIDEWAYS"], ["nothing"], ["metrics.m DESC, p"]]:
        refused(bad, lambda: client.search_runs([experiment], order_by=bad))
    say("as a table", sorted(mlflow.search_runs([experiment], "metrics.m > 3").columns))


def fluent(experiment):
    mlflow.set_experiment("fluent")
    with mlflow.start_run(run_name="parent", description="a description") as parent:
        mlflow.log_params({"a": 1, "b": "two"})
        mlflow.log_metrics({"x": 1.0, "y": 2.0}, step=3)
        mlflow.set_tags({"t1": "1", "t2": 2})
        with mlflow.start_run(run_name="child", nested=True) as child:
            mlflow.log_metric("z", 1)
        mlflow.log_dict({"k": [1, 2]}, "config/dict.json")
        mlflow.log_text("hello", "notes/hello.txt")
        mlflow.log_text("äöü", "notes/ümlaut ä.txt")
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "sub").mkdir()
            (folder / "a.bin").write_bytes(bytes(range(256)))
            (folder / "sub" / "b.txt").write_text("b")
            (folder / "empty").write_text("")
            mlflow.log_artifact(str(folder / "a.bin"))
            mlflow.log_artifacts(str(folder), "tree")
    parent_id, child_id = parent.info.run_id, child.info.run_id
    say("parent", client.get_run(parent_id))
    say("child", client.get_run(child_id).data.tags["mlflow.parentRunId"] == parent_id)
    say("children", [r.info.run_name for r in client.search_runs(
        [parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent_id}'")])
    tree = lambda path=None: [(f.path, f.is_dir, f.file_size) for f in client.list_artifacts(parent_id, path)]
    say("root", tree())
    say("folder", tree("tree"))
    say("deeper", tree("tree/sub"))
    say("a file", tree("tree/a.bin"))
    say("nothing", tree("nothing"))
    with tempfile.TemporaryDirectory() as folder:
        got = pathlib.Path(client.download_artifacts(parent_id, "tree", folder))
        say("downloaded", sorted((str(p.relative_to(got)), p.stat().st_size) for p in got.rglob("*") if p.is_file()))
    say("loaded text", mlflow.artifacts.load_text(f"runs:/{parent_id}/notes/hello.txt"))
    say("loaded umlaut", mlflow.artifacts.load_text(f"runs:/{parent_id}/notes/ümlaut ä.txt"))
    say("loaded dict", mlflow.artifacts.load_dict(f"runs:/{parent_id}/config/dict.json"))
    for path in ["../x", "a/../../b", "/etc/passwd", "..%2f..%2fx", "%2e%2e/x"]:
        refused(f"list {path}", lambda: client.list_artifacts(parent_id, path))
    return parent_id


def datasets():
    import pandas
    frame = pandas.DataFrame({"x": [1.0, 2.0], "label": ["a", "b"]})
    data = mlflow.data.from_pandas(frame, source="https://example.com/data.csv", name="letters", targets="label")
    with mlflow.start_run(run_name="with data") as run:
        mlflow.log_input(data, context="training", tags={"split": "a"})
        mlflow.log_input(data, context="training")
    found = client.get_run(run.info.run_id)
    say("inputs", [plain(i) for i in found.inputs.dataset_inputs])
    names = lambda f: [r.info.run_name for r in client.search_runs([run.info.experiment_id], f)]
    for filter_string in ["dataset.name = 'letters'", "datasets.name LIKE 'let%'", "dataset.context = 'training'",
                          "dataset.context = 'other'", f"dataset.digest = '{data.digest}'",
                          "dataset.name IN ('letters', 'x')", "dataset.name != 'letters'"]:
        tried(filter_string.replace(data.digest, "DIGEST"), lambda: names(filter_string))
    refused("dataset.size = 1", lambda: names("dataset.size = 1"))


def logged_models(experiment):
    """Models before they are registered: mlflow 3."""
    model = client.create_logged_model(experiment, name="m-one", params={"p": "1"}, tags={"t": "1"}, model_type="agent")
    say("logged model", model)
    client.set_logged_model_tags(model.model_id, {"t": "2", "u": "3"})
    client.delete_logged_model_tag(model.model_id, "u")
    refused("no such model tag", lambda: client.delete_logged_model_tag(model.model_id, "u"))
    client.log_model_params(model.model_id, {"q": "2"})
    client.finalize_logged_model(model.model_id, "READY")
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_metric("score", 0.5, step=1, model_id=model.model_id)
        mlflow.log_metrics({"score": 0.75, "other": 1.0}, step=2, model_id=model.model_id)
    say("finalized", client.get_logged_model(model.model_id))
    other = client.create_logged_model(experiment, name="m-two", params={"p": "2"}, source_run_id=run.info.run_id)
    names = lambda **more: [m.name for m in client.search_logged_models([experiment], **more)]
    for filter_string in ["name = 'm-one'", "name LIKE 'm-%'", "params.p = '2'", "tags.t = '2'", "metrics.score > 0.6",
                          "metrics.score > 0.8", "model_type = 'agent'", "name IN ('m-one', 'x')",
                          "creation_timestamp > 0", "attributes.name != 'm-one'"]:
        say(f"models: {filter_string}", names(filter_string=filter_string, order_by=[{"field_name": "name"}]))
    say("models by metric", names(order_by=[{"field_name": "metrics.score", "ascending": False}]))
    say("models by age", names(order_by=[{"field_name": "creation_timestamp", "ascending": True}]))
    for bad in ["name > 'x'", "nothing.x = 'y'", "name = 'x' OR name = 'y'"]:
        refused(f"models: {bad}", lambda: names(filter_string=bad))
    refused("models by nothing", lambda: names(order_by=[{"field_name": "params.p"}]))
    pages, token = [], None
    while True:
        page = client.search_logged_models([experiment], max_results=1, page_token=token, order_by=[{"field_name": "name"}])
        pages.append([m.name for m in page])
        token = page.token
        if not token:
            break
    say("pages of models", pages)
    client.delete_logged_model(other.model_id)
    refused("deleted model", lambda: client.get_logged_model(other.model_id))
    refused("unknown model", lambda: client.get_logged_model("m-" + "0" * 32))
    refused("name of a model", lambda: client.create_logged_model(experiment, name="a/b"))


def flavours():
    import numpy
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    features, labels = load_iris(return_X_y=True)
    named = {"name": "iris"} if MAJOR >= 3 else {"artifact_path": "iris"}
    with mlflow.start_run(run_name="model") as run:
        model = LogisticRegression(max_iter=200).fit(features, labels)
        info = mlflow.sklearn.log_model(model, input_example=features[:2], registered_model_name="iris", **named)
    loaded = mlflow.pyfunc.load_model(info.model_uri)
    say("same predictions", bool((loaded.predict(features) == model.predict(features)).all()))
    say("registered along", client.get_model_version("iris", "1"))
    by_name = mlflow.sklearn.load_model("models:/iris/1")
    say("by name", bool((by_name.predict(features) == model.predict(features)).all()))
    found = client.get_run(run.info.run_id)
    say("model's run", sorted(found.data.tags))
    if MAJOR >= 3:
        say("outputs", len(found.outputs.model_outputs))
        say("logged", client.get_logged_model(info.model_id).status)
    second = mlflow.register_model(f"runs:/{run.info.run_id}/iris", "iris", tags={"from": "run"})
    say("second", second)
    return run.info.run_id


def autologging():
    from sklearn.datasets import load_diabetes
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import GridSearchCV
    mlflow.sklearn.autolog(log_models=False, silent=True)
    features, labels = load_diabetes(return_X_y=True)
    with mlflow.start_run(run_name="auto") as run:
        RandomForestRegressor(n_estimators=5, max_depth=3, random_state=0).fit(features, labels)
    found = client.get_run(run.info.run_id)
    say("auto params", found.data.params)
    say("auto metrics", {k: round(v, 9) for k, v in found.data.metrics.items()})
    with mlflow.start_run(run_name="grid") as run:
        grid = {"max_depth": [2, 3]}
        GridSearchCV(RandomForestRegressor(n_estimators=3, random_state=0), grid, cv=2).fit(features, labels)
    children = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    say("grid's children", sorted(r.data.params["max_depth"] for r in children))
    say("grid's files", sorted(f.path for f in client.list_artifacts(run.info.run_id)))
    mlflow.sklearn.autolog(disable=True)


def traces():
    mlflow.set_experiment("traces")
    experiment = mlflow.get_experiment_by_name("traces").experiment_id

    @mlflow.trace(span_type="LLM", attributes={"temperature": 0.5})
    def inner(x):
        if x < 0:
            raise ValueError("negative")
        return {"doubled": x * 2}

    @mlflow.trace
    def outer(x, words):
        mlflow.update_current_trace(tags={"color": "red" if x > 0 else "blue"})
        return inner(x)

    outer(3, ["a", "b"])
    try:
        outer(-1, [])
    except ValueError:
        pass
    if hasattr(mlflow, "flush_trace_async_logging"):
        mlflow.flush_trace_async_logging()
    where = {"locations": [experiment]} if MAJOR >= 3 else {"experiment_ids": [experiment]}
    search = lambda **more: client.search_traces(**where, **more)
    identity = lambda trace: trace.info.trace_id if MAJOR >= 3 else trace.info.request_id
    by_state = lambda found: sorted(str(t.info.state if MAJOR >= 3 else t.info.status) for t in found)
    # Clients send traces in the background.
    end = time.monotonic() + 60
    while True:
        found = search()
        if len(found) == 2 and not any("PROGRESS" in state for state in by_state(found)) or time.monotonic() > end:
            break
        time.sleep(0.2)
    say("traces", by_state(found))
    good = next(t for t in found if "OK" in by_state([t])[0])
    say("spans", [[s.name, s.inputs, s.outputs, str(s.status.status_code), s.span_type, s.parent_id is None]
                  for s in sorted(client.get_trace(identity(good)).data.spans, key=lambda s: s.start_time_ns)])
    say("tags of a trace", {k: v for k, v in good.info.tags.items() if not k.startswith("mlflow.a")})
    for filter_string in ["tags.color = 'red'", "tags.color != 'red'", "attributes.status = 'ERROR'", "status = 'OK'",
                          "timestamp_ms > 0", "attributes.name = 'outer'", "execution_time_ms >= 0"]:
        tried(f"traces: {filter_string}", lambda: by_state(search(filter_string=filter_string)))
    for bad in ["nothing.x = 'y'", "attributes.nothing = 'x'", "status > 1"]:
        refused(f"traces: {bad}", lambda: search(filter_string=bad))
    say("a page of traces", len(search(max_results=1)))
    if MAJOR >= 3:
        assessments(identity(good), client.get_trace(identity(good)).data.spans[0].span_id)
    client.set_trace_tag(identity(good), "k", "v")
    client.set_trace_tag(identity(good), "gone", "soon")
    client.delete_trace_tag(identity(good), "gone")
    refused("no such trace tag", lambda: client.delete_trace_tag(identity(good), "gone"))
    say("tagged", by_state(search(filter_string="tags.k = 'v'")))
    refused("unknown trace", lambda: client.set_trace_tag("tr-" + "0" * 32, "k", "v"))
    ids = {"trace_ids": [identity(good)]} if MAJOR >= 3 else {"request_ids": [identity(good)]}
    say("deleted traces", client.delete_traces(experiment, **ids))
    say("left", by_state(search()))
    say("deleted by age", client.delete_traces(experiment, max_timestamp_millis=4_000_000_000_000))
    say("none left", by_state(search()))


def assessments(trace, span):
    """What is said of a trace: mlflow 3."""
    from mlflow.entities import AssessmentError, AssessmentSource, Expectation, Feedback
    human = AssessmentSource("HUMAN", "me@example.com")
    judge = AssessmentSource("LLM_JUDGE", "gpt-x")
    told = lambda: [a.to_dictionary() | {"create_time": 0, "last_update_time": 0, "span_id": a.span_id == span}
                    for a in sorted(client.get_trace(trace).info.assessments, key=lambda a: (a.create_time_ms, a.name))]
    first = mlflow.log_feedback(trace_id=trace, name="correct", value=True, source=human, rationale="as it should be",
                                metadata={"round": "1"})
    mlflow.log_feedback(trace_id=trace, name="score", value=0.25, source=judge, span_id=span)
    mlflow.log_feedback(trace_id=trace, name="parts", value={"a": "x", "b": [1, 2]}, source=judge)
    mlflow.log_feedback(trace_id=trace, name="failed", error=AssessmentError("RATE_LIMIT", "too many"), source=judge)
    wanted = mlflow.log_expectation(trace_id=trace, name="answer", value="six", source=human)
    mlflow.log_expectation(trace_id=trace, name="facts", value=["a", {"b": 1}], source=human)
    say("assessments", told())
    say("an assessment", (mlflow.get_assessment(trace, first.assessment_id).value, wanted.name))
    mlflow.update_assessment(trace, first.assessment_id, Feedback(name="correct", value=False, rationale="after all",
                                                                   source=human, metadata={"more": "2"}))
    mlflow.update_assessment(trace, wanted.assessment_id, Expectation(name="answer", value="seven", source=human))
    say("updated assessments", told()[:5])
    refused("feedback as an expectation", lambda: mlflow.update_assessment(
        trace, first.assessment_id, Expectation(name="correct", value=1, source=human)))
    over = mlflow.override_feedback(trace_id=trace, assessment_id=first.assessment_id, value=True, rationale="no, right",
                                    source=human)
    say("overridden", sorted((a.name, a.valid) for a in client.get_trace(trace).info.assessments))
    here = {"locations": [mlflow.get_experiment_by_name("traces").experiment_id]}
    for wanted in ("feedback.correct = 'true'", "feedback.correct = 'false'", "feedback.correct != 'true'",
                   "feedback.score > 0.2", "feedback.score >= 0.3", "feedback.score IS NOT NULL", "feedback.nothing IS NULL",
                   "feedback.correct > 0", "expectation.answer = 'seven'", "expectation.answer LIKE '%eve%'",
                   "expectation.score IS NULL", "feedback.score = '0.25' AND expectation.answer = 'seven'",
                   "feedback.`correct` = 'true' AND status = 'OK'"):
        say(f"traces by {wanted}", len(client.search_traces(**here, filter_string=wanted)))
    for bad in ("feedback.score = 0.25", "feedback.score > 'x'", "feedback.score IN ('a')"):
        refused(f"traces by {bad}", lambda: client.search_traces(**here, filter_string=bad))
    mlflow.delete_assessment(trace, over.assessment_id)
    say("taken back", sorted((a.name, a.valid) for a in client.get_trace(trace).info.assessments))
    refused("no such assessment", lambda: mlflow.get_assessment(trace, "a-" + "0" * 32))
    refused("assessment of no trace", lambda: mlflow.log_feedback(trace_id="tr-" + "0" * 32, name="x", value=1, source=human))


def prompts():
    """Prompts are registered models of their own kind: mlflow 3."""
    plain_one = lambda p: [p.name, p.version, p.template, p.commit_message, sorted(p.variables), dict(p.tags)]
    first = mlflow.genai.register_prompt("greeting", "Hello {{name}}!", commit_message="first", tags={"lang": "en"})
    say("prompt", plain_one(first))
    second = mlflow.genai.register_prompt("greeting", "Dear {{name}} of {{place}},")
    say("second prompt", plain_one(second))
    mlflow.genai.register_prompt("chat", [{"role": "system", "content": "Be {{mood}}."}, {"role": "user", "content": "{{ask}}"}])
    say("loaded prompt", plain_one(mlflow.genai.load_prompt("greeting", version=1)))
    say("prompt by uri", plain_one(mlflow.genai.load_prompt("prompts:/greeting/2")))
    say("chat prompt", plain_one(mlflow.genai.load_prompt("prompts:/chat/1")))
    mlflow.genai.set_prompt_alias("greeting", "production", 1)
    say("prompt by alias", plain_one(mlflow.genai.load_prompt("prompts:/greeting@production")))
    mlflow.genai.delete_prompt_alias("greeting", "production")
    refused("gone prompt alias", lambda: mlflow.genai.load_prompt("prompts:/greeting@production"))
    say("filled", first.format(name="you"))
    say("prompts", sorted(p.name for p in mlflow.genai.search_prompts()))
    say("prompts by name", [p.name for p in mlflow.genai.search_prompts("name LIKE 'greet%'")])
    say("no model", sorted(m.name for m in client.search_registered_models() if m.name in ("greeting", "chat")))
    client.set_prompt_tag("greeting", "owner", "me")
    client.set_prompt_version_tag("greeting", "1", "reviewed", "yes")
    # Experiments have ids of another form.
    own = lambda tags: {k: v for k, v in tags.items() if not k.startswith("_mlflow_experiment")}
    say("tags of a prompt", own(client.get_prompt("greeting").tags))
    say("tags of its version", plain_one(mlflow.genai.load_prompt("greeting", version=1)))
    client.delete_prompt_tag("greeting", "owner")
    client.delete_prompt_version("greeting", "2")
    refused("deleted prompt version", lambda: mlflow.genai.load_prompt("greeting", version=2, allow_missing=False))
    with mlflow.start_run(run_name="with a prompt") as run:
        mlflow.genai.load_prompt("prompts:/greeting/1")
    say("prompt of a run", client.get_run(run.info.run_id).data.tags.get("mlflow.linkedPrompts"))
    refused("model of a prompt's name", lambda: client.create_registered_model("greeting"))


def registry(run_id):
    model = client.create_registered_model("forest", tags={"owner": "me"}, description="trees")
    say("model", model)
    refused("model again", lambda: client.create_registered_model("forest"))
    # The server of 2.22 takes names that its paths cannot hold.
    for bad in ["", "a/b", "a:b", ".."] if MAJOR >= 3 else [""]:
        refused(f"model {bad!r}", lambda: client.create_registered_model(bad))
    source = f"{client.get_run(run_id).info.artifact_uri}/tree"
    first = client.create_model_version("forest", source, run_id, tags={"v": "1"}, description="first")
    say("version", first)
    client.create_model_version("forest", source, run_id)
    third = client.create_model_version("forest", source, run_id)
    say("third", third.version)
    for bad in ["/tmp/x", "file:///tmp/x", f"{source}/../../../x", "mlflow-artifacts:/0/elsewhere"][:4 if MAJOR >= 3 else 3]:
        refused(f"source {bad if '..' not in bad else 'that climbs'}", lambda: client.create_model_version("forest", bad, run_id))
    refused("no such model", lambda: client.create_model_version("no such", source, run_id))
    client.update_registered_model("forest", "many trees")
    client.update_model_version("forest", "1", "the first")
    client.set_registered_model_tag("forest", "owner", "you")
    client.set_registered_model_tag("forest", "gone", "soon")
    client.delete_registered_model_tag("forest", "gone")
    client.set_model_version_tag("forest", "1", "q", "a")
    client.set_model_version_tag("forest", "1", "gone", "soon")
    client.delete_model_version_tag("forest", "1", "gone")
    client.set_registered_model_alias("forest", "Champion_1", "1")
    client.set_registered_model_alias("forest", "next", "2")
    say("by alias", client.get_model_version_by_alias("forest", "Champion_1"))
    client.set_registered_model_alias("forest", "Champion_1", "3")
    say("moved alias", client.get_model_version_by_alias("forest", "Champion_1").version)
    client.delete_registered_model_alias("forest", "next")
    refused("gone alias", lambda: client.get_model_version_by_alias("forest", "next"))
    for bad in ["latest", "v1", "a b", ""]:
        refused(f"alias {bad!r}", lambda: client.set_registered_model_alias("forest", bad, "1"))
    refused("alias of nothing", lambda: client.set_registered_model_alias("forest", "x", "99"))
    say("staging", client.transition_model_version_stage("forest", "1", "Staging"))
    say("staged", client.transition_model_version_stage("forest", "2", "staging", archive_existing_versions=True).current_stage)
    say("archived", client.get_model_version("forest", "1").current_stage)
    refused("no such stage", lambda: client.transition_model_version_stage("forest", "1", "Nowhere"))
    say("latest", sorted((v.current_stage, v.version) for v in client.get_latest_versions("forest")))
    say("latest staging", [v.version for v in client.get_latest_versions("forest", ["Staging"])])
    say("whole", client.get_registered_model("forest"))
    say("uri", client.get_model_version_download_uri("forest", "1"))
    copied = client.copy_model_version("models:/forest/1", "copy")
    say("copied", copied)
    say("uri of a copy", client.get_model_version_download_uri("copy", "1"))
    client.create_registered_model("oak", tags={"owner": "you", "leaf": "lobed"})
    names = lambda **more: [m.name for m in client.search_registered_models(**more)]
    for filter_string in ["name = 'forest'", "name LIKE 'f%'", "name ILIKE '%O%'", "tags.owner = 'you'",
                          "tags.owner = 'you' AND tags.leaf = 'lobed'", "tags.leaf != 'lobed'", "name != 'oak'"]:
        tried(f"registered: {filter_string}", lambda: names(filter_string=filter_string))
    say("registered by name", names(order_by=["name DESC"]))
    pages, token = [], None
    while True:
        page = client.search_registered_models(max_results=1, page_token=token)
        pages.append([m.name for m in page])
        token = page.token
        if not token:
            break
    say("pages of registered", pages)
    for bad in ["run_id = 'x'", "name > 'x'", "name = x", "name = 'x' OR name = 'y'"]:
        refused(f"registered: {bad}", lambda: names(filter_string=bad))
    refused("registered by nothing", lambda: names(order_by=["nothing"]))
    versions = lambda *a, **more: [(v.name, v.version) for v in client.search_model_versions(*a, **more)]
    for filter_string in ["name = 'forest'", "version_number > 1 AND name = 'forest'", f"run_id = '{run_id}'",
                          "tags.v = '1'", "source_path LIKE '%tree'", "name LIKE 'for%'", f"run_id IN ('{run_id}', 'x')"]:
        tried(f"versions: {filter_string.replace(run_id, 'RUN')}",
              lambda: versions(filter_string, order_by=["name", "version_number"]))
    say("versions by number", versions("name = 'forest'", order_by=["version_number ASC"]))
    for bad in ["name > 'x'", "nothing = 'x'", "name = 'x' OR name = 'y'"]:
        refused(f"versions: {bad}", lambda: versions(bad))
    client.delete_model_version("forest", "3")
    refused("deleted version", lambda: client.get_model_version("forest", "3"))
    say("aliases after", client.get_registered_model("forest").aliases)
    say("next number", client.create_model_version("forest", source, run_id).version)
    client.rename_registered_model("forest", "wood")
    refused("old name", lambda: client.get_registered_model("forest"))
    refused("taken name", lambda: client.rename_registered_model("wood", "oak"))
    say("versions of the new name", sorted(v.version for v in client.search_model_versions("name = 'wood'")))
    client.delete_registered_model("wood")
    refused("deleted model", lambda: client.get_registered_model("wood"))
    refused("unknown version", lambda: client.get_model_version("oak", "1"))
    refused("version that is no number", lambda: client.get_model_version("oak", "one"))


def main():
    experiment = experiments()
    runs(experiment)
    searching(client.create_experiment("searching"))
    parent = fluent(experiment)
    datasets()
    if MAJOR >= 3:
        logged_models(client.create_experiment("logged"))
        prompts()
    flavours()
    autologging()
    registry(parent)
    traces()
    # Standard output is MLflow's own: it says there where runs can be looked at.
    pathlib.Path(sys.argv[1]).write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
