"""Fits y = 3x + 2 by gradient descent, and tells Lepton its loss at every step.

    lepton run fit --wait -- python fit.py

Needs nothing of Lepton but its HTTP API: where it is and as whom to call is in the environment.
"""

import json
import os
import time
import urllib.request

import numpy as np

STEPS = 200
RATE = 0.5


def log(**record):
    """Adds to this job's run. Sending the same twice changes nothing, so retries are safe."""
    url = "{LEPTON_URL}/api/v1/projects/{LEPTON_PROJECT}/runs/{LEPTON_RUN_ID}/log".format(**os.environ)
    headers = {
        "Authorization": "Bearer " + os.environ["LEPTON_TOKEN"],
        "Content-Type": "application/json",
    }
    request = urllib.request.Request(url, json.dumps(record).encode(), headers, method="POST")
    urllib.request.urlopen(request, timeout=30).close()


def point(key, step, value):
    return {"key": key, "step": step, "timestamp": int(time.time() * 1000), "value": value}


def main():
    random = np.random.default_rng(int(os.environ.get("SEED", "0")))
    x = random.uniform(-1, 1, 500)
    y = 3 * x + 2 + random.normal(0, 0.1, x.size)

    log(params={"rate": str(RATE), "steps": str(STEPS), "points": str(x.size)})
    slope, offset = 0.0, 0.0
    for step in range(STEPS):
        error = slope * x + offset - y
        loss = float(np.mean(error**2))
        slope -= RATE * float(np.mean(error * x))
        offset -= RATE * float(np.mean(error))
        log(metrics=[point("loss", step, loss)])
    log(metrics=[point("slope", STEPS, slope), point("offset", STEPS, offset)])
    print(f"y = {slope:.3f}x + {offset:.3f}, loss {loss:.5f}")


if __name__ == "__main__":
    main()
