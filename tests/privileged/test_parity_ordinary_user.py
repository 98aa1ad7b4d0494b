"""The container half of the parity suite, given by an ordinary user.

The user was given control groups, so limits, stats and pause are the same too; what is said without them is
test_rootless.py's. Two tests are others here: the owner of a file on the host is another number there, and what
--privileged means ends at the user's own rights."""

import os
import pathlib
import subprocess
import sys
import tempfile

import pytest
from support import images
from support.ordinary_user import FIRST_SUBID, UID, OrdinaryInstance

sys.path.insert(0, os.path.dirname(__file__))
import test_parity  # noqa: E402  pylint: disable=wrong-import-position

OTHERS_HERE = {"test_volumes_both_ways", "test_privileged"}


def for_machines(function):
    return any(mark.name == "parametrize" and mark.args[0] == "wall" for mark in getattr(function, "pytestmark", []))


# Before the others: the box's last tests end it.
def test_volumes_both_ways(box):
    box.sh("echo from inside > /shared/inside; mkdir /shared/folder2")
    assert (box.folder / "shared/inside").read_text() == "from inside\n"
    assert os.stat(box.folder / "shared/inside").st_uid == FIRST_SUBID + 999
    (box.folder / "shared/outside2").write_text("first\n")
    assert box.sh("cat /shared/outside2") == "first"


for _name, _value in list(vars(test_parity).items()):
    if _name.startswith("test_") and callable(_value) and _name not in OTHERS_HERE and not for_machines(_value):
        globals()[_name] = _value


def test_privileged(wall):
    """All capabilities in the user's namespaces, no filter, nothing masked; devices as far as the user may open them."""
    script = ("awk '/^CapEff|^Seccomp:/ {print $2}' /proc/self/status; mkdir /m; mount -t tmpfs none /m && echo mounted; "
              "echo 1 > /proc/sys/net/ipv4/ip_forward && echo sysctl; test -c /dev/net/tun && echo device; "
              "head -c 1 /dev/kmsg 2> /dev/null || head -c 1 /dev/mem 2> /dev/null || echo no more")
    lines = wall.run("--privileged", command=("sh", "-c", script)).stdout.split("\n")
    everything = int(open("/proc/sys/kernel/cap_last_cap", encoding="ascii").read())
    assert int(lines[0], 16) == (1 << (everything + 1)) - 1 and lines[1] == "0", lines
    assert lines[2:6] == ["mounted", "sysctl", "device", "no more"], lines


class OrdinaryWall(test_parity.Wall):
    def __init__(self):  # pylint: disable=super-init-not-called
        self.isolation = "container"
        self.instance = OrdinaryInstance(delegated="named")
        self.folders = []

    def hull(self, *arguments, **more):
        for folder in self.folders:  # what the tests have made there is the user's
            subprocess.run(["chown", "-Rh", f"{UID}:{UID}", folder], check=True)
        return super().hull(*arguments, **more)


@pytest.fixture
def tmp_path(wall):
    """A folder that the user can reach, and write to."""
    wall.folders.append(pathlib.Path(tempfile.mkdtemp(dir=wall.instance.folder)))
    return wall.folders[-1]


@pytest.fixture(scope="module")
def wall():
    made = OrdinaryWall()
    try:
        folder = made.instance.folder / "image"
        folder.mkdir()
        images.load(made.instance, folder)
        yield made
    finally:
        made.instance.close()


@pytest.fixture(scope="module")
def box(wall):
    folder = wall.instance.folder / "box"
    folder.mkdir()
    return test_parity.Box(wall, folder)
