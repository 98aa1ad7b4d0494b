"""What the foreign engines run on (hull-oci, one image of busybox), and what foreign clients talk to (hulld)."""

import os
import re
import shutil

import pytest
from support import api, images
from support import bundle as bundles
from support import instance as instances
from support import peers

pytest.register_assert_rewrite("engine_checks")


@pytest.fixture(scope="session")
def hull_oci():
    """The runtime under test; HULL_OCI names another one, to check the tests themselves."""
    path = os.environ.get("HULL_OCI", str(instances.BIN / "hull-oci"))
    assert os.path.exists(path), f"{path} is not built"
    return path


@pytest.fixture(scope="module")
def daemon(shared_instance, tmp_path_factory):
    """hulld on the shared instance, which has busybox."""
    images.load(shared_instance, tmp_path_factory.mktemp("image"), name="busybox:latest")
    made = api.Daemon(shared_instance)
    yield made
    made.close()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """busybox as a docker-archive."""
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not installed")
    folder = tmp_path_factory.mktemp("archive")
    bundles.docker_archive(folder, folder / "busybox.tar")
    return folder / "busybox.tar"


def foreign_cgroups():
    """Cgroups of Docker, Podman and containerd; Hull's own tests may run beside these."""
    return {path for path in instances.cgroup_folders() if re.search(r"/(docker|libpod[^/]*|default|machine)/", path)}


def foreign_mounts():
    return {path for path in instances.mounts_under("/") if re.search(r"/hull-(docker|podman|containerd)-", path)}


@pytest.fixture(scope="module")
def leftovers():
    """Cgroups and mounts that a foreign engine with our runtime leaves behind fail the file that made them."""
    cgroups_before, mounts_before = foreign_cgroups(), foreign_mounts()
    yield
    cgroups, mounts = sorted(foreign_cgroups() - cgroups_before), sorted(foreign_mounts() - mounts_before)
    assert not cgroups and not mounts, f"left behind: cgroups {cgroups}, mounts {mounts}"


def started(program, make):
    if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
        pytest.skip(f"{program} is not installed")
    return make()


@pytest.fixture(scope="module")
def docker(hull_oci, archive, leftovers):
    daemon = started("dockerd", lambda: peers.Docker(runtimes={"hull": hull_oci}))
    try:
        daemon.docker("load", "-i", archive)
        yield daemon
    finally:
        daemon.close()


@pytest.fixture(scope="module")
def podman(hull_oci, archive, leftovers):
    engine = started("podman", lambda: peers.Podman(runtime=hull_oci))
    try:
        engine.podman("load", "-i", archive)
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def containerd(archive, leftovers):
    daemon = started("containerd", peers.Containerd)
    try:
        daemon.ctr("image", "import", archive)
        yield daemon
    finally:
        daemon.close()
