"""MLflow's clients and its own server, each of two versions in an environment of its own.

`make clients` makes the environments; MLFLOW3_PYTHON and MLFLOW2_PYTHON name others.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest

from server import PATIENCE_S, ROOT, call, eventually, free_port

SCRIPTS = pathlib.Path(__file__).parent / "mlflow_scripts"
# The scripts train models and start processes; a machine that is busy takes a while.
SCRIPT_PATIENCE_S = max(600.0, PATIENCE_S)


def python(major):
    """The interpreter that has the client of this major version."""
    path = os.environ.get(f"MLFLOW{major}_PYTHON", str(ROOT / f".venv-mlflow{major}/bin/python"))
    if not pathlib.Path(path).exists():
        pytest.fail(f"{path} is not there: run `make clients`, which makes it")
    return path


def environment(url, token=None, **more):
    """What a script finds in its environment, and nothing of the machine's user."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "LEPTON"))}
    env |= {"MLFLOW_TRACKING_URI": url, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "GIT_PYTHON_REFRESH": "quiet",
            "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    if token:
        env["MLFLOW_TRACKING_TOKEN"] = token
    return env | more


def start(major, script, env, *args):
    """A script of `mlflow_scripts`, under way."""
    return subprocess.Popen([python(major), str(SCRIPTS / script), *map(str, args)], env=env,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    """What a script printed; it must go well."""
    out, _ = process.communicate(timeout=SCRIPT_PATIENCE_S)
    assert process.returncode == 0, out[-6000:]
    return out


@contextlib.contextmanager
def mlflow_server(major):
    """MLflow's own server on SQLite with one worker; gives its URL and its process."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mlflow-test-"))
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [python(major), "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
             "--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port),
             "--workers", "1"],
            env=environment("", None), cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        def is_up():
            assert process.poll() is None, (folder / "log").read_text()[-4000:]
            with contextlib.suppress(OSError):
                return call(port, "GET", "/health", timeout=5).status == 200
        eventually("MLflow's own server answers", is_up, patience=SCRIPT_PATIENCE_S, every=0.2)
        yield f"http://127.0.0.1:{port}", process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
