"""Servers for tests. See `server.py`."""

import contextlib
import os

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
