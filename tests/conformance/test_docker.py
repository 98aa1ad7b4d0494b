"""Docker Engine (Debian's docker.io) with hull-oci as its runtime."""

import engine_checks as checks
import pytest

NONE = ["--network", "none"]


@pytest.fixture
def run(docker):
    def call(command, *arguments, **more):
        options = ["--runtime", "hull", *NONE] if command == "run" else []
        return docker.docker(command, *options, *arguments, **more)

    return call


@pytest.fixture
def state(run):
    return checks.inspect_state(run)


class TestDocker(checks.EngineTests):
    """Every test that the engines share."""


def test_update(run):
    run("run", "-d", "--name", "growing", "--memory", "64m", "busybox", "sleep", "100")
    run("update", "--memory", "96m", "--memory-swap", "-1", "growing")
    read = "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
    assert run("exec", "growing", "sh", "-c", read).stdout.strip() == str(96 << 20)
    run("rm", "-f", "growing")


def test_bridge_network(docker):
    done = docker.docker("run", "--rm", "--runtime", "hull", "busybox", "ip", "-4", "-o", "address", "show", "eth0")
    assert "172.17." in done.stdout


def test_published_port(docker):
    docker.docker("run", "-d", "--name", "web", "--runtime", "hull", "-p", "127.0.0.1:8080:80", "busybox", "sh", "-c",
                  "mkdir /www && echo page > /www/index.html && exec httpd -f -p 80 -h /www")
    try:
        done = docker.run(["curl", "-s", "--retry", "20", "--retry-connrefused", "--retry-delay", "0", "--retry-max-time",
                           "10", "--noproxy", "*", "http://127.0.0.1:8080/"])
        assert done.stdout == "page\n"
    finally:
        docker.docker("rm", "-f", "web")


def test_restart_of_a_container(run, state):
    run("run", "-d", "--name", "again", "busybox", "sleep", "100")
    first = state("again")["Pid"]
    run("restart", "-t", "0", "again")
    assert state("again")["Status"] == "running" and state("again")["Pid"] != first
    run("rm", "-f", "again")
