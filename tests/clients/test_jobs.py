"""Commands as jobs: what they get, what is kept of them, and what ends them."""

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

from conftest import server
from server import ROOT, eventually

AS_ROOT = os.geteuid() == 0
SMALL = ("--cpu", "100m", "--memory", "128Mi")


def alive(pid):
    """Whether a process runs; one that nobody has buried yet does not."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def pid_in(path):
    return int(eventually(f"{path.name} is written", lambda: path.exists() and path.read_text().strip()))


def reason(job):
    return job["status"].get("reason", {})


# What a job is given, and gives.


def test_gradient_descent_logs_its_loss(lepton):
    folder = ROOT / "examples/gradient_descent"
    done = lepton.ok("run", "fit", "--wait", "--memory", "512Mi", "--", "python", "fit.py", cwd=folder)
    assert "succeeded" in done.err
    run = lepton.job("fit")["spec"]["run"]
    record = lepton.ok("get", "run", run, "-o", "json").json()
    assert record["params"]["steps"] == "200"
    newest = {m["key"]: m["value"] for m in record["metrics"]}
    assert newest["slope"] == pytest.approx(3, abs=0.05)
    assert newest["offset"] == pytest.approx(2, abs=0.05)
    series = lepton.got("GET", f"runs/{run}/series?key=loss")
    assert [p["step"] for p in series["points"]] == list(range(200))
    losses = [p["value"] for p in series["points"]]
    assert losses[0] > 1 and losses[-1] == pytest.approx(0.01, rel=0.3)
    assert all(b <= a + 1e-9 for a, b in zip(losses, losses[1:]))
    page = lepton.got("GET", f"runs/{run}/series?key=loss&offset=150&limit=20")
    assert [p["step"] for p in page["points"]] == list(range(150, 170))
    words = f"y = {newest['slope']:.3f}x + {newest['offset']:.3f}"
    assert lepton.ok("logs", "fit").out.startswith(words)


def test_both_outputs_are_kept(lepton):
    script = "echo one; echo two >&2; echo three; printf 'no end'"
    lepton.over(lepton.submit("talk", "sh", "-c", script))
    assert lepton.ok("logs", "talk", "--stream", "stdout").out == "one\nthree\nno end"
    assert lepton.ok("logs", "talk", "--stream", "stderr").out == "two\n"
    both = lepton.ok("logs", "talk").out
    assert sorted(both.replace("no end", "no end\n").split("\n")) == ["", "no end", "one", "three", "two"]


def test_a_large_output_comes_back_whole(lepton):
    job = lepton.submit("much", "sh", "-c", "seq 1 300000")
    lepton.over(job)
    wanted = "".join(f"{n}\n" for n in range(1, 300001))
    assert lepton.ok("logs", "much", "--stream", "stdout").out == wanted
    text, query = "", "stream=stdout&limit=65536"
    while True:
        answer = lepton.api("GET", f"jobs/{job}/logs?{query}")
        text += answer.body.decode()
        headers = {k.lower(): v for k, v in answer.headers.items()}
        if headers["lepton-log-end"] == "true":
            break
        query = f"stream=stdout&limit=65536&cursor={headers['lepton-next-cursor']}"
    assert text == wanted


def test_following_a_log(lepton):
    go = lepton.marks / "go"
    job = lepton.submit("tail", "sh", "-c", f"echo first; until [ -e {go} ]; do sleep 0.05; done; echo last")
    from server import BINARY
    follow = subprocess.Popen([BINARY, "logs", job, "-f"], env=lepton.env(), stdout=subprocess.PIPE, text=True)
    try:
        assert follow.stdout.readline() == "first\n"
        go.touch()
        assert follow.stdout.readline() == "last\n"
        assert follow.stdout.read() == "" and follow.wait(20) == 0
    finally:
        follow.kill()
        follow.wait()


def test_a_gang_knows_its_members(lepton):
    script = 'echo "$RANK $WORLD_SIZE $LOCAL_RANK $MASTER_ADDR $MASTER_PORT $LEPTON_RUN_ID"'
    job = lepton.submit("gang", "sh", "-c", script, workers=2)
    over = lepton.over(job)
    assert over["status"]["phase"] == "succeeded", over
    told = [lepton.logs(job, worker=rank).split() for rank in (0, 1)]
    port = told[0][4]
    assert 1024 < int(port) < 65536
    assert told == [[r, "2", r, "127.0.0.1", port, over["spec"]["run"]] for r in "01"]


def test_a_gang_meets_at_its_port(lepton):
    script = """
