"""Load on one server: 2,000 jobs of `true` at once beside 50 requests a second, then 10,000 runs.

Usage: load.py LEPTON [--jobs N] [--runs N] [--rate R] [--cores 0,1] [--seconds-max S]

The server and its workers are pinned to `--cores`; this program is pinned to the other cores where
there are any. Latencies are measured from the moment at which a request was due, so a server that
stalls is charged for every request that the stall delayed. Standard library only.
"""

import argparse
import http.client
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

# The named mix, "tracking": what a team does that trains and looks on. Per hundred requests.
TRACKING = [
    ("log 3 metrics to a run", 30),  # write
    ("create a run", 10),  # write
    ("get a run", 20),
    ("list the 50 newest jobs", 20),
    ("get a job", 10),
    ("list the 20 newest runs of an experiment", 10),
]


class Api:
    """One connection that is kept."""

    def __init__(self, address, token):
        self.address = address
        self.headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        self.connection = http.client.HTTPConnection(address, timeout=60)

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body)
        self.connection.request(method, f"/api/v1/projects/default/{path}", data, self.headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return json.loads(content) if content else None


def in_parallel(count, threads, make_api, work):
    """Calls work(api, number) for each number below count."""
    numbers = queue.SimpleQueue()
    for number in range(count):
        numbers.put(number)
    errors = []

    def run():
        api = make_api()
        while True:
            try:
                number = numbers.get_nowait()
            except queue.Empty:
                return
            try:
                work(api, number)
            except Exception as error:  # told at the end
                errors.append(error)
                return

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]


class Mix:
    """Requests at a steady rate, each at its own due time."""

    def __init__(self, make_api, rate, run_id, job_id):
        self.make_api, self.rate = make_api, rate
        self.run_id, self.job_id = run_id, job_id
        self.stop = threading.Event()
        self.due = queue.SimpleQueue()
        self.seconds = {name: [] for name, _ in TRACKING}
        self.errors = []
        self.threads = [threading.Thread(target=self.work) for _ in range(24)]
        self.ticker = threading.Thread(target=self.tick)
        slots = []
        for name, share in TRACKING:
            slots += [((at + 0.5) / share, name) for at in range(share)]
        self.order = [name for _, name in sorted(slots)]

    def tick(self):
        started = time.perf_counter()
        number = 0
        while not self.stop.is_set():
            due = started + number / self.rate
            time.sleep(max(0.0, due - time.perf_counter()))
            self.due.put((due, number))
            number += 1
        for _ in self.threads:
            self.due.put(None)

    def work(self):
        api = self.make_api()
        while (item := self.due.get()) is not None:
            due, number = item
            name = self.order[number % len(self.order)]
            try:
                self.request(api, name, number)
            except Exception as error:
                self.errors.append(error)
                api = self.make_api()
                continue
            self.seconds[name].append(time.perf_counter() - due)

    def request(self, api, name, number):
        if name.startswith("log"):
            points = [{"key": key, "step": number, "value": number / 7} for key in ("a", "b", "c")]
            api.ask("POST", f"runs/{self.run_id}/log", {"metrics": points})
        elif name.startswith("create"):
            api.ask("POST", "runs", {"experiment": "tracking", "name": f"r{number}"})
        elif name == "get a run":
            api.ask("GET", f"runs/{self.run_id}")
        elif name.startswith("list the 50"):
            api.ask("GET", "jobs?limit=50&newest=true")
        elif name == "get a job":
            api.ask("GET", f"jobs/{self.job_id}")
        else:
            api.ask("GET", "runs?limit=20&newest=true&experiment=tracking")

    def start(self):
        for thread in (*self.threads, self.ticker):
            thread.start()

    def finish(self):
        self.stop.set()
        for thread in (self.ticker, *self.threads):
            thread.join()


