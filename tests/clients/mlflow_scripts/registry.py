"""Fills an MLflow with what an import must bring beside runs: `make`; and reads it out of Lepton: `read`."""

import json
import sys
import warnings

warnings.filterwarnings("ignore")

import mlflow
import pandas
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

MAJOR = int(mlflow.__version__.split(".")[0])
client = mlflow.MlflowClient()
features, labels = load_iris(return_X_y=True)


def make():
    mlflow.set_experiment("registered")
    frame = pandas.DataFrame({"x": [1.0, 2.0], "label": ["a", "b"]})
    data = mlflow.data.from_pandas(frame, source="https://example.com/data.csv", name="letters", targets="label")
    model = LogisticRegression(max_iter=200).fit(features, labels)
    named = {"name": "iris"} if MAJOR >= 3 else {"artifact_path": "iris"}
    with mlflow.start_run(run_name="made it") as run:
        mlflow.log_input(data, context="training", tags={"split": "a"})
        info = mlflow.sklearn.log_model(model, registered_model_name="iris", **named)
    for _ in range(2):
        mlflow.register_model(info.model_uri, "iris")
    client.update_model_version("iris", "3", "the third")
    client.set_model_version_tag("iris", "3", "quality", "high")
    client.delete_model_version("iris", "2")
    client.update_registered_model("iris", "flowers")
    client.set_registered_model_tag("iris", "owner", "me")
    client.set_registered_model_alias("iris", "champion", "3")
    client.transition_model_version_stage("iris", "1", "Archived")
    client.create_registered_model("empty 'one'")


def read():
    run, = client.search_runs([client.get_experiment_by_name("registered").experiment_id])
    model = client.get_registered_model("iris")
    loaded = mlflow.sklearn.load_model("models:/iris@champion")
    print(json.dumps({
        "run": run.info.run_id,
        "inputs": [[i.dataset.name, i.dataset.source_type, sorted((t.key, t.value) for t in i.tags)]
                   for i in run.inputs.dataset_inputs],
        "digest": run.inputs.dataset_inputs[0].dataset.digest,
        "found": len(client.search_runs([run.info.experiment_id], "dataset.name = 'letters'")),
        "model": [model.description, dict(model.tags), {k: str(v) for k, v in model.aliases.items()}],
        "versions": sorted([str(v.version), v.current_stage, v.description or "", v.tags.get("quality"), v.run_id == run.info.run_id]
                           for v in client.search_model_versions("name = 'iris'")),
        "all": sorted(m.name for m in client.search_registered_models()),
        "predicts": int((loaded.predict(features) == labels).sum()),
    }))


{"make": make, "read": read}[sys.argv[1]]()
