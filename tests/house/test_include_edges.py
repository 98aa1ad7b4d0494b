"""A room includes only the rooms that its row in rooms.txt names, and headers that are slow to compile stay in .cc."""

import re

import tree

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def edges():
    """(file, line, room of the file, included path) of each quoted include below src/."""
    for path in tree.files("src", (".cc", ".h", ".c")):
        room = path.relative_to(tree.SOURCE / "src").parts[0]
        text = path.read_text()
        for match in INCLUDE.finditer(text):
            yield path, text.count("\n", 0, match.start()) + 1, room, match.group(1)


def test_every_room_has_a_row():
    rooms = {path.name for path in (tree.SOURCE / "src").iterdir() if path.is_dir()}
    assert rooms == set(tree.rooms()), "rooms.txt and the folders of src/ differ"


def test_table_has_no_cycle():
    table = tree.rooms()
    done = []
    while len(done) < len(table):
        ready = [room for room in table if room not in done and table[room] <= set(done)]
        assert ready, f"these rooms include each other: {sorted(set(table) - set(done))}"
        done += ready


def test_includes_follow_the_table():
    table = tree.rooms()
    wrong = []
    for path, line, room, included in edges():
        where = f"{path.relative_to(tree.SOURCE)}:{line}"
        target = included.split("/")[0]
        if "/" not in included or target not in table:
            wrong.append(f'{where}: "{included}" is not named from src/ on')
        elif target != room and target not in table[room]:
            wrong.append(f"{where}: {room} may not include {target} ({included})")
        elif not (tree.SOURCE / "src" / included).exists():
            wrong.append(f'{where}: "{included}" does not exist')
    assert not wrong, "\n" + "\n".join(wrong)


def test_heavy_headers_stay_out_of_headers():
    """nlohmann-json, toml++ and curl cost seconds in each file that sees them."""
    heavy = re.compile(r"#\s*include\s+<(nlohmann/|toml\+\+|curl/)")
    headers = tree.files("src", (".h",))
    wrong = [str(path.relative_to(tree.SOURCE)) for path in headers if heavy.search(path.read_text())]
    assert not wrong, f"include these in .cc files only: {wrong}"
