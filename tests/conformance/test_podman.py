"""Podman (Debian's) with --runtime hull-oci."""

import engine_checks as checks
import pytest


@pytest.fixture
def run(podman):
    def call(command, *arguments, **more):
        options = ["--network", "none"] if command == "run" else []
        return podman.podman(command, *options, *arguments, **more)

    return call


@pytest.fixture
def state(run):
    return checks.inspect_state(run)


class TestPodman(checks.EngineTests):
    """Every test that the engines share."""


def test_bridge_network(podman):
    done = podman.podman("run", "--rm", "busybox", "ip", "-4", "-o", "address", "show", "eth0")
    assert "10.88." in done.stdout


def test_init_and_created_state(run, state):
    run("create", "--name", "later", "busybox", "echo", "late")
    assert state("later")["Status"] in ("created", "configured")
    assert run("start", "-a", "later").stdout == "late\n"
    run("rm", "later")


def test_pod_shares_namespaces(podman):
    podman.podman("create", "--name", "first", "--network", "none", "busybox", "sleep", "100")
    podman.podman("start", "first")
    try:
        done = podman.podman("run", "--rm", "--network", "container:first", "--pid", "container:first", "--ipc",
                             "container:first", "busybox", "ps")
        assert "sleep 100" in done.stdout
    finally:
        podman.podman("rm", "-f", "-t", "0", "first")
