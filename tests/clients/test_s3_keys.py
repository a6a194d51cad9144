"""boto3 asks for keys by name, as it does for KMS keys: they seal what asks for them, and nothing else."""

import hashlib
import json

import pytest
import requests

from test_s3 import MIB, client, read, refused

KMS = {"ServerSideEncryption": "aws:kms"}


@pytest.fixture
def box(lepton):
    """A bucket of a project with two named keys."""
    for name in ("first", "second"):
        assert f"key `{name}`" in lepton.ok("objects", "keys", "create", "default", name).out
    s3 = client(lepton.access_key())
    s3.create_bucket(Bucket="box")
    return s3


def told(answer):
    return answer.get("ServerSideEncryption"), answer.get("SSEKMSKeyId")


def put(s3, key, name, body=b"of " * 9_000):
    return s3.put_object(Bucket="box", Key=key, Body=body, SSEKMSKeyId=name, **KMS)


def test_a_named_key_seals_what_asks_for_it_and_shredding_it_takes_only_that(lepton, box):
    body = b"of " * 9_000
    for at, key in enumerate(["small", "long"]):
        answer = put(box, key, "first", body[:50] if at == 0 else body)
        assert told(answer) == ("aws:kms", "first")
        assert answer["ETag"] != f'"{hashlib.md5(body).hexdigest()}"'
    put(box, "other", "second")
    box.put_object(Bucket="box", Key="plain", Body=body)
    assert told(box.head_object(Bucket="box", Key="plain")) == ("AES256", None)
    arn = "arn:aws:kms:us-east-1:default:key/first"
    assert told(put(box, "by-arn", arn)) == ("aws:kms", "first")
    for key in ("small", "long", "by-arn"):
        assert told(box.head_object(Bucket="box", Key=key)) == ("aws:kms", "first")
        assert told(box.get_object(Bucket="box", Key=key)) == ("aws:kms", "first")
    assert read(box, "box", "long") == body
    # A new data key of the same name: what is there is read as before.
    lepton.ok("objects", "keys", "renew", "default", "--key", "first")
    put(box, "renewed", "first")
    assert read(box, "box", "long") == read(box, "box", "renewed") == body
    listed = lepton.ok("objects", "keys", "list", "-o", "json").json()["projects"]
    names = [key.get("name") for project in listed for key in project["keys"]]
    assert sorted(filter(None, names)) == ["first", "first", "second"] and None in names

    assert lepton.cli("objects", "keys", "shred", "default", "--key", "first").code == 2
    assert "2 data keys" in lepton.ok("objects", "keys", "shred", "default", "--key", "first", "--yes").out
    for key in ("small", "long", "by-arn", "renewed"):
        refused(box.get_object, "InvalidObjectState", 403, Bucket="box", Key=key)
    assert read(box, "box", "plain") == read(box, "box", "other") == body
    refused(put, "KMS.KMSInvalidStateException", 400, s3=box, key="late", name="first")
    box.put_object(Bucket="box", Key="plain", Body=body)
    scrubbed = lepton.ok("objects", "scrub", "-o", "json").json()
    assert scrubbed["damaged"] == 0 and scrubbed["shredded"] >= 3, scrubbed
    # After a restart, and under another master key, it is as before.
    lepton.ok("objects", "keys", "rotate")
    lepton.kill()
    lepton.start()
    s3 = client(lepton.access_key(name="later"))
    assert read(s3, "box", "other") == body
    refused(s3.get_object, "InvalidObjectState", 403, Bucket="box", Key="long")


def test_what_cannot_be_is_refused_and_not_claimed(lepton, box):
    def asks(**given):
        return box.put_object(Bucket="box", Key="k", Body=b"x", **given)

    refused(asks, "KMS.NotFoundException", 400, SSEKMSKeyId="third", **KMS)
    refused(asks, "KMS.NotFoundException", 400, SSEKMSKeyId="arn:aws:kms:us-east-1:lab:key/first", **KMS)
    refused(asks, "InvalidArgument", 400, **KMS)
    refused(asks, "InvalidArgument", 400, SSEKMSKeyId="first")
    refused(asks, "InvalidArgument", 400, SSEKMSKeyId="first", ServerSideEncryption="AES256")
    refused(asks, "NotImplemented", 501, SSEKMSKeyId="first", ServerSideEncryption="aws:kms:dsse")
    refused(asks, "NotImplemented", 501, SSEKMSKeyId="first", SSEKMSEncryptionContext="e30=", **KMS)
    refused(asks, "InvalidArgument", 400, SSEKMSKeyId="first", SSECustomerKey="k" * 32,
            SSECustomerAlgorithm="AES256", **KMS)
    refused(box.create_multipart_upload, "KMS.NotFoundException", 400, Bucket="box", Key="k",
            SSEKMSKeyId="third", **KMS)
    assert "Contents" not in box.list_objects_v2(Bucket="box")
    twice = lepton.api("POST", "/api/v1/projects/default/object-keys", {"name": "first"})
    assert twice.status == 409, twice
    viewer = lepton.ok("token", "create", "eye", "--role", "viewer", "-o", "json").json()["token"]
    for path, body in [("", {"name": "mine"}), ("/first/renew", {}), ("/first/shred", {"confirm": "first"})]:
        path = f"/api/v1/projects/default/object-keys{path}"
        assert lepton.api("POST", path, body, token=viewer).status == 403, path
    wrong = lepton.api("POST", "/api/v1/projects/default/object-keys/first/shred", {"confirm": "default"})
    assert wrong.status == 400, wrong
    assert lepton.api("POST", "/api/v1/projects/default/object-keys/third/renew", {}).status == 404