class Memory(threading.Thread):
    """Peak resident memory of the server, and of every shim that was seen, in KiB."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.peak, self.shims = server, 0, {}
        self.going = True

    def run(self):
        while self.going:
            self.peak = max(self.peak, high_water(self.server))
            for entry in os.listdir("/proc"):
                if entry.isdigit() and int(entry) != self.server and is_shim(entry):
                    seen = max(self.shims.get(entry, 0), high_water(entry))
                    self.shims[entry] = seen
            time.sleep(0.1)


def is_shim(pid):
    try:
        return b"shim" in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")[:200]
    except OSError:
        return False


def high_water(pid):
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0.0


def row(name, values):
    p50, p99 = percentile(values, 0.5) * 1e3, percentile(values, 0.99) * 1e3
    worst = max(values, default=0) * 1e3
    print(f"  {name:<42} {len(values):>6} {p50:>9.1f} {p99:>9.1f} {worst:>9.1f}", flush=True)


def jobs_under_load(options, make_api, server):
    api = make_api()
    run_id = api.ask("POST", "runs", {"experiment": "tracking"})
    run_id = (run_id.get("run") or run_id)["metadata"]["id"]
    job = {
        "name": "true",
        "program": {"type": "command", "command": ["true"]},
        "resources": {"cpu": "250m", "memory": "64Mi"},
    }
    job_id = api.ask("POST", "jobs", job)["metadata"]["id"]
    mix = Mix(make_api, options.rate, run_id, job_id)
    memory = Memory(server.pid)
    memory.start()
    mix.start()
    time.sleep(2)
    started = time.perf_counter()
    in_parallel(options.jobs, 8, make_api, lambda api, _: api.ask("POST", "jobs", job))
    queued = time.perf_counter() - started
    last = None
    while time.perf_counter() - started < options.seconds_max:
        if not api.ask("GET", "jobs?limit=1&phase=queued,running")["items"]:
            last = time.perf_counter() - started
            break
        time.sleep(0.25)
    mix.finish()
    memory.going = False
    memory.join()
    print(f"{options.jobs} jobs queued in {queued:.1f} s")
    print(f"all finished after {last:.1f} s" if last else "NOT all finished in time")
    everything = [value for values in mix.seconds.values() for value in values]
    seconds = len(everything) / options.rate
    print(f"{options.rate} requests a second of the mix `tracking` for {seconds:.0f} s, in ms:")
    print(f"  {'request':<42} {'count':>6} {'p50':>9} {'p99':>9} {'worst':>9}")
    for name, values in mix.seconds.items():
        row(name, values)
    row("all", everything)
    print(f"failed requests: {len(mix.errors)}", *mix.errors[:1])
    print(f"server's peak resident memory: {memory.peak / 1024:.1f} MiB")
    shims = memory.shims.values()
    print(f"shims seen: {len(shims)}, largest peak resident: {max(shims, default=0) / 1024:.2f} MiB")


def finished_runs(options, make_api):
    def make(api, number):
        made = api.ask("POST", "runs", {"experiment": "many", "name": f"run-{number}"})
        run_id = (made.get("run") or made)["metadata"]["id"]
        log = {
            "params": {"depth": str(number % 10), "rate": str(number % 7)},
            "metrics": [{"key": "accuracy", "value": number % 1000 / 1000}],
        }
        api.ask("POST", f"runs/{run_id}/log", log)
        api.ask("PATCH", f"runs/{run_id}", {"phase": "FINISHED"})

    started = time.perf_counter()
    in_parallel(options.runs, 16, make_api, make)
    print(f"{options.runs} finished runs made in {time.perf_counter() - started:.1f} s; of those, in ms:")
    print(f"  {'list':<42} {'count':>6} {'p50':>9} {'p99':>9} {'worst':>9}")
    api = make_api()
    lists = {
        "newest 100": "runs?limit=100&newest=true&experiment=many",
        "1,000 (the largest page)": "runs?limit=1000&experiment=many",
        "100 of phase FINISHED": "runs?limit=100&phase=FINISHED&experiment=many",
        "100 with accuracy>0.99": "runs?limit=100&metric=accuracy%3E0.99&experiment=many",
        "1 by name": "runs?limit=100&name=run-4321&experiment=many",
        "none: accuracy>2": "runs?limit=100&metric=accuracy%3E2&experiment=many",
    }
    for name, path in lists.items():
        values = []
        for _ in range(30):
            began = time.perf_counter()
            api.ask("GET", path)
            values.append(time.perf_counter() - began)
        row(name, values)
    values = []
    for _ in range(3):
        began = time.perf_counter()
        token, seen = "", 0
        while token is not None:
            page = api.ask("GET", f"runs?limit=1000&experiment=many{token and '&page_token=' + token}")
            seen += len(page["items"])
            token = page.get("next_page_token")
        assert seen == options.runs, seen
        values.append(time.perf_counter() - began)
    row(f"all {options.runs}, page after page", values)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lepton")
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=10000)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--cores", default="0,1")
    parser.add_argument("--seconds-max", type=float, default=600)
    options = parser.parse_args()
    others = os.sched_getaffinity(0) - {int(core) for core in options.cores.split(",")}
    if others:
        os.sched_setaffinity(0, others)
    folder = tempfile.mkdtemp(prefix="lepton-load-")
    up = [options.lepton, "up", "--data-dir", folder, "--listen", "127.0.0.1:5911"]
    environment = os.environ | {"HOME": folder, "XDG_CONFIG_HOME": folder}
    with open(os.path.join(folder, "server.log"), "wb") as log:
        command = ["taskset", "-c", options.cores, *up]
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        credential = Path(folder, "credentials/owner.json")
        while True:
            try:
                token = json.loads(credential.read_text())["token"]
                Api("127.0.0.1:5911", token).ask("GET", "jobs?limit=1")
                break
            except OSError:
                time.sleep(0.05)
        make_api = lambda: Api("127.0.0.1:5911", token)
        print(f"server on cores {options.cores}, load average {os.getloadavg()[0]:.1f}", flush=True)
        jobs_under_load(options, make_api, server)
        finished_runs(options, make_api)
        print(f"server's resident peak at the end: {high_water(server.pid) / 1024:.1f} MiB")
    finally:
        server.terminate()
        server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
