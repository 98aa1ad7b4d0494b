"""`cmake --install` and the .deb put everything in place, and what they install runs from there."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest
from support import instance as instances

INSTALLED = [
    "usr/bin/hull",
    "usr/bin/hull-oci",
    "usr/bin/hull-oci-vm",
    "usr/libexec/hull/hull-monitor",
    "usr/libexec/hull/hull-images",
    "usr/share/hull/images/hull-demo/index.json",
    "usr/share/bash-completion/completions/hull",
    "usr/share/zsh/site-functions/_hull",
    "usr/share/fish/vendor_completions.d/hull.fish",
    "usr/share/man/man1/hull.1",
    "usr/share/man/man1/hull-run.1",
    "etc/hull/hull.toml",
    "usr/lib/systemd/system/hull.service",
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(["cmake", "--install", instances.BUILD, "--prefix", "/usr"], check=True, capture_output=True,
                   env=dict(os.environ, DESTDIR=str(folder)))
    return folder


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The .deb and the folder that it was unpacked into."""
    folder = tmp_path_factory.mktemp("package")
    done = subprocess.run(["cpack", "-G", "DEB", "-B", folder, "--config", instances.BUILD / "CPackConfig.cmake"],
                          cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    file = next(folder.glob("*.deb"))
    subprocess.run(["dpkg-deb", "-x", file, folder / "unpacked"], check=True)
    return file, folder / "unpacked"


def present(folder, path):
    return (folder / path).exists() or (folder / f"{path}.gz").exists()


def test_install_is_complete(installed):
    missing = [path for path in INSTALLED if not present(installed, path)]
    assert not missing


def test_package_is_complete(package):
    missing = [path for path in INSTALLED if not present(package[1], path)]
    assert not missing


def test_package_depends_on_what_its_programs_load(package):
    depends = subprocess.run(["dpkg-deb", "-f", package[0], "Depends"], capture_output=True, text=True, check=True).stdout
    assert "libc6" in depends and "libcurl4" in depends, depends
    conffiles = subprocess.run(["dpkg-deb", "-I", package[0], "conffiles"], capture_output=True, text=True, check=True)
    assert "/etc/hull/hull.toml" in conffiles.stdout


def test_default_settings_are_accepted(make_instance, installed):
    settings = (installed / "etc/hull/hull.toml").read_text()
    make_instance(settings).hull("info")
    # Every setting that the file names in a comment is a known one, with a value of the right kind.
    active = re.sub(r"(?m)^# (?=\w+ = |\[)", "", settings)
    active = re.sub(r"(?m)^(data_root|run_root|cgroup_manager|ca|client_cert|client_key) = .*$", "", active)
    make_instance(active).hull("info")


@pytest.mark.parametrize("source", ["installed", "package"])
def test_runs_from_there(instance, request, source, monkeypatch):
    made = request.getfixturevalue(source)
    folder = made if source == "installed" else made[1]
    monkeypatch.setattr(instances, "BIN", pathlib.Path(folder) / "usr/bin")
    assert "Hello from inside" in instance.hull("run", "--rm", "hull-demo").stdout
    instance.close()


@pytest.mark.parametrize("shell, command", [
    ("bash", "source '{}' && complete -p hull"),
    ("zsh", "autoload -U compinit && compinit -u -D && source '{}' && (( $+functions[_hull] ))"),
    ("fish", "source '{}' && complete -C 'hull ru' | grep -q run"),
])
def test_completions_load(installed, shell, command):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    folder = {"bash": "bash-completion/", "zsh": "zsh/", "fish": "fish/"}[shell]
    file = next(path for path in INSTALLED if path.startswith(f"usr/share/{folder}"))
    path = f"{installed}/usr/bin:{os.environ['PATH']}"
    done = subprocess.run([shell, "-c", command.format(installed / file)], capture_output=True, text=True,
                          env=dict(os.environ, PATH=path, HOME=str(installed)))
    assert done.returncode == 0, done.stdout + done.stderr


def test_manual_has_a_page_for_each_command(installed):
    pages = {path.name.split(".")[0] for path in (installed / "usr/share/man/man1").iterdir()}
    for command in ("run", "create", "exec", "ps", "logs", "pull", "push", "images", "volume-create", "system-check"):
        assert f"hull-{command}" in pages
    if shutil.which("man"):
        done = subprocess.run(["man", "--warnings", "-l", installed / "usr/share/man/man1/hull-run.1"],
                              capture_output=True, text=True, env=dict(os.environ, MANPAGER="cat", MANWIDTH="100"))
        assert "--memory" in done.stdout and not done.stderr, done.stderr
