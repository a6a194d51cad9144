"""Fills an MLflow with logged models, traces and deleted things: `make`; and reads them out of Lepton: `read`."""

import json
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import mlflow
from mlflow.entities import AssessmentSource, AssessmentSourceType

MAJOR = int(mlflow.__version__.split(".")[0])
client = mlflow.MlflowClient()


@mlflow.trace(name="answer", span_type="CHAIN")
def answer(question):
    with mlflow.start_span("look up", span_type="RETRIEVER") as span:
        span.set_inputs({"question": question})
        span.set_attribute("rank", 3)
        span.set_outputs(["one", "two"])
    if question == "bad":
        raise ValueError("no answer")
    return f"to {question}"


def last_trace():
    return mlflow.get_last_active_trace_id() if MAJOR >= 3 else mlflow.get_last_active_trace().info.request_id


def make_traces():
    ids = []
    for question in ("first", "second", "bad"):
        try:
            answer(question)
        except ValueError:
            pass
        ids.append(last_trace())
    if MAJOR >= 3:
        mlflow.flush_trace_async_logging()
    for trace in ids:
        client.set_trace_tag(trace, "team", "blue")
    if MAJOR >= 3:
        human = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="ann")
        first = mlflow.log_feedback(trace_id=ids[0], name="correct", value=False, source=human, rationale="looks wrong")
        mlflow.override_feedback(trace_id=ids[0], assessment_id=first.assessment_id, value=True, source=human)
        mlflow.log_expectation(trace_id=ids[0], name="wanted", value={"text": "one"}, source=human)
        mlflow.log_feedback(trace_id=ids[1], name="score", value=0.25, metadata={"by": "hand"})
    return ids


class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input


def make_models():
    with mlflow.start_run(run_name="made models"):
        info = mlflow.pyfunc.log_model(name="echo", python_model=Echo(), params={"depth": "4"},
                                       tags={"stage": "try"}, model_type="agent",
                                       pip_requirements=["mlflow"])
        for step in range(3):
            mlflow.log_metric("accuracy", 0.5 + step / 10, step=step, model_id=info.model_id)
    outer = mlflow.create_external_model(name="outer", model_type="api", params={"size": "9"})
    gone = mlflow.initialize_logged_model(name="gone")
    mlflow.finalize_logged_model(gone.model_id, "FAILED")
    client.delete_logged_model(gone.model_id)
    mlflow.register_model(f"models:/{info.model_id}", "echoes")
    return info.model_id, outer.model_id


def make():
    mlflow.set_experiment("past")
    mlflow.set_experiment_tag("mlflow.note.content", "what was")
    make_traces()
    if MAJOR >= 3:
        make_models()
    mlflow.set_experiment("dropped")
    with mlflow.start_run(run_name="in the bin"):
        mlflow.log_metric("m", 1)
        mlflow.log_param("p", "q")
    dropped = client.get_experiment_by_name("dropped").experiment_id
    answer("dropped")
    if MAJOR >= 3:
        mlflow.flush_trace_async_logging()
    client.delete_experiment(dropped)


OWN = ("mlflow.artifactLocation", "mlflow.trace.spansLocation", "mlflow.trace.infoFinalized", "mlflow.modelVersions")


def kept(pairs):
    """Without what a server says of where it keeps things."""
    return {k: v for k, v in sorted(pairs.items()) if k not in OWN and not k.startswith("lepton.import.")}


def told_trace(trace):
    info = trace.info
    told = {"id": info.request_id, "began": info.timestamp_ms, "took": info.execution_time_ms,
            "status": str(info.status), "tags": kept(info.tags), "metadata": kept(info.request_metadata),
            "spans": [[s.name, s.span_type, s.inputs, s.outputs, kept(s.attributes), s.start_time_ns, s.end_time_ns,
                       str(s.status.status_code), s.span_id, s.parent_id, [e.name for e in s.events]]
                      for s in sorted(trace.data.spans, key=lambda s: s.start_time_ns)]}
    if MAJOR >= 3:
        told["previews"] = [info.request_preview, info.response_preview]
        told["said"] = sorted([a.name, a.value, a.valid, a.rationale, a.metadata, a.source.source_type, a.source.source_id,
                               a.create_time_ms, a.overrides] for a in info.assessments)
    return told


def told_model(model):
    return {"id": model.model_id, "name": model.name, "type": model.model_type, "run": model.source_run_id or "",
            "status": str(model.status), "made": model.creation_timestamp, "params": dict(model.params),
            "tags": kept(model.tags),
            # A folder tells of the newest of each alone.
            "metrics": max(([m.key, m.step, m.value, m.timestamp, m.run_id] for m in model.metrics or []), default=None),
            # Loading a model out of a folder leaves a file there.
            "files": sorted(f.path for f in client.list_logged_model_artifacts(model.model_id)
                            if f.path != "registered_model_meta")}


def read():
    """All of it, in a form that does not depend on who tells it."""
    told = {}
    for experiment in client.search_experiments(view_type=mlflow.entities.ViewType.ALL):
        if experiment.name == "Default":
            continue
        here = [experiment.experiment_id]
        runs = client.search_runs(here, run_view_type=mlflow.entities.ViewType.ALL)
        told[experiment.name] = {
            "stage": experiment.lifecycle_stage, "tags": kept(experiment.tags),
            "runs": [[r.info.run_id, r.info.lifecycle_stage, kept(r.data.tags), r.data.metrics, r.data.params,
                      [[m.model_id, m.step] for m in r.outputs.model_outputs] if MAJOR >= 3 and r.outputs else []]
                     for r in sorted(runs, key=lambda r: r.info.run_id)]}
        # MLflow's folders and servers do not search what is in the bin alike.
        if experiment.lifecycle_stage == "active":
            where = {"locations": here} if MAJOR >= 3 else {"experiment_ids": here}
            told[experiment.name]["traces"] = sorted(
                (told_trace(t) for t in client.search_traces(**where)), key=lambda t: t["id"])
            if MAJOR >= 3:
                told[experiment.name]["models"] = sorted(
                    (told_model(m) for m in client.search_logged_models(here)), key=lambda m: m["id"])
    if MAJOR >= 3:
        version, = client.search_model_versions("name = 'echoes'")
        loaded = mlflow.pyfunc.load_model("models:/echoes/1")
        told["version"] = [version.run_id, version.source, loaded.predict(["said"])]
    print(json.dumps(told, sort_keys=True, default=str))


{"make": make, "read": read}[sys.argv[1]]()
