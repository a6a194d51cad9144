"""boto3 and plain HTTP against the S3 face."""

import base64
import concurrent.futures
import contextlib
import datetime
import hashlib
import http.client
import io
import json
import os
import random
import urllib.parse
import zlib

import boto3
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.client import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from conftest import server
from server import eventually

MIB = 1 << 20


def client(env, **config):
    return boto3.client(
        "s3", endpoint_url=env["AWS_ENDPOINT_URL_S3"], region_name="us-east-1",
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"max_attempts": 1}, **config))


@pytest.fixture(scope="module")
def env(shared):
    return shared.access_key()


@pytest.fixture(scope="module")
def s3(env):
    return client(env)


@pytest.fixture
def bucket(s3, request):
    name = "b" + hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    s3.create_bucket(Bucket=name)
    return name


def refused(call, code, status=None, **given):
    with pytest.raises(ClientError) as error:
        call(**given)
    answer = error.value.response
    assert answer["Error"]["Code"] == code, answer
    assert status in (None, answer["ResponseMetadata"]["HTTPStatusCode"]), answer


def read(s3, bucket, key, **more):
    return s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read()


NAMES = ["plain", "a/b/c", "with space", "grüße", "数据/表", "данные", "ملف", "😀/🎉", "a..b", "../up",
         "/leading", "//two", "trailing/", "a//b", "per%cent", "plus+and&amp=;?#", "'quote\"", "tab\there",
         "x" * 1024, "ä" * 512]


def test_names_of_every_alphabet_come_back_and_are_listed_in_the_order_of_their_bytes(s3, bucket):
    for name in NAMES:
        s3.put_object(Bucket=bucket, Key=name, Body=name.encode())
    listed = [o["Key"] for p in s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 3}) for o in p["Contents"]]
    assert listed == sorted(NAMES, key=str.encode)
    for name in NAMES:
        assert read(s3, bucket, name) == name.encode()
    refused(s3.put_object, "KeyTooLongError", 400, Bucket=bucket, Key="x" * 1025, Body=b"")


@pytest.mark.parametrize("size", [0, 1, 4096, 16 << 10, (16 << 10) + 1, MIB, 9 * MIB + 7])
def test_bytes_of_every_size_come_back_and_ranges_of_them(s3, bucket, size):
    body = random.Random(size).randbytes(size)
    put = s3.put_object(Bucket=bucket, Key="o", Body=body)
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert read(s3, bucket, "o") == body
    if size > 100:
        for first, last in [(0, 0), (10, 99), (size // 2, size - 1), (size - 5, size + 50)]:
            assert read(s3, bucket, "o", Range=f"bytes={first}-{last}") == body[first:last + 1]
        assert read(s3, bucket, "o", Range="bytes=-7") == body[-7:]
    refused(s3.get_object, "InvalidRange", 416, Bucket=bucket, Key="o", Range=f"bytes={size}-")


def test_prefixes_group_and_pages_hold_in_both_calls(s3, bucket):
    keys = [f"{a}/{b}/{n}" for a in "xyz" for b in "pq" for n in range(3)] + ["root"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=b"1"), keys))
    page = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [p["Prefix"] for p in page["CommonPrefixes"]] == ["x/", "y/", "z/"]
    assert [o["Key"] for o in page["Contents"]] == ["root"] and page["KeyCount"] == 4
    page = s3.list_objects_v2(Bucket=bucket, Delimiter="/", Prefix="x/", MaxKeys=1)
    assert page["IsTruncated"] and [p["Prefix"] for p in page["CommonPrefixes"]] == ["x/p/"]
    page = s3.list_objects_v2(Bucket=bucket, Delimiter="/", Prefix="x/",
                              ContinuationToken=page["NextContinuationToken"])
    assert not page["IsTruncated"] and [p["Prefix"] for p in page["CommonPrefixes"]] == ["x/q/"]
    seen, marker = [], ""
    while True:
        page = s3.list_objects(Bucket=bucket, MaxKeys=4, Marker=marker)
        seen += [o["Key"] for o in page["Contents"]]
        if not page["IsTruncated"]:
            break
        marker = seen[-1]
    assert seen == sorted(keys)
    assert s3.list_objects_v2(Bucket=bucket, StartAfter="x/q/2")["Contents"][0]["Key"] == "y/p/0"


