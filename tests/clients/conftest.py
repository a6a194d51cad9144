"""Servers for tests. See `server.py`."""

import contextlib
import os
import subprocess

import pytest

from server import Lepton

# Speaks to a server that is up already, as a program; `test_models.py` runs it so.
collect_ignore = [] if "OIP_URL" in os.environ else ["test_oip.py"]


@contextlib.contextmanager
def server(**more):
    lepton = Lepton(**more)
    try:
        yield lepton.start()
    finally:
        lepton.close()


@pytest.fixture
def lepton():
    """A fresh server."""
    with server() as lepton:
        yield lepton


@pytest.fixture(scope="module")
def shared():
    """A server for tests that change nothing that others look at."""
    with server() as lepton:
        yield lepton


@pytest.fixture
def small_disk(tmp_path, request):
    """A file system that is soon full; of 24 MB unless the test's parameter says otherwise."""
    size = getattr(request, "param", 24)
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=755", "lepton-test", place],
                          capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no file system of {size} MB can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)
