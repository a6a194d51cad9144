"""What operators do with objects: keep them elsewhere, count and bound them, look for rot, change keys."""

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import os
import random
import socket
import sqlite3
import subprocess
import threading
import urllib.parse

import boto3
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError

from conftest import server
from server import BINARY, Lepton, eventually

MIB = 1 << 20


def client(env):
    return boto3.client(
        "s3", endpoint_url=env["AWS_ENDPOINT_URL_S3"], region_name="us-east-1",
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"max_attempts": 1}))


def read(s3, bucket, key):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def refused(call, code, status, **given):
    with pytest.raises(ClientError) as error:
        call(**given)
    answer = error.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status), answer


class Remote:
    """A second Lepton, in the place of an object service."""

    def __init__(self, lepton):
        self.lepton = lepton
        self.env = lepton.access_key("remote")
        self.s3 = client(self.env)
        self.s3.create_bucket(Bucket="place")

    def credentials(self, folder):
        file = folder / "remote.credentials"
        file.write_text(f"aws_access_key_id = {self.env['AWS_ACCESS_KEY_ID']}\n"
                        f"aws_secret_access_key = {self.env['AWS_SECRET_ACCESS_KEY']}\n")
        file.chmod(0o600)
        return file

    def place(self, credentials, prefix="objects", table="backend"):
        return (f'[objects.{table}]\nurl = "s3://place/{prefix}"\n'
                f'endpoint = "{self.env["AWS_ENDPOINT_URL_S3"]}"\ncredentials = "{credentials}"\n')

    def objects(self):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket="place")
        return {o["Key"]: read(self.s3, "place", o["Key"]) for p in pages for o in p.get("Contents", [])}


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    with server() as lepton:
        yield Remote(lepton)


@pytest.fixture
def file(remote, tmp_path):
    return remote.credentials(tmp_path)


def unstarted(config):
    return Lepton(config=config)


def start_fails(lepton):
    """What a server that cannot start says."""
    done = subprocess.run(lepton.up(), env=lepton.env(), capture_output=True, text=True,
                          cwd=lepton.folder, timeout=120)
    assert done.returncode != 0, done
    return done.stderr


def test_everything_lies_sealed_at_the_remote_and_outlives_a_kill(remote, file):
    with server(config=remote.place(file, "whole")) as lepton:
        secret = b"nobody else may read this line\n" * 4000
        table = "a,b\n" + "".join(f"{n},{n * n}\n" for n in range(40_000))
        lepton.write("t.csv", table)
        lepton.ok("data", "put", "squares", "t.csv")
        s3 = client(lepton.access_key())
        s3.create_bucket(Bucket="box")
        bodies = {"small": b"small secret", "line": secret,
                  "long": random.Random(5).randbytes(9 * MIB)}
        for key, body in bodies.items():
            s3.put_object(Bucket="box", Key=key, Body=body)
        upload = s3.create_multipart_upload(Bucket="box", Key="parts")["UploadId"]
        halves = [random.Random(n).randbytes(6 * MIB) for n in (1, 2)]
        parts = [{"PartNumber": n, "ETag": s3.upload_part(
            Bucket="box", Key="parts", UploadId=upload, PartNumber=n, Body=half)["ETag"]}
            for n, half in enumerate(halves, 1)]
        s3.complete_multipart_upload(Bucket="box", Key="parts", UploadId=upload,
                                     MultipartUpload={"Parts": parts})
        bodies["parts"] = b"".join(halves)
        lepton.kill()
        lepton.start()
        assert {key: read(s3, "box", key) for key in bodies} == bodies
        assert read(s3, "box", "parts")[6 * MIB - 3:6 * MIB + 3] == bodies["parts"][6 * MIB - 3:6 * MIB + 3]
        assert read(s3, "datasets", "squares/1/t.csv").decode() == table
        kept = {k: v for k, v in remote.objects().items() if k.startswith("whole/")}
        assert sum(len(v) for v in kept.values()) > 20 * MIB
        for body in kept.values():
            assert b"nobody else" not in body and b"39999," not in body
        local = lepton.data_dir / "contents"
        assert not [f for f in local.rglob("*") if f.is_file() and f.stat().st_size > 4096]
        # What is deleted goes there, too.
        for key in bodies:
            s3.delete_object(Bucket="box", Key=key)
        eventually("the remote is rid of it", lambda: sum(
            o["Size"] for p in remote.s3.get_paginator("list_objects_v2").paginate(
                Bucket="place", Prefix="whole/") for o in p.get("Contents", [])) < 4 * MIB)


