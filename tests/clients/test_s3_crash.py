"""The S3 face while the server is killed at random and while its disk is full. Afterwards every
acknowledged write is there to the byte, every other one is whole or absent, listings agree with
reads, and the disk holds what the index names and nothing else.

`LEPTON_KILLS` says how often it is killed (12), `LEPTON_KILL_SEED` from where randomness starts.
Each client writes below a prefix of its own, one request after the other, and keeps the set of
states that each of its keys may be in: one after an answer, one more after none.
"""

import collections
import contextlib
import hashlib
import os
import random
import sqlite3
import subprocess
import threading
import time

import boto3
import pytest
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError
from urllib3.exceptions import HTTPError

from conftest import server
from server import PATIENCE_S, eventually

KILLS = int(os.environ.get("LEPTON_KILLS", "12"))
SEED = int(os.environ.get("LEPTON_KILL_SEED", "0"))
CLIENTS, KEYS = 6, 8
MIB = 1 << 20
SIZES = [0, 17, 4096, (16 << 10) + 1, 70_000, MIB, 3 * MIB]
# Parts but the last have at least 5 MiB.
BLOCK = random.Random(7).randbytes(6 * MIB)
PLAIN, KEPT = "plain", "versions"


class Unsure(Exception):
    """It may have happened or not."""


def s3_of(env):
    return boto3.client(
        "s3", endpoint_url=env["AWS_ENDPOINT_URL_S3"], region_name="us-east-1",
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        # A repetition of its own would come after what the model thinks is the last request.
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=64,
                      connect_timeout=5, read_timeout=60))


def digest(body):
    return hashlib.sha256(body).hexdigest()


