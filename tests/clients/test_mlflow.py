"""Unmodified clients of MLflow, 3.17 and 2.22: one script uses every call, against Lepton and against
MLflow's own server, and the answers are compared field by field."""

import json

import pytest

from mlflow_compare import differences
from mlflow_rig import environment, finish, mlflow_server, start

# Where Lepton answers otherwise on purpose: the beginning of the line, and why.
ON_PURPOSE = {
    "name of another[1]": "MLflow hands out its database's error; a taken name is RESOURCE_ALREADY_EXISTS",
    "unknown trace[1]": "MLflow hands out its database's error; what is not there is RESOURCE_DOES_NOT_EXIST",
}
# What the older server takes, and the newer one refuses as Lepton does; what came of it is skipped.
ONLY_IN_2 = {
    "tags.nothing IS NULL": "2.22 does not know IS NULL",
    "tags.parity IS NOT NULL": "2.22 does not know IS NOT NULL",
    "params.p IS NULL": "2.22 does not know IS NULL",
    "pages of runs": "2.22 ends with an empty page",
    "aliases after": "2.22 keeps an alias of a version that was deleted",
}


def answers(major, lepton, tmp_path):
    """What the script got from Lepton, and from MLflow's own server."""
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    with mlflow_server(major) as (url, _):
        # One after the other: what is measured in milliseconds may not be late on a busy machine.
        finish(start(major, "everything.py", environment(url), theirs))
    env = environment(f"http://127.0.0.1:{lepton.port}", lepton.token)
    finish(start(major, "everything.py", env, ours))
    return json.loads(ours.read_text()), json.loads(theirs.read_text())


@pytest.mark.parametrize("major", [3, 2])
def test_every_call_is_answered_as_mlflow_answers_it(major, lepton, tmp_path):
    ours, theirs = answers(major, lepton, tmp_path)
    assert len(ours) > 200, "the script was cut"
    known = ON_PURPOSE | (ONLY_IN_2 if major == 2 else {})
    found = [line for line in differences(ours, theirs) if not line.startswith(tuple(known))]
    assert not found, "\n".join(found)
    # What a client of MLflow logged is there for those of Lepton.
    names = {run["metadata"]["name"] for run in lepton.got("GET", "runs?limit=1000")["items"]}
    assert {"best", "parent", "child", "auto"} <= names
    assert "iris" in lepton.ok("get", "models").out