def test_a_place_belongs_to_one_lepton(remote, file):
    with server(config=remote.place(file, "taken")) as lepton:
        lepton.write("f", b"x" * MIB)
        lepton.ok("data", "put", "d", "f")
    other = unstarted(remote.place(file, "taken"))
    try:
        said = start_fails(other)
        assert "holds the objects of another Lepton" in said and "place/taken" in said, said
        assert remote.env["AWS_SECRET_ACCESS_KEY"] not in said
    finally:
        other.close()


def test_a_place_that_is_not_there_is_told_at_the_start(remote, file):
    missing = remote.place(file).replace("s3://place/", "s3://nowhere/")
    wrong = file.with_name("wrong")
    wrong.write_text("aws_access_key_id = nobody\naws_secret_access_key = hushhush\n")
    wrong.chmod(0o600)
    gone = remote.place(file).replace(remote.env["AWS_ENDPOINT_URL_S3"], "http://127.0.0.1:9")
    for config in (missing, remote.place(wrong), gone):
        lepton = unstarted(config)
        try:
            said = start_fails(lepton)
            assert "cannot be reached" in said and "check that the service answers" in said, said
            assert "hushhush" not in said and remote.env["AWS_SECRET_ACCESS_KEY"] not in said
        finally:
            lepton.close()


def test_a_service_that_goes_away_is_told_and_comes_back(tmp_path):
    with server() as second:
        remote = Remote(second)
        with server(config=remote.place(remote.credentials(tmp_path))) as lepton:
            s3 = client(lepton.access_key())
            s3.create_bucket(Bucket="box")
            s3.put_object(Bucket="box", Key="k", Body=b"x" * MIB)
            digest = lepton.blob(b"y" * MIB)["digest"]
            second.stop()
            refused(s3.get_object, "ServiceUnavailable", 503, Bucket="box", Key="k")
            refused(s3.put_object, "ServiceUnavailable", 503, Bucket="box", Key="l", Body=b"x" * MIB)
            answer = lepton.api("GET", f"blobs/{digest}")
            assert answer.status == 503 and answer.error()[0] == "unavailable", answer
            assert "cannot be reached" in answer.error()[1] and "retry-after" in answer.headers
            second.start()
            assert read(s3, "box", "k") == b"x" * MIB
            s3.put_object(Bucket="box", Key="l", Body=b"x" * MIB)


def test_mistakes_are_explained_without_starting(lepton, remote, file):
    def said(text):
        done = lepton.cli("config", "check", lepton.write("c.toml", text))
        assert done.code == 8, done
        return done.err
    assert "begin with `s3://`" in said('[objects.backend]\nurl = "ftp://x"\n')
    assert "secrets do not belong" in said(
        '[objects.backend]\nurl = "s3://b"\noptions = {secret_access_key = "hush"}\n')
    assert "bukket" in said('[objects.backend]\nbukket = "b"\n')
    assert "No such file" in said('[objects.backend]\nurl = "s3://b"\ncredentials = "/no/such"\n')
    file.chmod(0o644)
    assert "chmod 600" in said(remote.place(file))
    file.chmod(0o600)
    good = lepton.write("good.toml", remote.place(file))
    assert "is a valid configuration" in lepton.ok("config", "check", good).out
    shown = lepton.ok("config", "show", "--config", good).out
    assert remote.env["AWS_SECRET_ACCESS_KEY"] not in shown and str(file) in shown


def numbers(seed, size):
    return random.Random(seed).randbytes(size)


def sealed(folder):
    """The files of sealed contents below a folder."""
    return [f for f in folder.rglob("*") if f.is_file() and len(f.name) == 32]


