"""Networks of users as they meet them: made, listed, joined and left while a workload runs, and kept apart."""

import json
import subprocess

import pytest
from support.instance import wait_until


@pytest.fixture
def run(hull):
    """run(*flags, command=...) -> id of a running container, removed afterwards."""
    made = []

    def start(*flags, command=("sleep", "1000")):
        made.append(hull.hull("run", "-d", *flags, "test", *command).stdout.strip())
        return made[-1]

    yield start
    if made:
        hull.hull("rm", "-f", "-v", *made, check=False)


@pytest.fixture
def network(hull):
    """network(name, *flags) -> its id; removed afterwards. Listed before `run` it goes after the containers."""
    made = []

    def create(name, *flags):
        made.append(hull.hull("network", "create", *flags, name).stdout.strip())
        return made[-1]

    yield create
    for one in made:
        hull.hull("network", "rm", "-f", one, check=False)


SERVER = ("nc", "-ll", "-p", "80", "-e", "echo", "hello")


def inspect(hull, ref):
    return json.loads(hull.hull("inspect", ref).stdout)[0]


def networks_of(hull, ref):
    return inspect(hull, ref)["NetworkSettings"]["Networks"]


def ask(hull, ref, target, port=80):
    done = hull.hull("exec", ref, "timeout", "2", "nc", target, str(port), check=False)
    return "hello" in done.stdout


def fails(hull, *arguments):
    done = hull.hull(*arguments, check=False)
    assert done.returncode != 0, done.stdout
    return done.stderr


def test_create_list_inspect_remove(hull, network):
    identifier = network("shop", "--subnet", "10.61.0.0/16", "--gateway", "10.61.0.254", "--ip-range", "10.61.7.0/24",
                         "--aux-address", "printer=10.61.7.1", "--label", "tier=front",
                         "-o", "com.docker.network.driver.mtu=1400")
    assert len(identifier) == 64
    rows = hull.hull("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}").stdout.splitlines()
    assert rows == ["bridge bridge local", "host host local", "none null local", "shop bridge local"]
    assert hull.hull("network", "ls", "-q", "--no-trunc", "-f", "label=tier=front").stdout.split() == [identifier]
    assert hull.hull("network", "ls", "-q", "-f", "type=custom").stdout.split() == [identifier[:12]]
    assert hull.hull("network", "ls", "-q", "-f", "driver=macvlan").stdout == ""
    shown = json.loads(hull.hull("network", "inspect", identifier[:10]).stdout)[0]
    assert shown["Name"] == "shop" and shown["Id"] == identifier and shown["Driver"] == "bridge"
    assert shown["IPAM"]["Config"] == [{"Subnet": "10.61.0.0/16", "IPRange": "10.61.7.0/24", "Gateway": "10.61.0.254",
                                        "AuxiliaryAddresses": {"printer": "10.61.7.1"}}]
    assert shown["Labels"] == {"tier": "front"} and shown["Containers"] == {} and shown["Internal"] is False
    assert shown["Options"] == {"com.docker.network.driver.mtu": "1400"}
    assert "already exists" in fails(hull, "network", "create", "shop")
    assert "Pool overlaps" in fails(hull, "network", "create", "--subnet", "10.61.128.0/17", "other")
    assert "no matching subnet for gateway" in fails(hull, "network", "create", "--gateway", "10.0.0.1", "other")
    assert "pre-defined network" in fails(hull, "network", "rm", "bridge")
    assert "network nowhere not found" in fails(hull, "network", "rm", "nowhere")
    assert "network nowhere not found" in fails(hull, "run", "--rm", "--network", "nowhere", "test", "true")
    assert hull.hull("network", "rm", "shop").stdout == "shop\n"
    assert "not found" in fails(hull, "network", "inspect", "shop")


def test_names_addresses_and_aliases(hull, network, run):
    network("shop", "--subnet", "10.62.0.0/24")
    web = run("--name", "web", "--network", "shop", "--network-alias", "www", "--ip", "10.62.0.80", command=SERVER)
    client = run("--network", "name=shop,alias=buyer,mac-address=02:00:00:00:00:42")
    for name in ("web", "www", web[:12], "web.shop", "10.62.0.80"):
        assert wait_until(lambda: ask(hull, client, name), name)
    own = networks_of(hull, web)["shop"]
    assert own["IPAddress"] == "10.62.0.80" and own["Gateway"] == "10.62.0.1" and own["IPPrefixLen"] == 24
    assert own["IPAMConfig"] == {"IPv4Address": "10.62.0.80"} and own["Aliases"] == ["www"]
    assert set(own["DNSNames"]) == {"web", "www", web[:12]}
    other = networks_of(hull, client)["shop"]
    assert other["MacAddress"] == "02:00:00:00:00:42" and other["IPAMConfig"] is None
    assert inspect(hull, web)["NetworkSettings"]["IPAddress"] == ""
    assert "nameserver 127.0.0.11" in hull.hull("exec", web, "cat", "/etc/resolv.conf").stdout
    members = json.loads(hull.hull("network", "inspect", "shop").stdout)[0]["Containers"]
    assert members[web]["Name"] == "web" and members[web]["IPv4Address"] == "10.62.0.80/24"
    assert members[web]["EndpointID"] == own["EndpointID"]
    hull.hull("rename", "web", "store")
    assert ask(hull, client, "store") and not ask(hull, client, "web")
    hull.hull("rename", "store", "web")
    assert hull.hull("ps", "-q", "--no-trunc", "-f", f"network={own['NetworkID'][:12]}").stdout.split() == [client, web]
    assert "in use" in fails(hull, "run", "--rm", "--network", "shop", "--ip", "10.62.0.80", "test", "true")
    assert "not in the subnet" in fails(hull, "run", "--rm", "--network", "shop", "--ip", "10.9.0.1", "test", "true")
    assert "active endpoints" in fails(hull, "network", "rm", "shop")
    assert hull.hull("ps", "-q", "--no-trunc", "-f", "network=shop").stdout.split() == [client, web]
    assert hull.hull("ps", "--format", "{{.Networks}}", "-f", "name=web").stdout == "shop\n"


