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


{"make": make}[sys.argv[1]]()
