"""The S3 face under attack: policies that are walked around, namesakes, forms, readers that stall."""

import concurrent.futures
import hashlib
import json
import os
import socket
import time
import urllib.parse

import pytest
import requests
from botocore.exceptions import ClientError

from server import eventually
from test_s3 import MIB, client, read, refused, signed


@pytest.fixture(scope="module")
def env(shared):
    return shared.access_key("attacked")


@pytest.fixture(scope="module")
def s3(env):
    return client(env)


@pytest.fixture(scope="module")
def editor(shared):
    return client(shared.access_key("attacking-editor", role="editor"))


@pytest.fixture(scope="module")
def evil(shared):
    """Somebody of another project."""
    shared.got("POST", "/api/v1/projects", {"name": "evil"})
    return client(shared.access_key("attacker", project="evil"))


@pytest.fixture
def bucket(s3, request):
    name = "a" + hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def url(env, bucket):
    return f"{env['AWS_ENDPOINT_URL_S3']}/{bucket}"


def set_policy(s3, bucket, *statements):
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [
        {"Effect": "Allow", "Principal": "*", "Resource": f"arn:aws:s3:::{bucket}/*"} | one
        for one in statements]}))


def test_a_version_is_one_however_its_parameter_is_written(s3, bucket, url):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    old = s3.put_object(Bucket=bucket, Key="o", Body=b"secret")["VersionId"]
    s3.put_object(Bucket=bucket, Key="o", Body=b"open")
    set_policy(s3, bucket, {"Action": ["s3:GetObject", "s3:DeleteObject"]})
    assert requests.get(f"{url}/o").content == b"open"
    for name in ("versionId", "version%49d", "%76ersionId"):
        assert requests.get(f"{url}/o?{name}={old}").status_code == 403, name
        assert requests.delete(f"{url}/o?{name}={old}").status_code == 403, name
    assert read(s3, bucket, "o", VersionId=old) == b"secret"


def test_conditions_speak_of_the_version_that_is_deleted(s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    kept = s3.put_object(Bucket=bucket, Key="o", Body=b"1", Tagging="keep=yes")["VersionId"]
    s3.put_object(Bucket=bucket, Key="o", Body=b"2")
    set_policy(s3, bucket, {"Effect": "Deny", "Action": "s3:DeleteObjectVersion", "Condition": {
        "StringEquals": {"s3:ExistingObjectTag/keep": "yes"}}})
    refused(s3.delete_object, "AccessDenied", 403, Bucket=bucket, Key="o", VersionId=kept)
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "o", "VersionId": kept}]})
    assert [e["Code"] for e in done["Errors"]] == ["AccessDenied"]
    assert read(s3, bucket, "o", VersionId=kept) == b"1"


def test_a_form_is_asked_for_its_key_and_is_bounded(s3, bucket, url):
    set_policy(s3, bucket, {"Effect": "Deny", "Action": "s3:PutObject",
                            "Resource": f"arn:aws:s3:::{bucket}/frozen/*"})
    for key, status in (("frozen/x", 403), ("free/x", 204)):
        post = s3.generate_presigned_post(bucket, key)
        answer = requests.post(post["url"], data=post["fields"], files={"file": b"1"})
        assert answer.status_code == status, answer.text
    refused(s3.get_object, "NoSuchKey", Bucket=bucket, Key="frozen/x")

    def endless():
        yield b"--b\r\n"

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert requests.post(url, data=endless(), headers=kind).status_code == 411
    long = {"Content-Length": str(1 << 40)}
    answer = requests.Request("POST", url, headers=kind | long).prepare()
    answer.headers["Content-Length"] = str(1 << 40)
    assert b"EntityTooLarge" in requests.Session().send(answer).content


def test_only_administrators_weaken_what_keeps_an_object(s3, editor, request):
    bucket = "held-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:10]
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    version = s3.put_object(Bucket=bucket, Key="o", Body=b"1")["VersionId"]
    editor.put_object_legal_hold(Bucket=bucket, Key="o", LegalHold={"Status": "ON"})
    refused(editor.put_object_legal_hold, "AccessDenied", 403, Bucket=bucket, Key="o",
            LegalHold={"Status": "OFF"})
    refused(editor.delete_object, "AccessDenied", 403, Bucket=bucket, Key="o", VersionId=version)
    s3.put_object_legal_hold(Bucket=bucket, Key="o", LegalHold={"Status": "OFF"})
    until = time.gmtime(time.time() + 600)
    s3.put_object_retention(Bucket=bucket, Key="o", Retention={
        "Mode": "GOVERNANCE", "RetainUntilDate": time.strftime("%Y-%m-%dT%H:%M:%SZ", until)})
    gone = {"Bucket": bucket, "Key": "o", "VersionId": version, "BypassGovernanceRetention": True}
    refused(editor.delete_object, "AccessDenied", 403, **gone)
    set_policy(s3, bucket, {"Effect": "Deny", "Action": "s3:BypassGovernanceRetention"})
    refused(s3.delete_object, "AccessDenied", 403, **gone)
    s3.delete_bucket_policy(Bucket=bucket)
    s3.delete_object(**gone)


