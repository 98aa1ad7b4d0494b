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


def test_output_and_exit_code(run):
    checks.check_output_and_exit_code(run)


def test_standard_input(run):
    checks.check_standard_input(run)


def test_terminal(run):
    checks.check_terminal(run)


def test_process_settings(run):
    checks.check_process_settings(run)


def test_detached_exec_stop_remove(run, state):
    checks.check_detached_exec_stop_remove(run, state)


def test_kill(run, state):
    checks.check_kill(run, state)


def test_pause(run, state):
    checks.check_pause(run, state)


def test_limits(run):
    checks.check_limits(run)


def test_top_and_stats(run):
    checks.check_top_and_stats(run)


def test_mounts(run, tmp_path):
    checks.check_mounts(run, tmp_path)


def test_restrictions(run):
    checks.check_restrictions(run)


def test_privileged_and_devices(run):
    checks.check_privileged_and_devices(run)


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
