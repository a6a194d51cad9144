"""Lepton beside MLflow's own server (one worker, SQLite) on one machine in one run.

Usage: compare.py LEPTON MLFLOW_PYTHON [--runs N] [--points N] [--seconds S] [--only lepton|mlflow]
                  [--server-cores 0,1] [--client-cores 2,3]

Each server is started alone, in a folder of its own, and asked the same: single metrics and batches of
1,000, by one client and by eight at once; searches over `--runs` runs; the history of a metric of
`--points` points. It is asked twice: by requests that are written before the clock runs, on sockets that
are kept, and whose answers are read and not parsed, which tells what the server takes; and by MLflow's
unmodified client, which tells what a script sees, the client's own time included.

Lepton is filled through its API. MLflow's server would take most of an hour for that, so its runs and its
long series are written into its database directly, as it writes them itself; filling is not timed.
"""

import argparse
import contextlib
import functools
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid

CLIENT = pathlib.Path(__file__).with_name("client.py")
API = "/api/2.0/mlflow/"


# Calls a second, of one client, for which requests are written before the clock runs.
RATE = 5_000
BATCH_RATE = 300


class Api:
    """One connection that is kept. It knows just enough of HTTP/1.1 to cost the servers' figures little."""

    def __init__(self, port, token, acknowledges_at_once=False):
        self.port = port
        # A kernel waits up to 40 ms before it acknowledges what came, and a server that writes an answer in two pieces,
        # without TCP_NODELAY, waits for that before the second. This spares it the wait.
        self.acknowledges_at_once = acknowledges_at_once
        self.bearer = f"Authorization: Bearer {token}\r\n" if token else ""
        self.connect()

    def connect(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=600)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def request(self, path, given=None):
        """The bytes of a request."""
        body = b"" if given is None else given if isinstance(given, bytes) else json.dumps(given).encode()
        method = "GET" if given is None else "POST"
        return (f"{method} {API}{path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{self.bearer}"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body

    def exchange(self, request):
        """Sends a request and returns the content of its answer."""
        try:
            return self.exchange_once(request)
        except (ConnectionError, EOFError):
            # Servers close connections that were silent for some seconds.
            self.connect()
            return self.exchange_once(request)

    def exchange_once(self, request):
        self.socket.sendall(request)
        head = b""
        while (end := head.find(b"\r\n\r\n")) < 0:
            head += self.receive()
        head, content = head[:end].lower(), head[end + 4:]
        if b"transfer-encoding: chunked" in head:
            content = self.chunks(content)
        else:
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            pieces, got = [content], len(content)
            while got < length:
                pieces.append(self.receive())
                got += len(pieces[-1])
            content = b"".join(pieces)
        if head.split(b" ", 2)[1] != b"200":
            raise RuntimeError(f"{head[:60]!r} {content[:300]!r}")
        return content

    def chunks(self, waiting):
        whole, waiting = [], bytearray(waiting)
        while True:
            while (end := waiting.find(b"\r\n")) < 0:
                waiting += self.receive()
            length = int(waiting[:end], 16)
            while len(waiting) < end + length + 4:
                waiting += self.receive()
            whole.append(bytes(waiting[end + 2:end + 2 + length]))
            del waiting[:end + length + 4]
            if length == 0:
                return b"".join(whole)

    def receive(self):
        if self.acknowledges_at_once:
            # The kernel forgets it after every answer.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        got = self.socket.recv(1 << 20)
        if not got:
            raise EOFError
        return got

    def raw(self, path, given=None):
        return self.exchange(self.request(path, given))

    def ask(self, path, given=None):
        return json.loads(self.raw(path, given))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def resident(pid):
    """Bytes that a process and its descendants hold."""
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    total, waiting = 0, [pid]
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        with contextlib.suppress(OSError, IndexError):
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            total += int(status.split("VmRSS:")[1].split()[0]) * 1024
    return total


@contextlib.contextmanager
def server(command, port, folder, health, cores):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "LEPTON_T", "LEPTON_U"))}
    env |= {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        pin = (lambda: os.sched_setaffinity(0, cores)) if cores else None
        process = subprocess.Popen(
            command, env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True, preexec_fn=pin)
    try:
        end = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", health)
                if connection.getresponse().status == 200:
                    break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((folder / "log").read_text()[-4000:])
            time.sleep(0.2)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def timed(call, seconds, at_least=5, at_most=100_000):
    """The times of calls, one after the other."""
    times, end = [], time.monotonic() + seconds
    while len(times) < at_least or (time.monotonic() < end and len(times) < at_most):
        began = time.perf_counter()
        call(len(times))
        times.append(time.perf_counter() - began)
    return times


def figures(times, elapsed=None):
    ordered = sorted(times)
    at = lambda share: ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000
    return {"calls": len(times), "a second": len(times) / (elapsed or sum(times)), "p50 ms": at(0.5), "p99 ms": at(0.99)}


def prepared(call_of, seconds, rate, **bounds):
    """The times of calls whose requests `call_of` wrote before; `rate` a second are enough."""
    count = max(5, int(seconds * rate))
    calls = [call_of(i) for i in range(count)]
    return timed(lambda i: calls[i](), seconds, at_most=count, **bounds)


def at_once(make, work, clients, seconds):
    """The times of calls of several clients at once; `work` gives a client's calls."""
    times, gate = [], threading.Barrier(clients + 1)
    def run(number):
        calls = work(make(), number)
        gate.wait()
        times.extend(timed(lambda i: calls[i](), seconds, at_most=len(calls)))
    threads = [threading.Thread(target=run, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    gate.wait()
    began = time.monotonic()
    for thread in threads:
        thread.join()
    return figures(times, time.monotonic() - began)


def new_run(api, **more):
    return api.ask("runs/create", {"experiment_id": "0", "start_time": 1} | more)["run"]["info"]["run_id"]


def batch(run, first, key="loss"):
    return {"run_id": run, "metrics": [
        {"key": key, "value": 1 / (1 + i), "timestamp": 1_700_000_000_000 + i, "step": i} for i in range(first, first + 1000)]}


def record(number):
    """What each of the many runs holds."""
    return ({"accuracy": number / 10_000, "loss": 1 - number / 10_000, "epoch": 3.0},
            {"lr": str(0.1 / (1 + number % 7)), "depth": str(number % 13), "model": "forest"},
            {"team": "a" if number % 3 else "b", "mlflow.user": "me"})


def fill_by_api(api, make, runs, points):
    experiment = api.ask("experiments/create", {"name": "many"})["experiment_id"]
    def fill(api, numbers):
        for number in numbers:
            metrics, params, tags = record(number)
            run = api.ask("runs/create", {"experiment_id": experiment, "start_time": number, "run_name": f"run {number}"})
            run = run["run"]["info"]["run_id"]
            api.ask("runs/log-batch", {
                "run_id": run, "metrics": [{"key": k, "value": v, "timestamp": 1, "step": 0} for k, v in metrics.items()],
                "params": [{"key": k, "value": v} for k, v in params.items()],
                "tags": [{"key": k, "value": v} for k, v in tags.items()]})
    workers = [threading.Thread(target=fill, args=(make(), range(n, runs, 8))) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    run = new_run(api, run_name="long")
    for first in range(0, points, 1000):
        api.ask("runs/log-batch", batch(run, first))
    return experiment, run


def fill_by_sql(api, database, runs, points):
    experiment = api.ask("experiments/create", {"name": "many"})["experiment_id"]
    long = new_run(api, run_name="long")
    connection = sqlite3.connect(database, timeout=60)
    with connection:
        for number in range(runs):
            run, (metrics, params, tags) = uuid.uuid4().hex, record(number)
            connection.execute(
                "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,"
                " source_version, lifecycle_stage, artifact_uri, experiment_id) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                (run, f"run {number}", "UNKNOWN", "", "", "me", "RUNNING", number, "", "active",
                 f"mlflow-artifacts:/{experiment}/{run}/artifacts", int(experiment)))
            tags = tags | {"mlflow.runName": f"run {number}"}
            connection.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?,?,?)", [(k, v, run) for k, v in tags.items()])
            connection.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?,?,?)", [(k, v, run) for k, v in params.items()])
            rows = [(k, v, 1, 0, 0, run) for k, v in metrics.items()]
            for table in ("metrics", "latest_metrics"):
                connection.executemany(f"INSERT INTO {table} (key, value, timestamp, step, is_nan, run_uuid) VALUES (?,?,?,?,?,?)", rows)
        connection.executemany(
            "INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?,?,?,?,?,?)",
            (("loss", 1 / (1 + i), 1_700_000_000_000 + i, i, 0, long) for i in range(points)))
    connection.close()
    return experiment, long


def measure(name, port, token, process, fill, options):
    make = lambda: Api(port, token)
    api, seconds, found = make(), options.seconds, {}
    time.sleep(2)
    found["idle resident MB"] = resident(process.pid) / 1e6
    run = new_run(api)
    metric = lambda run, i: {"run_id": run, "key": f"m{i % 5}", "value": i / 3, "timestamp": 1_700_000_000_000 + i, "step": i}
    send = lambda api, path, given: functools.partial(api.exchange, api.request(path, given))
    found["log_metric"] = figures(prepared(lambda i: send(api, "runs/log-metric", metric(run, i)), seconds, RATE))
    prompt = Api(port, token, acknowledges_at_once=True)
    found["log_metric, acknowledged at once"] = figures(
        prepared(lambda i: send(prompt, "runs/log-metric", metric(run, RATE * 10 + i)), seconds, RATE))
    runs = [new_run(api) for _ in range(8)]
    found["log_metric, 8 at once"] = at_once(make, lambda api, n: [
        send(api, "runs/log-metric", metric(runs[n], i)) for i in range(int(seconds * RATE / 2))], 8, seconds)
    of_batch = lambda api, run, i: send(api, "runs/log-batch", batch(run, i * 1000, "b"))
    found["log_batch of 1,000"] = figures(prepared(lambda i: of_batch(api, run, i), seconds, BATCH_RATE))
    found["log_batch of 1,000, 8 at once"] = at_once(make, lambda api, n: [
        of_batch(api, runs[n], i) for i in range(int(seconds * BATCH_RATE / 4))], 8, seconds)
    if options.logging_only:
        return found
    print(f"{name}: filling", file=sys.stderr, flush=True)
    experiment, long = fill(api, make)
    search = lambda **more: send(api, "runs/search", {"experiment_ids": [experiment]} | more)
    for step, more in {
            "100 newest": {"max_results": 100},
            "100 of accuracy > 0.99": {"max_results": 100, "filter": "metrics.accuracy > 0.99"},
            "100 of run_name": {"max_results": 100, "filter": "attributes.run_name = 'run 77'"},
            "100 of params and tags": {"max_results": 100, "filter": "params.depth = '3' AND tags.team = 'b'"},
            "100 by metric": {"max_results": 100, "order_by": ["metrics.loss ASC"]},
            "a page of 1,000": {"max_results": 1000},
            "a page of 1,000 by metric, filtered": {"max_results": 1000, "filter": "metrics.accuracy > 0.5", "order_by": ["metrics.loss ASC"]}}.items():
        request = search(**more)
        found[f"search: {step}"] = figures(timed(lambda i: request(), seconds / 2, 3))
    path = f"metrics/get-history?run_id={long}&metric_key=loss"
    found["history: a page of 25,000"] = figures(timed(lambda i: api.raw(f"{path}&max_results=25000"), seconds / 2, 3))
    whole = timed(lambda i: api.raw(path), 0, 2)
    found["history: whole"] = figures(whole) | {"points": options.points}
    thin = f"metrics/get-history-bulk-interval?run_ids={long}&metric_key=loss&max_results=320"
    found["history: 320 of it"] = figures(timed(lambda i: api.raw(thin), seconds / 2, 2))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "LEPTON"))}
    env |= {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    if token:
        env["MLFLOW_TRACKING_TOKEN"] = token
    client = subprocess.run([options.python, str(CLIENT), experiment, long, str(seconds)], env=env, capture_output=True, text=True)
    if client.returncode != 0:
        raise RuntimeError(client.stderr[-3000:])
    for step, times in json.loads(client.stdout.splitlines()[-1]).items():
        found[f"mlflow client: {step}"] = figures(times)
    found["resident MB at the end"] = resident(process.pid) / 1e6
    return found


def lepton(options, folder):
    port = free_port()
    command = [options.lepton, "up", "--data-dir", str(folder / "data"), "--listen", f"127.0.0.1:{port}"]
    with server(command, port, folder, "/readyz", options.server_cores) as process:
        token = json.loads((folder / "data/credentials/owner.json").read_text())["token"]
        fill = lambda api, make: fill_by_api(api, make, options.runs, options.points)
        return measure("lepton", port, token, process, fill, options)


def mlflow(options, folder):
    port = free_port()
    command = [options.python, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
               "--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with server(command, port, folder, "/health", options.server_cores) as process:
        fill = lambda api, make: fill_by_sql(api, folder / "mlflow.db", options.runs, options.points)
        return measure("mlflow", port, None, process, fill, options)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lepton")
    parser.add_argument("python")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--only")
    parser.add_argument("--logging-only", action="store_true", help="leaves searches, histories and MLflow's client")
    cores = lambda text: {int(core) for core in text.split(",")}
    parser.add_argument("--server-cores", type=cores)
    parser.add_argument("--client-cores", type=cores)
    options = parser.parse_args()
    if options.client_cores:
        os.sched_setaffinity(0, options.client_cores)
    options.lepton = str(pathlib.Path(options.lepton).resolve())
    # Not resolved: the link is what makes an environment of it.
    options.python = os.path.abspath(options.python)
    results = {}
    for name, run in {"lepton": lepton, "mlflow": mlflow}.items():
        if options.only in (None, name):
            folder = pathlib.Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
            try:
                results[name] = run(options, folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            print(json.dumps({name: results[name]}), file=sys.stderr, flush=True)
    print(f"load average {os.getloadavg()[0]:.1f}")
    steps = next(iter(results.values()))
    for step in steps:
        row = [f"{step:45}"]
        for found in results.values():
            value = found[step]
            if isinstance(value, dict):
                row.append(f"{value['a second']:10.1f}/s  p50 {value['p50 ms']:9.2f} ms  p99 {value['p99 ms']:9.2f} ms")
            else:
                row.append(f"{value:10.1f}")
        if len(results) == 2:
            ours, theirs = (results[n][step] for n in ("lepton", "mlflow"))
            ratio = ours["a second"] / theirs["a second"] if isinstance(ours, dict) else theirs / ours
            row.append(f"{ratio:8.1f} times")
        print("  ".join(row))


if __name__ == "__main__":
    main()
