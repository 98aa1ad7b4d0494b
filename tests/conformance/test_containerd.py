"""containerd's `ctr run` through its runc shim, with hull-oci as the shim's runtime program."""

import pytest

IMAGE = "docker.io/library/busybox:latest"


@pytest.fixture
def options(hull_oci):
    return ["--runtime", "io.containerd.runc.v2", "--runc-binary", hull_oci]


def test_run(containerd, options):
    assert containerd.ctr("run", "--rm", *options, IMAGE, "one", "echo", "hello").stdout == "hello\n"


def test_exit_code(containerd, options):
    assert containerd.ctr("run", "--rm", *options, IMAGE, "two", "sh", "-c", "exit 5", check=False).returncode == 5


def test_detached_exec_kill_delete(containerd, options):
    containerd.ctr("run", "-d", *options, IMAGE, "three", "sleep", "100")
    assert "RUNNING" in containerd.ctr("task", "ls").stdout
    assert containerd.ctr("task", "exec", "--exec-id", "e1", "three", "echo", "inside").stdout == "inside\n"
    assert "three" in containerd.ctr("task", "metrics", "three").stdout
    assert containerd.ctr("task", "ps", "three").stdout.count("\n") >= 2
    containerd.ctr("task", "pause", "three")
    assert "PAUSED" in containerd.ctr("task", "ls").stdout
    containerd.ctr("task", "resume", "three")
    containerd.ctr("task", "kill", "-s", "SIGKILL", "three")
    containerd.ctr("task", "delete", "three", check=False)
    containerd.ctr("container", "delete", "three")
    assert "three" not in containerd.ctr("container", "ls").stdout


def test_limits_and_mounts(containerd, options, tmp_path):
    (tmp_path / "file").write_text("from the host\n")
    done = containerd.ctr("run", "--rm", *options, "--memory-limit", str(32 << 20), "--env", "COLOUR=green", "--cwd",
                          "/tmp", "--mount", f"type=bind,src={tmp_path},dst=/data,options=rbind:ro", IMAGE, "four", "sh",
                          "-c", "cat /data/file; echo $COLOUR $(pwd)")
    assert done.stdout == "from the host\ngreen /tmp\n"
