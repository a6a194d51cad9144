"""Fits y = 3x + 2 to noisy points by gradient descent, and logs its loss to the run.

Needs numpy only. Lepton sets LEPTON_URL, LEPTON_TOKEN, LEPTON_PROJECT and LEPTON_RUN_ID.
"""

import json
import os
import urllib.request

import numpy as np

STEPS = 200
RATE = 0.1


def log(points):
    url = "{LEPTON_URL}/api/v1/projects/{LEPTON_PROJECT}/runs/{LEPTON_RUN_ID}/log".format(**os.environ)
    body = json.dumps({"metrics": points}).encode()
    headers = {"Authorization": "Bearer " + os.environ["LEPTON_TOKEN"], "Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(url, body, headers)).close()


rng = np.random.default_rng(7)
x = rng.uniform(-1, 1, 200)
y = 3 * x + 2 + rng.normal(0, 0.1, x.size)

slope, intercept = 0.0, 0.0
points = []
for step in range(STEPS):
    error = slope * x + intercept - y
    points.append({"key": "loss", "step": step, "value": float(np.mean(error**2))})
    slope -= RATE * 2 * np.mean(error * x)
    intercept -= RATE * 2 * np.mean(error)
    if len(points) == 50:
        log(points)
        points = []
if points:
    log(points)
print(f"y = {slope:.3f} x + {intercept:.3f}")