class Client(threading.Thread):
    """Asks random things of its own keys, and checks every answer against what it may be."""

    def __init__(self, s3, number, seed, sizes=SIZES):
        super().__init__(daemon=True)
        self.s3, self.prefix, self.sizes = s3, f"client {number}/", sizes
        self.random = random.Random(seed * 1_000 + number)
        # What each key may hold; None stands for nothing.
        self.may = {f"{self.prefix}{at}": {None} for at in range(KEYS)}
        # Of the bucket that keeps versions: the digest of each, if known to be there; all that were tried.
        self.versions, self.tried = {}, {f"{self.prefix}{at}": set() for at in range(KEYS)}
        self.uploads, self.counts, self.made = set(), collections.Counter(), 0
        self.stopping, self.failure = threading.Event(), None

    def run(self):
        steps = [(self.put, 8), (self.get, 4), (self.delete, 2), (self.copy, 3), (self.put_if_absent, 2),
                 (self.delete_many, 1), (self.list, 2), (self.in_parts, 1), (self.put_version, 3),
                 (self.delete_version, 1)]
        steps, weights = zip(*steps)
        while not self.stopping.is_set():
            step = self.random.choices(steps, weights)[0]
            try:
                step()
                self.counts[step.__name__] += 1
            except Unsure:
                time.sleep(0.02)
            except BaseException as failure:
                self.failure = failure
                return

    def stop(self):
        self.stopping.set()
        self.join(PATIENCE_S * 2)
        assert not self.is_alive(), f"{self.prefix} hangs"
        if self.failure:
            raise self.failure

    def ask(self, call, expect=(), **given):
        """The answer, or the code of a refusal that was to be expected."""
        try:
            return getattr(self.s3, call)(**given)
        except ClientError as refused:
            status = refused.response["ResponseMetadata"]["HTTPStatusCode"]
            if status >= 500:
                self.counts[f"{status}"] += 1
                raise Unsure from refused
            code = refused.response["Error"]["Code"]
            assert code in expect, (call, given.get("Key"), refused)
            return code
        except EndpointConnectionError as nobody:
            # Not a request that was cut off, but that is not worth a state of its own.
            self.counts["not reached"] += 1
            raise Unsure from nobody
        except BotoCoreError as cut_off:
            self.counts["cut off"] += 1
            raise Unsure from cut_off

    def body(self, size=None):
        """Bytes that no other request sends."""
        self.made += 1
        size = self.random.choice(self.sizes) if size is None else size
        head = f"{self.prefix} {self.made} ".encode()
        at = self.random.randrange(MIB)
        return (head + BLOCK[at:at + max(size - len(head), 0)])[:size]

    def key(self):
        return self.random.choice(list(self.may))

    @contextlib.contextmanager
    def change(self, key, new):
        """Until it is acknowledged, the key may be as it was or as it is to be."""
        before = self.may[key]
        self.may[key] = before | {new}
        yield
        self.may[key] = {new}

    # Requests.

    def put(self):
        key, body = self.key(), self.body()
        with self.change(key, digest(body)):
            self.ask("put_object", Bucket=PLAIN, Key=key, Body=body)

    def put_if_absent(self):
        key, body = self.key(), self.body()
        before = self.settled(key)
        with self.change(key, digest(body)):
            code = self.ask("put_object", ("PreconditionFailed",), Bucket=PLAIN, Key=key, Body=body,
                            IfNoneMatch="*")
        if before is not None:
            assert code == "PreconditionFailed", (key, before)
            self.may[key] = {before}
        else:
            assert code != "PreconditionFailed", key

    def get(self):
        self.settled(self.key())

    def settled(self, key):
        """What the key holds, which must be one of what it may."""
        found = self.read(PLAIN, key)
        assert found in self.may[key], f"{key} holds {found}, not one of {self.may[key]}"
        self.may[key] = {found}
        return found

    def read(self, bucket, key, **more):
        absent = ("NoSuchKey", "NoSuchVersion")
        answer = self.ask("get_object", absent, Bucket=bucket, Key=key, **more)
        if answer in absent:
            return None
        try:
            return digest(answer["Body"].read())
        except (BotoCoreError, OSError, HTTPError) as cut_off:
            self.counts["cut off"] += 1
            raise Unsure from cut_off

    def delete(self):
        key = self.key()
        with self.change(key, None):
            self.ask("delete_object", Bucket=PLAIN, Key=key)

    def delete_many(self):
        keys = self.random.sample(list(self.may), 3)
        with contextlib.ExitStack() as changes:
            for key in keys:
                changes.enter_context(self.change(key, None))
            done = self.ask("delete_objects", Bucket=PLAIN, Delete={"Objects": [{"Key": key} for key in keys]})
            if done.get("Errors"):
                raise Unsure

    def copy(self):
        source, key = self.key(), self.key()
        content = self.settled(source)
        if content is None or source == key:
            return
        with self.change(key, content):
            self.ask("copy_object", Bucket=PLAIN, Key=key, CopySource={"Bucket": PLAIN, "Key": source})

    def list(self):
        found = self.ask("list_objects_v2", Bucket=PLAIN, Prefix=self.prefix)
        found = {entry["Key"] for entry in found.get("Contents", [])}
        for key, may in self.may.items():
            if None not in may:
                assert key in found, f"{key} is not listed"
            elif may == {None}:
                assert key not in found, f"{key} is listed"

    def in_parts(self):
        key, last = self.key(), self.body()
        upload = self.ask("create_multipart_upload", Bucket=PLAIN, Key=key)["UploadId"]
        self.uploads.add(upload)
        given = {"Bucket": PLAIN, "Key": key, "UploadId": upload}
        first, parts = self.body(5 * MIB), []
        for number, body in enumerate([first, last], 1):
            answer = self.ask("upload_part", PartNumber=number, Body=body, **given)
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        if self.random.random() < 0.2:
            self.ask("abort_multipart_upload", **given)
        else:
            with self.change(key, digest(first + last)):
                self.ask("complete_multipart_upload", MultipartUpload={"Parts": parts}, **given)
        self.uploads.discard(upload)

    def put_version(self):
        key, body = self.key(), self.body()
        self.tried[key].add(digest(body))
        made = self.ask("put_object", Bucket=KEPT, Key=key, Body=body)
        self.versions[key, made["VersionId"]] = {digest(body)}

    def delete_version(self):
        if not self.versions:
            return
        key, version = self.random.choice(list(self.versions))
        may = self.versions[key, version]
        self.versions[key, version] = may | {None}
        self.ask("delete_object", Bucket=KEPT, Key=key, VersionId=version)
        self.versions[key, version] = {None}

    # Afterwards.

    def check(self, listed):
        """All keys are what they may be, and listed if they are there; so are all versions."""
        for key in self.may:
            content = self.settled(key)
            assert (content is not None) == (key in listed), f"{key} is {content} and listed as {listed.get(key)}"
        found = {}
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=KEPT, Prefix=self.prefix):
            assert not page.get("DeleteMarkers")
            for entry in page.get("Versions", []):
                key, version = entry["Key"], entry["VersionId"]
                found[key, version] = self.read(KEPT, key, VersionId=version)
                assert found[key, version] in self.tried[key], f"{key} {version} is nobody's"
        for place, may in self.versions.items():
            assert found.get(place) in may, f"version {place} holds {found.get(place)}, not one of {may}"


