#!/usr/bin/env bash
# The benchmarks of the spine, one after the other. LEPTON names the binary, PYTHON an interpreter with
# the packages of tests/clients/requirements.txt. The planner's traces are not part of the project: name
# their folder in DATA to run those too. MLFLOW_PYTHON names an interpreter that has MLflow and its server
# (`make clients` makes .venv-mlflow3).
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

echo "== tabular models beside scikit-learn"
cargo run --release --locked --quiet --package lepton-ml --example holdouts -- examples/data "$out" 8 20
OMP_NUM_THREADS=1 "$PYTHON" benches/tabular/compare.py examples/data "$out"

echo "== the model server and the gateway"
cargo bench --locked --quiet --package lepton-serving --bench serving

echo "== 2,000 jobs beside a steady mix of requests, and 10,000 runs listed"
"$PYTHON" benches/load/load.py "$LEPTON"

if [ -n "${MLFLOW_PYTHON:-}" ]; then
    echo "== beside MLflow's own server"
    "$PYTHON" benches/mlflow/compare.py "$LEPTON" "$MLFLOW_PYTHON"
fi

if [ -n "${DATA:-}" ]; then
    echo "== the planner on public traces"
    "$PYTHON" benches/planner/run.py "$LEPTON" "$DATA" packing
fi
