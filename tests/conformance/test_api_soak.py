"""Many clients at a time that run, exec in and remove containers: nothing is lost, nothing is left, nothing grows.

HULL_SOAK="CLIENTS SECONDS" sets its length; scripts/test --all takes 200 clients for ten minutes."""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest
from support import api, images
from support.instance import Leaks, wait_until

CLIENTS, SECONDS = map(int, os.environ.get("HULL_SOAK", "20 20").split())
PROGRAMS = 4


@pytest.fixture
def daemon(instance, tmp_path):
    images.load(instance, tmp_path, name="busybox:latest")
    made = api.Daemon(instance)
    yield made
    made.close()


def soak(daemon, clients, seconds):
    program = pathlib.Path(api.__file__).with_name("soak.py")
    running = [subprocess.Popen([sys.executable, str(program), daemon.socket, str(clients // PROGRAMS), str(seconds), str(number)],
                                stdout=subprocess.PIPE, text=True) for number in range(PROGRAMS)]
    total, failures = {}, []
    for one in running:
        result = json.loads(one.communicate(timeout=seconds + 200)[0])
        failures += result["failures"]
        for what, count in result["counts"].items():
            total[what] = total.get(what, 0) + count
    return total, failures


def private_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(("Private_Clean", "Private_Dirty")))


def idle_only(daemon):
    """Processes of the instance but hulld itself and those that wait for connections."""
    waiting = 0
    for pid in set(daemon.instance.processes()) - {daemon.process.pid}:
        try:
            if pathlib.Path(f"/proc/{pid}/comm").read_text() != "hulld-idle\n":
                return False
        except OSError:
            return False
        waiting += 1
    return 3 <= waiting <= 6


class Held:
    """What the instance holds of the machine, by kind."""

    def __init__(self, daemon):
        wait_until(lambda: idle_only(daemon), "everything that was started has ended", 60)
        pid = daemon.process.pid
        self.listing = Leaks(daemon.instance).before
        self.listing.pop("processes")
        self.listing["namespaces of processes"] = {
            os.readlink(f"/proc/{one}/ns/{kind}") for one in daemon.instance.processes() for kind in ("mnt", "net", "pid", "ipc")}
        self.listing["entries of the run folder"] = {
            str(path.relative_to(daemon.instance.run_folder)) for path in daemon.instance.run_folder.rglob("*")}
        self.listing["entries of the data folder"] = {
            str(path.relative_to(daemon.instance.root)) for path in daemon.instance.root.rglob("*")
            if path.parent.name != "events"}  # a bounded number of files, in turn
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        self.memory = private_kib(pid)
        self.disk = sum(path.stat().st_size for path in daemon.instance.root.rglob("*") if path.is_file())

    def new(self, before):
        found = {kind: sorted(map(str, items - before.listing[kind])) for kind, items in self.listing.items()}
        return {kind: items for kind, items in found.items() if items}


def test_clients_in_parallel(daemon):
    # What is made once (the bridge, its rules, folders, the index's log) is made by a short run before.
    soak(daemon, PROGRAMS * 2, 3)
    before = Held(daemon)
    begin = time.monotonic()
    total, failures = soak(daemon, CLIENTS, SECONDS)
    took = time.monotonic() - begin
    print(f"{CLIENTS} clients, {took:.0f} s: {total}")
    assert not failures, "\n".join(failures)
    assert total["lives"] >= CLIENTS, total
    assert daemon.get("/containers/json?all=1").json() == []
    network = daemon.get("/networks/bridge").json()
    assert network["Containers"] == {}, network
    after = Held(daemon)
    print(f"hulld: {before.memory} KiB, {before.descriptors} descriptors; then {after.memory} KiB, {after.descriptors}; "
          f"data folder {before.disk >> 10} KiB, then {after.disk >> 10} KiB")
    assert not after.new(before)
    assert after.descriptors <= before.descriptors
    assert after.memory <= before.memory + 512
    assert after.disk <= before.disk + (16 << 20)  # the record of events, up to its bound
    check = daemon.instance.hull("system", "check", check=False)
    assert check.returncode == 0, check.stdout + check.stderr
