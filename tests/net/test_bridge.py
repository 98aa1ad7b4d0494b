"""The default bridge as users meet it: addresses, published ports, reachability, and nothing open that was not asked for."""

import concurrent.futures
import json
import socket
import subprocess

import pytest
from support.instance import wait_until


@pytest.fixture
def server(hull):
    """server(*flags) -> id of a container whose port 80 says hello."""
    made = []

    def start(*flags):
        made.append(hull.hull("run", "-d", *flags, "test", "nc", "-ll", "-p", "80", "-e", "echo",
                              "hello").stdout.strip())
        return made[-1]

    yield start
    if made:
        hull.hull("rm", "-f", *made, check=False)


def network(hull, ref):
    settings = json.loads(hull.hull("inspect", ref).stdout)[0]["NetworkSettings"]
    return settings["Networks"]["bridge"], settings["Ports"]


def ask(hull, address, port):
    return hull.in_netns(["timeout", "3", "busybox", "nc", address, str(port)], check=False, stdin=subprocess.DEVNULL).stdout


def ready(hull, address, port=80):
    return wait_until(lambda: ask(hull, address, port), f"an answer from {address}:{port}")


def test_addresses_and_gateway(hull, server):
    identifier = server()
    inside = hull.hull("exec", identifier, "sh", "-c", "ip -o address show eth0; ip route; ip -6 route").stdout
    own, _ = network(hull, identifier)
    assert f"inet {own['IPAddress']}/" in inside and f"default via {own['Gateway']}" in inside
    assert own["GlobalIPv6Address"] and own["GlobalIPv6Address"] in inside
    assert own["MacAddress"] in hull.hull("exec", identifier, "ip", "link", "show", "eth0").stdout


def test_host_reaches_the_container(hull, server):
    own, _ = network(hull, server())
    assert "hello" in ready(hull, own["IPAddress"])


def test_containers_reach_each_other(hull, server):
    own, _ = network(hull, server())
    ready(hull, own["IPAddress"])
    assert "hello" in hull.hull("run", "--rm", "test", "nc", "-w", "3", own["IPAddress"], "80").stdout


def test_published_port_on_loopback_and_on_the_bridge_address(hull, server):
    identifier = server("-p", "8080:80")
    own, ports = network(hull, identifier)
    assert ports["80/tcp"][0]["HostPort"] == "8080"
    assert hull.hull("port", identifier).stdout.splitlines()[0] == "80/tcp -> 0.0.0.0:8080"
    assert "hello" in ready(hull, "127.0.0.1", 8080)
    assert "hello" in ask(hull, own["Gateway"], 8080)
    # Through the published port, from another container, and from the container itself (hairpin).
    for command in (["run", "--rm", "test"], ["exec", identifier]):
        assert "hello" in hull.hull(*command, "nc", "-w", "3", own["Gateway"], "8080").stdout


def test_port_of_choice(hull, server):
    identifier = server("-p", "80")
    port = hull.hull("port", identifier, "80/tcp").stdout.split()[0].rsplit(":", 1)[1]
    assert "hello" in ready(hull, "127.0.0.1", int(port))


def test_port_ranges_and_udp(hull):
    identifier = hull.hull("run", "-d", "-p", "127.0.0.1:7000-7002:6000-6002/udp", "test", "sleep", "100").stdout.strip()
    lines = hull.hull("port", identifier).stdout.splitlines()
    hull.hull("rm", "-f", identifier)
    assert lines == [f"600{i}/udp -> 127.0.0.1:700{i}" for i in range(3)]


def test_a_port_is_published_once(hull, server):
    server("-p", "8081:80")
    done = hull.hull("run", "-d", "-p", "8081:80", "test", "true", check=False)
    assert done.returncode == 125 and "8081" in done.stderr and "already" in done.stderr
    assert hull.hull("ps", "-aq", "--filter", "status=created").stdout.strip() == "" or \
        hull.hull("container", "prune", "--force").returncode == 0


def test_a_port_that_a_host_process_holds_is_refused(hull):
    listener = hull.in_netns  # the listener lives in the instance's network namespace
    process = subprocess.Popen(["nsenter", f"--net=/run/netns/{hull.netns}", "busybox", "nc", "-l", "-p", "8082"])
    try:
        wait_until(lambda: ":8082" in listener(["ss", "-ltn"]).stdout, "the listener")
        done = hull.hull("run", "--rm", "-p", "8082:80", "test", "true", check=False)
        assert done.returncode == 125 and "8082" in done.stderr
    finally:
        process.kill()
        process.wait()


def test_fixed_address_and_mac(hull):
    subnet = json.loads(hull.hull("network", "inspect", "bridge").stdout)[0]["IPAM"]["Config"][0]["Subnet"]
    base = subnet.split("/")[0].rsplit(".", 1)[0]
    out = hull.hull("run", "--rm", "--ip", f"{base}.77", "--mac-address", "02:42:00:00:00:77", "test", "ip", "-o", "addr",
                    "show", "eth0").stdout
    assert f"{base}.77/" in out
    assert hull.hull("run", "--rm", "--ip", "203.0.113.5", "test", "true", check=False).returncode == 125


def test_network_of_another_container(hull, server):
    identifier = server()
    own, _ = network(hull, identifier)
    out = hull.hull("run", "--rm", "--network", f"container:{identifier}", "test", "ip", "-o", "addr", "show", "eth0").stdout
    assert own["IPAddress"] in out


def test_host_network(hull):
    assert hull.hull("run", "--rm", "--network", "host", "test", "readlink", "/proc/self/ns/net").stdout == \
        hull.in_netns(["readlink", "/proc/self/ns/net"]).stdout


