"""The main job, from files of real data to live predictions, step by step.

`make demo` runs it. Every step is a command that you can type too; it is shown, timed and
checked. On a terminal Lepton is left running until Ctrl-C; else it is stopped, and the exit
status is 0 only if every step held. Needs Python's standard library only (the script that one
of the jobs runs needs numpy).
"""

import csv
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEPTON = os.environ.get("LEPTON", str(ROOT / "target/release/lepton"))
DATA = ROOT / "examples/data"
FOLDER = ROOT / ".lepton/demo"
BUDGET = "10s"

# Dataset, target, how predictions are judged, and the least that is accepted on held-back rows: a
# single split of some hundred rows is noisy, so these are below what `benches/tabular` shows.
SETS = [
    ("breast-cancer", "breast_cancer.csv", None, "accuracy", 0.92),
    ("wine", "wine.csv", None, "accuracy", 0.90),
    ("digits", "digits.csv", None, "accuracy", 0.94),
    ("diabetes", "diabetes.csv", None, "r2", 0.30),
]

TERMINAL = sys.stdout.isatty()
BOLD, DIM, GREEN, RED, PLAIN = (
    ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m")
    if TERMINAL and "NO_COLOR" not in os.environ
    else ("",) * 5
)

started = time.monotonic()
failures = []


def say(text=""):
    print(text, flush=True)


def step(title):
    say(f"\n{BOLD}[{time.monotonic() - started:5.1f}s] {title}{PLAIN}")


def held(what, good):
    mark = f"{GREEN}held{PLAIN}" if good else f"{RED}FAILED{PLAIN}"
    say(f"    {mark}: {what}")
    if not good:
        failures.append(what)
    return good


def lepton(*arguments, stdin=None, quiet=False, check=True):
    """Runs the command line, shows it, and gives its standard output."""
    if not quiet:
        shown = shlex.join(["lepton", *map(str, arguments)]).replace(str(ROOT) + "/", "")
        say(f"    {DIM}$ {shown}{PLAIN}")
    begun = time.monotonic()
    done = subprocess.run(
        [LEPTON, *map(str, arguments)], input=stdin, text=True, capture_output=True, timeout=120
    )
    took = time.monotonic() - begun
    if done.returncode != 0 and check:
        say(done.stdout + done.stderr)
        held(f"`lepton {arguments[0]}` exits with 0", False)
    if not quiet:
        say(f"    {DIM}  {took:.2f} s{PLAIN}")
    return done.stdout


def lepton_json(*arguments, **options):
    return json.loads(lepton(*arguments, "-o", "json", quiet=True, **options) or "null")


def free_port(wanted=5110):
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return probe.getsockname()[1]
            except OSError:
                continue
    raise SystemExit("no free port")


class Server:
    """One `lepton up` on the demo's own folder."""

    def __init__(self):
        self.address = f"127.0.0.1:{free_port()}"
        self.process = None

    def start(self):
        begun = time.monotonic()
        log = open(FOLDER / "server.log", "ab")
        self.process = subprocess.Popen(
            [LEPTON, "up", "--config", str(FOLDER / "lepton.toml"), "--listen", self.address],
            stdout=log, stderr=log, start_new_session=True,
        )
        while True:
            try:
                urllib.request.urlopen(f"http://{self.address}/readyz", timeout=1).close()
                return time.monotonic() - begun
            except OSError:
                if self.process.poll() is not None or time.monotonic() - begun > 20:
                    say((FOLDER / "server.log").read_text())
                    raise SystemExit("Lepton did not start")
                time.sleep(0.01)

    def resident_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def split(name, source):
    """Three quarters to learn from, a quarter held back; the same each time."""
    with open(DATA / source, newline="") as file:
        header, *rows = list(csv.reader(file))
    random.Random(name).shuffle(rows)
    cut = len(rows) * 3 // 4
    train = FOLDER / f"{name}.csv"
    for path, part in ((train, rows[:cut]), (FOLDER / f"{name}-held-back.csv", rows[cut:])):
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([header, *part])
    return train, header[-1], cut, len(rows) - cut


def judge(name, target, metric):
    """Asks the endpoint about the rows that were held back, and compares."""
    path = FOLDER / f"{name}-held-back.csv"
    predictions = lepton_json("predict", name, "--data", path, "--drop", target)
    with open(path, newline="") as file:
        truth = [row[target] for row in csv.DictReader(file)]
    if metric == "accuracy":
        right = sum(str(p["label"]) == t for p, t in zip(predictions, truth, strict=True))
        return right / len(truth)
    truth = [float(t) for t in truth]
    mean = sum(truth) / len(truth)
    missed = sum((t - p["prediction"]) ** 2 for p, t in zip(predictions, truth, strict=True))
    return 1 - missed / sum((t - mean) ** 2 for t in truth)


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    (FOLDER / "lepton.toml").write_text(
        f'data_dir = "{FOLDER}/data"\n\n[executor]\nstop_workers_on_exit = true\n'
    )
    os.environ["LEPTON_DATA_DIR"] = str(FOLDER / "data")
    server = Server()

    step("Lepton starts: one process, no services beside it")
    took = server.start()
    say(f"    {DIM}$ lepton up --config .lepton/demo/lepton.toml{PLAIN}")
    held(f"it answers after {took:.2f} s", took < 1)
    say(lepton("whoami").rstrip().replace("\n", "\n    ").join(["    ", ""]))
    try:
        steps(server)
    except BaseException:
        server.stop()
        raise
    finish(server)