def test_a_quota_is_held_by_every_face_and_told(lepton):
    lepton.got("POST", "/api/v1/projects", {"name": "lab", "quota": {"storage": "2Mi"}})
    s3 = client(lepton.access_key(project="lab"))
    s3.create_bucket(Bucket="box")
    s3.put_object(Bucket="box", Key="k", Body=numbers(1, MIB))
    refused(s3.put_object, "QuotaExceeded", 403, Bucket="box", Key="l", Body=numbers(2, 2 * MIB))
    upload = s3.create_multipart_upload(Bucket="box", Key="m")["UploadId"]
    refused(s3.upload_part, "QuotaExceeded", 403, Bucket="box", Key="m", UploadId=upload, PartNumber=1,
            Body=numbers(3, 5 * MIB))
    s3.abort_multipart_upload(Bucket="box", Key="m", UploadId=upload)
    answer = lepton.api("POST", "/api/v1/projects/lab/blobs", body=numbers(4, 2 * MIB))
    assert answer.status == 403 and answer.error()[0] == "quota-exceeded", answer
    lepton.write("t.bin", numbers(5, 2 * MIB))
    put = lepton.cli("data", "put", "d", "t.bin", "--project", "lab")
    assert put.code == 4 and "lepton objects usage" in put.err, put
    lepton.write("u.bin", numbers(6, MIB // 2))
    lepton.ok("data", "put", "d", "u.bin", "--project", "lab")
    # What a dataset's objects share with its files counts once.
    usage = lepton.ok("objects", "usage", "lab", "-o", "json").json()
    assert usage["stored_bytes"] == MIB + MIB // 2 and usage["objects"] == 2, usage
    assert usage["quota"] == {"storage": "2Mi"}
    project = lepton.ok("get", "project", "lab", "-o", "json").json()
    assert project["status"]["stored"] == {"size_bytes": MIB + MIB // 2, "objects": 2}
    described = lepton.ok("describe", "project", "lab").out
    assert "1.5 MiB of 2.0 MiB" in described, described
    # Raised by the command line, by YAML, by PATCH; it outlives a kill.
    assert "4Mi" in lepton.ok("objects", "quota", "lab", "--storage", "4Mi", "--objects", "3").out
    s3.put_object(Bucket="box", Key="l", Body=numbers(2, 2 * MIB))
    refused(s3.put_object, "QuotaExceeded", 403, Bucket="box", Key="n", Body=b"")
    lepton.write("p.yaml", "apiVersion: lepton/v1\nkind: Project\nmetadata: {name: lab}\n"
                           "spec: {quota: {storage: 4Mi, objects: 4}}\n")
    assert "spec.quota.objects" in lepton.ok("apply", "-f", "p.yaml").out
    lepton.kill()
    lepton.start()
    s3.put_object(Bucket="box", Key="n", Body=b"")
    refused(s3.put_object, "QuotaExceeded", 403, Bucket="box", Key="o", Body=b"")
    lepton.got("PATCH", "/api/v1/projects/lab", {"quota": {"objects": None}})
    s3.put_object(Bucket="box", Key="o", Body=b"")
    assert lepton.ok("objects", "quota", "lab").out.startswith("project `lab` may store 4Mi bytes, any objects")
    bad = lepton.cli("objects", "quota", "lab", "--storage", "lots")
    assert bad.code == 2 and "none" in bad.err, bad


def test_what_cannot_fit_is_refused_before_its_body_is_sent(lepton):
    lepton.got("POST", "/api/v1/projects", {"name": "lab", "quota": {"storage": "2Mi"}})
    s3 = client(lepton.access_key(project="lab"))
    s3.create_bucket(Bucket="box")
    upload = s3.create_multipart_upload(Bucket="box", Key="m")["UploadId"]
    asked = [("put_object", {}), ("upload_part", {"UploadId": upload, "PartNumber": 1})]
    for operation, more in asked:
        url = urllib.parse.urlsplit(s3.generate_presigned_url(operation, {"Bucket": "box", "Key": "k" if not more else "m"} | more))
        for length, told in [(3 * MIB, b"HTTP/1.1 403 "), (MIB, b"HTTP/1.1 100 ")]:
            with socket.create_connection((url.hostname, url.port), timeout=60) as stream:
                stream.sendall(f"PUT {url.path}?{url.query} HTTP/1.1\r\nhost: {url.netloc}\r\n"
                               f"content-length: {length}\r\nexpect: 100-continue\r\n\r\n".encode())
                answer = stream.recv(1 << 16)
                assert answer.startswith(told), (operation, length, answer)
                assert told.endswith(b"100 ") or b"QuotaExceeded" in answer, answer
    # What it replaces makes room for it.
    s3.put_object(Bucket="box", Key="k", Body=numbers(1, 2 * MIB))
    s3.put_object(Bucket="box", Key="k", Body=numbers(2, 2 * MIB))
    assert read(s3, "box", "k") == numbers(2, 2 * MIB)


def test_an_admin_of_a_project_cannot_raise_its_quota_nor_touch_keys(lepton):
    lepton.got("POST", "/api/v1/projects", {"name": "lab"})
    token = lepton.ok("token", "create", "boss", "--role", "admin", "--project", "lab", "-o", "json").json()["token"]
    viewer = lepton.ok("token", "create", "eye", "--role", "viewer", "--project", "lab", "-o", "json").json()["token"]
    for method, path, body in [("PATCH", "projects/lab", {"quota": {"storage": None}}),
                               ("POST", "objects/upkeep", {"work": "scrub"}),
                               ("GET", "objects/keys", None), ("POST", "objects/keys/rotate", {}),
                               ("POST", "projects/lab/object-keys/shred", {"confirm": "lab"}),
                               ("GET", "projects/default/usage", None)]:
        answer = lepton.api(method, f"/api/v1/{path}", body, token=token)
        assert answer.status == 403, (path, answer)
    assert lepton.api("GET", "/api/v1/projects/lab/usage", token=viewer).status == 200
    assert lepton.api("POST", "/api/v1/projects/lab/object-keys/renew", {}, token=viewer).status == 403
    own = lepton.api("POST", "/api/v1/objects/upkeep", {"work": "scrub", "projects": ["lab"]}, token=token)
    assert own.status == 202, own
    listed = lepton.api("GET", "/api/v1/usage", token=viewer).json()["items"]
    assert [it["project"] for it in listed] == ["lab"]


PRICES = """
[objects.prices]
currency = "EUR"
requests_million = 1000000.0
egress_gib = 1024.0
[objects.prices.storage_gib_month]
STANDARD = 730.0
STANDARD_IA = 73.0
"""


def test_usage_is_metered_by_tier_and_priced():
    with server(config=PRICES) as lepton:
        s3 = client(lepton.access_key())
        s3.create_bucket(Bucket="box")
        s3.put_object(Bucket="box", Key="warm", Body=numbers(1, 2 * MIB))
        s3.put_object(Bucket="box", Key="cold", Body=numbers(2, 3 * MIB), StorageClass="STANDARD_IA")
        read(s3, "box", "warm")
        lepton.blob(b"of the other face")
        lepton.stop()
        lepton.start()
        usage = lepton.ok("objects", "usage", "default", "-o", "json").json()
        tiers = {tier["tier"]: tier for tier in usage["tiers"]}
        assert tiers["STANDARD_IA"]["stored_bytes"] == 3 * MIB and tiers["STANDARD_IA"]["objects"] == 1
        assert tiers["STANDARD"]["stored_bytes"] == 2 * MIB + 17 and tiers["STANDARD"]["objects"] == 1
        assert usage["received_bytes"] == 5 * MIB + 17 and usage["sent_bytes"] == 2 * MIB
        assert usage["requests"] >= 5, usage
        cost = usage["cost"]
        assert cost["currency"] == "EUR" and cost["requests"] == usage["requests"]
        assert cost["egress"] == pytest.approx(2.0)
        # A sample is taken each minute and at each start: what lies between them is paid for.
        def sampled():
            tiers = lepton.got("GET", "usage")["tiers"]
            return tiers if all(tier["gib_months"] > 0 for tier in tiers) else None
        cold, warm = sorted(eventually("a sample is taken", sampled), key=lambda t: -t["stored_bytes"])
        assert cold["gib_months"] / warm["gib_months"] == pytest.approx(1.5, rel=1e-3)
        assert warm["cost"] == pytest.approx(warm["gib_months"] * 730)
        table = lepton.ok("objects", "usage").out
        assert "EUR" in table and "default" in table
        shown = lepton.ok("objects", "usage", "default").out
        assert "STANDARD_IA" in shown and "egress" in shown
        s3.delete_object(Bucket="box", Key="cold")
        after = lepton.got("GET", "usage")
        assert after["stored_bytes"] == 2 * MIB + 17
        assert lepton.api("GET", "usage?month=2026-13").status == 400
        assert lepton.got("GET", "usage?month=1999-01")["requests"] == 0
        metrics = lepton.api("GET", "/metrics").body.decode()
        assert f'lepton_storage_bytes{{project="default",tier="STANDARD"}} {2 * MIB + 17}' in metrics
        assert f'lepton_storage_sent_bytes_total{{project="default"}} {2 * MIB}' in metrics


def test_a_scrub_finds_rot_and_repairs_it_from_the_replica(remote, file, tmp_path):
    config = remote.place(file, "copy", "replica")
    with server(config=config) as lepton:
        s3 = client(lepton.access_key())
        s3.create_bucket(Bucket="box")
        bodies = {key: numbers(n, 100_000) for n, key in enumerate(["a", "b/c", "ü"])}
        for key, body in bodies.items():
            s3.put_object(Bucket="box", Key=key, Body=body)
        lepton.write("t.bin", numbers(9, 3 * MIB))
        lepton.ok("data", "put", "d", "t.bin")
        assert " 0 could not be read" in lepton.ok("objects", "replicate").out
        clean = lepton.ok("objects", "scrub", "-o", "json").json()
        assert clean["phase"] == "finished" and clean["damaged"] == 0 and clean["size_bytes"] > 3 * MIB
        # One byte of each file, and one file altogether.
        files = sealed(lepton.data_dir / "contents")
        assert len(files) >= 4
        for damaged in files[1:]:
            damaged.chmod(0o600)
            with damaged.open("r+b") as opened:
                opened.seek(damaged.stat().st_size // 2)
                byte = opened.read(1)
                opened.seek(-1, os.SEEK_CUR)
                opened.write(bytes([byte[0] ^ 1]))
        files[0].unlink()
        found = lepton.cli("objects", "scrub")
        assert found.code == 1 and f"{len(files)} damaged, 0 repaired" in found.out, found
        assert "s3://box/" in found.out and "--repair" in found.err, found
        assert f"lepton_objects_damaged {len(files)}" in lepton.api("GET", "/metrics").body.decode()
        repaired = lepton.ok("objects", "scrub", "--repair", "-o", "yaml")
        assert f"repaired: {len(files)}" in repaired.out, repaired
        assert {key: read(s3, "box", key) for key in bodies} == bodies
        assert "0 damaged" in lepton.ok("objects", "scrub", "default").out
        # Nothing of it is plain at the replica.
        copies = [v for k, v in remote.objects().items() if k.startswith("copy/")]
        assert sum(map(len, copies)) > 3 * MIB and not any(bodies["a"][:32] in v for v in copies)


def test_what_rots_is_read_from_the_replica_meanwhile(remote, file):
    with server(config=remote.place(file, "rescue", "replica")) as lepton:
        s3 = client(lepton.access_key())
        s3.create_bucket(Bucket="box")
        s3.put_object(Bucket="box", Key="k", Body=numbers(1, 3 * MIB))
        lepton.ok("objects", "replicate")
        rotten, = sealed(lepton.data_dir / "contents")
        rotten.chmod(0o600)
        with rotten.open("r+b") as opened:
            opened.seek(2 * MIB)
            opened.write(b"rot")
        assert read(s3, "box", "k") == numbers(1, 3 * MIB)
        assert "lepton_objects_rescued_reads_total 1" in lepton.api("GET", "/metrics").body.decode()
        eventually("it is put right", lambda: lepton.cli("objects", "scrub").code == 0)


def test_a_pass_that_was_cut_off_goes_on_after_a_restart(lepton):
    s3 = client(lepton.access_key())
    s3.create_bucket(Bucket="box")
    s3.put_object(Bucket="box", Key="k", Body=b"x")
    told = lepton.ok("objects", "scrub", "-o", "json").json()
    assert told["contents"] == 1
    # As it is noted while a pass is under way; one over so little is over too soon to be met there.
    told |= {"phase": "running", "contents": 1_000, "damaged": 3}
    told.pop("finished_at")
    lepton.kill()
    with contextlib.closing(sqlite3.connect(lepton.data_dir / "objects.db")) as index, index:
        assert index.execute("SELECT count(*) FROM about WHERE name = 'note upkeep'").fetchone() == (0,)
        course = {"told": told, "left": ["default"], "after": None}
        index.execute("INSERT INTO about VALUES ('note upkeep', ?)", [json.dumps(course)])
    lepton.start()
    newest = lambda: lepton.api("GET", "/api/v1/objects/upkeep").json()
    ended = eventually("it ends", lambda: newest().get("phase") == "finished" and newest())
    assert (ended["contents"], ended["damaged"], ended["started_at"]) == (1_001, 3, told["started_at"])
    # Over for good.
    lepton.kill()
    lepton.start()
    assert lepton.api("GET", "/api/v1/objects/upkeep").status == 404


def test_without_a_replica_repair_says_what_is_missing(lepton):
    done = lepton.cli("objects", "scrub", "--repair")
    assert done.code == 5 and "objects.replica" in done.err, done
    assert "no pass over the objects" in lepton.api("GET", "/api/v1/objects/upkeep").error()[1]


def test_objects_move_to_another_place_through_a_replica(remote, file):
    lepton = unstarted(remote.place(file, "moved", "replica"))
    try:
        lepton.start()
        s3 = client(lepton.access_key())
        s3.create_bucket(Bucket="box")
        s3.put_object(Bucket="box", Key="k", Body=numbers(1, MIB))
        tables = lepton.config.read_text()
        # Too early: nothing is there yet.
        lepton.stop()
        lepton.config.write_text(tables.replace("objects.replica", "objects.backend").replace("moved", "fresh"))
        said = start_fails(lepton)
        assert "objects in another place" in said and "lepton objects replicate" in said, said
        lepton.config.write_text(tables)
        lepton.start()
        lepton.ok("objects", "replicate")
        lepton.stop()
        lepton.config.write_text(tables.replace("objects.replica", "objects.backend"))
        for file_of_old in sealed(lepton.data_dir / "contents"):
            file_of_old.unlink()
        lepton.start()
        assert read(s3, "box", "k") == numbers(1, MIB)
    finally:
        lepton.close()


def keys(lepton):
    return lepton.ok("objects", "keys", "list", "-o", "json").json()


def test_the_master_key_is_rotated_online_and_rewrites_nothing(lepton):
    s3 = client(lepton.access_key())
    s3.create_bucket(Bucket="box")
    body = numbers(1, MIB)
    s3.put_object(Bucket="box", Key="k", Body=body)
    s3.put_object(Bucket="box", Key="small", Body=b"inline")
    before = {f: hashlib.sha256(f.read_bytes()).digest() for f in sealed(lepton.data_dir / "contents")}
    first = keys(lepton)["master"]
    assert "default" in lepton.ok("objects", "keys", "list").out
    rotated = lepton.ok("objects", "keys", "rotate", "-o", "json").json()
    assert rotated["master"] != first and rotated["projects"] >= 1
    now = keys(lepton)
    assert {k["wrapped_by"] for p in now["projects"] for k in p["keys"]} == {rotated["master"]}
    assert {f: hashlib.sha256(f.read_bytes()).digest() for f in sealed(lepton.data_dir / "contents")} == before
    again = lepton.ok("objects", "keys", "rotate", "-o", "json").json()["master"]
    files = list((lepton.data_dir / "object-keys").iterdir())
    assert [f.name for f in files] == ["2.key"] and files[0].stat().st_mode & 0o777 == 0o600
    lepton.kill()
    lepton.start()
    assert keys(lepton)["master"] == again
    assert read(s3, "box", "k") == body and read(s3, "box", "small") == b"inline"
    # A new data key seals what comes; the older still opens what it sealed.
    lepton.ok("objects", "keys", "renew", "default")
    s3.put_object(Bucket="box", Key="l", Body=body)
    lepton.kill()
    lepton.start()
    assert read(s3, "box", "k") == read(s3, "box", "l") == body
    assert len(keys(lepton)["projects"][0]["keys"]) == 2


@pytest.mark.parametrize("seed", range(5))
def test_a_rotation_is_cut_off_anywhere_and_nothing_is_lost(seed):
    rand = random.Random(seed)
    with server() as lepton:
        lepton.got("POST", "/api/v1/projects", {"name": "lab"})
        faces = [client(lepton.access_key("one")), client(lepton.access_key("two", project="lab"))]
        for s3 in faces:
            s3.create_bucket(Bucket="box")
            s3.put_object(Bucket="box", Key="k", Body=numbers(seed, 100_000))
        for _ in range(3):
            rotating = subprocess.Popen(
                [BINARY, "objects", "keys", "rotate"], env=lepton.env(),
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # Not a wait for anything: the moment of the kill is what differs.
            with contextlib.suppress(subprocess.TimeoutExpired):
                rotating.wait(rand.uniform(0.005, 0.08))
            lepton.kill()
            rotating.wait()
            lepton.start()
            for s3 in faces:
                assert read(s3, "box", "k") == numbers(seed, 100_000)
        lepton.ok("objects", "keys", "rotate")
        assert len(list((lepton.data_dir / "object-keys").iterdir())) == 1


def test_shredding_asks_and_then_nobody_can_read(remote, file):
    with server(config=remote.place(file, "shred", "replica")) as lepton:
        lepton.got("POST", "/api/v1/projects", {"name": "lab"})
        s3 = client(lepton.access_key(project="lab"))
        s3.create_bucket(Bucket="box")
        s3.put_object(Bucket="box", Key="k", Body=numbers(1, MIB))
        digest = lepton.got("POST", "/api/v1/projects/lab/blobs", body=numbers(2, MIB))["digest"]
        lepton.ok("objects", "replicate")
        asked = lepton.cli("objects", "keys", "shred", "lab")
        assert asked.code == 2 and "--yes" in asked.err, asked
        wrong = lepton.api("POST", "/api/v1/projects/lab/object-keys/shred", {"confirm": "lob"})
        assert wrong.status == 400 and "`confirm` must be `lab`" in wrong.error()[1]
        assert len(read(s3, "box", "k")) == MIB
        assert "are destroyed" in lepton.ok("objects", "keys", "shred", "lab", "--yes").out
        refused(s3.get_object, "InvalidObjectState", 403, Bucket="box", Key="k")
        answer = lepton.api("GET", f"/api/v1/projects/lab/blobs/{digest}")
        assert answer.status == 410 and answer.error()[0] == "shredded", answer
        assert "shredded" in lepton.ok("objects", "keys", "list").out
        assert "ShreddingKeys" in lepton.ok("events", "--project", "lab").out
        # That is no rot.
        scrubbed = lepton.ok("objects", "scrub", "lab", "-o", "json").json()
        assert scrubbed["damaged"] == 0 and scrubbed["shredded"] >= 2, scrubbed
        # The replica's copies of the keys are gone, too.
        assert b"hex" not in read(remote.s3, "place", "shred/.keys/lab")
        # The project goes on, under a new key; the same bytes are stored again.
        s3.put_object(Bucket="box", Key="l", Body=b"x" * MIB)
        assert lepton.got("POST", "/api/v1/projects/lab/blobs", body=numbers(2, MIB))["digest"] == digest
        assert lepton.api("GET", f"/api/v1/projects/lab/blobs/{digest}").body == numbers(2, MIB)
        assert len(read(s3, "box", "l")) == MIB


def test_a_deleted_project_takes_its_keys_along(lepton):
    lepton.got("POST", "/api/v1/projects", {"name": "lab"})
    s3 = client(lepton.access_key(project="lab"))
    s3.create_bucket(Bucket="box")
    s3.put_object(Bucket="box", Key="k", Body=numbers(1, MIB))
    s3.delete_object(Bucket="box", Key="k")
    lepton.ok("delete", "project", "lab")
    lab = [p for p in keys(lepton)["projects"] if p["project"] == "lab"]
    assert lab and not any(k.get("wrapped_by") for k in lab[0]["keys"])


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), "sha256").digest()


def transit_seal(key, plain, aad):
    """Stands for a cipher that takes associated data; good for 32 bytes."""
    nonce = os.urandom(12)
    text = bytes(a ^ b for a, b in zip(plain, mac(key, b"stream", nonce), strict=True))
    return nonce + text + mac(key, b"tag", nonce, text, aad)


def transit_open(key, sealed, aad):
    nonce, text, tag = sealed[:12], sealed[12:-32], sealed[-32:]
    if not hmac.compare_digest(tag, mac(key, b"tag", nonce, text, aad)):
        return None
    return bytes(a ^ b for a, b in zip(text, mac(key, b"stream", nonce), strict=True))


class Transit(http.server.BaseHTTPRequestHandler):
    """What Vault's Transit engine answers: keys with versions, and associated data."""

    def do_POST(self):
        vault = self.server
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _, version, mount, what, name = self.path.split("/")
        if self.headers["X-Vault-Token"] != "hvs.right":
            return self.answer(403, {"errors": ["permission denied"]})
        if (version, mount) != ("v1", "transit") or name != "lepton":
            return self.answer(404, {"errors": ["no handler for route"]})
        aad = base64.b64decode(asked["associated_data"])
        vault.calls.append(what)
        if what == "encrypt":
            sealed = transit_seal(vault.versions[-1], base64.b64decode(asked["plaintext"]), aad)
            text = f"vault:v{len(vault.versions)}:" + base64.b64encode(sealed).decode()
            return self.answer(200, {"data": {"ciphertext": text}})
        _, number, text = asked["ciphertext"].split(":")
        plain = transit_open(vault.versions[int(number[1:]) - 1], base64.b64decode(text), aad)
        if plain is None:
            return self.answer(400, {"errors": ["cipher: message authentication failed"]})
        self.answer(200, {"data": {"plaintext": base64.b64encode(plain).decode()}})

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def vault():
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Transit)
    served.versions, served.calls = [os.urandom(32)], []
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()


def kms(vault, token):
    return (f'[objects.kms]\naddress = "http://127.0.0.1:{vault.server_port}"\nkey = "lepton"\n'
            f'token_file = "{token}"\n')


def test_a_key_service_wraps_data_keys(vault, tmp_path):
    token = tmp_path / "token"
    token.write_text("hvs.right\n")
    token.chmod(0o600)
    lepton = unstarted("")
    try:
        lepton.start()
        s3 = client(lepton.access_key())
        s3.create_bucket(Bucket="box")
        s3.put_object(Bucket="box", Key="k", Body=numbers(1, MIB))
        lepton.ok("objects", "keys", "rotate")
        lepton.stop()
        without = lepton.config.read_text()
        lepton.config.write_text(without + kms(vault, token))
        lepton.start()
        # What a file wrapped is moved to the service, and the file goes.
        eventually("the service wraps all", lambda: {
            k["wrapped_by"] for p in keys(lepton)["projects"] for k in p["keys"]} == {"vault:transit/lepton"})
        eventually("the key files are gone", lambda: not list((lepton.data_dir / "object-keys").iterdir()))
        ring = lambda: (lepton.data_dir / "contents/.keys/default").read_text()
        assert bytes.fromhex(json.loads(ring())["keys"][0]["sealed"]["hex"]).startswith(b"vault:v1:")
        vault.versions.append(os.urandom(32))
        lepton.ok("objects", "keys", "rotate")
        assert bytes.fromhex(json.loads(ring())["keys"][0]["sealed"]["hex"]).startswith(b"vault:v2:")
        lepton.kill()
        lepton.start()
        assert read(s3, "box", "k") == numbers(1, MIB)
        # One call opens a project's keys; reading goes on without the service.
        calls = len(vault.calls)
        for _ in range(5):
            read(s3, "box", "k")
        assert len(vault.calls) == calls
        token.write_text("hvs.wrong")
        assert read(s3, "box", "k") == numbers(1, MIB)
        lepton.kill()
        lepton.start()
        refused(s3.get_object, "ServiceUnavailable", 503, Bucket="box", Key="k")
        log = lepton.log.read_text()
        assert "permission denied" in log and "hvs.wrong" not in log
        token.write_text("hvs.right")
        assert read(s3, "box", "k") == numbers(1, MIB)
        # And back to files.
        lepton.stop()
        lepton.config.write_text(without + kms(vault, token) + "retired = true\n")
        lepton.start()
        eventually("files wrap all again", lambda: not any(
            k["wrapped_by"].startswith("vault:") for p in keys(lepton)["projects"] for k in p["keys"]))
        lepton.stop()
        lepton.config.write_text(without)
        lepton.start()
        assert read(s3, "box", "k") == numbers(1, MIB)
    finally:
        lepton.close()