def test_what_is_said_of_an_object_is_kept(s3, bucket):
    expires = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    s3.put_object(Bucket=bucket, Key="o", Body=b"1", ContentType="text/x", ContentEncoding="gzip",
                  ContentLanguage="de", ContentDisposition="inline", CacheControl="no-store",
                  Expires=expires, Metadata={"one": "1", "two": "zwei"}, Tagging="a=1&b=zw%20ei",
                  StorageClass="STANDARD_IA")
    head = s3.head_object(Bucket=bucket, Key="o")
    assert (head["ContentType"], head["ContentEncoding"], head["ContentLanguage"]) == ("text/x", "gzip", "de")
    assert (head["ContentDisposition"], head["CacheControl"]) == ("inline", "no-store")
    assert head["Metadata"] == {"one": "1", "two": "zwei"} and head["StorageClass"] == "STANDARD_IA"
    assert head["ServerSideEncryption"] == "AES256"
    tags = s3.get_object_tagging(Bucket=bucket, Key="o")["TagSet"]
    assert {t["Key"]: t["Value"] for t in tags} == {"a": "1", "b": "zw ei"}
    over = s3.get_object(Bucket=bucket, Key="o", ResponseContentType="application/json")
    assert over["ContentType"] == "application/json"
    s3.put_object_tagging(Bucket=bucket, Key="o", Tagging={"TagSet": [{"Key": "c", "Value": "3"}]})
    assert s3.get_object(Bucket=bucket, Key="o")["TagCount"] == 1
    s3.delete_object_tagging(Bucket=bucket, Key="o")
    assert s3.get_object_tagging(Bucket=bucket, Key="o")["TagSet"] == []
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "k", "Value": "v"}]


def test_conditions_hold_on_reads_and_writes(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="o", Body=b"1", IfNoneMatch="*")["ETag"]
    refused(s3.put_object, "PreconditionFailed", 412, Bucket=bucket, Key="o", Body=b"2", IfNoneMatch="*")
    refused(s3.put_object, "PreconditionFailed", 412, Bucket=bucket, Key="o", Body=b"2", IfMatch='"x"')
    refused(s3.put_object, "NoSuchKey", 404, Bucket=bucket, Key="none", Body=b"2", IfMatch=etag)
    refused(s3.get_object, "304", 304, Bucket=bucket, Key="o", IfNoneMatch=etag)
    refused(s3.get_object, "PreconditionFailed", 412, Bucket=bucket, Key="o", IfMatch='"x"')
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    earlier = later - datetime.timedelta(days=2)
    refused(s3.get_object, "304", 304, Bucket=bucket, Key="o", IfModifiedSince=later)
    refused(s3.get_object, "PreconditionFailed", 412, Bucket=bucket, Key="o", IfUnmodifiedSince=earlier)
    s3.put_object(Bucket=bucket, Key="o", Body=b"2", IfMatch=etag)
    assert read(s3, bucket, "o") == b"2"
    # One of many that must not overwrite wins.
    def put(n):
        try:
            s3.put_object(Bucket=bucket, Key="race", Body=str(n).encode(), IfNoneMatch="*")
            return True
        except ClientError:
            return False
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(put, range(16))) == 1


def test_copies_share_bytes_and_outlive_their_source(s3, bucket):
    body = os.urandom(MIB)
    s3.put_object(Bucket=bucket, Key="from", Body=body, Metadata={"a": "1"}, Tagging="t=1")
    source = {"Bucket": bucket, "Key": "from"}
    s3.copy_object(Bucket=bucket, Key="to", CopySource=source)
    s3.copy_object(Bucket=bucket, Key="new", CopySource=source, MetadataDirective="REPLACE",
                   Metadata={"b": "2"}, TaggingDirective="REPLACE", Tagging="u=2")
    refused(s3.copy_object, "InvalidRequest", 400, Bucket=bucket, Key="from", CopySource=source)
    refused(s3.copy_object, "PreconditionFailed", 412, Bucket=bucket, Key="x", CopySource=source,
            CopySourceIfMatch='"x"')
    s3.delete_object(Bucket=bucket, Key="from")
    assert read(s3, bucket, "to") == read(s3, bucket, "new") == body
    assert s3.head_object(Bucket=bucket, Key="to")["Metadata"] == {"a": "1"}
    assert s3.head_object(Bucket=bucket, Key="new")["Metadata"] == {"b": "2"}
    assert s3.get_object_tagging(Bucket=bucket, Key="new")["TagSet"] == [{"Key": "u", "Value": "2"}]


