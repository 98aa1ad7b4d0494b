"""Killed at any point, none of the processes of a machine leaves anything that the next command can't clear: hull, its
monitor, the supervisor, the hypervisor, its vsock back end and the file daemons.

HULL_MACHINE_KILLS says how many rounds for each victim (2), HULL_KILL_SEED repeats a run."""

import os
import random
import subprocess
import time

import pytest
from support import images
from support import instance as instances
from support import vm as machines
from test_kill_anywhere import QUIET, SEED, assert_nothing_left, kill, remove_all

ROUNDS = int(os.environ.get("HULL_MACHINE_KILLS", "2"))
VICTIMS = {
    "hull": ("/hull run",),
    "monitor": ("hull-monitor",),
    "supervisor": ("hull-oci-vm --root",),
    "hypervisor": ("qemu-system", "hull-vmm --config"),
    "vsock": ("hull-vmm --vhost-user",),
    "virtiofsd": ("virtiofsd",),
}


@pytest.fixture
def ready(instance, guest_kernel, tmp_path):
    machines.share_kernel(instance, guest_kernel)
    images.load(instance, tmp_path / "image")
    (tmp_path / "shared").mkdir()
    instance.hull("run", "--rm", "test", "true")  # the bridge stays
    instance.shared = tmp_path / "shared"
    return instance


def run(hull):
    return hull.start("run", "--name", "victim", "--vm", "-q", "-m", "64m", "-v", f"{hull.shared}:/shared", "-p",
                      "127.0.0.1::80", "test", "sh", "-c", "echo up > /shared/up; sleep 1000", **QUIET)


def processes(hull):
    """The instance's, and those of its machines, which have no environment: all in its control groups."""
    found = dict(hull.processes())
    for folder in hull.cgroups():
        try:
            pids = open(os.path.join(folder, "cgroup.procs")).read().split()
        except OSError:
            continue
        for pid in pids:
            try:
                found[int(pid)] = open(f"/proc/{pid}/cmdline").read().replace("\0", " ")
            except OSError:
                continue
    return found


@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_at_a_random_point(ready, victim):
    chance = random.Random(f"{SEED} {victim}")
    leaks = instances.Leaks(ready)
    for number in range(ROUNDS):
        command = run(ready)
        # In one round out of two when it runs, else on the way there.
        if number % 2 == 0:
            instances.wait_until((ready.shared / "up").exists, "the workload", 120)
        else:
            time.sleep(chance.uniform(0.02, 4))
        ready.note_ids()
        hit = [pid for pid, line in processes(ready).items() if any(word in line for word in VICTIMS[victim])]
        kill(*hit)
        if number % 2 == 0 and victim != "vsock":
            assert hit, f"no {victim} among {processes(ready)}"
        time.sleep(0.2)
        kill(command.pid)
        command.wait()
        ready.note_ids()
        remove_all(ready)
        instances.wait_until(lambda: not processes(ready), f"seed {SEED}, {victim}: every process to end", 30)
        (ready.shared / "up").unlink(missing_ok=True)
    assert_nothing_left(leaks, f"{victim} at the end")


def test_a_machine_whose_parts_were_killed_is_told_as_ended(ready):
    """Its exit code is 125, and it can be started again."""
    for victim in ("hypervisor", "virtiofsd"):
        command = run(ready)
        instances.wait_until((ready.shared / "up").exists, "the workload", 120)
        ready.note_ids()
        kill(*[pid for pid, line in processes(ready).items() if any(word in line for word in VICTIMS[victim])])
        assert command.wait(60) == 125
        (ready.shared / "up").unlink()
        ready.hull("start", "victim", timeout=120)
        instances.wait_until((ready.shared / "up").exists, "the workload once more", 120)
        ready.hull("rm", "-f", "victim")
        (ready.shared / "up").unlink()
