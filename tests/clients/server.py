"""A Lepton server of a test's own: started, asked, killed, started again, and gone at the end.

Every test gets a folder, a free port and a home of its own, so that nothing of the machine's
user is read or written. `LEPTON` names the binary.
"""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("LEPTON", str(ROOT / "target/debug/lepton"))
# Machines that run many things at once are slow; what is waited for is given this long.
PATIENCE_S = float(os.environ.get("LEPTON_TEST_PATIENCE", "60"))


class Answer:
    """What an HTTP call gave."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def error(self):
        """The code and the message of a refusal."""
        detail = self.json()["error"]
        return detail["code"], detail["message"]

    def __repr__(self):
        return f"{self.status} {self.body[:2000]!r}"


class Output:
    """What a command gave."""

    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return f"exit {self.code}\n{self.out}\n{self.err}"


def eventually(what, look, patience=PATIENCE_S, every=0.05):
    """The first true value of `look`, or a failure that shows the last."""
    end = time.monotonic() + patience
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"not within {patience} s: {what}; last seen {seen!r}")
        time.sleep(every)


def call(port, method, path, body=None, headers=None, timeout=PATIENCE_S):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        # A refusal to connect at all is the caller's to see.
        connection.connect()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            # A server need not hear out what it refuses; its answer is there all the same.
            connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Lepton:
    """A server and its clients. `folder` is the test's own; workers of other users can enter it."""

    def __init__(self, config="", data_dir=None):
        # Not pytest's tmp_path, whose parents only their owner may enter.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lepton-test-"))
        self.folder.chmod(0o755)
        self.data_dir = pathlib.Path(data_dir or self.folder / "data")
        self.home = self.folder / "home"
        self.home.mkdir()
        # Where workers leave marks for the test, whoever they run as.
        self.marks = self.folder / "marks"
        self.marks.mkdir()
        self.marks.chmod(0o1777)
        self.config = self.folder / "lepton.toml"
        head, sep, tables = config.partition("[")
        tables = sep + tables
        if "[executor]" in tables:
            tables = tables.replace("[executor]", "[executor]\nstop_workers_on_exit = true")
        else:
            tables += "\n[executor]\nstop_workers_on_exit = true\n"
        self.config.write_text(head + tables)
        self.log = self.folder / "server.log"
        self.port, self.s3_port = free_port(), free_port()
        self.process = None

    # The server.

    def env(self, **more):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("LEPTON_", "MLFLOW_"))}
        for key in ("LEPTON_ONNXRUNTIME",):
            if key in os.environ:
                env[key] = os.environ[key]
        python = str(pathlib.Path(sys.executable).parent)
        env["PATH"] = python + os.pathsep + env.get("PATH", "")
        env["HOME"] = str(self.home)
        env["XDG_CONFIG_HOME"] = str(self.home / ".config")
        env["LEPTON_DATA_DIR"] = str(self.data_dir)
        return env | more

    def up(self, *args):
        return [BINARY, "up", "--config", str(self.config), "--data-dir", str(self.data_dir),
                "--listen", f"127.0.0.1:{self.port}", "--s3-listen", f"127.0.0.1:{self.s3_port}", *args]

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.up(), env=self.env(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder)
        eventually("the server is ready", self.is_ready, every=0.01)
        self.token = json.loads((self.data_dir / "credentials/owner.json").read_text())["token"]
        return self

    def is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended: {self.log.read_text()[-4000:]}")
        try:
            return call(self.port, "GET", "/readyz", timeout=5).status == 200
        except OSError:
            return False

    def kill(self):
        """As a power cut does it, but for the disk's cache."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """As an operator does it; gives the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        # What a killed server left behind; its shims name the data directory.
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(AssertionError):
            eventually("no process is left", lambda: not self.processes(), 15)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self):
        """The shims of this server's workers."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"shim" in words and any(str(self.data_dir).encode() in w for w in words):
                found.append(int(entry.name))
        return found

    def half_uploads(self):
        """What uploads have left that are not complete."""
        folders = [f for f in (self.data_dir / "contents").rglob(".incoming") if f.is_dir()]
        assert folders, "uploads are kept elsewhere now"
        return [file for folder in folders for file in folder.iterdir()]

    def resident_bytes(self):
        """What the server holds in memory now, and at most held."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        field = lambda key: int(status.split(f"{key}:")[1].split()[0]) * 1024
        return field("VmRSS"), field("VmHWM")

    # Its clients.

    def cli(self, *args, stdin=None, cwd=None, env=None, timeout=PATIENCE_S * 2):
        text = not isinstance(stdin, bytes)
        done = subprocess.run(
            [BINARY, *map(str, args)], input=stdin if stdin is not None else ("" if text else b""),
            env=self.env(**(env or {})), cwd=cwd or self.folder, capture_output=True, text=text,
            timeout=timeout)
        return Output(done)

    def ok(self, *args, **more):
        """A command that must go well."""
        done = self.cli(*args, **more)
        assert done.code == 0, done
        return done

    def api(self, method, path, given=None, body=None, token=None, headers=None, **more):
        """A call below /api/v1/projects/default, unless `path` begins with `/`."""
        if not path.startswith("/"):
            path = f"/api/v1/projects/default/{path}"
        headers = dict(headers or {})
        token = self.token if token is None else token
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if given is not None:
            body = json.dumps(given).encode()
            headers.setdefault("Content-Type", "application/json")
        return call(self.port, method, path, body, headers, **more)

    def got(self, method, path, given=None, **more):
        """What a call that must go well gave."""
        answer = self.api(method, path, given, **more)
        assert 200 <= answer.status < 300, (method, path, answer)
        return answer.json() if answer.body else None

    def access_key(self, name="main", role="admin", project=None):
        """A key pair for S3, as an environment for its clients."""
        more = ["--project", project] if project else []
        made = self.ok("keys", "create", name, "--role", role, "-o", "json", *more).json()
        return {"AWS_ACCESS_KEY_ID": made["access_key_id"],
                "AWS_SECRET_ACCESS_KEY": made["secret_access_key"],
                "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.s3_port}",
                "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}

    # What many tests do.

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content)
        return path

    def submit(self, name, *command, **more):
        """A job of `command`, by the API; small unless told otherwise."""
        job = {"name": name, "program": {"type": "command", "command": list(command)},
               "resources": {"cpu": "100m", "memory": "128Mi"}} | more
        return self.got("POST", "jobs", job)["metadata"]["id"]

    def job(self, job):
        return self.got("GET", f"jobs/{job}")

    def over(self, job, patience=PATIENCE_S):
        """The job, once it is over."""
        def look():
            seen = self.job(job)
            return seen if seen["status"]["phase"] in ("succeeded", "failed", "cancelled") else None
        return eventually(f"job {job} is over", look, patience)

    def running(self, job):
        return eventually(
            f"job {job} runs", lambda: self.job(job)["status"]["phase"] == "running" and
            [a for a in self.got("GET", f"jobs/{job}/attempts")["items"]
             if a["status"]["phase"] == "running"])

    def logs(self, job, **query):
        query = "&".join(f"{k}={v}" for k, v in query.items())
        return self.api("GET", f"jobs/{job}/logs?{query}").body.decode()

    def blob(self, content):
        return self.got("POST", "blobs", body=content)

    def predict(self, endpoint, rows, **more):
        return self.api("POST", f"endpoints/{endpoint}/predict", {"rows": rows}, **more)
