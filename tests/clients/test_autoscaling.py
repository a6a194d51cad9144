"""Endpoints that follow their load: asleep, woken by a request that waits, grown, shrunk, explained."""

import concurrent.futures
import json
import threading
import time

import numpy as np
import pytest

from server import eventually


def slow_model():
    """About a tenth of a second of work a row, so that a few callers fill a replica."""
    from onnx import TensorProto, helper

    n = 640
    weights = helper.make_tensor("w", TensorProto.FLOAT, [n, n], np.full(n * n, 1e-3, np.float32))
    one = helper.make_tensor("one", TensorProto.FLOAT, [1, n], np.ones(n, np.float32))
    nodes = [helper.make_node("MatMul", ["x", "one"], ["h0"])]
    nodes += [helper.make_node("MatMul", [f"h{i}", "w"], [f"h{i + 1}"]) for i in range(60)]
    nodes += [helper.make_node("ReduceMean", ["h60"], ["y"], axes=[1], keepdims=1)]
    shape = ["rows", 1]
    graph = helper.make_graph(
        nodes, "slow", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)], [weights, one])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture
def slow(lepton):
    lepton.ok("model", "import", "slow", lepton.write("slow.onnx", slow_model().SerializeToString()))
    return lepton


def ask(lepton, rows=1):
    data = [[1.0]] * rows
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 1], "data": data}]}
    return lepton.api("POST", "/v2/models/slow/infer", body)


def ready(lepton):
    return lepton.got("GET", "endpoints/slow")["status"]["ready_replicas"]


def wanted(lepton):
    return lepton.got("GET", "endpoints/slow")["status"]["scaling"]["wanted"]


def test_an_endpoint_falls_asleep_and_the_request_that_wakes_it_is_answered(slow):
    slow.ok("deploy", "slow", "--model", "slow", "--replicas", "0..2", "--idle-after", "2s", "--wait")
    assert ask(slow).status == 200
    eventually("it sleeps", lambda: wanted(slow) == 0 and ready(slow) == 0)
    eventually("nothing of it runs", lambda: not slow.processes())
    told = slow.ok("describe", "endpoint", "slow").out
    assert "0 to 2" in told and "no request for" in told, told
    # Held until a replica is there, then answered.
    answer = ask(slow)
    assert answer.status == 200, answer
    assert wanted(slow) == 1
    events = slow.ok("describe", "endpoint", "slow").out
    assert "from 1 to 0 replicas" in events and "from 0 to 1 replicas" in events, events
    # The decision is on record, replays, and names its reason.
    record = slow.ok("plan", "record", "--endpoint", "slow").out
    file = slow.write("decision.json", record)
    explained = slow.ok("plan", "explain", file).out
    assert "byte for byte" in explained and "0 faults" in explained, explained
    # After a restart it is what it was.
    slow.kill()
    slow.start()
    assert ask(slow).status == 200


def test_a_number_follows_the_load_and_nobody_is_dropped(slow):
    slow.ok("deploy", "slow", "--model", "slow", "--replicas", "1..3", "--concurrency", "1",
            "--cpu", "100m", "--wait")
    stop, statuses = threading.Event(), []

    def caller():
        mine = []
        while not stop.is_set():
            mine.append(ask(slow).status)
        return mine

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(caller) for _ in range(8)]
        try:
            eventually("it grows", lambda: ready(slow) >= 2)
        finally:
            stop.set()
        for one in callers:
            statuses += one.result()
    assert statuses and set(statuses) == {200}, set(statuses)
    assert wanted(slow) >= 2


def test_settings_through_apply_and_refusals(slow):
    manifest = {
        "apiVersion": "lepton/v1", "kind": "Endpoint", "metadata": {"name": "slow"},
        "spec": {"model": "slow:1", "scaling": {"min_replicas": 0, "max_replicas": 4, "concurrency": 2}},
    }
    path = slow.write("endpoint.yaml", json.dumps(manifest))
    slow.ok("apply", "-f", path)
    assert "unchanged" in slow.ok("apply", "-f", path).out
    spec = slow.got("GET", "endpoints/slow")["spec"]
    assert spec["scaling"]["late_after"] and spec["scaling"]["late_per_mille"] == 10
    for broken, word in [
        ({"min_replicas": 5, "max_replicas": 4}, "is more than"),
        ({"max_replicas": 0}, "max_replicas"),
        ({"max_replicas": 4, "concurrency": 0}, "concurrency"),
        ({"max_replicas": 4, "late_per_mille": 0}, "no finite fleet"),
        ({"max_replicas": 4, "late_after": "0s"}, "late_after"),
        ({"max_replicas": 4, "surprise": 1}, "surprise"),
    ]:
        answer = slow.api("PUT", "endpoints/slow", {"model": "slow:1", "scaling": broken})
        assert answer.status == 400 and word in answer.error()[1], (broken, answer)
    for words, said in [(["--replicas", "4..2"], "more than"), (["--replicas", "x"], "neither"),
                        (["--concurrency", "3"], "MIN..MAX")]:
        done = slow.cli("deploy", "slow", "--model", "slow", *words)
        assert done.code == 2 and said in done.err, done
    # A fixed number has no decision to show.
    slow.ok("deploy", "slow", "--model", "slow", "--replicas", "1")
    assert slow.api("GET", "endpoints/slow/scaling").status == 404
    assert "scaling" not in slow.got("GET", "endpoints/slow")["spec"]
