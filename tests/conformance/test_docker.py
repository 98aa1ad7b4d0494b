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


def test_update(run):
    checks.check_update(run)


def test_top_and_stats(run):
    checks.check_top_and_stats(run)


def test_mounts(run, tmp_path):
    checks.check_mounts(run, tmp_path)


def test_restrictions(run):
    checks.check_restrictions(run)


def test_privileged_and_devices(run):
    checks.check_privileged_and_devices(run)


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
