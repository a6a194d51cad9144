"""The server is killed again and again while everything is asked of it. What it acknowledged is
there afterwards, to the byte; no attempt ran twice; what was asked for happens.

`LEPTON_CRASHES` says how often (12), `LEPTON_CRASH_SEED` from where randomness starts.
"""

import collections
import hashlib
import http.client
import os
import random
import shutil
import subprocess
import threading
import time

from conftest import server
from server import PATIENCE_S, ROOT, eventually

CRASHES = int(os.environ.get("LEPTON_CRASHES", "12"))
SEED = int(os.environ.get("LEPTON_CRASH_SEED", "0"))
AFFINE = ROOT / "crates/lepton-serving/tests/data/affine.onnx"
UNSURE = (OSError, http.client.HTTPException)


class Client(threading.Thread):
    """Asks one kind of thing over and over, and remembers what was acknowledged."""

    def __init__(self, lepton, seed, step):
        super().__init__(daemon=True)
        self.lepton, self.random, self.step = lepton, random.Random(seed), step
        self.acknowledged, self.stopping, self.failure = [], threading.Event(), None
        self.asked = self.unsure = 0

    def run(self):
        at = 0
        while not self.stopping.is_set():
            at += 1
            self.asked += 1
            try:
                done = self.step(self, at)
            except UNSURE:
                # Killed meanwhile: it may have happened or not.
                self.unsure += 1
                time.sleep(0.02)
                continue
            except BaseException as error:
                self.failure = error
                return
            if done is not None:
                self.acknowledged.append(done)

    def ask(self, *args, expect=(200, 201, 204), **more):
        """A call that, where it is answered at all, must go well."""
        answer = self.lepton.api(*args, timeout=20, **more)
        assert answer.status in expect, (args[:2], answer)
        return answer

    def stop(self):
        self.stopping.set()
        self.join(PATIENCE_S)
        assert not self.is_alive(), f"client {self.step.__name__} hangs"
        if self.failure:
            raise self.failure


def submit_jobs(self, at):
    """Short jobs, some of which fail; each attempt leaves one line of its own."""
    ends = self.random.choice([0, 0, 0, 3])
    lasts = self.random.choice([0, 0, 0.1, 0.5])
    name = f"job-{self.native_id}-{at}"
    script = (f'echo "$LEPTON_JOB_NAME $LEPTON_WORKLOAD $LEPTON_ATTEMPT" >> {self.lepton.marks}/starts; '
              f"echo out of {name}; sleep {lasts}; exit {ends}")
    job = {"name": name, "program": {"type": "command", "command": ["sh", "-c", script]},
           "resources": {"cpu": "200m", "memory": "32Mi"}, "workers": self.random.choice([1, 1, 2])}
    made = self.ask("POST", "jobs", job).json()
    # Not faster than they end: a queue of thousands is another test's.
    self.stopping.wait(0.25)
    return name, made["metadata"]["id"], ends, job["workers"]


def put_datasets(self, at):
    content = b"a,b\n" + b"".join(b"%d,%d\n" % (at, i) for i in range(self.random.randrange(1, 3000)))
    info = self.ask("POST", "blobs", body=content).json()
    assert info["digest"] == hashlib.sha256(content).hexdigest()
    files = {"files": [{"path": "t.csv", **info}]}
    version = self.ask("POST", f"datasets/d{at % 5}/versions", files).json()
    return version["spec"]["dataset"], version["spec"]["version"], info["digest"], len(content)


def put_artifacts(self, at):
    if at % 10 == 1 or not hasattr(self, "run_id"):
        self.run_id = self.ask("POST", "runs", {"name": f"r{at}"}).json()["metadata"]["id"]
    content = self.random.randbytes(self.random.randrange(1, 200_000))
    self.ask("PUT", f"runs/{self.run_id}/artifacts/f/{at}.bin", body=content)
    return self.run_id, f"f/{at}.bin", hashlib.sha256(content).hexdigest()


