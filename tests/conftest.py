"""Fixtures for the tests that cross rooms. What they make lives in temporary folders and namespaces of their own, and
is gone afterwards, whatever the test did."""

import os
import pathlib
import shutil
import signal
import stat

import pytest
from support import bundle as bundles
from support import images
from support import instance as instances
from support import registry as registries
from support import runtime as runtimes
from support import token_server as token_servers
from support import vm as machines


def pytest_configure():
    """A run that is told to end (a timeout of ctest, a CI that gives up) clears up behind itself as after Ctrl-C: the
    fixtures' ends run, and with them daemons, mounts and cgroups go. A second signal ends it at once."""

    def end(number, _):
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt(f"signal {number}")

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)


def pytest_collection_modifyitems(items):
    for item in items:
        folder = pathlib.Path(item.fspath).parent.name
        if folder in ("privileged", "net", "conformance") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session")
def hull_bin():
    """The folder with hull, hull-oci, hull-monitor and hull-images."""
    return instances.BIN


@pytest.fixture
def instance():
    """A private Hull (support.instance.Instance) for one test."""
    made = instances.Instance()
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_instance():
    """A private Hull for the tests of one file, which must not disturb each other."""
    made = instances.Instance()
    yield made
    made.close()


@pytest.fixture
def make_instance():
    """make_instance(settings): more private Hulls, or one with a hull.toml."""
    made = []

    def make(settings=""):
        made.append(instances.Instance(settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def guest_kernel(tmp_path_factory):
    """A data folder with an installed guest kernel (support.vm.share_kernel gives it to an instance)."""
    machines.need_machines()
    return machines.install_kernel(tmp_path_factory.mktemp("guest-kernel"))


@pytest.fixture
def leaks(instance):
    """Counts what the instance holds of the machine: leaks.new() lists what came since."""
    return instances.Leaks(instance)


@pytest.fixture
def bundle(tmp_path):
    """bundle(args, **changes): makes an OCI bundle of busybox and returns its folder."""
    count = 0

    def make(args=("true",), document=None, **changes):
        nonlocal count
        count += 1
        return bundles.bundle(tmp_path / f"bundle{count}", args, document, **changes)

    yield make
    instances.remove_tree(tmp_path)


@pytest.fixture(scope="module")
def hull(shared_instance, tmp_path_factory):
    """A private Hull with the image "test"."""
    images.load(shared_instance, tmp_path_factory.mktemp("image"))
    return shared_instance


@pytest.fixture
def make_registry():
    """make_registry(user=, password=, tls=, netns=, tokens=, client_certificates=): starts docker-registry on a loopback port."""
    if not shutil.which("docker-registry"):
        pytest.skip("docker-registry is not installed")
    made = []

    def make(**options):
        made.append(registries.Registry(**options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def make_token_server():
    """make_token_server(users, rights, oauth=): a support.token_server.TokenServer on a loopback port."""
    made = []

    def make(*arguments, **options):
        made.append(token_servers.TokenServer(*arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def busybox_layout(tmp_path):
    """An OCI layout with busybox:latest; returns its folder."""
    bundles.busybox_image(tmp_path / "busybox-layout")
    return tmp_path / "busybox-layout"


@pytest.fixture(autouse=True, scope="session")
def machine_stays_whole():
    """Tests that run as root can break the machine for everything else: a program that 'renames its output into place'
    has replaced /dev/null before."""
    yield
    info = os.stat("/dev/null")
    assert stat.S_ISCHR(info.st_mode) and info.st_rdev == os.makedev(1, 3), "/dev/null is no longer the null device"


@pytest.fixture
def runtime():
    """hull-oci with a state folder, bundles and cgroups of its own (support.runtime.Runtime)."""
    made = runtimes.Runtime()
    yield made
    made.close()