import os, socket
rank, address = int(os.environ["RANK"]), ("127.0.0.1", int(os.environ["MASTER_PORT"]))
if rank == 0:
    with socket.create_server(address) as master:
        peers = [master.accept()[0] for _ in range(2)]
        print(sum(int(peer.recv(9)) for peer in peers))
else:
    while True:
        try:
            with socket.create_connection(address) as peer:
                peer.sendall(str(10 * rank).encode())
            break
        except ConnectionRefusedError:
            pass
"""
    job = lepton.submit("meet", "python", "-c", script, workers=3, timeout="30s")
    assert lepton.over(job)["status"]["phase"] == "succeeded", lepton.logs(job)
    assert lepton.logs(job, worker=0) == "30\n"


def test_one_failure_ends_the_gang(lepton):
    script = 'if [ $RANK = 1 ]; then exit 5; fi; sleep 600'
    job = lepton.submit("gang", "sh", "-c", script, workers=2)
    over = lepton.over(job)
    assert over["status"]["phase"] == "failed"
    assert reason(over) == {"type": "exited", "code": 5}
    attempt = lepton.got("GET", f"jobs/{job}/attempts")["items"][0]
    assert attempt["status"]["workers"][0]["reason"] == {"type": "gang-failed", "rank": 1}


def test_code_travels_without_what_is_ignored(lepton):
    lepton.write("code/main.sh", "find . -type f | sort; cat lib/part.txt; touch written\n")
    lepton.write("code/lib/part.txt", "part\n")
    lepton.write("code/secret.env", "x")
    lepton.write("code/big/data.bin", "x" * 100)
    lepton.write("code/.git/HEAD", "x")
    lepton.write("code/.leptonignore", "*.env\nbig/\n")
    code = lepton.folder / "code"
    lepton.ok("run", "code", *SMALL, "--wait", "--", "sh", "main.sh", cwd=code)
    told = lepton.ok("logs", "code").out
    assert "./main.sh" in told and "./lib/part.txt" in told and told.endswith("part\n")
    assert "secret" not in told and "big" not in told and ".git" not in told
    assert not (code / "written").exists()
    refused = lepton.cli("run", "code", "--code-max", "10", "--", "true", cwd=code)
    assert refused.code != 0 and "10" in refused.err


def test_the_environment(lepton):
    done = lepton.ok(
        "run", "env", *SMALL, "--no-code", "--wait", "-e", "GIVEN=a b=c", "-e", "TAKEN", "--", "env",
        env={"TAKEN": "here", "UNASKED": "secret"})
    told = dict(line.split("=", 1) for line in lepton.ok("logs", "env").out.splitlines())
    assert told["GIVEN"] == "a b=c" and told["TAKEN"] == "here" and "UNASKED" not in told
    assert told["LEPTON_URL"] == told["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{lepton.port}"
    assert told["LEPTON_RUN_ID"] == told["MLFLOW_RUN_ID"] == lepton.job("env")["spec"]["run"]
    assert told["LEPTON_PROJECT"] == "default" and told["LEPTON_ATTEMPT"] == "1"
    assert told["LEPTON_TOKEN"] != lepton.token
    # Its token dies with it.
    assert lepton.api("GET", "jobs", token=told["LEPTON_TOKEN"]).status == 401


def test_a_workers_token_is_good_for_its_own_run(lepton):
    other = lepton.got("POST", "runs", {})["metadata"]["id"]
    script = f"""
