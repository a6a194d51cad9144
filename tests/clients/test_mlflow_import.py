"""What `lepton runs import` brings out of MLflow: registered models, datasets, logged models, traces with what was
said of them, and what is in the bin."""

import json
import signal
import subprocess

import pytest

from mlflow_rig import environment, finish, mlflow_server, start
from server import BINARY

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


def past(major, env):
    """What a script reads of all that `past.py` makes."""
    return json.loads(finish(start(major, "past.py", env, "read")).splitlines()[-1])


def cut_off(lepton, source):
    """Imports that are killed, later and later; how many were still under way."""
    cut = 0
    for millis in (40, 80, 120, 160, 200, 240):
        command = [BINARY, "runs", "import", str(source), "--deleted", "-o", "json"]
        process = subprocess.Popen(command, env=lepton.env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(millis / 1_000)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            cut += 1
    return cut


def check_past(lepton, major, source, wanted):
    done = lepton.ok("runs", "import", source, "--deleted", "-o", "json").json()
    assert done["left_out"] == [], done
    here = environment(f"http://127.0.0.1:{lepton.port}", lepton.token)
    assert past(major, here) == wanted
    again = lepton.ok("runs", "import", source, "--deleted", "-o", "json").json()
    assert not any(again[what] for what in ("imported", "traces", "logged_models", "points", "artifacts", "versions")), again
    return done


def test_all_of_a_folder_is_imported_however_often_that_is_cut_off(lepton, tmp_path):
    store = tmp_path / "mlruns"
    env = environment(store.as_uri(), MLFLOW_ALLOW_FILE_STORE="true")
    finish(start(3, "past.py", env, "make"))
    wanted = past(3, env)
    assert cut_off(lepton, store) > 0, "it was never in the middle of it"
    check_past(lepton, 3, store, wanted)


@pytest.mark.parametrize("major", [3, 2])
def test_models_and_traces_of_a_server_are_imported(lepton, major):
    with mlflow_server(major) as (url, _):
        env = environment(url)
        finish(start(major, "past.py", env, "make"))
        done = check_past(lepton, major, url, past(major, env))
    counted = [done[what] for what in ("imported", "logged_models", "traces", "versions")]
    # The run and the trace of the experiment in the bin are among them; a server tells nobody of a model there.
    assert counted == ([2, 2, 4, 1] if major == 3 else [1, 0, 4, 0]), done