def test_a_bucket_of_the_same_name_is_not_in_the_way(s3, evil, bucket, url):
    evil.create_bucket(Bucket=f"{bucket}-open")
    set_policy(evil, f"{bucket}-open", {"Action": "s3:GetObject", "Principal": {"AWS": "nobody"}})
    s3.create_bucket(Bucket=f"{bucket}-open")
    s3.put_object(Bucket=f"{bucket}-open", Key="o", Body=b"ours")
    set_policy(s3, f"{bucket}-open", {"Action": "s3:GetObject"})
    assert requests.get(f"{url}-open/o").content == b"ours"
    # Who says whose bucket is meant does not write into another's.
    evil.create_bucket(Bucket=f"{bucket}-lost")
    set_policy(evil, f"{bucket}-lost", {"Action": "s3:*"})
    refused(s3.put_object, "AccessDenied", 403, Bucket=f"{bucket}-lost", Key="o", Body=b"secret",
            ExpectedBucketOwner="default")
    s3.put_object(Bucket=bucket, Key="o", Body=b"1", ExpectedBucketOwner="default")
    # Browsers are told what the bucket itself allows.
    rules = [{"AllowedOrigins": ["https://evil.example"], "AllowedMethods": ["GET"]}]
    evil.create_bucket(Bucket=bucket)
    evil.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    link = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "o"})
    answer = requests.get(link, headers={"Origin": "https://evil.example"})
    assert answer.content == b"1" and "Access-Control-Allow-Origin" not in answer.headers


def test_a_negated_condition_does_not_hide_that_a_policy_is_public(s3, bucket, url):
    s3.put_object(Bucket=bucket, Key="o", Body=b"1")
    set_policy(s3, bucket, {"Action": "s3:GetObject", "Condition": {
        "StringNotEquals": {"aws:username": "nobody"}}})
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"]
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={
        "RestrictPublicBuckets": True})
    assert requests.get(f"{url}/o").status_code == 403


def test_headers_and_presigned_urls_have_their_bounds(s3, env, bucket, url):
    refused(s3.put_object, "RequestHeaderSectionTooLarge", 400, Bucket=bucket, Key="o", Body=b"",
            CacheControl="x" * 20_000)
    old = client(env, signature_version="s3")
    s3.put_object(Bucket=bucket, Key="o", Body=b"1")
    params = {"Bucket": bucket, "Key": "o"}
    good = old.generate_presigned_url("get_object", Params=params, ExpiresIn=6 * 86_400)
    assert requests.get(good).content == b"1"
    endless = old.generate_presigned_url("get_object", Params=params, ExpiresIn=30 * 86_400)
    assert requests.get(endless).status_code == 403
    # A pattern that takes long where it is matched naively.
    set_policy(s3, bucket, {"Action": "s3:GetObject", "Condition": {
        "StringLike": {"aws:Referer": "*" + "a" * 9_000 + "b"}}})
    assert requests.get(f"{url}/o", headers={"Referer": "a" * 15_000}).status_code == 403


def test_a_reader_that_stalls_holds_up_nobody(lepton):
    env = lepton.access_key()
    s3 = client(env)
    s3.create_bucket(Bucket="bbb")
    for key in "xy":
        s3.put_object(Bucket="bbb", Key=key, Body=os.urandom(24 * MIB))
    contents = lepton.data_dir / "contents"
    stored = lambda: sum(f.stat().st_size for f in contents.rglob("*") if f.is_file())
    full = stored()
    link = urllib.parse.urlsplit(s3.generate_presigned_url("get_object", Params={"Bucket": "bbb", "Key": "x"}))
    stalled = socket.create_connection((link.hostname, link.port), timeout=60)
    stalled.sendall(f"GET {link.path}?{link.query} HTTP/1.1\r\nHost: {link.netloc}\r\n\r\n".encode())
    begun = stalled.recv(2000)
    assert begun.startswith(b"HTTP/1.1 200"), begun
    s3.delete_object(Bucket="bbb", Key="x")
    s3.delete_object(Bucket="bbb", Key="y")
    eventually("what nobody reads is gone from the disk", lambda: stored() < full - 23 * MIB)
    # What is being read stays to its end.
    got = len(begun.split(b"\r\n\r\n")[1])
    while got < 24 * MIB and (some := stalled.recv(1 << 20)):
        got += len(some)
    assert got == 24 * MIB
    stalled.close()
    eventually("all is gone", lambda: stored() < MIB)