import json, os, urllib.request, urllib.error
def ask(method, path, given=None):
    base = os.environ["LEPTON_URL"] + "/api/v1/"
    head = {{"Authorization": "Bearer " + os.environ["LEPTON_TOKEN"], "Content-Type": "application/json"}}
    body = json.dumps(given).encode() if given is not None else None
    try:
        return urllib.request.urlopen(urllib.request.Request(base + path, body, head, method=method)).status
    except urllib.error.HTTPError as error:
        return error.code
p, own = "projects/default/", os.environ["LEPTON_RUN_ID"]
print(json.dumps([
    ask("POST", p + f"runs/{{own}}/log", {{"params": {{"a": "b"}}}}),
    ask("PUT", p + f"runs/{{own}}/artifacts/x.txt", {{}}),
    ask("POST", p + "runs/{other}/log", {{"params": {{"a": "b"}}}}),
    ask("PUT", p + "runs/{other}/artifacts/x.txt", {{}}),
    ask("DELETE", p + "runs/{other}"),
    ask("POST", "tokens", {{"name": "mine"}}),
    ask("GET", "tokens"),
    ask("POST", "projects", {{"name": "mine"}}),
]))
"""
    job = lepton.submit("own", "python", "-c", script)
    assert lepton.over(job)["status"]["phase"] == "succeeded", lepton.logs(job)
    own, stranger = (lambda told: (told[:2], told[2:]))(json.loads(lepton.logs(job)))
    assert own == [204, 201]
    assert stranger[:4] == [403] * 4 and stranger[5] == 403, stranger
    if stranger[4] == 200:  # A list may also be empty.
        assert lepton.token.split("_")[1] not in lepton.logs(job)


@pytest.mark.skipif(not AS_ROOT, reason="only root can give workers a user of their own")
def test_a_worker_cannot_read_what_is_the_servers(lepton):
    """Neither the keys, nor the metadata, nor the objects, nor another worker's folder."""
    other = lepton.submit("other", "sleep", "60")
    lepton.running(other)
    lepton.over(lepton.submit("first", "true"))
    lepton.blob(b"x" * 1000)
    script = (f"cd / && cat {lepton.data_dir}/master.key {lepton.data_dir}/credentials/owner.json "
              f"{lepton.data_dir}/lepton.db {lepton.data_dir}/lepton.db-wal {lepton.data_dir}/lock | wc -c; "
              f"ls {lepton.data_dir} {lepton.data_dir}/objects {lepton.data_dir}/workers/workers; id -u")
    job = lepton.submit("thief", "sh", "-c", script)
    lepton.over(job)
    told = lepton.logs(job, stream="stdout").split()
    assert told[0] == "0", f"a worker read {told[0]} bytes of the server's\n{lepton.logs(job)}"
    assert int(told[-1]) >= 700_000 and len(told) == 2, told
    lepton.got("POST", f"jobs/{other}/cancel")


# What ends a job.


@pytest.mark.parametrize("command, phase, why", [
    (("true",), "succeeded", {}),
    (("sh", "-c", "exit 42"), "failed", {"type": "exited", "code": 42}),
    (("sh", "-c", "kill -SEGV $$"), "failed", {"type": "signalled", "signal": signal.SIGSEGV}),
    (("sh", "-c", "kill -KILL $$"), "failed", {"type": "signalled", "signal": signal.SIGKILL}),
])
def test_true_exits(shared, command, phase, why):
    over = shared.over(shared.submit("exit", *command))
    assert over["status"]["phase"] == phase and reason(over) == why
    run = shared.got("GET", f"runs/{over['spec']['run']}")
    assert run["status"]["phase"] == ("FINISHED" if phase == "succeeded" else "FAILED")


