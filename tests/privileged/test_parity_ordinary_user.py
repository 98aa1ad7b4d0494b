"""The container half of the parity suite, given by an ordinary user.

Left out: what control groups do (limits, stats, pause), which test_rootless.py shows to be refused, and the owner of
a file on the host, which is another number there."""

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

LEFT_OUT = {"test_memory_limit_holds", "test_out_of_memory_is_told", "test_pids_limit_holds", "test_stats_and_top",
            "test_pause_and_unpause", "test_processors", "test_volumes_both_ways", "test_privileged"}


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
    if _name.startswith("test_") and callable(_value) and _name not in LEFT_OUT and not for_machines(_value):
        globals()[_name] = _value


class OrdinaryWall(test_parity.Wall):
    def __init__(self):  # pylint: disable=super-init-not-called
        self.isolation = "container"
        self.instance = OrdinaryInstance(without_limits=True)
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