def start_clients(lepton, seed, **more):
    s3 = s3_of(lepton.access_key())
    s3.create_bucket(Bucket=PLAIN)
    s3.create_bucket(Bucket=KEPT)
    s3.put_bucket_versioning(Bucket=KEPT, VersioningConfiguration={"Status": "Enabled"})
    clients = [Client(s3, number, seed, **more) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    return s3, clients


def kill_at_random(lepton, chance):
    """Kills a server that works, or one that is about to."""
    # Mostly soon, at times late enough for the longest of requests.
    time.sleep(chance.random() ** 3 * 3)
    lepton.kill()
    while chance.random() < 0.2:
        with lepton.log.open("ab") as log:
            lepton.process = subprocess.Popen(lepton.up(), env=lepton.env(), stdin=subprocess.DEVNULL,
                                              stdout=log, stderr=log, cwd=lepton.folder)
        time.sleep(chance.random() * 0.2)
        lepton.kill()
    lepton.start()


def check_all(lepton, s3, clients):
    """Whatever was promised holds."""
    listed = {entry["Key"]: entry for page in s3.get_paginator("list_objects_v2").paginate(Bucket=PLAIN)
              for entry in page.get("Contents", [])}
    for client in clients:
        client.check(listed)
    assert set(listed) <= {key for client in clients for key in client.may}
    for key, entry in listed.items():
        head = s3.head_object(Bucket=PLAIN, Key=key)
        assert (head["ETag"], head["ContentLength"]) == (entry["ETag"], entry["Size"]), key
    # What is still under way was not completed, and can be given up.
    ours = set().union(*(client.uploads for client in clients))
    for upload in s3.list_multipart_uploads(Bucket=PLAIN).get("Uploads", []):
        assert upload["UploadId"] in ours or ours_unheard(clients), upload
        s3.abort_multipart_upload(Bucket=PLAIN, Key=upload["Key"], UploadId=upload["UploadId"])
    check_disk(lepton)


def ours_unheard(clients):
    """Whether an answer was cut off: it may have been that of an upload's creation."""
    return any(client.counts["cut off"] for client in clients)


def check_disk(lepton):
    """No orphan survives a sweep, which every start begins with, and the index adds up."""
    lepton.stop()
    lepton.start()
    eventually("the disk holds what the index names", lambda: orphans(lepton) == (set(), set(), 0))
    assert not lepton.half_uploads()
    with index_of(lepton) as index:
        (project, counted, objects), = index.execute("SELECT project, bytes, objects FROM usage")
        size, count = index.execute("SELECT total(size), count(*) FROM versions WHERE marker = 0").fetchone()
        assert (counted, objects) == (size, count), project
        assert index.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@contextlib.contextmanager
def index_of(lepton):
    with contextlib.closing(sqlite3.connect(f"file:{lepton.data_dir}/objects.db?mode=ro", uri=True)) as index:
        yield index


def orphans(lepton):
    """Files that nothing names, names without a file, and garbage that is still to go."""
    with index_of(lepton) as index:
        named = {row[0].hex() for row in index.execute("SELECT id FROM contents WHERE bytes IS NULL")}
        garbage, = index.execute("SELECT count(*) FROM garbage").fetchone()
    folders = [folder for folder in (lepton.data_dir / "contents").iterdir() if not folder.name.startswith(".")]
    files = {file.name for folder in folders for file in folder.rglob("*") if file.is_file()}
    return files - named, named - files, garbage


def tell(clients, what):
    counts = sum((client.counts for client in clients), collections.Counter())
    print(f"{what}: {dict(counts.most_common())}", flush=True)
    return counts


def test_what_s3_acknowledged_survives_any_kill():
    chance = random.Random(SEED)
    with server() as lepton:
        s3, clients = start_clients(lepton, SEED)
        for kill in range(1, KILLS + 1):
            kill_at_random(lepton, chance)
            dead = [client for client in clients if not client.is_alive()]
            if dead:
                dead[0].stop()
            if kill % 100 == 0:
                tell(clients, f"{kill} kills")
        for client in clients:
            client.stop()
        counts = tell(clients, f"{KILLS} kills")
        check_all(lepton, s3, clients)
        assert counts["cut off"] and counts["put"], counts


@pytest.mark.parametrize("small_disk", [160], indirect=True)
def test_a_disk_that_fills_up_and_a_server_that_is_killed_meanwhile(small_disk):
    """The disk is full, again and again, while clients write and the server is killed."""
    chance = random.Random(SEED)
    with server(data_dir=small_disk / "data") as lepton:
        s3, clients = start_clients(lepton, SEED, sizes=SIZES[:-1])
        filler = small_disk / "filler"
        for _ in range(3):
            full = sum(client.counts["507"] for client in clients)
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as out:
                while out.write(bytes(65_536)):
                    pass
            eventually("the full disk is met", lambda: sum(c.counts["507"] for c in clients) > full)
            lepton.kill()
            filler.unlink()
            lepton.start()
            done = sum(client.counts["put"] for client in clients)
            eventually("it works again", lambda: sum(c.counts["put"] for c in clients) > done + 10)
            kill_at_random(lepton, chance)
        for client in clients:
            client.stop()
        tell(clients, "full three times")
        check_all(lepton, s3, clients)
