"""Eight clients log at once while the server is killed and started again: what was acknowledged is
there, once."""

import json
import threading

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