def test_exit_statuses_of_the_cli(shared):
    run = lambda *args, **more: shared.cli("run", "s", *SMALL, "--no-code", *args, **more)
    assert run("--wait", "--", "true").code == 0
    failed = run("--wait", "--", "sh", "-c", "exit 3")
    assert failed.code == 1 and "exited with status 3" in failed.err
    late = run("--wait", "--wait-timeout", "200ms", "--", "sleep", "30")
    assert late.code == 7 and "still waiting" in late.err
    shared.ok("cancel", shared.job("s")["metadata"]["id"])
    assert shared.cli("get", "job", "never-was").code == 3
    assert shared.cli("run", "Not A Name", "--no-code", "--", "true").code in (2, 8)


def test_a_command_that_does_not_exist(shared):
    over = shared.over(shared.submit("none", "/no/such/program"))
    assert over["status"]["phase"] == "failed"
    assert reason(over)["type"] == "could-not-start"
    assert "`/no/such/program` not found" in reason(over)["message"]
    done = shared.cli("run", "none", *SMALL, "--no-code", "--wait", "--", "no-such-command")
    assert done.code == 1 and "`no-such-command` not found" in done.err


def test_a_file_that_cannot_be_run(shared):
    shared.write("plain/data.txt", "no program").chmod(0o644)
    done = shared.cli("run", "data", *SMALL, "--wait", "--", "./data.txt", cwd=shared.folder / "plain")
    assert done.code == 1 and "could not start" in done.err and "data.txt" in done.err


def test_timeout(shared):
    over = shared.over(shared.submit("slow", "sh", "-c", "sleep 600", timeout="500ms"))
    assert over["status"]["phase"] == "failed"
    assert reason(over) == {"type": "timed-out", "after": "500ms"} or reason(over)["type"] == "timed-out"
    assert over["status"]["finished_at"] - over["status"]["started_at"] >= 500


def test_out_of_memory(shared):
    script = "held = []\nwhile True: held.append(bytearray(1 << 20))"
    job = shared.submit("greedy", "python", "-c", script, resources={"cpu": "500m", "memory": "64Mi"})
    over = shared.over(job)
    assert over["status"]["phase"] == "failed"
    assert reason(over) == {"type": "out-of-memory", "limit_bytes": 64 << 20}
    assert "out of memory" in shared.ok("describe", "job", job).out


def test_retries(shared):
    job = shared.submit("flaky", "sh", "-c", 'echo "try $LEPTON_ATTEMPT"; [ $LEPTON_ATTEMPT = 3 ]', retries=5)
    over = shared.over(job)
    assert over["status"]["phase"] == "succeeded" and over["status"]["attempts"] == 3
    assert [shared.logs(job, attempt=n) for n in (1, 2, 3)] == ["try 1\n", "try 2\n", "try 3\n"]
    attempts = shared.got("GET", f"jobs/{job}/attempts")["items"]
    assert [a["status"]["phase"] for a in attempts] == ["failed", "failed", "succeeded"]
    starts = [a["status"]["started_at"] for a in attempts]
    # Later each time.
    assert 0 < starts[1] - starts[0] < starts[2] - starts[1]


def test_retries_end(shared):
    over = shared.over(shared.submit("bad", "false", retries=1))
    assert over["status"]["phase"] == "failed" and over["status"]["attempts"] == 2


def test_cancel_ends_the_whole_group(shared):
    marks = {name: shared.marks / f"group-{name}" for name in ("child", "session", "stubborn")}
    script = (f"sleep 600 & echo $! > {marks['child']}; setsid sleep 600 & echo $! > {marks['session']}; "
              f"sh -c 'trap : TERM INT HUP; echo $$ > {marks['stubborn']}; while :; do sleep 1; done' & wait")
    job = shared.submit("group", "sh", "-c", script)
    pids = [pid_in(path) for path in marks.values()]
    assert all(alive(pid) for pid in pids)
    shared.ok("cancel", job)
    over = shared.over(job)
    assert over["status"]["phase"] == "cancelled"
    assert reason(over)["type"] == "cancelled" and reason(over)["by"]
    assert not any(alive(pid) for pid in pids)
    assert shared.got("GET", f"runs/{over['spec']['run']}")["status"]["phase"] == "KILLED"


