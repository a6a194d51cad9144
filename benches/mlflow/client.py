"""What MLflow's unmodified client takes for its calls; prints their times in seconds as JSON.

Usage: client.py EXPERIMENT RUN_WITH_A_LONG_SERIES SECONDS
"""

import json
import sys
import time

from mlflow import MlflowClient
from mlflow.entities import Metric

experiment, long, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
client = MlflowClient()
found = {}


def timed(step, call, at_least=3):
    times, end = [], time.monotonic() + seconds
    while len(times) < at_least or time.monotonic() < end:
        began = time.perf_counter()
        call(len(times))
        times.append(time.perf_counter() - began)
    found[step] = times


run = client.create_run("0").info.run_id
timed("log_metric", lambda i: client.log_metric(run, "m", i / 3, step=i))
timed("log_batch of 1,000", lambda i: client.log_batch(run, [Metric("b", j, 1, i * 1000 + j) for j in range(1000)]))
timed("search, 100 by metric", lambda i: client.search_runs([experiment], order_by=["metrics.loss ASC"], max_results=100))
timed("search, 1,000", lambda i: client.search_runs([experiment], max_results=1000))
seconds = 0
timed("history, whole", lambda i: client.get_metric_history(long, "loss"), 1)
print(json.dumps(found))