def test_uploads_in_parts_and_copies_into_parts(s3, bucket):
    body = os.urandom(12 * MIB)
    s3.put_object(Bucket=bucket, Key="source", Body=body)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="o", ContentType="x/y",
                                        ChecksumAlgorithm="CRC32")["UploadId"]
    first = s3.upload_part(Bucket=bucket, Key="o", UploadId=upload, PartNumber=1, Body=body[:5 * MIB],
                           ChecksumAlgorithm="CRC32")
    second = s3.upload_part_copy(Bucket=bucket, Key="o", UploadId=upload, PartNumber=7,
                                 CopySource={"Bucket": bucket, "Key": "source"},
                                 CopySourceRange=f"bytes={5 * MIB}-{12 * MIB - 1}")["CopyPartResult"]
    listed = s3.list_parts(Bucket=bucket, Key="o", UploadId=upload)["Parts"]
    assert [(p["PartNumber"], p["Size"]) for p in listed] == [(1, 5 * MIB), (7, 7 * MIB)]
    assert [u["UploadId"] for u in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload]
    parts = [{"PartNumber": n, "ETag": p["ETag"], "ChecksumCRC32": p["ChecksumCRC32"]}
             for n, p in ((1, first), (7, second))]
    def complete(parts):
        return s3.complete_multipart_upload(Bucket=bucket, Key="o", UploadId=upload,
                                            MultipartUpload={"Parts": parts})
    refused(complete, "InvalidPartOrder", 400, parts=parts[::-1])
    refused(complete, "InvalidPart", 400, parts=[parts[0] | {"ETag": '"0"'}])
    done = complete(parts)
    md5s = b"".join(hashlib.md5(b).digest() for b in (body[:5 * MIB], body[5 * MIB:]))
    assert done["ETag"] == f'"{hashlib.md5(md5s).hexdigest()}-2"'
    # The answer may have been lost: the same again is answered the same.
    assert complete(parts)["ETag"] == done["ETag"]
    assert read(s3, bucket, "o") == body
    assert read(s3, bucket, "o", Range=f"bytes={5 * MIB - 3}-{5 * MIB + 2}") == body[5 * MIB - 3:5 * MIB + 3]
    assert read(s3, bucket, "o", PartNumber=7) == body[5 * MIB:]
    told = s3.get_object_attributes(Bucket=bucket, Key="o", ObjectAttributes=[
        "ETag", "ObjectSize", "ObjectParts", "Checksum", "StorageClass"])
    assert told["ObjectSize"] == 12 * MIB and told["ObjectParts"]["TotalPartsCount"] == 2
    assert told["Checksum"]["ChecksumType"] == "COMPOSITE"


def test_parts_have_their_bounds(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="o")["UploadId"]
    where = {"Bucket": bucket, "Key": "o", "UploadId": upload}
    for number in (0, 10_001):
        refused(s3.upload_part, "InvalidArgument", 400, PartNumber=number, Body=b"", **where)
    parts = [{"PartNumber": n, "ETag": s3.upload_part(PartNumber=n, Body=b"small", **where)["ETag"]}
             for n in (1, 2)]
    refused(s3.complete_multipart_upload, "EntityTooSmall", 400, MultipartUpload={"Parts": parts}, **where)
    many = [{"PartNumber": n, "ETag": '"x"'} for n in range(1, 10_002)]
    refused(s3.complete_multipart_upload, "InvalidPart", 400, MultipartUpload={"Parts": many}, **where)
    refused(s3.complete_multipart_upload, "MalformedXML", 400, MultipartUpload={"Parts": []}, **where)
    s3.abort_multipart_upload(**where)
    refused(s3.list_parts, "NoSuchUpload", 404, **where)
    refused(s3.upload_part, "NoSuchUpload", 404, PartNumber=1, Body=b"", **where)


def test_versions_markers_and_multi_delete(s3, bucket):
    s3.put_object(Bucket=bucket, Key="o", Body=b"null")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    ids = [s3.put_object(Bucket=bucket, Key="o", Body=str(n).encode())["VersionId"] for n in range(3)]
    gone = s3.delete_object(Bucket=bucket, Key="o")
    assert gone["DeleteMarker"]
    refused(s3.get_object, "NoSuchKey", 404, Bucket=bucket, Key="o")
    assert read(s3, bucket, "o", VersionId="null") == b"null"
    assert read(s3, bucket, "o", VersionId=ids[1]) == b"1"
    refused(s3.get_object, "MethodNotAllowed", 405, Bucket=bucket, Key="o", VersionId=gone["VersionId"])
    listed = s3.list_object_versions(Bucket=bucket)
    assert [v["VersionId"] for v in listed["Versions"]] == ids[::-1] + ["null"]
    assert [m["IsLatest"] for m in listed["DeleteMarkers"]] == [True]
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": 1})
    paged = [v["VersionId"] for p in pages for v in p.get("Versions", []) + p.get("DeleteMarkers", [])]
    assert paged == [gone["VersionId"], *ids[::-1], "null"]
    s3.delete_object(Bucket=bucket, Key="o", VersionId=gone["VersionId"])
    assert read(s3, bucket, "o") == b"2"
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [
        {"Key": "o", "VersionId": v} for v in [*ids, "null"]] + [{"Key": "never"}]})
    assert len(done["Deleted"]) == 5 and "Errors" not in done
    refused(s3.delete_bucket, "BucketNotEmpty", 409, Bucket=bucket)
    for marker in s3.list_object_versions(Bucket=bucket)["DeleteMarkers"]:
        s3.delete_object(Bucket=bucket, Key=marker["Key"], VersionId=marker["VersionId"])
    s3.delete_bucket(Bucket=bucket)


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_every_checksum_is_verified_and_told(s3, bucket, algorithm):
    body = os.urandom(100_000)
    s3.put_object(Bucket=bucket, Key="o", Body=body, ChecksumAlgorithm=algorithm)
    head = s3.head_object(Bucket=bucket, Key="o", ChecksumMode="ENABLED")
    told = head[f"Checksum{algorithm}"]
    wrong = base64.b64encode(bytes(len(base64.b64decode(told)))).decode()
    refused(s3.put_object, "BadDigest", 400, Bucket=bucket, Key="p", Body=body,
            ChecksumAlgorithm=algorithm, **{f"Checksum{algorithm}": wrong})
    refused(s3.head_object, "404", 404, Bucket=bucket, Key="p")


