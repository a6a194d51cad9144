"""Judges the models that `holdouts` wrote beside scikit-learn on the very same splits.

    cargo run --release -p lepton-ml --example holdouts -- examples/data OUT [BUDGET] [SPLITS]
    python benches/tabular/compare.py examples/data OUT

Set OMP_NUM_THREADS=1 on a busy machine. Needs numpy, pandas, scikit-learn and onnxruntime. Our score is that of the ONNX file in
onnxruntime on raw rows; it ends with 1 if a set falls short.
"""

import json
import pathlib
import sys

import numpy as np
import onnxruntime
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# The least mean score, and how far under the better of the others is allowed.
LEAST = {"breast_cancer": 0.96, "wine": 0.98, "digits": 0.965, "diabetes": 0.44, "iris": 0.0}
SLACK = {"breast_cancer": 0.005, "wine": 0.005, "digits": 0.005, "diabetes": 0.01, "iris": 0.005}


def ours(path, rows):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {c: rows[[c]].to_numpy(np.float32) for c in rows}
    return session.run(None, feeds)[0]


def others(regression):
    if regression:
        return {
            "HistGradientBoosting": HistGradientBoostingRegressor(random_state=0),
            "linear": [Ridge(), LinearRegression()],
        }
    scaled = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return {
        "HistGradientBoosting": HistGradientBoostingClassifier(random_state=0),
        "linear": [scaled],
    }


def main(data, out):
    failed = False
    print(f"{'set':14} {'splits':>6} {'ours':>8} {'HistGB':>8} {'linear':>8} {'margin':>8}  verdict")
    for name, least in LEAST.items():
        table = pd.read_csv(data / f"{name}.csv")
        features, target = table.iloc[:, :-1], table.iloc[:, -1]
        regression = name == "diabetes"
        measure = r2_score if regression else accuracy_score
        scores = {"ours": [], "HistGradientBoosting": [], "linear": []}
        splits = sorted((out / name).glob("*.rows.json"), key=lambda p: int(p.name.split(".")[0]))
        if not splits:
            continue
        linear = [[] for _ in others(regression)["linear"]]
        for split in splits:
            held = json.loads(split.read_text())
            kept = np.setdiff1d(np.arange(len(table)), held)
            model = split.with_name(split.name.replace("rows.json", "onnx"))
            scores["ours"].append(measure(target.iloc[held], ours(model, features.iloc[held])))
            for kind, models in others(regression).items():
                for index, other in enumerate(models if isinstance(models, list) else [models]):
                    other.fit(features.iloc[kept], target.iloc[kept])
                    score = measure(target.iloc[held], other.predict(features.iloc[held]))
                    (linear[index] if kind == "linear" else scores[kind]).append(score)
        scores["linear"] = max(linear, key=np.mean)
        mean = {k: float(np.mean(v)) for k, v in scores.items()}
        better = max(mean["HistGradientBoosting"], mean["linear"])
        held = mean["ours"] >= least and mean["ours"] >= better - SLACK[name]
        failed |= not held
        print(
            f"{name:14} {len(splits):6} {mean['ours']:8.4f} {mean['HistGradientBoosting']:8.4f} "
            f"{mean['linear']:8.4f} {mean['ours'] - better:+8.4f}  {'ok' if held else 'SHORT'}"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))
