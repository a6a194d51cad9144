"""The aws CLI and rclone against the S3 face."""

import filecmp
import json
import os
import subprocess
import sys
import pathlib

import pytest

BIN = pathlib.Path(sys.executable).parent
aws = BIN / "aws"
rclone = BIN / "rclone"


@pytest.fixture(scope="module")
def env(shared):
    return shared.access_key()


@pytest.fixture
def tree(shared, request):
    """Files of a few sizes, one of them long enough for parts."""
    folder = shared.folder / request.node.name
    for name, size in [("empty", 0), ("a/small.txt", 10), ("a/ü ñ.bin", 5_000), ("big.bin", 20 << 20)]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    return folder


def run(shared, env, *command):
    done = subprocess.run([str(c) for c in command], env=shared.env(**env), capture_output=True,
                          text=True, cwd=shared.folder, timeout=300)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def same(left, right):
    compared = filecmp.dircmp(left, right)
    names = lambda root: sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    assert names(left) == names(right)
    for name in names(left):
        assert (left / name).read_bytes() == (right / name).read_bytes(), name
    return compared


def test_aws_cli_syncs_there_and_back(shared, env, tree):
    run(shared, env, aws, "s3", "mb", "s3://aws-sync")
    run(shared, env, aws, "s3", "sync", tree, "s3://aws-sync/in")
    assert run(shared, env, aws, "s3", "sync", tree, "s3://aws-sync/in") == ""
    listed = run(shared, env, aws, "s3", "ls", "s3://aws-sync/in/")
    assert "PRE a/" in listed and "big.bin" in listed
    back = shared.folder / "aws-back"
    run(shared, env, aws, "s3", "sync", "s3://aws-sync/in", back)
    same(tree, back)
    run(shared, env, aws, "s3", "mv", "s3://aws-sync/in/big.bin", "s3://aws-sync/moved.bin")
    head = json.loads(run(shared, env, aws, "s3api", "head-object", "--bucket", "aws-sync", "--key", "moved.bin"))
    assert head["ContentLength"] == 20 << 20
    run(shared, env, aws, "s3", "rb", "s3://aws-sync", "--force")
    assert "aws-sync" not in run(shared, env, aws, "s3", "ls")


def test_aws_cli_streams(shared, env):
    run(shared, env, aws, "s3", "mb", "s3://aws-pipe")
    command = f"head -c 30000000 /dev/zero | {aws} s3 cp - s3://aws-pipe/o && {aws} s3 cp s3://aws-pipe/o - | wc -c"
    assert run(shared, env, "sh", "-c", command).strip().endswith("30000000")


def test_rclone_syncs_checks_and_deletes(shared, env, tree):
    remote = {"RCLONE_CONFIG_L_TYPE": "s3", "RCLONE_CONFIG_L_PROVIDER": "Other",
              "RCLONE_CONFIG_L_ENV_AUTH": "true", "RCLONE_CONFIG_L_ENDPOINT": env["AWS_ENDPOINT_URL_S3"],
              "RCLONE_CONFIG_L_REGION": "us-east-1"}
    env = env | remote
    run(shared, env, rclone, "mkdir", "L:rclone")
    run(shared, env, rclone, "sync", tree, "L:rclone/in", "--s3-chunk-size", "5Mi", "--s3-upload-cutoff", "8Mi")
    run(shared, env, rclone, "check", tree, "L:rclone/in", "--download")
    run(shared, env, rclone, "check", tree, "L:rclone/in")
    assert "big.bin" in run(shared, env, rclone, "lsf", "-R", "L:rclone/in")
    run(shared, env, rclone, "copyto", "L:rclone/in/big.bin", "L:rclone/copy.bin")
    run(shared, env, rclone, "moveto", "L:rclone/copy.bin", "L:rclone/moved.bin")
    (tree / "empty").unlink()
    run(shared, env, rclone, "sync", tree, "L:rclone/in")
    assert "empty" not in run(shared, env, rclone, "lsf", "-R", "L:rclone/in")
    back = shared.folder / "rclone-back"
    run(shared, env, rclone, "copy", "L:rclone/in", back)
    same(tree, back)
    run(shared, env, rclone, "purge", "L:rclone")