def test_a_finished_job_cannot_be_cancelled(shared):
    job = shared.submit("done", "true")
    shared.over(job)
    refused = shared.api("POST", f"jobs/{job}/cancel")
    assert refused.status == 409 and "over" in refused.error()[1]
    assert shared.cli("cancel", job).code == 5


def test_a_worker_that_forks_away_is_ended(shared):
    mark = shared.marks / "daemon"
    script = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for end in (0, 1, 2):
            os.close(end)
        open({str(mark)!r} + ".new", "w").write(str(os.getpid()))
        os.rename({str(mark)!r} + ".new", {str(mark)!r})
        time.sleep(600)
    os._exit(0)
os.wait()
while not os.path.exists({str(mark)!r}):
    time.sleep(0.01)
"""
    job = shared.submit("daemon", "python", "-c", script)
    over = shared.over(job)
    assert over["status"]["phase"] == "succeeded", shared.logs(job)
    assert not alive(pid_in(mark))


def test_deleting_a_running_job_ends_it(shared):
    mark = shared.marks / "deleted"
    job = shared.submit("doomed", "sh", "-c", f"echo $$ > {mark}; exec sleep 600")
    pid = pid_in(mark)
    shared.ok("delete", "job", job)
    eventually("the job is gone", lambda: shared.api("GET", f"jobs/{job}").status == 404)
    assert not alive(pid)


# Waiting for room.


@pytest.fixture
def narrow():
    with server(config='[pool]\ncpu = "1"\nmemory = "1Gi"\n') as lepton:
        yield lepton


def test_what_can_never_fit_is_told(narrow):
    gang = narrow.submit("gang", "true", workers=3, resources={"cpu": "500m", "memory": "64Mi"})
    def waits(job):
        return narrow.job(job)["status"].get("waiting")
    waiting = eventually("it is told why", lambda: waits(gang))
    assert waiting["reason"] == "too-large" and "2 of 3" in waiting["message"], waiting
    assert waiting["message"] in narrow.ok("describe", "job", gang).out
    # It is in nobody's way.
    assert narrow.over(narrow.submit("small", "true"))["status"]["phase"] == "succeeded"
    # One worker that is larger than any machine is refused, or told so.
    job = {"name": "huge", "program": {"type": "command", "command": ["true"]},
           "resources": {"cpu": "64", "memory": "1Gi"}}
    answer = narrow.api("POST", "jobs", job)
    if answer.status == 201:
        huge = answer.json()["metadata"]["id"]
        assert eventually("why", lambda: waits(huge))["reason"] == "too-large"
        narrow.ok("cancel", huge)
        assert narrow.over(huge)["status"]["phase"] == "cancelled"
    else:
        assert answer.status == 422 and "64" in answer.error()[1]
    narrow.ok("cancel", gang)
    assert narrow.over(gang)["status"]["phase"] == "cancelled"


def test_jobs_queue_and_say_why(narrow):
    go = narrow.marks / "go"
    half = {"cpu": "600m", "memory": "64Mi"}
    holds = f"until [ -e {go} ]; do sleep 0.05; done"
    first = narrow.submit("first", "sh", "-c", holds, resources=half)
    narrow.running(first)
    second = narrow.submit("second", "true", resources=half)
    urgent = narrow.submit("urgent", "true", resources=half, priority=5)
    waiting = eventually("it is told why", lambda: narrow.job(second)["status"].get("waiting"))
    assert "cpu" in waiting["message"] and waiting["reason"], waiting
    told = narrow.ok("describe", "job", second).out
    assert waiting["message"] in told or "cpu" in told
    run = narrow.got("GET", f"runs/{narrow.job(second)['spec']['run']}")
    assert run["status"]["phase"] == "SCHEDULED"
    assert narrow.job(second)["status"]["phase"] == "queued"
    go.touch()
    assert narrow.over(second)["status"]["phase"] == "succeeded"
    started = [narrow.over(job)["status"]["started_at"] for job in (first, urgent, second)]
    assert started == sorted(started), "the urgent one goes first"


def test_a_gang_starts_together_or_not_at_all(narrow):
    go = narrow.marks / "go"
    holds = f"until [ -e {go} ]; do sleep 0.05; done"
    first = narrow.submit("first", "sh", "-c", holds, resources={"cpu": "600m", "memory": "64Mi"})
    narrow.running(first)
    gang = narrow.submit("gang", "true", workers=2, resources={"cpu": "400m", "memory": "64Mi"})
    eventually("it waits", lambda: narrow.job(gang)["status"].get("waiting"))
    assert narrow.got("GET", f"jobs/{gang}/attempts")["items"] == []
    go.touch()
    assert narrow.over(gang)["status"]["phase"] == "succeeded"


# The server dies.


@pytest.mark.parametrize("away", ["shortly", "until it is over"])
def test_a_killed_server_loses_no_job(lepton, away):
    starts, end, go = (lepton.marks / name for name in ("starts", "end", "go"))
    script = (f"echo $LEPTON_ATTEMPT >> {starts}; echo before; until [ -e {go} ]; do sleep 0.05; done; "
              f"echo after; touch {end}; exit 7")
    job = lepton.submit("survivor", "sh", "-c", script)
    lepton.running(job)
    eventually("it started", starts.exists)
    lepton.kill()
    if away == "until it is over":
        go.touch()
        eventually("it ended", end.exists)
        lepton.start()
    else:
        lepton.start()
        assert lepton.job(job)["status"]["phase"] == "running"
        go.touch()
    over = lepton.over(job)
    assert over["status"]["phase"] == "failed" and over["status"]["attempts"] == 1
    assert reason(over) == {"type": "exited", "code": 7}
    assert starts.read_text() == "1\n"
    assert lepton.logs(job) == "before\nafter\n"


def test_a_stopped_server_leaves_jobs_running():
    """The default; these tests' servers are told otherwise, so that nothing stays behind."""
    with server() as lepton:
        lepton.config.write_text("[executor]\nstop_workers_on_exit = false\n")
        lepton.stop()
        lepton.start()
        go = lepton.marks / "go"
        job = lepton.submit("longer", "sh", "-c", f"until [ -e {go} ]; do sleep 0.05; done; exit 4")
        lepton.running(job)
        assert lepton.stop() == 0
        go.touch()
        lepton.start()
        assert reason(lepton.over(job)) == {"type": "exited", "code": 4}