def test_none_has_only_loopback(hull):
    out = hull.hull("run", "--rm", "--network", "none", "test", "ip", "-o", "link").stdout
    assert len(out.splitlines()) == 1 and "LOOPBACK,UP" in out


def test_addresses_never_collide(hull):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: hull.hull("run", "-d", "test", "sleep", "100").stdout.strip(), range(24)))
    addresses = [network(hull, identifier)[0]["IPAddress"] for identifier in ids]
    hull.hull("rm", "-f", *ids)
    assert len(set(addresses)) == 24


class Outside:
    """A client in a network namespace of its own, on a veth to the instance's namespace, which routes."""

    def __init__(self, hull):
        self.hull, self.name = hull, hull.netns + "-o"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        subprocess.run(["ip", "-n", hull.netns, "link", "add", "out0", "type", "veth", "peer", "name", "in0", "netns",
                        self.name], check=True)
        for where, link, address in ((hull.netns, "out0", "192.0.2.1/24"), (self.name, "in0", "192.0.2.2/24")):
            subprocess.run(["ip", "-n", where, "address", "add", address, "dev", link], check=True)
            subprocess.run(["ip", "-n", where, "link", "set", link, "up"], check=True)
        subprocess.run(["ip", "-n", self.name, "route", "add", "default", "via", "192.0.2.1"], check=True)

    def ask(self, address, port):
        return subprocess.run(["nsenter", f"--net=/run/netns/{self.name}", "timeout", "2", "busybox", "nc", address, str(port)],
                              capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout

    def close(self):
        subprocess.run(["ip", "-n", self.hull.netns, "link", "del", "out0"])
        subprocess.run(["ip", "netns", "del", self.name])


@pytest.fixture
def outside(hull):
    made = Outside(hull)
    yield made
    made.close()


def test_clients_from_outside(hull, server, outside):
    identifier = server("-p", "8090:80", "-p", "127.0.0.1:8091:80")
    own, _ = network(hull, identifier)
    ready(hull, "127.0.0.1", 8090)
    assert "hello" in wait_until(lambda: outside.ask("192.0.2.1", 8090), "an answer through the published port")
    # What is published on loopback, and what is not published at all, stays closed to others.
    assert outside.ask("192.0.2.1", 8091) == ""
    subprocess.run(["ip", "-n", outside.name, "route", "add", "127.0.0.2/32", "via", "192.0.2.1"], capture_output=True)
    assert outside.ask(own["IPAddress"], 80) == ""


def test_source_addresses_are_kept(hull, outside):
    identifier = hull.hull("run", "-d", "-p", "8092:80", "test", "nc", "-ll", "-p", "80", "-e", "sh", "-c",
                           "netstat -tn | grep :80").stdout.strip()
    try:
        answer = wait_until(lambda: outside.ask("192.0.2.1", 8092), "an answer")
        assert "192.0.2.2:" in answer
    finally:
        hull.hull("rm", "-f", identifier)


def test_containers_reach_outside_through_masquerading(hull, outside):
    listener = subprocess.Popen(["nsenter", f"--net=/run/netns/{outside.name}", "busybox", "nc", "-l", "-p", "9000"],
                                stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    wait_until(lambda: ":9000" in subprocess.run(["ip", "netns", "exec", outside.name, "ss", "-ltn"], capture_output=True,
                                                 text=True).stdout, "the listener")
    # Some seconds of open input: nc ends when its input does, and takes what is under way with it.
    out = hull.hull("run", "--rm", "test", "sh", "-c", "(echo through; sleep 1) | nc -w 3 192.0.2.2 9000", check=False)
    assert listener.communicate(timeout=10)[0] == "through\n", out.stderr


def test_rules_stay_through_a_flush(hull, server):
    identifier = server("-p", "8093:80")
    ready(hull, "127.0.0.1", 8093)
    hull.in_netns(["nft", "flush", "ruleset"])
    assert "hello" in ask(hull, "127.0.0.1", 8093)
    hull.hull("run", "--rm", "test", "true")
    assert "hello" in ask(hull, "127.0.0.1", 8093)


def test_a_flush_between_two_commands_loses_and_opens_nothing(hull, server, outside):
    identifier = server("-p", "8095:80")
    own, _ = network(hull, identifier)
    ready(hull, "127.0.0.1", 8095)
    # A connection that goes on through the reloads: its packets are translated all the time.
    talker = hull.hull("run", "-d", "-p", "8096:80", "test", "nc", "-ll", "-p", "80", "-e", "cat").stdout.strip()
    wait_until(lambda: ":80 " in hull.hull("exec", talker, "netstat", "-ltn").stdout, "the echo server")
    client = subprocess.Popen(["nsenter", f"--net=/run/netns/{outside.name}", "busybox", "nc", "192.0.2.1", "8096"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    try:
        for i in range(20):
            hull.in_netns(["nft", "flush", "ruleset"])
            client.stdin.write(f"line {i}\n")
            assert client.stdout.readline() == f"line {i}\n"
            assert "hello" in outside.ask("192.0.2.1", 8095)
        hull.in_netns(["nft", "-f", "-"], stdin=None, input="flush ruleset\ntable inet filter {}\n")
        assert "hello" in outside.ask("192.0.2.1", 8095)
        assert outside.ask(own["IPAddress"], 80) == ""
    finally:
        client.kill()
        client.communicate()
        hull.hull("rm", "-f", talker)


def test_removal_closes_the_port(hull, server):
    identifier = server("-p", "8094:80")
    ready(hull, "127.0.0.1", 8094)
    hull.hull("rm", "-f", identifier)
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", 8094), timeout=1):
        pass
    assert ask(hull, "127.0.0.1", 8094) == ""
