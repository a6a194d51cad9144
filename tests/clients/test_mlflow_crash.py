"""Eight clients log at once while the server is killed and started again: what was acknowledged is
there, once. And a purge that is killed leaves nothing half."""

import contextlib
import http.client
import json
import sqlite3
import threading
import time

from server import call, eventually

CLIENTS, POINTS, KILLS = 8, 120, 4


class Logger(threading.Thread):
    """Logs points one by one, each until it is acknowledged, as MLflow's client does."""

    def __init__(self, lepton, run, name):
        super().__init__(daemon=True)
        self.lepton, self.run_id, self.key, self.acknowledged = lepton, run, name, 0

    def run(self):
        headers = {"Authorization": f"Bearer {self.lepton.token}", "Content-Type": "application/json"}
        for step in range(POINTS):
            body = json.dumps({"run_id": self.run_id, "key": self.key, "value": step / 7, "timestamp": 1000 + step,
                               "step": step})
            def logged():
                try:
                    return call(self.lepton.port, "POST", "/api/2.0/mlflow/runs/log-metric", body, headers).status == 200
                except OSError:
                    return False
            eventually(f"point {step} of {self.key} is logged", logged, patience=120, every=0.02)
            self.acknowledged = step + 1


def test_no_acknowledged_point_is_lost_or_doubled(lepton):
    made = lepton.got("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0", "start_time": 1})
    run = made["run"]["info"]["run_id"]
    loggers = [Logger(lepton, run, f"client {n}") for n in range(CLIENTS)]
    for logger in loggers:
        logger.start()
    for kill in range(KILLS):
        goal = POINTS * (kill + 1) // (KILLS + 1)
        eventually("half of them are on", lambda: sum(l.acknowledged >= goal for l in loggers) >= CLIENTS // 2, 240)
        lepton.kill()
        lepton.start()
    for logger in loggers:
        logger.join(240)
        assert logger.acknowledged == POINTS, logger.key
        history = lepton.got("GET", f"/api/2.0/mlflow/metrics/get-history?run_id={run}"
                             f"&metric_key={logger.key.replace(' ', '%20')}")["metrics"]
        assert [(m["step"], m["value"]) for m in history] == [(s, s / 7) for s in range(POINTS)], logger.key


def fill_bin(lepton, runs=60, traces=1_200):
    """Deleted runs with all that hangs on them, and a deleted experiment with traces and a logged model."""
    api = "/api/2.0/mlflow"
    experiment = lepton.got("POST", f"{api}/experiments/create", {"name": "gone"})["experiment_id"]
    for number in range(runs):
        run = lepton.got("POST", f"{api}/runs/create", {"experiment_id": experiment})["run"]["info"]["run_id"]
        lepton.got("POST", f"{api}/runs/log-batch", {
            "run_id": run, "params": [{"key": "p", "value": "v"}], "tags": [{"key": "t", "value": "v"}],
            "metrics": [{"key": "m", "value": number, "timestamp": 1, "step": 0}]})
        lepton.api("PUT", f"runs/{run}/artifacts/a/b", body=b"x")
    model = lepton.got("POST", f"{api}/logged-models", {"experiment_id": experiment, "name": "m",
                                                        "tags": [{"key": "t", "value": "v"}]})["model"]["info"]
    path = model["artifact_uri"].removeprefix("mlflow-artifacts:/")
    assert lepton.api("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}/MLmodel", body=b"x").status == 200
    spans = [{"traceId": f"{number:032x}", "spanId": f"{number:016x}", "name": "s", "startTimeUnixNano": 1,
              "endTimeUnixNano": 2} for number in range(1, traces + 1)]
    sent = lepton.api("POST", "/v1/traces", {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]},
                      headers={"x-mlflow-experiment-id": experiment})
    assert sent.status == 200, sent
    lepton.got("POST", f"{api}/experiments/delete", {"experiment_id": experiment})


def begin_purge(lepton):
    with contextlib.suppress(OSError, http.client.HTTPException):
        lepton.api("DELETE", "bin?older_than=0s")


def test_a_purge_that_is_cut_off_is_gone_on_with_and_leaves_nothing(lepton):
    fill_bin(lepton)
    for wait in (0.02, 0.05, 0.1):
        purge = threading.Thread(target=begin_purge, args=(lepton,), daemon=True)
        purge.start()
        time.sleep(wait)
        lepton.kill()
        lepton.start()
        purge.join(30)
        # What is left is whole.
        for run in lepton.got("GET", "runs?phase=deleted&limit=1000")["items"]:
            assert (run["params"], run["tags"], len(run["metrics"])) == ({"p": "v"}, {"t": "v"}, 1), run
            files = lepton.got("GET", f"runs/{run['metadata']['id']}/artifacts")["items"]
            assert [file["path"] for file in files] == ["a/b"]
    lepton.ok("runs", "purge", "--older-than", "0s")
    assert lepton.got("GET", "bin?older_than=0s") == {"runs": 0, "experiments": 0, "logged_models": 0}
    assert lepton.stop() == 0
    with contextlib.closing(sqlite3.connect(lepton.data_dir / "lepton.db")) as store:
        for table in ("run_index", "run_params", "run_tags", "run_files", "metric_latest", "logged_models", "kept_files",
                      "traces", "trace_spans"):
            assert store.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (0,), table