def log_metrics(self, at):
    """Retries what is unsure, as workers do: the points must be there once all the same."""
    if not hasattr(self, "run_id"):
        self.run_id = self.ask("POST", "runs", {"name": "metrics"}).json()["metadata"]["id"]
        self.at, self.pending = 0, None
    if self.pending is None:
        self.pending = [{"key": "loss", "step": self.at + i, "timestamp": 1000 + self.at + i,
                         "value": self.random.random()} for i in range(20)]
        self.at += 20
    self.ask("POST", f"runs/{self.run_id}/log", {"metrics": self.pending, "params": {f"p{self.at}": str(self.at)}})
    points, self.pending = self.pending, None
    return self.run_id, [(p["step"], p["value"]) for p in points]


def predict(self, at):
    given = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
    # The gateway forgets nothing but knows replicas only once they were probed again.
    answer = self.ask("POST", "/v2/models/affine/infer", given, expect=(200, 503))
    self.stopping.wait(0.005)
    if answer.status == 503:
        return None
    assert answer.json()["outputs"][0]["data"] == [4.5, 6.5]
    return True


def change_resources(self, at):
    """Writes over what is there: the last acknowledged value, or one asked for after it, stays."""
    name = f"m{at % 3}"
    info = self.ask("POST", "blobs", body=AFFINE.read_bytes()).json()
    files = {"files": [{"path": "model.onnx", **info}], "description": f"{at}"}
    version = self.ask("POST", f"models/{name}/versions", files).json()["spec"]["version"]
    self.ask("PUT", f"models/{name}/aliases/newest", {"version": version})
    return name, version


def test_kill_9_loses_nothing():
    chance = random.Random(SEED)
    with server(config='[pool]\ncpu = "8"\nmemory = "16Gi"\n') as lepton:
        (lepton.marks / "starts").touch()
        (lepton.marks / "starts").chmod(0o666)
        lepton.ok("model", "import", "affine", AFFINE)
        lepton.ok("deploy", "affine", "--model", "affine", "--wait")
        replica = lepton.got("GET", "endpoints/affine/replicas")["items"][0]["metadata"]["id"]
        steps = [submit_jobs, submit_jobs, put_datasets, put_artifacts, log_metrics, log_metrics, predict,
                 change_resources]
        clients = [Client(lepton, f"{SEED}-{at}", step) for at, step in enumerate(steps)]
        for client in clients:
            client.start()
        starts = []
        for _ in range(CRASHES):
            # Also in the middle of starting.
            time.sleep(chance.choice([0.0, 0.02, 0.1, 0.3, 0.6, 1.0]) * chance.random())
            lepton.kill()
            began = time.monotonic()
            lepton.start()
            starts.append(time.monotonic() - began)
        time.sleep(0.5)
        for client in clients:
            client.stop()
        done = {step: [] for step in steps}
        for client in clients:
            done[client.step] += client.acknowledged
        print(f"\n{CRASHES} kills, seed {SEED}; restart took {max(starts):.2f} s at most; acknowledged: "
              + ", ".join(f"{step.__name__} {len(d)}" for step, d in done.items())
              + f"; unsure: {sum(c.unsure for c in clients)} of {sum(c.asked for c in clients)}")
        for step in steps:
            assert done[step], f"nothing of {step.__name__} was ever acknowledged"

        check_jobs(lepton, done[submit_jobs])
        for name, number, digest, size in done[put_datasets]:
            version = lepton.got("GET", f"datasets/{name}/versions/{number}")
            file = version["spec"]["files"][0]
            assert (file["digest"], file["size_bytes"]) == (digest, size)
            assert version["status"]["columns"]
            content = lepton.api("GET", f"datasets/{name}/versions/{number}/files/t.csv").body
            assert hashlib.sha256(content).hexdigest() == digest
        for run, path, digest in done[put_artifacts]:
            content = lepton.api("GET", f"runs/{run}/artifacts/{path}").body
            assert hashlib.sha256(content).hexdigest() == digest, path
        check_series(lepton, [client for client in clients if client.step is log_metrics])
        for name, number in done[change_resources]:
            assert lepton.got("GET", f"models/{name}/versions/{number}")
        for name in {name for name, _ in done[change_resources]}:
            newest = max(number for n, number in done[change_resources] if n == name)
            assert lepton.got("GET", f"models/{name}")["spec"]["aliases"]["newest"] >= newest
        # The same replica as before all of it: it was adopted, not started anew.
        eventually("the endpoint is ready", lambda: lepton.got("GET", "endpoints/affine")["status"]["phase"] == "ready")
        assert predict(clients[0], 0) is True
        (after,) = [r for r in lepton.got("GET", "endpoints/affine/replicas")["items"]
                    if r["status"]["phase"] == "ready"]
        assert after["metadata"]["id"] == replica
        assert "panicked" not in lepton.log.read_text()
        # No half of an upload stays.
        assert not lepton.half_uploads()