def test_connect_and_disconnect_while_it_runs(hull, network, run):
    network("front", "--subnet", "10.63.0.0/24")
    network("back", "--subnet", "10.64.0.0/24")
    web = run("--name", "web", "--network", "front", "-p", "8080:80", command=SERVER)
    client = run("--network", "back")
    assert not ask(hull, client, "web")
    hull.hull("network", "connect", "--alias", "api", "--ip", "10.64.0.9", "back", "web")
    assert ask(hull, client, "web") and ask(hull, client, "api") and ask(hull, client, "10.64.0.9")
    assert sorted(networks_of(hull, web)) == ["back", "front"]
    inside = hull.hull("exec", web, "sh", "-c", "ip -o addr show eth1; ip route; cat /etc/hosts").stdout
    assert "10.64.0.9/24" in inside and "default via 10.64.0.1 dev eth1" in inside
    assert f"10.64.0.9\t{web[:12]}" in inside
    published = ["timeout", "3", "busybox", "nc", "127.0.0.1", "8080"]
    assert "hello" in hull.in_netns(published, stdin=subprocess.DEVNULL, check=False).stdout
    assert "already exists in network back" in fails(hull, "network", "connect", "back", "web")
    # It is on both again after a restart.
    hull.hull("restart", "-t", "0", "web")
    assert wait_until(lambda: ask(hull, client, "api"), "the alias after a restart")
    assert networks_of(hull, web)["back"]["IPAddress"] == "10.64.0.9"

    hull.hull("network", "disconnect", "back", "web")
    assert not ask(hull, client, "10.64.0.9") and not ask(hull, client, "api")
    assert sorted(networks_of(hull, web)) == ["front"]
    inside = hull.hull("exec", web, "sh", "-c", "ip -o link; ip route; cat /etc/hosts").stdout
    assert "eth1" not in inside and "default via 10.63.0.1 dev eth0" in inside and "10.64.0.9" not in inside
    assert "hello" in hull.in_netns(published, stdin=subprocess.DEVNULL, check=False).stdout
    assert "is not connected to network back" in fails(hull, "network", "disconnect", "back", "web")
    hull.hull("network", "disconnect", "front", "web")
    assert networks_of(hull, web) == {}
    assert "is not connected to network bridge" in fails(hull, "network", "disconnect", "bridge", "web")
    hull.hull("network", "connect", "front", "web")
    assert ask(hull, run("--network", "front"), "web")
    hull.hull("network", "connect", "bridge", "web")
    assert sorted(networks_of(hull, web)) == ["bridge", "front"]
    none = run("--network", "none")
    assert "private (none) mode" in fails(hull, "network", "connect", "back", none)


def test_several_networks_at_the_start_and_for_a_stopped_one(hull, network, run):
    network("a", "--subnet", "10.65.0.0/24")
    network("b", "--subnet", "10.66.0.0/24", "--internal")
    one = run("--network", "a", "--network", "name=b,ip=10.66.0.7,gw-priority=5")
    inside = hull.hull("exec", one, "sh", "-c", "ip -o -4 addr; ip route").stdout
    assert "10.65.0." in inside and "10.66.0.7/24" in inside
    assert "default via 10.65.0.1 dev eth0" in inside, "an internal network leads nowhere"
    assert hull.hull("ps", "--format", "{{.Networks}}", "--filter", f"id={one}").stdout == "a,b\n"
    hull.hull("create", "--name", "later", "test", "sleep", "1000")
    hull.hull("network", "connect", "--ip", "10.66.0.8", "b", "later")
    hull.hull("network", "disconnect", "bridge", "later")
    hull.hull("start", "later")
    assert networks_of(hull, "later")["b"]["IPAddress"] == "10.66.0.8"
    assert list(networks_of(hull, "later")) == ["b"]
    assert hull.hull("exec", one, "ping", "-c1", "-W2", "later").returncode == 0
    hull.hull("rm", "-f", "later")
    assert "non-user-defined" in fails(hull, "run", "--network", "a", "--network", "host", "test", "true")
    assert "specified multiple times" in fails(hull, "run", "--network", "a", "--network", "a", "test", "true")