def test_object_lock_keeps_versions(s3, request):
    name = "locked-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    s3.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration={
        "ObjectLockEnabled": "Enabled",
        "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}})
    version = s3.put_object(Bucket=name, Key="o", Body=b"1")["VersionId"]
    which = {"Bucket": name, "Key": "o", "VersionId": version}
    assert s3.head_object(**which)["ObjectLockMode"] == "GOVERNANCE"
    refused(s3.delete_object, "AccessDenied", 403, **which)
    assert s3.delete_object(Bucket=name, Key="o")["DeleteMarker"]
    s3.put_object_legal_hold(LegalHold={"Status": "ON"}, **which)
    refused(s3.delete_object, "AccessDenied", 403, BypassGovernanceRetention=True, **which)
    s3.put_object_legal_hold(LegalHold={"Status": "OFF"}, **which)
    s3.delete_object(BypassGovernanceRetention=True, **which)
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2)
    version = s3.put_object(Bucket=name, Key="p", Body=b"1", ObjectLockMode="COMPLIANCE",
                            ObjectLockRetainUntilDate=until)["VersionId"]
    which = {"Bucket": name, "Key": "p", "VersionId": version}
    refused(s3.delete_object, "AccessDenied", 403, BypassGovernanceRetention=True, **which)
    def gone():
        try:
            s3.delete_object(**which)
            return True
        except ClientError:
            return False
    eventually("the retention is over", gone)


def test_customers_keys_are_needed_again(s3, bucket):
    key, other = os.urandom(32), os.urandom(32)
    body = os.urandom(50_000)
    s3.put_object(Bucket=bucket, Key="o", Body=body, SSECustomerKey=key, SSECustomerAlgorithm="AES256")
    assert read(s3, bucket, "o", SSECustomerKey=key, SSECustomerAlgorithm="AES256") == body
    refused(s3.get_object, "InvalidRequest", 400, Bucket=bucket, Key="o")
    refused(s3.get_object, "InvalidRequest", 400, Bucket=bucket, Key="o", SSECustomerKey=other,
            SSECustomerAlgorithm="AES256")
    s3.copy_object(Bucket=bucket, Key="plain", CopySource={"Bucket": bucket, "Key": "o"},
                   CopySourceSSECustomerKey=key, CopySourceSSECustomerAlgorithm="AES256")
    assert read(s3, bucket, "plain") == body


def test_an_upload_with_checksums_is_completed_with_its_customers_key(s3, bucket):
    key = {"SSECustomerKey": os.urandom(32), "SSECustomerAlgorithm": "AES256"}
    for sums, needed in [({"ChecksumAlgorithm": "CRC32"}, True), ({}, False)]:
        upload = {"Bucket": bucket, "Key": "parts"}
        upload["UploadId"] = s3.create_multipart_upload(**upload, **sums, **key)["UploadId"]
        part = s3.upload_part(PartNumber=1, Body=b"part", **upload, **sums, **key)
        told = {name: part[name] for name in ("ETag", "ChecksumCRC32") if name in part}
        upload["MultipartUpload"] = {"Parts": [{"PartNumber": 1, **told}]}
        other = key | {"SSECustomerKey": os.urandom(32)}
        refused(s3.complete_multipart_upload, "InvalidRequest", 400, **upload, **other)
        if needed:
            refused(s3.complete_multipart_upload, "InvalidRequest", 400, **upload)
        s3.complete_multipart_upload(**upload, **(key if needed else {}))
        assert read(s3, bucket, "parts", **key) == b"part"