def check_jobs(lepton, acknowledged):
    for name, job, ends, workers in acknowledged:
        over = lepton.over(job, patience=PATIENCE_S * 2)
        wanted = "succeeded" if ends == 0 else "failed"
        assert over["status"]["phase"] == wanted, over
        assert over["status"]["attempts"] == 1, over
        if ends:
            assert over["status"]["reason"]["type"] in ("exited",) and over["status"]["reason"]["code"] == ends
        assert lepton.logs(job).splitlines()[0] == f"out of {name}", lepton.logs(job)
    everything = []
    token = ""
    while True:
        page = lepton.got("GET", f"jobs?limit=500{token}")
        everything += page["items"]
        if "next_page_token" not in page:
            break
        token = f"&page_token={page['next_page_token']}"
    for job in everything:
        # Those that nobody was told of, too.
        lepton.over(job["metadata"]["id"], patience=PATIENCE_S * 2)
    lines = [line.split() for line in (lepton.marks / "starts").read_text().splitlines()]
    counts = collections.Counter(workload for _, workload, _ in lines)
    assert max(counts.values()) == 1, [item for item in counts.items() if item[1] > 1]
    assert {attempt for _, _, attempt in lines} == {"1"}
    started = collections.Counter(name for name, _, _ in lines)
    for name, _, _, workers in acknowledged:
        # A gang's first failure may end a member before its first line.
        assert 1 <= started[name] <= workers, (name, started[name])
    assert started.keys() <= {job["metadata"]["name"] for job in everything}


def check_series(lepton, clients):
    for client in clients:
        wanted = {}
        for run, points in client.acknowledged:
            wanted.update(points)
        back, offset = [], 0
        while offset is not None:
            page = lepton.got("GET", f"runs/{client.run_id}/series?key=loss&offset={offset}")
            back += [(p["step"], p["value"]) for p in page["points"]]
            offset = page.get("next_offset")
        assert len(back) == len({step for step, _ in back}), "a point is there twice"
        got = dict(back)
        assert wanted.items() <= got.items()
        # Beyond those only what was asked for last and never answered.
        assert len(got) - len(wanted) <= 20
        params = lepton.got("GET", f"runs/{client.run_id}")["params"]
        assert len(params) >= len(client.acknowledged)


def test_killed_while_it_starts():
    """Not yet ready, again and again; then it starts as ever."""
    chance = random.Random(SEED)
    with server() as lepton:
        kept = lepton.blob(b"kept")["digest"]
        lepton.kill()
        for _ in range(max(5, CRASHES // 2)):
            with lepton.log.open("ab") as log:
                lepton.process = subprocess.Popen(lepton.up(), env=lepton.env(), stdout=log, stderr=log)
            time.sleep(chance.random() * 0.15)
            lepton.kill()
        lepton.start()
        assert lepton.api("GET", f"blobs/{kept}").body == b"kept"


def test_killed_in_its_first_start():
    """Whatever the moment, the next start has one owner credential that works."""
    chance = random.Random(SEED)
    for _ in range(max(4, CRASHES // 4)):
        with server() as lepton:
            lepton.kill()
            shutil.rmtree(lepton.data_dir)
            with lepton.log.open("ab") as log:
                lepton.process = subprocess.Popen(lepton.up(), env=lepton.env(), stdout=log, stderr=log)
            time.sleep(chance.random() * 0.1)
            lepton.kill()
            lepton.start()
            assert lepton.got("GET", "/api/v1/whoami")["role"] == "owner"
            assert [p["metadata"]["name"] for p in lepton.got("GET", "/api/v1/pools")["items"]] == ["local"]
