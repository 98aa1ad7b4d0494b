"""Names on user-defined networks, asked with the containers' own programs."""

import os
import re
import signal

import pytest
from support import images
from support.instance import Instance, wait_until


@pytest.fixture(scope="module")
def hull(tmp_path_factory):
    made = Instance()
    try:
        images.load(made, tmp_path_factory.mktemp("image"))
        made.hull("network", "create", "mynet")
        yield made
    finally:
        made.close()


def start(hull, name, *arguments, network="mynet"):
    hull.hull("run", "-d", "--name", name, "--network", network, *arguments, "test", "sleep", "1000")


def lookup(hull, name, asker):
    """The addresses that nslookup in `asker` prints for a name."""
    out = hull.hull("exec", asker, "nslookup", name, check=False).stdout
    return re.findall(r"^Name:.*\n(?:Address(?: \d+)?: (\S+))", out, re.M)


def address(hull, name, network="mynet"):
    return hull.hull("inspect", "--format", f"{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}", name).stdout.strip()


def servers(hull):
    return sorted(pid for pid, line in hull.processes().items() if "hull-dns" in line)


def test_names_aliases_short_ids_and_pointers(hull):
    start(hull, "alice", "--network-alias", "service")
    start(hull, "bob", "--network-alias", "service")
    assert lookup(hull, "alice", "bob")[:1] == [address(hull, "alice")]
    assert lookup(hull, "alice.mynet", "bob")[:1] == [address(hull, "alice")]
    short = hull.hull("ps", "-q", "--filter", "name=alice").stdout.strip()
    assert lookup(hull, short, "bob")[:1] == [address(hull, "alice")]
    out = hull.hull("exec", "bob", "nslookup", "service").stdout
    assert address(hull, "alice") in out and address(hull, "bob") in out
    pointer = hull.hull("exec", "bob", "nslookup", address(hull, "alice")).stdout
    assert "alice.mynet" in pointer
    hull.hull("exec", "bob", "ping", "-c", "1", "-W", "5", "alice")
    resolv = hull.hull("exec", "bob", "cat", "/etc/resolv.conf").stdout
    assert "nameserver 127.0.0.11" in resolv and "ndots:0" in resolv


def test_other_networks_are_not_seen(hull):
    hull.hull("network", "create", "othernet")
    start(hull, "stranger", network="othernet")
    assert not lookup(hull, "alice", "stranger")
    hull.hull("network", "connect", "mynet", "stranger")
    wait_until(lambda: lookup(hull, "alice", "stranger"), "the name after connecting")
    hull.hull("network", "disconnect", "mynet", "stranger")
    wait_until(lambda: not lookup(hull, "alice", "stranger"), "the name to go")
    hull.hull("rm", "-f", "stranger")
    hull.hull("network", "rm", "othernet")


def test_killed_servers_are_replaced(hull):
    before = servers(hull)
    assert len(before) == 2
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not set(servers(hull)) & set(before), "their end")
    start(hull, "carol")
    assert lookup(hull, "alice", "carol")[:1] == [address(hull, "alice")]
    assert lookup(hull, "carol", "alice")[:1] == [address(hull, "carol")]


def test_restart_keeps_names(hull):
    hull.hull("restart", "-t", "0", "alice")
    wait_until(lambda: lookup(hull, "alice", "bob")[:1] == [address(hull, "alice")], "the name")


def test_the_default_bridge_has_none(hull):
    start(hull, "plain", network="bridge")
    assert "127.0.0.11" not in hull.hull("exec", "plain", "cat", "/etc/resolv.conf").stdout
    hull.hull("rm", "-f", "plain")


def test_server_ends_with_the_last_endpoint(hull):
    hull.hull("rm", "-f", "alice", "bob", "carol")
    wait_until(lambda: not servers(hull), "hull-dns to end")
