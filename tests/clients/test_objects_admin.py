"""What operators do with objects: keep them elsewhere, count and bound them, look for rot, change keys."""

import hashlib
import os
import random
import subprocess
import urllib.parse

import boto3
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError

from conftest import server
from server import Lepton, call, eventually

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