def test_parts_copies_forms_and_defaults_are_under_their_key(lepton, box):
    body = bytes(range(256)) * (6 * MIB // 256)
    upload = box.create_multipart_upload(Bucket="box", Key="parts", SSEKMSKeyId="first", **KMS)
    assert told(upload) == ("aws:kms", "first")
    which = {"Bucket": "box", "Key": "parts", "UploadId": upload["UploadId"]}
    sent = box.upload_part(PartNumber=1, Body=body, **which)
    box.put_object(Bucket="box", Key="plain", Body=body)
    copied = box.upload_part_copy(PartNumber=2, CopySource="box/plain", **which)
    assert told(sent) == told(copied) == ("aws:kms", "first")
    done = box.complete_multipart_upload(MultipartUpload={"Parts": [
        {"PartNumber": 1, "ETag": sent["ETag"]},
        {"PartNumber": 2, "ETag": copied["CopyPartResult"]["ETag"]}]}, **which)
    assert told(done) == ("aws:kms", "first")
    # Copies: away from the key, to another, and to the same, which shares the bytes.
    for to, wanted in [("away", {}), ("second", {"SSEKMSKeyId": "second", **KMS}),
                       ("same", {"SSEKMSKeyId": "first", **KMS})]:
        answer = box.copy_object(Bucket="box", Key=to, CopySource="box/parts", **wanted)
        assert told(answer) == told(box.head_object(Bucket="box", Key=to))
    assert told(box.head_object(Bucket="box", Key="away")) == ("AES256", None)

    # A bucket's default, which holds for what says nothing, a form included.
    def default(name):
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": name}}
        box.put_bucket_encryption(Bucket="box", ServerSideEncryptionConfiguration={"Rules": [rule]})

    refused(lambda: default("third"), "KMS.NotFoundException", 400)
    default("second")
    rules = box.get_bucket_encryption(Bucket="box")["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == "second"
    assert told(box.put_object(Bucket="box", Key="by-default", Body=b"x")) == ("aws:kms", "second")
    assert told(box.put_object(Bucket="box", Key="no-name", Body=b"x", **KMS)) == ("aws:kms", "second")
    ours = box.put_object(Bucket="box", Key="ours", Body=b"x", ServerSideEncryption="AES256")
    assert told(ours) == ("AES256", None)
    fields = {"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "first"}
    form = box.generate_presigned_post("box", "form", Fields=dict(fields), Conditions=[{k: v} for k, v in fields.items()])
    assert requests.post(form["url"], data=form["fields"], files={"file": b"x"}).status_code == 204
    assert told(box.head_object(Bucket="box", Key="form")) == ("aws:kms", "first")
    bare = box.generate_presigned_post("box", "bare")
    assert requests.post(bare["url"], data=bare["fields"], files={"file": b"x"}).status_code == 204
    assert told(box.head_object(Bucket="box", Key="bare")) == ("aws:kms", "second")

    lepton.ok("objects", "keys", "shred", "default", "--key", "first", "--yes")
    for key in ("parts", "same", "form"):
        refused(box.get_object, "InvalidObjectState", 403, Bucket="box", Key=key)
    assert read(box, "box", "away") == read(box, "box", "second") == body * 2
    lepton.ok("objects", "keys", "shred", "default", "--key", "second", "--yes")
    refused(box.put_object, "KMS.KMSInvalidStateException", 400, Bucket="box", Key="late", Body=b"x")
    assert read(box, "box", "ours") == b"x"


def test_policies_hold_on_what_is_said_of_encryption(lepton, box):
    deny = lambda key, value: {
        "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::box/*",
        "Condition": {"StringNotEquals": {f"s3:x-amz-server-side-encryption{key}": value}}}
    box.put_bucket_policy(Bucket="box", Policy=json.dumps({"Statement": [
        deny("", "aws:kms"), deny("-aws-kms-key-id", "first")]}))
    put(box, "k", "first")
    refused(put, "AccessDenied", 403, s3=box, key="k", name="second")
    refused(box.put_object, "AccessDenied", 403, Bucket="box", Key="k", Body=b"x")
    fields = {"x-amz-server-side-encryption": "aws:kms"}
    for name, status in [("first", 204), ("second", 403)]:
        fields["x-amz-server-side-encryption-aws-kms-key-id"] = name
        form = box.generate_presigned_post("box", "f", Fields=dict(fields),
                                           Conditions=[{k: v} for k, v in fields.items()])
        answer = requests.post(form["url"], data=form["fields"], files={"file": b"x"})
        assert answer.status_code == status, answer.text


def test_the_etag_under_a_customers_key_tells_nothing_of_the_bytes(lepton, box):
    key = {"SSECustomerKey": "k" * 32, "SSECustomerAlgorithm": "AES256"}
    body = b"guessable"
    other = key | {"SSECustomerKey": "l" * 32}
    tags = [box.put_object(Bucket="box", Key="k", Body=body, **given)["ETag"] for given in (other, key, key)]
    # Who sends a part once more may name either answer.
    assert tags[0] != tags[1] == tags[2]
    md5 = hashlib.md5(body).hexdigest()
    for file in lepton.data_dir.glob("objects.db*"):
        assert md5.encode() not in file.read_bytes(), file
    assert f'"{md5}"' not in tags
    assert box.head_object(Bucket="box", Key="k", **key)["ETag"] == tags[2]
    refused(box.put_object, "BadDigest", 400, Bucket="box", Key="k", Body=body,
            ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==", **key)
