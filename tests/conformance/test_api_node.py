"""The npm packages dockerode and testcontainers against hulld, with programs of ours (tests/clients). The test installs
them, exactly as tests/clients/package-lock.json names them, with checksums."""

import os
import shutil
import subprocess

import pytest
from support import api, images
from support.instance import BUILD, SOURCE

CLIENTS = SOURCE / "tests/clients"
PACKAGES = [CLIENTS / name for name in ("package.json", "package-lock.json", ".npmrc")]


@pytest.fixture(scope="module")
def modules():
    """A folder with node_modules."""
    if not shutil.which("npm"):
        pytest.fail("npm is missing: run scripts/setup")
    folder = BUILD / "test-clients"
    folder.mkdir(exist_ok=True)
    stamp = folder / "installed"
    wanted = b"".join(path.read_bytes() for path in PACKAGES)
    if not stamp.exists() or stamp.read_bytes() != wanted:
        for path in PACKAGES:
            shutil.copy(path, folder)
        done = subprocess.run(["npm", "ci", "--silent", "--ignore-scripts"], cwd=folder, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        stamp.write_bytes(wanted)
    return folder


@pytest.fixture(scope="module")
def daemon(shared_instance, tmp_path_factory):
    images.load(shared_instance, tmp_path_factory.mktemp("image"))
    made = api.Daemon(shared_instance)
    yield made
    made.close()


def run(daemon, modules, program, work):
    environment = {"PATH": os.environ["PATH"], "HOME": str(daemon.instance.folder), "SOCKET": daemon.socket,
                   "DOCKER_HOST": f"unix://{daemon.socket}", "MODULES": str(modules), "TESTCONTAINERS_RYUK_DISABLED": "true",
                   "TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1"}
    # Published ports are in the instance's network namespace.
    command = ["nsenter", f"--net=/run/netns/{daemon.instance.netns}", "node", str(CLIENTS / program), work]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL)
    daemon.instance.note_ids()
    left = [one["Id"] for one in daemon.get("/containers/json?all=1").json()]
    for one in left:
        daemon.request("DELETE", f"/containers/{one}?force=1&v=1")
    assert done.returncode == 0 and f"{work}: right" in done.stdout, done.stdout + done.stderr
    assert not left


@pytest.mark.parametrize("work", ["system", "run", "attached", "execs", "files", "followed", "events", "networks", "volumes",
                                  "images"])
def test_dockerode(daemon, modules, work):
    run(daemon, modules, "dockerode.mjs", work)


@pytest.mark.parametrize("work", ["ports", "content", "networks"])
def test_testcontainers(daemon, modules, work):
    run(daemon, modules, "testcontainers.mjs", work)
