"""Registered models and datasets out of MLflow: `lepton runs import` brings them along with the runs."""

import json

import pytest

from mlflow_rig import environment, finish, mlflow_server, start

EXPECTED = {
    "inputs": [["letters", "http", [["mlflow.data.context", "training"], ["split", "a"]]]],
    "found": 1,
    "model": ["flowers", {"owner": "me"}, {"champion": "3"}],
    "versions": [["1", "Archived", "", None, True], ["3", "None", "the third", "high", True]],
    "all": ["empty 'one'", "iris"],
}


def seen(major, lepton):
    """What MLflow's client finds in Lepton."""
    env = environment(f"http://127.0.0.1:{lepton.port}", lepton.token)
    return json.loads(finish(start(major, "registry.py", env, "read")).splitlines()[-1])


def check(lepton, major, source):
    done = lepton.ok("runs", "import", source, "-o", "json").json()
    assert (done["imported"], done["models"], done["versions"], done["left_out"]) == (1, 2, 2, []), done
    found = seen(major, lepton)
    assert {key: found[key] for key in EXPECTED} == EXPECTED
    assert found["predicts"] > 140
    again = lepton.ok("runs", "import", source, "-o", "json").json()
    assert (again["imported"], again["models"], again["versions"], again["left_out"]) == (0, 0, 0, []), again
    assert seen(major, lepton) == found
    # The data that a run logged is in its past, and the version it made in its future.
    named = f"letters@{found['digest']}"
    of_run = lepton.ok("lineage", "run", found["run"]).out
    assert f"dataset {named}" in of_run and "model iris:3" in of_run, of_run
    assert found["run"] in lepton.ok("lineage", "dataset", named).out
    assert lepton.cli("lineage", "dataset", "letters@other").code == 3


@pytest.mark.parametrize("major", [3, 2])
def test_the_registry_of_a_folder_is_imported(lepton, tmp_path, major):
    store = tmp_path / "mlruns"
    env = environment(store.as_uri(), MLFLOW_ALLOW_FILE_STORE="true")
    finish(start(major, "registry.py", env, "make"))
    check(lepton, major, store)


@pytest.mark.parametrize("major", [3, 2])
def test_the_registry_of_a_server_is_imported(lepton, major):
    with mlflow_server(major) as (url, _):
        finish(start(major, "registry.py", environment(url), "make"))
        check(lepton, major, url)