def test_a_killed_supervisor_is_a_lost_attempt_that_is_retried(lepton):
    go = lepton.marks / "go"
    script = f'[ $LEPTON_ATTEMPT = 2 ] || until [ -e {go} ]; do sleep 0.05; done'
    job = lepton.submit("lost", "sh", "-c", script, retries=1)
    lepton.running(job)
    (shim,) = lepton.processes()
    os.kill(shim, signal.SIGKILL)
    over = lepton.over(job)
    assert over["status"]["phase"] == "succeeded", over
    attempts = lepton.got("GET", f"jobs/{job}/attempts")["items"]
    assert [a["status"]["phase"] for a in attempts] == ["lost", "succeeded"]


def test_what_a_worker_logs_while_the_server_is_away_is_its_own_to_retry(lepton):
    """The record of a run takes the same points twice without counting them twice."""
    run = lepton.got("POST", "runs", {})["metadata"]["id"]
    points = [{"key": "m", "step": s, "timestamp": 1000 + s, "value": s / 7} for s in range(50)]
    lepton.got("POST", f"runs/{run}/log", {"metrics": points})
    lepton.kill()
    lepton.start()
    lepton.got("POST", f"runs/{run}/log", {"metrics": points})
    back = lepton.got("GET", f"runs/{run}/series?key=m")["points"]
    assert [(p["step"], p["value"]) for p in back] == [(p["step"], p["value"]) for p in points]
