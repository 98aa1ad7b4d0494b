"""The source tree, as the house tests see it."""

import os
import pathlib

SOURCE = pathlib.Path(os.environ.get("HULL_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
IGNORED = {"build", ".git", ".cache", "__pycache__"}


def files(below="", suffixes=None):
    """The tree's files below a folder, build products left out, in a stable order."""
    found = []
    for folder, folders, names in os.walk(SOURCE / below):
        folders[:] = sorted(name for name in folders if name not in IGNORED)
        found += [pathlib.Path(folder) / name for name in sorted(names)]
    return [path for path in found if suffixes is None or path.suffix in suffixes]


def rooms():
    """The include table: {room: set of rooms it may include}."""
    table = {}
    for line in (SOURCE / "tests/house/rooms.txt").read_text().splitlines():
        line = line.split("#")[0].strip()
        if line:
            room, allowed = line.split(":")
            table[room.strip()] = set(allowed.split())
    return table