def test_clients_that_leave_lose_nobody_s_objects(lepton):
    """A write whose client hung up is whole or absent, and a sweep at that moment harms nothing."""
    env = lepton.access_key()
    s3 = client(env)
    s3.create_bucket(Bucket="bbb")
    body = os.urandom(40_000)
    for n in range(40):
        s3.put_object(Bucket="bbb", Key=f"k{n}", Body=body)

    def hang_up(n):
        new = bytes([n]) * 40_000
        headers = signed(env, "PUT", f"/bbb/k{n % 40}", new).headers
        link = urllib.parse.urlsplit(env["AWS_ENDPOINT_URL_S3"])
        with socket.create_connection((link.hostname, link.port)) as out:
            head = "".join(f"{k}: {v}\r\n" for k, v in headers.items() if k.lower() not in ("host", "content-length"))
            out.sendall(f"PUT /bbb/k{n % 40} HTTP/1.1\r\nHost: {link.netloc}\r\n{head}Content-Length: {len(new)}\r\n\r\n".encode() + new)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(hang_up, range(200)))
    # The first thing after a start is a sweep.
    lepton.kill()
    lepton.start()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(hang_up, range(200)))
    for n in range(40):
        got = read(client(env | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{lepton.s3_port}"}), "bbb", f"k{n}")
        assert got == body or (len(got) == 40_000 and len(set(got)) == 1), n


def test_a_copy_of_what_is_always_there_always_succeeds(s3, env, bucket):
    s3.put_object(Bucket=bucket, Key="source", Body=os.urandom(30_000))

    def overwrite(_):
        client(env).put_object(Bucket=bucket, Key="source", Body=os.urandom(30_000))

    def copy(n):
        s3.copy_object(Bucket=bucket, Key=f"copy{n}", CopySource={"Bucket": bucket, "Key": "source"})

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(overwrite, n) for n in range(60)]
        for n in range(40):
            copy(n)
        for one in writing:
            one.result()


def test_a_project_s_buckets_go_together_or_not_at_all(shared):
    shared.got("POST", "/api/v1/projects", {"name": "undecided"})
    own = client(shared.access_key("of-undecided", project="undecided"))
    for name in ("aaa", "zzz"):
        own.create_bucket(Bucket=name)
    own.put_object(Bucket="zzz", Key="o", Body=b"1")
    upload = own.create_multipart_upload(Bucket="aaa", Key="big")["UploadId"]
    full = shared.cli("delete", "project", "undecided")
    assert full.code != 0 and "`zzz` still holds objects" in full.err
    assert own.list_parts(Bucket="aaa", Key="big", UploadId=upload)["UploadId"] == upload
    own.delete_object(Bucket="zzz", Key="o")
    shared.ok("delete", "project", "undecided")
    with pytest.raises(ClientError):
        own.list_buckets()


def test_folders_in_a_draft_take_no_file_s_place(shared, s3):
    for n in range(3):
        s3.put_object(Bucket="datasets", Key=f"folders/draft/f{n}/", Body=b"")
        s3.put_object(Bucket="datasets", Key=f"folders/draft/f{n}/a.csv", Body=b"a\n1\n",
                      Metadata={"customer_key_md5": "no"})
    shared.ok("data", "commit", "folders")
    listed = s3.list_objects_v2(Bucket="datasets", Prefix="folders/1/")["Contents"]
    assert [o["Key"] for o in listed] == [f"folders/1/f{n}/a.csv" for n in range(3)]


def test_policies_tell_addresses_apart(s3, bucket, url):
    s3.put_object(Bucket=bucket, Key="k", Body=b"bytes")
    for ranges, code in [(["10.0.0.0/8", "127.0.0.0/8"], 200), (["10.0.0.0/8"], 403)]:
        set_policy(s3, bucket, {"Action": "s3:GetObject", "Condition": {"IpAddress": {"aws:SourceIp": ranges}}})
        assert not s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"]
        assert requests.get(f"{url}/k").status_code == code
        # What a client claims to be is not where it comes from.
        assert requests.get(f"{url}/k", headers={"x-forwarded-for": "10.0.0.1"}).status_code == code


def test_an_empty_bucket_of_datasets_is_not_listed(shared, s3):
    shared.got("POST", "/api/v1/projects", {"name": "fresh"})
    own = client(shared.access_key("fresh", project="fresh"))
    assert own.list_buckets()["Buckets"] == []
    own.put_object(Bucket="datasets", Key="d/draft/x", Body=b"1")
    assert [one["Name"] for one in own.list_buckets()["Buckets"]] == ["datasets"]


def test_a_list_that_says_less_than_full_control_is_refused(s3, bucket):
    acl = s3.get_bucket_acl(Bucket=bucket)
    whole = {"Owner": acl["Owner"], "Grants": acl["Grants"]}
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=whole)
    reads = [one | {"Permission": "READ"} for one in acl["Grants"]]
    for grants in [reads, []]:
        refused(s3.put_bucket_acl, "AccessControlListNotSupported", 400, Bucket=bucket,
                AccessControlPolicy=whole | {"Grants": grants})
    s3.put_object(Bucket=bucket, Key="k", Body=b"", ACL="private")
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={
        "Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]})
    refused(s3.put_object, "AccessControlListNotSupported", 400, Bucket=bucket, Key="k", Body=b"", ACL="private")
    s3.put_object(Bucket=bucket, Key="k", Body=b"", ACL="bucket-owner-full-control")
