"""Killed at any point, neither hull nor a monitor leaves a state that the next command can't repair, and nothing leaks.

Each round starts a command, kills it (or the monitor that it started) after a random time, lets `hull system check`
look, removes what is there, and counts mounts, namespaces, cgroups, addresses, rules, files and processes against the
state before. HULL_KILLS says how many rounds (200), HULL_KILL_SEED repeats a run.
"""

import os
import random
import signal
import subprocess
import time

import pytest
from support import bundle as bundles
from support import instance as instances

KILLS = int(os.environ.get("HULL_KILLS", "200"))
SEED = int(os.environ.get("HULL_KILL_SEED", str(random.randrange(1 << 32))))
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@pytest.fixture
def ready(instance, tmp_path):
    """An instance with busybox, on which every command ran once, so that what stays by design is there already."""
    bundles.docker_archive(tmp_path, tmp_path / "busybox.tar")
    instance.hull("load", "-i", tmp_path / "busybox.tar")
    instance.hull("run", "--rm", "busybox", "true")
    identifier = instance.hull("run", "-d", "-p", "127.0.0.1::80", "busybox", "sleep", "100").stdout.strip()
    instance.hull("exec", identifier, "true")
    instance.hull("rm", "-f", identifier)
    instance.hull("system", "check")
    return instance


def usual_time(instance, command):
    begin = time.monotonic()
    instance.hull(*command, check=False)
    return time.monotonic() - begin


def kill(*pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def monitors(instance):
    return [pid for pid, line in instance.processes().items() if "hull-monitor" in line]


def remove_all(instance):
    """The next commands must work whatever state they find."""
    check = instance.hull("system", "check", check=False)
    assert check.returncode == 0, f"system check: {check.stdout}{check.stderr}"
    left = instance.hull("ps", "-aq", "--no-trunc").stdout.split()
    if left:
        instance.hull("rm", "-f", "-v", *left)


def settled(leaks):
    """Waits until nothing new is left (a killed monitor's container ends a moment later), or says what is."""
    end = time.monotonic() + 10
    while True:
        new = leaks.new()
        if not new or time.monotonic() > end:
            return new
        time.sleep(0.05)


def assert_nothing_left(leaks, where):
    left = settled(leaks)
    assert not left, f"seed {SEED}, {where}: {left}"


COMMANDS = {
    "run": ["run", "--rm", "busybox", "true"],
    "run without network": ["run", "--rm", "--network", "none", "busybox", "true"],
    "run detached": ["run", "-d", "-p", "127.0.0.1::80", "busybox", "sleep", "100"],
    "create": ["create", "-v", "named:/data", "-p", "127.0.0.1::80", "busybox", "true"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_command_killed(ready, name):
    chance = random.Random(SEED)
    ready.hull("volume", "create", "named")
    leaks = instances.Leaks(ready)
    took = usual_time(ready, COMMANDS[name])
    remove_all(ready)
    for number in range(KILLS // len(COMMANDS)):
        process = ready.start(*COMMANDS[name], **QUIET)
        time.sleep(chance.uniform(0, took * 1.1))
        kill(process.pid)
        process.wait()
        ready.note_ids()
        remove_all(ready)
        if number % 10 == 9:
            assert_nothing_left(leaks, f"round {number}")
    assert_nothing_left(leaks, "at the end")
    assert ready.hull("run", "--rm", "busybox", "echo", "alive").stdout == "alive\n"


def test_monitor_killed(ready):
    """The container of a killed monitor is ended, or found and ended by the next command; ps tells the truth."""
    chance = random.Random(SEED)
    leaks = instances.Leaks(ready)
    took = usual_time(ready, COMMANDS["run detached"])
    remove_all(ready)
    for number in range(max(1, KILLS // 8)):
        process = ready.start(*COMMANDS["run detached"], **QUIET)
        time.sleep(chance.uniform(0, took * 1.5))
        kill(*monitors(ready))
        process.wait(30)
        ready.note_ids()
        remove_all(ready)
        if number % 10 == 9:
            assert_nothing_left(leaks, f"round {number}")
    assert_nothing_left(leaks, "at the end")


def test_both_killed_while_running(ready):
    """hull in the foreground and its monitor, killed while the container runs: the next command knows that it ended."""
    leaks = instances.Leaks(ready)

    def running():
        return "victim" in ready.hull("ps", "--format", "{{.Names}}").stdout

    for _ in range(max(1, KILLS // 20)):
        process = ready.start("run", "--name", "victim", "busybox", "sleep", "100", **QUIET)
        instances.wait_until(running, "the container")
        kill(*monitors(ready), process.pid)
        process.wait()
        instances.wait_until(lambda: not running(), "ps to see that it ended")
        ready.hull("start", "victim")  # what is left can be started again
        ready.hull("rm", "-f", "victim")
    assert_nothing_left(leaks, "at the end")


def test_pull_killed(ready, make_registry, tmp_path):
    """A pull that is killed leaves a whole store, and the next pull goes on."""
    layout = tmp_path / "layout"
    more = bundles.layout.make_tar([bundles.layout.folder("data")] + [
        bundles.layout.regular(f"data/{number}", os.urandom(40000)) for number in range(200)])
    bundles.busybox_image(layout, name="big:latest", layers=[more])
    registry = make_registry(netns=ready.netns)
    reference = registry.push_layout(layout, "big:latest", "big:latest")
    chance = random.Random(SEED)
    took = usual_time(ready, ["pull", "-q", reference])
    ready.hull("rmi", reference)
    for _ in range(max(2, KILLS // 10)):
        process = ready.start("pull", "-q", reference, **QUIET)
        time.sleep(chance.uniform(0, took))
        kill(process.pid)
        process.wait()
        check = ready.hull("system", "check", check=False)
        assert check.returncode == 0, check.stdout + check.stderr
    ready.hull("pull", "-q", reference)
    assert ready.hull("run", "--rm", "--network", "none", reference, "ls", "/data").stdout.count("\n") == 200
    ready.hull("rmi", reference)