def test_networks_are_kept_apart_and_a_flush_changes_nothing(hull, network, run):
    network("x")
    network("y")
    web = run("--network", "x", "-p", "8081:80", command=SERVER)
    stranger = run("--network", "y")
    address = networks_of(hull, web)["x"]["IPAddress"]
    assert not ask(hull, stranger, address)
    hull.in_netns(["nft", "flush", "ruleset"])
    run("--network", "y")
    assert not ask(hull, stranger, address)
    published = ["timeout", "3", "busybox", "nc", "127.0.0.1", "8081"]
    assert "hello" in hull.in_netns(published, stdin=subprocess.DEVNULL, check=False).stdout


def test_links(hull, run):
    database = run("--name", "database", "--expose", "5432", "-e", "PASSWORD=secret")
    client = run("--link", "database:db")
    address = networks_of(hull, database)["bridge"]["IPAddress"]
    inside = hull.hull("exec", client, "sh", "-c", "cat /etc/hosts; tr '\\0' '\\n' < /proc/1/environ").stdout
    assert f"{address}\tdb {database[:12]} database" in inside
    assert f"DB_PORT_5432_TCP=tcp://{address}:5432" in inside and "DB_ENV_PASSWORD=secret" in inside
    hull.hull("stop", "-t", "0", "database")
    assert "non running container" in fails(hull, "run", "--rm", "--link", "database", "test", "true")
    assert "No such container" in fails(hull, "run", "--rm", "--link", "nobody", "test", "true")


def test_host_gateway(hull, network, run):
    network("gw", "--subnet", "10.67.0.0/24")
    shown = hull.hull("run", "--rm", "--network", "gw", "--add-host", "outside:host-gateway", "test", "cat",
                      "/etc/hosts").stdout
    assert "10.67.0.1\toutside" in shown
    network("closed", "--internal")
    assert "no gateway" in fails(hull, "run", "--rm", "--network", "closed", "--add-host", "o:host-gateway", "test", "true")


def test_prune_and_events(hull, network, run):
    network("kept")
    network("gone")
    one = run("--network", "kept")
    shown = hull.hull("network", "prune", "-f").stdout
    assert "Deleted Networks:\ngone\n" in shown and "kept" not in shown
    hull.hull("rm", "-f", one)
    events = hull.hull("events", "--since", "1h", "--until", "0s", "--filter", "type=network", "--format",
                       "{{.Action}} {{.Actor.Attributes.name}}").stdout.splitlines()
    assert events.index("create kept") < events.index("connect kept") < events.index("destroy gone")
    assert events.index("disconnect kept") > events.index("connect kept")


def test_what_a_kill_leaves_is_mended(hull, network, run):
    network("k", "--subnet", "10.68.0.0/24")
    one = run("--network", "k", "--ip", "10.68.0.5")
    state = inspect(hull, one)["State"]
    monitor = int(open(f"/proc/{state['Pid']}/stat").read().rsplit(")", 1)[1].split()[1])
    subprocess.run(["kill", "-9", str(monitor)], check=True)
    wait_until(lambda: inspect(hull, one)["State"]["Status"] == "exited", "the end to be noticed")
    again = run("--network", "k", "--ip", "10.68.0.5")
    assert networks_of(hull, again)["k"]["IPAddress"] == "10.68.0.5"
    hull.hull("system", "check", "--repair")


def test_after_the_last_network_comes_only_the_next(hull, network):
    """docker-compose disconnects what it created and connects it again with names: that is one network, not two."""
    network("only")
    hull.hull("create", "--name", "moved", "--network", "only", "test", "sleep", "1000")
    hull.hull("network", "disconnect", "only", "moved")
    assert networks_of(hull, "moved") == {}
    hull.hull("network", "connect", "--alias", "other", "only", "moved")
    hull.hull("start", "moved")
    try:
        assert list(networks_of(hull, "moved")) == ["only"]
        links = hull.hull("exec", "moved", "ls", "/sys/class/net").stdout.split()
        assert sorted(links) == ["eth0", "lo"]
    finally:
        hull.hull("rm", "-f", "moved")


def test_a_killed_connect_or_disconnect_is_taken_up(hull, network, run):
    """Killed at many points, the next command of either kind gets on with what is there."""
    network("base", "--subnet", "10.69.0.0/24")
    network("extra", "--subnet", "10.70.0.0/24")
    web = run("--network", "base", command=SERVER)
    client = run("--network", "extra")
    for step in range(24):
        action = ("connect", "disconnect")[step % 2]
        started = hull.start("network", action, "extra", web, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        try:
            started.wait(timeout=0.002 * step)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        hull.hull("network", "connect", "extra", web, check=False)
        assert ask(hull, client, networks_of(hull, web)["extra"]["IPAddress"]), f"connected, step {step}"
        hull.hull("network", "disconnect", "extra", web)
        assert list(networks_of(hull, web)) == ["base"], f"disconnected, step {step}"
        assert "eth1" not in hull.hull("exec", web, "ip", "-o", "link").stdout
    hull.hull("rm", "-f", client, web)
    assert hull.hull("network", "rm", "extra").stdout == "extra\n"