def test_cors_answers_browsers(s3, env, bucket):
    url = f"{env['AWS_ENDPOINT_URL_S3']}/{bucket}/o"
    ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "PUT",
           "Access-Control-Request-Headers": "x-amz-meta-a"}
    assert requests.options(url, headers=ask).status_code == 403
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [{
        "AllowedOrigins": ["https://*.example"], "AllowedMethods": ["PUT", "GET"],
        "AllowedHeaders": ["x-amz-*"], "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 60}]})
    answer = requests.options(url, headers=ask)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert answer.headers["Access-Control-Max-Age"] == "60"
    assert requests.options(url, headers=ask | {"Origin": "https://evil"}).status_code == 403
    s3.put_object(Bucket=bucket, Key="o", Body=b"1")
    got = requests.get(s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "o"}),
                       headers={"Origin": "https://app.example"})
    assert got.headers["Access-Control-Expose-Headers"] == "ETag" and got.content == b"1"
    s3.delete_bucket_cors(Bucket=bucket)
    refused(s3.get_bucket_cors, "NoSuchCORSConfiguration", 404, Bucket=bucket)


def test_strangers_get_what_a_policy_allows_and_nothing_else(shared, s3, env, bucket):
    s3.put_object(Bucket=bucket, Key="open/o", Body=b"1")
    s3.put_object(Bucket=bucket, Key="closed", Body=b"2")
    url = f"{env['AWS_ENDPOINT_URL_S3']}/{bucket}"
    assert requests.get(f"{url}/open/o").status_code == 403
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [{
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/open/*"}]}))
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"]
    assert requests.get(f"{url}/open/o").content == b"1"
    assert [requests.get(f"{url}/{path}").status_code for path in ("closed", "")] == [403, 403]
    assert requests.put(f"{url}/open/p", data=b"x").status_code == 403
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={
        "RestrictPublicBuckets": True, "BlockPublicPolicy": True})
    assert requests.get(f"{url}/open/o").status_code == 403
    refused(s3.put_bucket_policy, "MalformedPolicy", 400, Bucket=bucket, Policy="{}")
    # A role of Lepton's is a role here, and another project is another world.
    viewer = client(shared.access_key("viewer", role="viewer"))
    assert read(viewer, bucket, "closed") == b"2"
    refused(viewer.put_object, "AccessDenied", 403, Bucket=bucket, Key="x", Body=b"")
    editor = client(shared.access_key("editor", role="editor"))
    editor.put_object(Bucket=bucket, Key="x", Body=b"")
    refused(editor.delete_bucket_policy, "AccessDenied", 403, Bucket=bucket)
    shared.got("POST", "/api/v1/projects", {"name": "other"})
    other = client(shared.access_key("other", project="other"))
    other.create_bucket(Bucket=bucket)
    assert "Contents" not in other.list_objects_v2(Bucket=bucket)
    refused(s3.put_bucket_acl, "AccessControlListNotSupported", 400, Bucket=bucket, ACL="public-read")


def test_keys_are_revoked_at_once(shared):
    env = shared.access_key("shortlived")
    s3 = client(env)
    s3.list_buckets()
    assert "shortlived" in shared.ok("keys", "list").out
    shared.ok("keys", "revoke", "shortlived")
    refused(s3.list_buckets, "InvalidAccessKeyId", 403)


def test_a_token_and_a_job_have_keys_of_their_own(shared, s3):
    s3.create_bucket(Bucket="of-jobs")
    env = shared.ok("env", "-o", "json").json()
    client(env).put_object(Bucket="of-jobs", Key="from-env", Body=b"1")
    script = shared.write("job.py", "import boto3\n"
                          "s3 = boto3.client('s3')\n"
                          "s3.put_object(Bucket='of-jobs', Key='from-job', Body=b'2')\n"
                          "s3.delete_object(Bucket='of-jobs', Key='from-env')\n")
    import sys
    script.chmod(0o644)
    job = shared.submit("uses-s3", sys.executable, str(script), resources={"cpu": "100m", "memory": "512Mi"})
    assert shared.over(job)["status"]["phase"] == "succeeded", shared.logs(job)
    assert [o["Key"] for o in s3.list_objects_v2(Bucket="of-jobs")["Contents"]] == ["from-job"]
    # It died with the job.


def test_lifecycles_are_kept_and_checked(s3, bucket):
    rules = [{"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "a/"}, "Expiration": {"Days": 3}},
             {"ID": "parts", "Status": "Enabled", "Filter": {"Prefix": ""},
              "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}]
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == rules
    told = s3.put_object(Bucket=bucket, Key="a/1", Body=b"")["Expiration"]
    assert 'rule-id="old"' in told and told.startswith('expiry-date="'), told
    assert s3.head_object(Bucket=bucket, Key="a/1")["Expiration"] == told
    assert s3.get_object(Bucket=bucket, Key="a/1")["Expiration"] == told
    assert "Expiration" not in s3.put_object(Bucket=bucket, Key="b/1", Body=b"")
    bad = rules[0] | {"Expiration": {"Days": 0}}
    refused(s3.put_bucket_lifecycle_configuration, "InvalidArgument", 400, Bucket=bucket,
            LifecycleConfiguration={"Rules": [bad]})


def test_a_form_posts_an_object(s3, bucket):
    post = s3.generate_presigned_post(bucket, "uploaded", Conditions=[["content-length-range", 1, 100]])
    answer = requests.post(post["url"], data=post["fields"], files={"file": b"from a form"})
    assert answer.status_code == 204, answer.text
    assert read(s3, bucket, "uploaded") == b"from a form"
    too_long = requests.post(post["url"], data=post["fields"], files={"file": b"x" * 101})
    assert too_long.status_code == 400 and "EntityTooLarge" in too_long.text


def test_a_form_takes_the_name_of_its_file_and_a_checksum(s3, bucket):
    post = s3.generate_presigned_post(bucket, "up/${filename}", Conditions=[["starts-with", "$key", "up/"]])
    file = {"file": ("C:\\here\\a b.txt", b"bytes")}
    sum_of = lambda data: base64.b64encode(hashlib.sha256(data).digest()).decode()
    fields = post["fields"] | {"x-amz-checksum-sha256": sum_of(b"bytes")}
    answer = requests.post(post["url"], data=fields, files=file)
    assert answer.status_code == 204, answer.text
    assert read(s3, bucket, "up/a b.txt") == b"bytes"
    told = s3.head_object(Bucket=bucket, Key="up/a b.txt", ChecksumMode="ENABLED")
    assert told["ChecksumSHA256"] == sum_of(b"bytes")
    wrong = requests.post(post["url"], data=fields | {"x-amz-checksum-sha256": sum_of(b"others")}, files=file)
    assert wrong.status_code == 400 and "BadDigest" in wrong.text
    # What the name makes of the key must still be the policy's.
    elsewhere = s3.generate_presigned_post(bucket, "${filename}", Conditions=[["starts-with", "$key", "up/"]])
    refused_form = requests.post(elsewhere["url"], data=elsewhere["fields"], files={"file": ("down", b"")})
    assert refused_form.status_code == 403, refused_form.text


def test_a_form_with_a_policy_is_signed_and_ends_at_a_proper_moment(s3, bucket):
    post = s3.generate_presigned_post(bucket, "k")
    unsigned = {name: value for name, value in post["fields"].items() if not name.endswith("signature")}
    answer = requests.post(post["url"], data=unsigned, files={"file": b""})
    assert answer.status_code == 400 and "InvalidArgument" in answer.text
    policy = {"expiration": "2030-01-01 00:00:00+00:00", "conditions": []}
    policy = base64.b64encode(json.dumps(policy).encode()).decode()
    answer = requests.post(post["url"], data=post["fields"] | {"policy": policy}, files={"file": b""})
    assert answer.status_code == 400 and "InvalidPolicyDocument" in answer.text


def test_lifecycles_can_be_tried_out_on_short_days():
    with server(config='[objects]\nlifecycle_day = "1s"\n') as lepton:
        s3 = client(lepton.access_key("hasty"))
        s3.create_bucket(Bucket="hasty")
        s3.put_object(Bucket="hasty", Key="old/1", Body=b"1")
        s3.put_object(Bucket="hasty", Key="kept", Body=b"2")
        s3.put_bucket_lifecycle_configuration(Bucket="hasty", LifecycleConfiguration={"Rules": [
            {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "old/"}, "Expiration": {"Days": 1}}]})
        keys = lambda: [one["Key"] for one in s3.list_objects_v2(Bucket="hasty")["Contents"]]
        eventually("the old object goes", lambda: keys() == ["kept"])


# Bad input.


def signed(env, method, path, body=b"", headers=None, payload=None, at=None):
    """A request signed by hand, so that it can be broken afterwards."""
    url = env["AWS_ENDPOINT_URL_S3"] + path
    request = AWSRequest(method, url, data=body, headers=headers or {})
    request.headers["x-amz-content-sha256"] = payload or hashlib.sha256(body).hexdigest()
    keys = Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])
    signer = SigV4Auth(keys, "s3", "us-east-1")
    if at:
        request.context["timestamp"] = at
        signer.add_auth = lambda request: None
        from unittest import mock
        moment = datetime.datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
        with mock.patch("botocore.auth.get_current_datetime", lambda **_: moment.replace(tzinfo=None),
                        create=True):
            SigV4Auth.add_auth(signer, request)
    else:
        signer.add_auth(request)
    return request.prepare()


def send(env, method, path, headers, body):
    port = urllib.parse.urlsplit(env["AWS_ENDPOINT_URL_S3"]).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest(method, path, skip_host=False, skip_accept_encoding=True)
    for name, value in headers.items():
        if name.lower() not in ("host", "content-length"):
            connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    connection.send(body)
    answer = connection.getresponse()
    text = answer.read().decode()
    return answer.status, text.split("<Code>")[1].split("<")[0] if "<Code>" in text else text


def test_broken_signatures_and_bodies_get_the_codes_of_s3(s3, env, bucket):
    path = f"/{bucket}/o"
    good = signed(env, "PUT", path, b"hello")
    assert send(env, "PUT", path, good.headers, b"hello") == (200, "")
    assert send(env, "PUT", path, good.headers, b"jello") == (400, "XAmzContentSHA256Mismatch")
    assert send(env, "PUT", f"/{bucket}/p", good.headers, b"hello") == (403, "SignatureDoesNotMatch")
    wrong = env | {"AWS_SECRET_ACCESS_KEY": "x" * 43}
    bad = signed(wrong, "PUT", path, b"hello")
    assert send(env, "PUT", path, bad.headers, b"hello") == (403, "SignatureDoesNotMatch")
    unknown = env | {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"}
    bad = signed(unknown, "PUT", path, b"hello")
    assert send(env, "PUT", path, bad.headers, b"hello") == (403, "InvalidAccessKeyId")
    digest = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    bad = signed(env, "PUT", path, b"hello", {"Content-MD5": digest})
    assert send(env, "PUT", path, bad.headers, b"hello") == (400, "BadDigest")
    bad = signed(env, "PUT", path, b"hello", {"Content-MD5": "nonsense"})
    assert send(env, "PUT", path, bad.headers, b"hello") == (400, "InvalidDigest")
    assert send(env, "PUT", path, {"Authorization": "AWS key:signature"}, b"") == (400, "InvalidRequest")
    assert send(env, "PUT", path, {}, b"hello") == (403, "AccessDenied")
    assert read(s3, bucket, "o") == b"hello"


def test_a_clock_that_is_wrong_is_refused(s3, env, bucket):
    skewed = client(env)
    stale = signed(env, "GET", f"/{bucket}")
    hour_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    headers = dict(stale.headers) | {"X-Amz-Date": hour_ago.strftime("%Y%m%dT%H%M%SZ")}
    status, code = send(env, "GET", f"/{bucket}", headers, b"")
    assert status == 403 and code in ("RequestTimeTooSkewed", "SignatureDoesNotMatch"), (status, code)
    url = skewed.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "o"}, ExpiresIn=1)
    s3.put_object(Bucket=bucket, Key="o", Body=b"1")
    eventually("the URL is over", lambda: requests.get(url).status_code == 403)
    assert "Request has expired" in requests.get(url).text
    newer = client(env, signature_version="s3v4").generate_presigned_url(
        "get_object", {"Bucket": bucket, "Key": "o"}, ExpiresIn=1)
    assert requests.get(newer.replace("X-Amz-Expires=1", "X-Amz-Expires=2")).status_code == 403
    longer = newer.replace("X-Amz-Expires=1", "X-Amz-Expires=604801")
    assert requests.get(longer).status_code == 400


def chunked(*chunks, trailer=""):
    return b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\n" + trailer.encode() + b"\r\n"


def test_chunked_bodies_that_are_cut_or_too_long_or_lie_are_refused(s3, env, bucket):
    path = f"/{bucket}/o"
    content = b"hello world"
    crc = base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()
    def put(body, length=len(content), trailer="x-amz-checksum-crc32"):
        request = signed(env, "PUT", path, b"", {
            "Content-Encoding": "aws-chunked", "x-amz-decoded-content-length": str(length),
            "x-amz-trailer": trailer}, payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        return send(env, "PUT", path, request.headers, body)
    right = f"x-amz-checksum-crc32:{crc}\r\n"
    assert put(chunked(content[:5], content[5:], trailer=right)) == (200, "")
    assert read(s3, bucket, "o") == content
    assert s3.head_object(Bucket=bucket, Key="o").get("ContentEncoding") is None
    assert put(chunked(content, trailer="x-amz-checksum-crc32:AAAAAA==\r\n")) == (400, "BadDigest")
    assert put(chunked(content[:5], trailer=right)) == (400, "IncompleteBody")
    assert put(chunked(content, content, trailer=right)) == (400, "IncompleteBody")
    assert put(b"b\r\nhello")[0] == 400
    assert put(b"nonsense\r\n\r\n")[0] == 400
    assert read(s3, bucket, "o") == content


def test_one_chunk_may_be_a_whole_upload_but_a_signed_one_is_bounded(lepton):
    """Some clients send all they have as one chunk; it is not held in memory."""
    env = lepton.access_key()
    s3 = client(env)
    s3.create_bucket(Bucket="chunks")
    block, blocks = os.urandom(MIB), 192
    size, crc = blocks * MIB, 0
    for _ in range(blocks):
        crc = zlib.crc32(block, crc)
    trailer = b"x-amz-checksum-crc32:" + base64.b64encode(crc.to_bytes(4, "big")) + b"\r\n"
    def put(head, payload):
        request = signed(env, "PUT", "/chunks/o", b"", {
            "Content-Encoding": "aws-chunked", "x-amz-decoded-content-length": str(size),
            **({"x-amz-trailer": "x-amz-checksum-crc32"} if payload.endswith("TRAILER") else {})}, payload=payload)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "content-length")}
        def body():
            yield head
            for _ in range(blocks):
                yield block
            yield end
        end = b"\r\n0\r\n" + (trailer if payload.endswith("TRAILER") else b"") + b"\r\n"
        headers["Content-Length"] = str(len(head) + size + len(end))
        port = urllib.parse.urlsplit(env["AWS_ENDPOINT_URL_S3"]).port
        connection = http.client.HTTPConnection("127.0.0.1", port)
        with contextlib.closing(connection):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # What is refused need not be heard out.
                connection.request("PUT", "/chunks/o", body=body(), headers=headers)
            try:
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            except OSError:
                return None, ""
    answer = put(b"%x\r\n" % size, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    assert answer == (200, ""), answer
    assert s3.head_object(Bucket="chunks", Key="o")["ETag"] == f'"{hashlib.md5(block * blocks).hexdigest()}"'
    status, text = put(b"%x;chunk-signature=%s\r\n" % (size, b"0" * 64), "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
    assert status is None or (status == 403 and "InvalidChunkSizeError" in text), (status, text)
    now, peak = lepton.resident_bytes()
    assert peak < 160 * MIB, (now, peak)


def test_an_upload_that_breaks_off_leaves_nothing(s3, env, bucket):
    path = f"/{bucket}/cut"
    request = signed(env, "PUT", path, b"x" * MIB)
    port = urllib.parse.urlsplit(env["AWS_ENDPOINT_URL_S3"]).port
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.putrequest("PUT", path)
    for name, value in request.headers.items():
        if name.lower() not in ("host", "content-length"):
            connection.putheader(name, value)
    connection.putheader("Content-Length", str(MIB))
    connection.endheaders()
    connection.send(b"x" * 1000)
    connection.close()
    refused(s3.head_object, "404", 404, Bucket=bucket, Key="cut")


def test_what_was_acknowledged_is_there_after_a_kill(lepton):
    env = lepton.access_key()
    s3 = client(env)
    s3.create_bucket(Bucket="kept")
    bodies = {f"k{n}": os.urandom(size) for n, size in enumerate([0, 100, 20_000, 3 * MIB])}
    for key, body in bodies.items():
        s3.put_object(Bucket="kept", Key=key, Body=body)
    s3.delete_object(Bucket="kept", Key="k1")
    del bodies["k1"]
    lepton.kill()
    lepton.start()
    assert [o["Key"] for o in s3.list_objects_v2(Bucket="kept")["Contents"]] == sorted(bodies)
    for key, body in bodies.items():
        assert read(s3, "kept", key) == body


def test_what_is_deleted_leaves_the_disk(lepton):
    env = lepton.access_key()
    s3 = client(env)
    s3.create_bucket(Bucket="gone")
    s3.upload_fileobj(io.BytesIO(os.urandom(20 * MIB)), "gone", "o")
    files = lambda: [f for f in (lepton.data_dir / "contents/default").rglob("*") if f.is_file()]
    assert files()
    # Nothing of it can be read from the disk.
    s3.put_object(Bucket="gone", Key="secret", Body=b"find me if you can" * 10)
    everything = [f for f in lepton.data_dir.rglob("*") if f.is_file()]
    assert not [f for f in everything if b"find me if you can" in f.read_bytes()]
    s3.delete_objects(Bucket="gone", Delete={"Objects": [{"Key": "o"}, {"Key": "secret"}]})
    eventually("the bytes are gone", lambda: not files())


@pytest.mark.skipif("LEPTON_TEST_LARGE" not in os.environ, reason="LEPTON_TEST_LARGE is not set: 5 GiB")
def test_five_gibibytes(lepton):
    s3 = client(lepton.access_key())
    s3.create_bucket(Bucket="large")
    block = os.urandom(64 * MIB)

    class Source(io.RawIOBase):
        left = 5 << 30

        def readable(self):
            return True

        def read(self, size=-1):
            at = -self.left % len(block)
            size = min(size if size >= 0 else self.left, self.left, len(block) - at)
            self.left -= size
            return block[at:at + size]

    s3.upload_fileobj(Source(), "large", "o")
    assert s3.head_object(Bucket="large", Key="o")["ContentLength"] == 5 << 30
    total, wanted = hashlib.sha256(), hashlib.sha256()
    for piece in s3.get_object(Bucket="large", Key="o")["Body"].iter_chunks(MIB):
        total.update(piece)
    for _ in range((5 << 30) // len(block)):
        wanted.update(block)
    assert total.digest() == wanted.digest()
    _, peak = lepton.resident_bytes()
    print(f"the server held {peak >> 20} MiB at most")
    # Ten parts at once, of which each may hold nine batches.
    assert peak < 512 * MIB
