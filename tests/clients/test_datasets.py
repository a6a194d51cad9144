"""Datasets through S3: frozen versions are read, drafts are written and committed."""

import os
import random

import pytest
from botocore.exceptions import ClientError

from test_s3 import MIB, client, refused


@pytest.fixture(scope="module")
def s3(shared):
    return client(shared.access_key())


def keys(s3, prefix):
    return [o["Key"] for o in s3.list_objects_v2(Bucket="datasets", Prefix=prefix).get("Contents", [])]


def stored_bytes(lepton):
    """What is kept on disk, small contents in the index aside."""
    return sum(f.stat().st_size for f in (lepton.data_dir / "contents").rglob("*") if f.is_file())


def test_a_frozen_version_is_read_and_cannot_be_changed(shared, s3):
    text = "a,b\n1,2\n3,4\n"
    shared.ok("data", "put", "table", shared.write("table.csv", text))
    assert keys(s3, "table/") == ["table/1/table.csv"]
    got = s3.get_object(Bucket="datasets", Key="table/1/table.csv")
    assert got["Body"].read().decode() == text
    part = s3.get_object(Bucket="datasets", Key="table/1/table.csv", Range="bytes=4-6")
    assert part["Body"].read().decode() == text[4:7]
    for key in ["table/1/table.csv", "table/1/more.csv", "table/9/x", "loose"]:
        refused(s3.put_object, "AccessDenied", 403, Bucket="datasets", Key=key, Body=b"x")
        refused(s3.delete_object, "AccessDenied", 403, Bucket="datasets", Key=key)
    many = s3.delete_objects(Bucket="datasets", Delete={"Objects": [{"Key": "table/1/table.csv"}]})
    assert [error["Code"] for error in many["Errors"]] == ["AccessDenied"]
    refused(s3.delete_bucket, "AccessDenied", 403, Bucket="datasets")
    assert keys(s3, "table/") == ["table/1/table.csv"]
    s3.create_bucket(Bucket="copies")
    s3.copy_object(Bucket="copies", Key="c", CopySource="datasets/table/1/table.csv")
    shared.ok("delete", "dataset", "table")
    assert keys(s3, "table/") == []
    assert s3.get_object(Bucket="copies", Key="c")["Body"].read().decode() == text


def test_a_draft_is_written_through_s3_and_committed(shared, s3):
    for name, body in [("x/one.csv", b"a\n1\n"), ("two.csv", b"a\n2\n3\n")]:
        s3.put_object(Bucket="datasets", Key=f"drawn/draft/{name}", Body=body)
    version = shared.ok("data", "commit", "drawn", "-o", "json").json()
    assert version["spec"]["version"] == 1 and version["status"]["rows"] == 3
    assert sorted(f["path"] for f in version["spec"]["files"]) == ["two.csv", "x/one.csv"]
    assert keys(s3, "drawn/") == ["drawn/1/two.csv", "drawn/1/x/one.csv"]
    nothing = shared.cli("data", "commit", "drawn")
    assert nothing.code == 3 and "s3://datasets/drawn/draft/" in nothing.err
    s3.put_object(Bucket="datasets", Key="drawn/draft/two.csv", Body=b"a\n7\n")
    assert shared.ok("data", "commit", "drawn", "-o", "json").json()["spec"]["version"] == 2
    assert s3.get_object(Bucket="datasets", Key="drawn/1/two.csv")["Body"].read() == b"a\n2\n3\n"
    shared.ok("data", "get", "drawn:2", "--to", shared.folder / "drawn2")
    assert (shared.folder / "drawn2/two.csv").read_bytes() == b"a\n7\n"


def test_a_version_that_changes_little_costs_little(shared):
    rng = random.Random(7)
    data = bytearray(rng.randbytes(24 * MIB))
    path = shared.folder / "big.bin"
    path.write_bytes(data)
    shared.ok("data", "put", "big", path)
    before = stored_bytes(shared)
    data[11 * MIB:11 * MIB] = b"a few bytes in the middle"
    path.write_bytes(data)
    shared.ok("data", "put", "big", path)
    assert stored_bytes(shared) - before < 10 * MIB
    assert shared.api("GET", "datasets/big/versions/2/files/big.bin").body == bytes(data)


def test_nothing_lies_on_the_disk_in_clear(shared, s3):
    secret = b"the patient's name is " + os.urandom(8).hex().encode()
    s3.create_bucket(Bucket="ward")
    s3.put_object(Bucket="ward", Key="small", Body=secret)
    s3.put_object(Bucket="ward", Key="large", Body=secret * 4_000)
    shared.ok("data", "put", "ward", shared.write("ward.txt", secret.decode() * 2_000))
    for file in shared.data_dir.rglob("*"):
        if file.is_file():
            assert secret not in file.read_bytes(), file


def test_a_project_goes_with_its_buckets_and_keys(shared):
    shared.got("POST", "/api/v1/projects", {"name": "brief"})
    made = shared.ok("keys", "create", "of-brief", "--project", "brief", "-o", "json").json()
    port = shared.access_key("of-datasets")["AWS_ENDPOINT_URL_S3"]
    own = client({"AWS_ENDPOINT_URL_S3": port, "AWS_ACCESS_KEY_ID": made["access_key_id"],
                  "AWS_SECRET_ACCESS_KEY": made["secret_access_key"]})
    own.put_object(Bucket="datasets", Key="d/draft/x", Body=b"1")
    full = shared.cli("delete", "project", "brief")
    assert full.code != 0 and "`datasets` still holds objects" in full.err
    own.delete_object(Bucket="datasets", Key="d/draft/x")
    shared.ok("delete", "project", "brief")
    shared.got("POST", "/api/v1/projects", {"name": "brief"})
    with pytest.raises(ClientError) as error:
        own.list_buckets()
    assert error.value.response["Error"]["Code"] == "InvalidAccessKeyId"
