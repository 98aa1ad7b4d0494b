"""Runs the declarative tests of this folder: *.test files of command lines and what they print.

    # comment
    $ hull ps --al            a command line, as a shell splits it; nothing else of a shell
    ? 125                     its exit status (0 when the line is left out)
    > text                    the lines of standard output, in order
    ! text                    the lines of standard error
    >~ regular expression     a line that matches; !~ likewise
    >*                        any number of lines; !* likewise

Left out altogether, a stream must be empty. Each file has an empty private Hull; the lines of a file run in order."""

import os
import pathlib
import re
import shlex
import subprocess

import pytest
from support import instance as instances

FOLDER = pathlib.Path(__file__).parent


def parse(path):
    """[(line number, words, status, output patterns, error patterns)]"""
    cases = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("$ "):
            cases.append((number, shlex.split(line[2:]), [0], [], []))
        elif line.startswith("? "):
            cases[-1][2][0] = int(line[2:])
        elif line[:1] in (">", "!"):
            cases[-1][3 if line[0] == ">" else 4].append(line[1:])
        elif line and not line.startswith("#"):
            raise ValueError(f"{path.name}:{number}: not understood: {line}")
    return cases


def matches(patterns, lines):
    """Whether the lines are what the patterns say; `*` takes as few lines as it can."""
    if not patterns:
        return not lines
    first, rest = patterns[0], patterns[1:]
    if first == "*":
        return any(matches(rest, lines[skip:]) for skip in range(len(lines) + 1))
    if not lines:
        return False
    if first.startswith("~"):
        fits = re.search(first[1:].strip(), lines[0]) is not None
    else:
        fits = lines[0] == first[1:]
    return fits and matches(rest, lines[1:])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.test")), ids=lambda path: path.stem)
def test_command_lines(path, tmp_path):
    environment = {"PATH": f"{instances.BIN}:{os.environ['PATH']}", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8",
                   "TZ": "UTC", "HULL_ROOT": str(tmp_path / "data"), "HULL_RUN": str(tmp_path / "run"),
                   "HULL_CONFIG": str(tmp_path / "hull.toml")}
    (tmp_path / "hull.toml").write_text("")
    wrong = []
    for number, words, status, output, error in parse(path):
        done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30,
                              stdin=subprocess.DEVNULL)
        problems = []
        if done.returncode != status[0]:
            problems.append(f"exit status {done.returncode}, not {status[0]}")
        if not matches(output, done.stdout.splitlines()):
            problems.append("standard output differs")
        if not matches(error, done.stderr.splitlines()):
            problems.append("standard error differs")
        if problems:
            wrong.append(f"{path.name}:{number}: {shlex.join(words)}: {', '.join(problems)}\n"
                         f"--- standard output\n{done.stdout}--- standard error\n{done.stderr}")
    assert not wrong, "\n" + "\n".join(wrong)
