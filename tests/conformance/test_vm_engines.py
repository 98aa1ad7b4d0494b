"""Podman and Docker (Debian's) with hull-oci-vm: what they run and execute is inside a virtual machine."""

import os
import uuid

import pytest
from support import instance as instances
from support import peers
from support import vm as machines
from support import vm_runtime


@pytest.fixture(scope="module")
def data():
    machines.need_machines()
    made = vm_runtime.DataRoot()
    yield made
    made.close()


@pytest.fixture(scope="module")
def program(data, tmp_path_factory):
    """hull-oci-vm for engines that pass no environment on: the folder of the guest's kernel is written into it."""
    path = tmp_path_factory.mktemp("program") / "hull-oci-vm"
    path.write_text(f"#!/bin/sh\nHULL_ROOT={data.folder} exec {instances.BIN}/hull-oci-vm \"$@\"\n")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def podman(program, archive, leftovers):
    engine = peers.Podman(runtime=program)
    try:
        engine.podman("load", "-i", archive)
        yield lambda *arguments, **more: engine.podman(*arguments, **{"timeout": 240, **more})
    finally:
        engine.close()


@pytest.fixture(scope="module")
def docker(program, archive, leftovers):
    daemon = peers.Docker(runtimes={"hull": program})
    try:
        daemon.docker("load", "-i", archive)
        yield lambda *arguments, **more: daemon.docker(*arguments, **{"timeout": 240, **more})
    finally:
        daemon.close()


SERVES = ["sh", "-c", "trap 'echo got-term; exit 4' TERM; echo up; while :; do echo page | nc -l -p 8000 -w 2; done"]


def check_life(run, volume, network):
    """One machine asked for what engines ask for: run, logs, exec, stats of its life, stop, remove."""
    (volume / "file").write_text("of the host\n")
    name = f"life{uuid.uuid4().hex[:6]}"
    run("run", "-d", "--name", name, "-m", "96m", "-v", f"{volume}:/volume", "-v", f"{volume}:/shut:ro", "-e", "KEY=value",
        *network, "busybox", *SERVES)
    kernel = run("exec", name, "uname", "-r").stdout.strip()
    assert kernel.endswith("cloud-amd64") and kernel != os.uname().release
    done = run("exec", "-e", "MORE=x", "-w", "/tmp", name, "sh", "-c", "echo $KEY $MORE $PWD; exit 3", check=False)
    assert (done.returncode, done.stdout) == (3, "value x /tmp\n"), done.stderr
    assert run("exec", "-i", name, "cat", stdin=None, input="typed\n").stdout == "typed\n"
    assert run("exec", name, "cat", "/volume/file").stdout == "of the host\n"
    run("exec", name, "sh", "-c", "echo written > /volume/new")
    assert (volume / "new").read_text() == "written\n"
    assert run("exec", name, "sh", "-c", "echo x > /shut/x", check=False).returncode != 0
    assert int(run("exec", name, "sh", "-c", "grep MemTotal /proc/meminfo").stdout.split()[1]) < 200 * 1024
    assert run("logs", name).stdout.startswith("up\n")
    assert run("exec", name, "nosuch", check=False).returncode in (126, 127)
    run("pause", name)
    run("unpause", name)
    run("stop", "-t", "60", name)
    assert run("inspect", "--format", "{{.State.ExitCode}} {{.State.Status}}", name).stdout.split()[0] == "4"
    assert run("logs", name).stdout.endswith("got-term\n")
    run("rm", name)


def test_podman_life(podman, tmp_path):
    check_life(podman, tmp_path, ["--network", "none"])


def test_podman_run(podman):
    done = podman("run", "--rm", "-i", "--network", "none", "busybox", "sh", "-c", "cat; echo err >&2; exit 5", check=False,
                  stdin=None, input="in\n")
    assert (done.returncode, done.stdout) == (5, "in\n") and "err" in done.stderr
    missing = podman("run", "--rm", "--network", "none", "busybox", "nosuch", check=False)
    # The program is looked up when the machine has booted: in start, whose message Podman only shows.
    assert missing.returncode in (126, 127) and "executable file not found in $PATH" in missing.stderr
    shared = podman("run", "--rm", "--network", "host", "busybox", "true", check=False)
    assert shared.returncode != 0 and "can't use the host's network" in shared.stderr


def test_podman_bridge(podman):
    done = podman("run", "--rm", "busybox", "sh", "-c", "ip -4 -o address show eth0; ping -c 1 -w 20 10.88.0.1")
    assert "10.88.0." in done.stdout and "1 packets received" in done.stdout


def test_docker_life_and_bridge(docker, tmp_path):
    check_life(lambda command, *arguments, **more: docker(command, *(["--runtime", "hull"] if command == "run" else []),
                                                          *arguments, **more), tmp_path, [])
    done = docker("run", "--rm", "--runtime", "hull", "busybox", "sh", "-c",
                  "ip -4 -o address show eth0; ping -c 1 -w 20 $(ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p')")
    assert "172." in done.stdout and "1 packets received" in done.stdout


def test_docker_terminal(docker):
    done = docker("run", "--rm", "-t", "--runtime", "hull", "--network", "none", "busybox", "sh", "-c", "tty; exit 3", check=False)
    assert (done.returncode, done.stdout.replace("\r", "")) == (3, "/dev/pts/0\n"), done.stderr
