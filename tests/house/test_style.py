"""The tree's form: clang-format's, no unfinished places, files of bearable length, a README in each room."""

import os
import re
import shutil
import subprocess

import pytest
import tree

CODE = (".cc", ".h", ".c")
LONGEST = 600
STRING = re.compile(r'"(\\.|[^"\\])*"')


def name(path):
    return str(path.relative_to(tree.SOURCE))


def find(words, paths, only_code=False):
    """'file:line: text' of each line that the pattern matches; only_code leaves out strings and // comments."""
    found = []
    for path in paths:
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            text = STRING.sub('""', line).split("//")[0] if only_code else line
            if words.search(text) and "NOLINT(house)" not in line:
                found.append(f"{name(path)}:{number}: {line.strip()}")
    return found


def test_clang_format():
    tool = shutil.which("clang-format-19")
    if not tool:
        pytest.skip("clang-format-19 is not installed")
    paths = [str(path) for folder in ("src", "bench", "tests") for path in tree.files(folder, CODE)]
    done = subprocess.run([tool, "--dry-run", "-Werror", *paths], capture_output=True, text=True, cwd=tree.SOURCE)
    wrong = sorted({line.split(":")[0] for line in done.stderr.splitlines() if "error:" in line})
    assert done.returncode == 0, "run clang-format-19 -i on:\n" + "\n".join(wrong)


def test_no_unfinished_places():
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|not implemented|unimplemented")
    found = find(words, tree.files("src", CODE))
    assert not found, "\n" + "\n".join(found)


def test_nothing_waits_by_sleeping():
    words = re.compile(r"\b(sleep_for|sleep_until|usleep|nanosleep|sleep)\s*\(")
    paths = [path for path in tree.files("src", CODE) if not re.search(r"_(test|fuzz)\.cc$", path.name)]
    found = find(words, paths, only_code=True)
    assert not found, "wait on a descriptor instead:\n" + "\n".join(found)


def test_nothing_throws():
    words = re.compile(r"\bthrow\b|\btry\s*\{|\bcatch\s*\(")
    found = find(words, tree.files("src", (".cc", ".h")), only_code=True)
    assert not found, "Hull throws nothing (NOLINT(house) where a library must be caught):\n" + "\n".join(found)


def test_files_are_short():
    long = {name(path): path.read_text(errors="replace").count("\n") for path in tree.files("src", CODE)}
    long = {path: lines for path, lines in long.items() if lines > LONGEST}
    assert not long, f"files over {LONGEST} lines ask to be split: {long}"


@pytest.mark.parametrize("room", sorted(tree.rooms()))
def test_room_has_a_readme(room):
    readme = tree.SOURCE / "src" / room / "README.md"
    assert readme.exists(), f"src/{room}/README.md is missing"
    assert readme.read_text().count("\n") <= 80, f"src/{room}/README.md is longer than one screen"


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "SPECIFICATION.md", "HACKING.md", "THREATS.md"])
def test_page_names_files_that_exist(page):
    text = (tree.SOURCE / page).read_text()
    named = re.findall(r"`((?:src|tests|bench|scripts|cmake|docs)/[\w./-]+)`", text)
    missing = sorted({path for path in named if not (tree.SOURCE / path.rstrip("/")).exists()})
    assert not missing, f"{page} names what is not there: {missing}"


def test_programs_are_marked_executable():
    wrong = [name(path) for path in tree.files("scripts") + tree.files(".ci")
             if path.read_bytes()[:2] == b"#!" and not os.access(path, os.X_OK)]
    assert not wrong, f"chmod +x: {wrong}"
