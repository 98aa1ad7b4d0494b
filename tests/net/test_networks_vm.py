"""Virtual machines on networks of users: beside containers, by name and address, and kept apart as those are."""

import json
import subprocess

import pytest
from support import images
from support import vm as machines
from support.instance import wait_until

PATIENCE_S = 120
SERVER = ("nc", "-ll", "-p", "80", "-e", "echo", "hello")


@pytest.fixture(scope="module")
def hull(shared_instance, guest_kernel, tmp_path_factory):
    machines.share_kernel(shared_instance, guest_kernel)
    images.load(shared_instance, tmp_path_factory.mktemp("image"))
    yield shared_instance


def ask(hull, ref, target):
    done = hull.hull("exec", ref, "timeout", "5", "nc", target, "80", check=False, timeout=PATIENCE_S)
    return "hello" in done.stdout


def test_a_machine_and_containers_find_each_other(hull):
    hull.hull("network", "create", "--subnet", "10.81.0.0/24", "shop")
    hull.hull("network", "create", "other")
    try:
        hull.hull("run", "-d", "--vm", "--name", "machine", "--network", "shop", "--network-alias", "www", "-p", "8080:80",
                  "test", *SERVER, timeout=PATIENCE_S)
        hull.hull("run", "-d", "--name", "box", "--network", "shop", "test", *SERVER)
        hull.hull("run", "-d", "--name", "stranger", "--network", "other", "test", "sleep", "1000")
        for name in ("machine", "www", "machine.shop"):
            assert wait_until(lambda: ask(hull, "box", name), name, PATIENCE_S)
        for name in ("box", "box.shop"):
            assert ask(hull, "machine", name), name
        own = json.loads(hull.hull("inspect", "machine").stdout)[0]["NetworkSettings"]["Networks"]["shop"]
        assert own["IPAddress"].startswith("10.81.0.") and "www" in own["DNSNames"]
        assert not ask(hull, "stranger", own["IPAddress"])
        published = hull.in_netns(["timeout", "5", "busybox", "nc", "127.0.0.1", "8080"], stdin=subprocess.DEVNULL,
                                  check=False)
        assert "hello" in published.stdout
        refused = hull.hull("network", "connect", "other", "machine", check=False)
        assert refused.returncode != 0 and "stop it, change its networks" in refused.stderr
    finally:
        hull.hull("rm", "-f", "machine", "box", "stranger", check=False, timeout=PATIENCE_S)
        hull.hull("network", "rm", "-f", "shop", "other", check=False)
