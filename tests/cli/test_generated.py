"""Man pages and completions: what the program writes loads in the tools that read it."""

import pathlib
import shutil
import subprocess

import pytest
from support import instance as instances

HULL = instances.BIN / "hull"


def hull(*arguments, **more):
    return subprocess.run([HULL, *map(str, arguments)], capture_output=True, text=True, check=True, **more).stdout


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("man")
    hull("internal", "man", folder)
    return sorted(folder.glob("*.1"))


def static_pages():
    return sorted((pathlib.Path(__file__).parents[2] / "docs" / "man").glob("*.[1-8]"))


def test_there_is_a_page_for_each_command(pages):
    names = {page.name for page in pages}
    assert {"hull.1", "hull-run.1", "hull-pull.1", "hull-volume-create.1", "hull-system-df.1"} <= names
    assert not any("internal" in name for name in names)


def test_man_reads_them_without_a_warning(pages):
    if not shutil.which("man"):
        pytest.skip("man is not installed")
    for page in [*pages, *static_pages()]:
        done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)],
                              capture_output=True, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "MANROFFSEQ": ""})
        assert done.returncode == 0 and not done.stderr, f"{page.name}: {done.stderr.decode()}"


def test_every_flag_of_run_is_in_its_page(pages):
    page = next(page for page in pages if page.name == "hull-run.1").read_text().replace("\\-", "-")
    for line in hull("run", "--help").splitlines():
        if line.startswith(" ") and line.lstrip().startswith("-"):
            flag = next(word for word in line.replace(",", " ").split() if word.startswith("--"))
            assert f"{flag}\\fP" in page, flag


@pytest.mark.parametrize("shell, check", [("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "-n"])])
def test_completion_scripts_parse(shell, check, tmp_path):
    if not shutil.which(check[0]):
        pytest.skip(f"{check[0]} is not installed")
    script = tmp_path / f"hull.{shell}"
    script.write_text(hull("completion", shell))
    subprocess.run([*check, str(script)], check=True, capture_output=True, text=True)


def environment(tmp_path):
    return {"PATH": f"{instances.BIN}:/usr/bin:/bin", "HOME": str(tmp_path), "HULL_ROOT": str(tmp_path / "data"),
            "HULL_RUN": str(tmp_path / "run"), "HULL_CONFIG": str(tmp_path / "none.toml"), "LC_ALL": "C.UTF-8"}


def test_bash_completes(tmp_path):
    script = tmp_path / "hull.bash"
    script.write_text(hull("completion", "bash"))
    program = f"""source {script}
complete_words() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hull 2>/dev/null; echo "${{COMPREPLY[*]}}"; }}
complete_words hull ru
complete_words hull run --shm
complete_words hull run --network ho
complete_words hull volume cr
"""
    done = subprocess.run(["bash", "--norc", "-c", program], capture_output=True, text=True, check=True,
                          env=environment(tmp_path))
    assert done.stdout.splitlines() == ["run", "--shm-size", "host", "create"]


def test_fish_completes(tmp_path):
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    script = tmp_path / "hull.fish"
    script.write_text(hull("completion", "fish"))
    done = subprocess.run(["fish", "--no-config", "-c", f"source {script}; complete -C 'hull run --network ho'"],
                          capture_output=True, text=True, check=True, env=environment(tmp_path))
    assert done.stdout.split() == ["host"]