def steps(server):
    step("Real data becomes versioned datasets")
    targets = {}
    for name, source, *_ in SETS:
        train, target, rows, kept = split(name, source)
        targets[name] = target
        lepton("data", "put", name, train)
        say(f"    {rows} rows to learn from, {kept} held back; the target is `{target}`")

    step(f"Four trainings search for {BUDGET} each; they wait for room where it is short")
    for name, *_ in SETS:
        lepton("train", name, "--data", name, "--target", targets[name], "--budget", BUDGET, "--seed", 7)

    step("Meanwhile a script in Python, unchanged but for where it logs to")
    code = ROOT / "examples/gradient_descent"
    python = os.environ.get("PYTHON", sys.executable)
    os.chdir(code)
    lepton("run", "gradient-descent", "--cpu", "0.25", "--memory", "512Mi", "--wait", "--", python, "fit.py")
    os.chdir(ROOT)
    job = lepton_json("get", "job", "gradient-descent")
    printed = lepton("logs", "gradient-descent").strip()
    say(f"    it printed: {printed}")
    series = api(server, f"runs/{job['spec']['run']}/series?key=loss")["points"]
    held(
        f"its loss fell from {series[0]['value']:.2f} to {series[-1]['value']:.4f} over {len(series)} steps",
        len(series) == 200 and series[-1]["value"] < 0.02,
    )

    step("The models: chosen by cross-validation, one ONNX file each")
    for name, *_ in SETS:
        state = wait_for_job(name)
        view = api(server, f"runs/{state['spec']['run']}")
        metrics = {point["key"]: point["value"] for point in view["metrics"]}
        shown = ", ".join(
            f"{key} {metrics[key]:.3f}" for key in ("accuracy", "roc_auc", "log_loss", "r2", "mae") if key in metrics
        )
        held(f"{name}: {view['params'].get('algorithm', '?')}; cross-validated {shown}",
             state["status"]["phase"] == "succeeded")

    step("Endpoints: supervised replicas behind the gateway")
    for name, *_ in SETS:
        lepton("deploy", name, "--model", name)
    for name, *_ in SETS:
        lepton("deploy", name, "--model", name, "--wait", quiet=True)
    say(lepton("get", "endpoints").rstrip())

    step("Live predictions for the rows that were held back")
    for name, _, _, metric, least in SETS:
        score = judge(name, targets[name], metric)
        held(f"{name}: {metric} {score:.3f} (at least {least})", score >= least)

    step("A model from elsewhere, exported by scikit-learn")
    lepton("model", "import", "iris-elsewhere", ROOT / "examples/models/iris-scikit-learn.onnx")
    lepton("deploy", "iris-elsewhere", "--model", "iris-elsewhere", "--wait")
    answer = infer(server, "iris-elsewhere", [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]])
    held(f"the Open Inference Protocol answers {answer}", answer == [0, 2])

    step("Desired state as YAML: the difference first, and nothing the second time")
    say(indent(lepton("apply", "-f", ROOT / "examples/manifests")))
    again = lepton_json("apply", "-f", ROOT / "examples/manifests")
    held("applying it again changes nothing", all(item["action"] == "unchanged" for item in again["items"]))

    step("kill -9 of the server: replicas live on, and are found again")
    before = {replica["metadata"]["id"] for replica in replicas(server, "wine")}
    server.kill()
    took = server.start()
    score = judge("wine", targets["wine"], "accuracy")
    after = {replica["metadata"]["id"] for replica in replicas(server, "wine")}
    held(f"it answers again after {took:.2f} s with the same replica; wine {score:.3f}", before == after)
    held(f"the server uses {server.resident_mib():.0f} MiB", server.resident_mib() < 200)


def wait_for_job(name):
    deadline = time.monotonic() + 120
    while True:
        job = lepton_json("get", "job", name)
        if job["status"]["phase"] in ("succeeded", "failed", "cancelled") or time.monotonic() > deadline:
            return job
        time.sleep(0.2)


def replicas(server, endpoint):
    return api(server, f"endpoints/{endpoint}/replicas")["items"]


def api(server, path):
    return call(server, f"/api/v1/projects/default/{path}")


def infer(server, model, rows):
    flat = [value for row in rows for value in row]
    body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [len(rows), len(rows[0])], "data": flat}]}
    outputs = call(server, f"/v2/models/{model}/infer", body)["outputs"]
    return outputs[0]["data"]


def call(server, path, body=None):
    token = json.loads((FOLDER / "data/credentials/owner.json").read_text())["token"]
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://{server.address}{path}", data, {"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def indent(text):
    return "\n".join("    " + line for line in text.rstrip().splitlines())


def finish(server):
    took = time.monotonic() - started
    if failures:
        say(f"\n{RED}{BOLD}{len(failures)} steps did not hold, after {took:.0f} s{PLAIN}")
        for failure in failures:
            say(f"    {failure}")
    else:
        say(f"\n{GREEN}{BOLD}every step held, in {took:.0f} s{PLAIN}")
    say(f"""
Where to look
    the server      http://{server.address} (its log: .lepton/demo/server.log)
    what happened   LEPTON_DATA_DIR=.lepton/demo/data {os.path.relpath(LEPTON, ROOT)} events
    a run           … describe job digits; its plots: … artifacts digits --to plots-of-digits
    the API         http://{server.address}/api/v1/openapi.json, docs/""")
    if TERMINAL and not failures:
        say("\nLepton is left running. Ctrl-C stops it.")
        try:
            server.process.wait()
        except KeyboardInterrupt:
            pass
    code = server.stop() if server.process.poll() is None else server.process.returncode
    if code != 0:
        say(f"Lepton ended with status {code}")
    sys.exit(1 if failures or code != 0 else 0)


if __name__ == "__main__":
    main()
