"""What differs between the versions of the Engine API from 1.51 on: each change of Docker's version history that concerns
one machine, asked for in the version that has it and in the one before."""

import json
import os
import stat
import time

import pytest
from support import api, images

NONE = {"NetworkMode": "none"}
NEWEST = "1.56"


@pytest.fixture
def make(daemon):
    """make(version, body): the answer to a create request; what it made is removed at the end."""
    made = []

    def create(version, **config):
        body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": NONE, **config}
        answer = daemon.post(f"/v{version}/containers/create", body)
        if answer.status == 201:
            made.append(answer.json()["Id"])
            daemon.instance.note_ids()
        return answer

    yield create
    for one in made:
        daemon.request("DELETE", f"/containers/{one}?force=1&v=1")


def test_the_newest_version(daemon):
    assert daemon.get("/_ping").headers["Api-Version"] == NEWEST
    assert daemon.get(f"/v{NEWEST}/version").json()["ApiVersion"] == NEWEST
    assert daemon.get("/v1.57/info").status == 400


@pytest.mark.parametrize("client", api.CLIENTS)
def test_older_clients_settle_on_their_own_version(daemon, client):
    said = json.loads(daemon.docker(client, "version", "--format", "{{json .}}").stdout)
    assert said["Server"]["ApiVersion"] == NEWEST
    assert tuple(map(int, said["Client"]["ApiVersion"].split("."))) <= tuple(map(int, NEWEST.split(".")))
    assert "busybox" in daemon.docker(client, "images").stdout
    assert daemon.docker(client, "run", "--rm", "--network", "none", "busybox", "echo", "served").stdout == "served\n"
    assert "Images" in daemon.docker(client, "system", "df").stdout


def test_events_without_legacy_members_and_in_the_form_that_is_asked_for(daemon, make):
    one = make("1.51").json()["Id"]

    def events(version, accept=None):
        # Those on record: until now.
        path = f'/v{version}/events?since=1&until={time.time():.3f}&filters=%7B%22container%22%3A%5B%22{one}%22%5D%7D'
        return daemon.get(path, headers={"Accept": accept} if accept else None)

    old = events("1.51")
    assert old.headers["Content-Type"] == "application/json"
    assert json.loads(old.text.splitlines()[0])["status"] == "create"
    for version, kind in (("1.52", "application/x-ndjson"), ("1.53", "application/jsonl"), (NEWEST, "application/jsonl")):
        new = events(version)
        assert new.headers["Content-Type"] == kind
        first = json.loads(new.text.splitlines()[0])
        assert first["Action"] == "create" and not {"status", "id", "from"} & set(first)
    sequence = events("1.52", "text/html, application/json-seq")
    assert sequence.headers["Content-Type"] == "application/json-seq"
    assert sequence.text.startswith("\x1e{") and sequence.text.endswith("}\n")
    assert events("1.53", "application/x-ndjson").headers["Content-Type"] == "application/x-ndjson"
    assert events("1.53", "application/x-ndjson;q=0, */*").headers["Content-Type"] == "application/jsonl"


def test_inspect_without_the_old_addresses(daemon, make):
    one = make("1.51", Labels={"NetworkSettings": '{"Bridge":"x"}', "HairpinMode": "y"}).json()["Id"]
    old = daemon.get(f"/v1.51/containers/{one}/json").json()
    new = daemon.get(f"/v1.52/containers/{one}/json").json()
    gone = {"Bridge", "HairpinMode", "LinkLocalIPv6Address", "LinkLocalIPv6PrefixLen", "SecondaryIPAddresses",
            "SecondaryIPv6Addresses", "EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPAddress",
            "IPPrefixLen", "IPv6Gateway", "MacAddress"}
    assert set(old["NetworkSettings"]) - set(new["NetworkSettings"]) == gone
    assert set(new["NetworkSettings"]) == {"SandboxID", "SandboxKey", "Ports", "Networks"}
    old.pop("NetworkSettings"), new.pop("NetworkSettings")
    assert old == new


def test_lists_tell_of_health(daemon, make):
    one = make("1.51").json()["Id"]
    [old] = [entry for entry in daemon.get("/v1.51/containers/json?all=1").json() if entry["Id"] == one]
    [new] = [entry for entry in daemon.get("/v1.52/containers/json?all=1").json() if entry["Id"] == one]
    assert "Health" not in old and new["Health"] == {"Status": "none", "FailingStreak": 0}


def test_statistics_name_the_system(daemon, make):
    one = make("1.52").json()["Id"]
    assert daemon.get(f"/v1.52/containers/{one}/stats?stream=0&one-shot=1").json()["os_type"] == "linux"


def test_create_requests(daemon, make):
    mac = {"MacAddress": "02:42:ac:11:00:99", "HostConfig": {}}
    assert make("1.51", **mac).status == 201
    refused = make("1.52", **mac)
    assert refused.status == 400 and "container-wide MAC address no longer supported" in refused.message
    ports = {"ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PortBindings": {"80/tcp": []}}}
    assert make("1.51", **ports).json()["Warnings"] == []
    [warning] = make("1.52", **ports).json()["Warnings"]
    assert "empty list of port-bindings: 80/tcp" in warning
    kernel = {"HostConfig": {**NONE, "KernelMemoryTCP": 1 << 20}}
    assert make("1.51", **kernel).status == 400
    assert make("1.52", **kernel).status == 201


def test_images_without_what_says_nothing(daemon):
    old = daemon.get("/v1.51/images/busybox/json").json()
    new = daemon.get("/v1.52/images/busybox/json").json()
    assert {"Parent", "Comment", "DockerVersion", "Author"} <= set(old)
    assert not {"Parent", "DockerVersion"} & set(new) and all(new.get(name, "x") for name in ("Comment", "Author"))
    empty = {"Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "User", "Volumes", "WorkingDir"}
    assert empty <= set(old["Config"])
    assert all(value for name, value in new["Config"].items() if name in empty)
    assert {"Hostname", "Tty", *empty} <= set(daemon.get("/v1.49/images/busybox/json").json()["Config"])


def test_where_an_image_comes_from(daemon):
    # It was loaded, not pulled: there is nothing to tell. A pulled one: test_api_images.py.
    assert "Identity" not in daemon.get("/v1.53/images/busybox/json").json()
    assert daemon.get("/v1.54/images/json?identity=1").status == 400
    assert daemon.get("/v1.53/images/json?identity=1").status == 200
    assert daemon.get("/v1.54/images/json?identity=1&manifests=1").json()[0]["Manifests"]


def test_several_platforms(daemon):
    two = "platform=linux/amd64&platform=linux/arm64"
    for target in ("/v1.51/images/busybox/get?", "/v1.51/images/get?names=busybox&"):
        answer = daemon.get(target + two)
        assert answer.status == 400 and "1.52 or later" in answer.message
    answer = daemon.get("/v1.52/images/busybox/get?" + two)
    assert answer.status == 404 and "for all of" in answer.message
    assert daemon.get("/v1.52/images/busybox/get?platform=linux/amd64&platform=linux/amd64").status == 200
    assert daemon.post("/v1.51/images/load?" + two, b"").status == 400
    assert daemon.post("/v1.52/images/load?" + two, b"").status == 501


def test_attestations(daemon):
    assert daemon.get("/v1.54/images/busybox/attestations").status in (404, 405)
    assert daemon.get("/v1.55/images/nosuch/attestations").status == 404
    assert daemon.get("/v1.55/images/busybox/attestations?platform=linux/arm64").status == 404
    assert daemon.get("/v1.55/images/busybox/attestations?platform=a/b/c/d/e").status == 400
    answer = daemon.get("/v1.55/images/busybox/attestations")
    assert answer.status == 501 and "attestations" in answer.message


def test_addresses_of_a_network(daemon, make):
    body = {"Name": "counted", "IPAM": {"Config": [{"Subnet": "10.251.7.0/24", "IPRange": "10.251.7.128/25",
                                                    "AuxiliaryAddresses": {"a": "10.251.7.200"}}]}}
    assert daemon.post("/v1.51/networks/create", body).status == 201
    try:
        assert "Status" not in daemon.get("/v1.51/networks/counted").json()

        def status():
            return daemon.get("/v1.52/networks/counted").json()["Status"]["IPAM"]["Subnets"]["10.251.7.0/24"]

        # Network, broadcast, gateway, and what is kept; the gateway is outside of the range.
        before = status()
        assert before["IPsInUse"] == 4
        assert before["DynamicIPsAvailable"] in (126, 125)
        one = make("1.52", HostConfig={"NetworkMode": "counted"}).json()["Id"]
        assert daemon.post(f"/containers/{one}/start").status == 204
        assert status() == {"IPsInUse": 5, "DynamicIPsAvailable": before["DynamicIPsAvailable"] - 1}
        assert daemon.request("DELETE", f"/containers/{one}?force=1").status == 204
        assert daemon.get("/v1.52/networks/none").json()["Status"] == {"IPAM": {"Subnets": {}}}
    finally:
        daemon.request("DELETE", "/networks/counted")


def test_a_mac_address_for_a_network(daemon, make):
    assert daemon.post("/networks/create", {"Name": "named-mac"}).status == 201
    try:
        one = make("1.54", HostConfig={"NetworkMode": "bridge"}).json()["Id"]
        assert daemon.post(f"/containers/{one}/start").status == 204
        body = {"Container": one, "EndpointConfig": {"MacAddress": "02:42:0a:fb:00:07"}}
        assert daemon.post("/v1.54/networks/named-mac/connect", body).status == 200
        networks = daemon.get(f"/v1.54/containers/{one}/json").json()["NetworkSettings"]["Networks"]
        assert networks["named-mac"]["MacAddress"] == "02:42:0a:fb:00:07"
        assert daemon.request("DELETE", f"/containers/{one}?force=1").status == 204
    finally:
        daemon.request("DELETE", "/networks/named-mac")


def test_disk_usage(daemon, make):
    make("1.51")
    old = daemon.get("/v1.51/system/df").json()
    assert set(old) == {"LayersSize", "Images", "Containers", "Volumes", "BuildCache"}
    assert "VirtualSize" not in old["Images"][0]
    assert "VirtualSize" in daemon.get("/v1.43/system/df").json()["Images"][0]
    usage = {"ImageUsage", "ContainerUsage", "VolumeUsage", "BuildCacheUsage"}
    assert set(daemon.get("/v1.52/system/df").json()) == set(old) | usage
    new = daemon.get("/v1.52/system/df?verbose=1").json()
    assert set(new) == usage
    assert new["ImageUsage"]["TotalCount"] == len(new["ImageUsage"]["Items"]) == len(old["Images"])
    assert new["ImageUsage"]["TotalSize"] == old["LayersSize"] > 0 and new["ImageUsage"]["ActiveCount"] == 1
    assert new["ContainerUsage"]["TotalCount"] == 1 and new["ContainerUsage"]["ActiveCount"] == 0
    assert new["ContainerUsage"]["Reclaimable"] == new["ContainerUsage"]["TotalSize"]
    assert "Items" not in daemon.get("/v1.52/system/df").json()["ImageUsage"]
    assert set(daemon.get("/v1.52/system/df?type=volume&verbose=1").json()) == {"VolumeUsage"}
    assert daemon.get("/v1.52/system/df?type=other").status == 400


def test_update_of_device_rates(daemon, make):
    loops = [f"/dev/{name}" for name in sorted(os.listdir("/dev")) if name.startswith(("loop", "vd", "sd"))
             and stat.S_ISBLK(os.stat(f"/dev/{name}").st_mode)]
    if len(loops) < 2:
        pytest.skip("two block devices are needed")
    first, second = loops[:2]
    one = make("1.55", HostConfig={**NONE, "BlkioDeviceReadBps": [{"Path": first, "Rate": 1 << 20}]}).json()["Id"]
    assert daemon.post(f"/containers/{one}/start").status == 204
    pid = daemon.get(f"/containers/{one}/json").json()["State"]["Pid"]

    def rules():
        groups = dict(line.strip().split(":", 2)[1:] for line in open(f"/proc/{pid}/cgroup"))
        path = groups.get("blkio")
        file = f"/sys/fs/cgroup/blkio{path}/blkio.throttle.read_bps_device" if path else \
            f"/sys/fs/cgroup{groups['']}/io.max"
        return {line.split()[0]: line.split()[1] for line in open(file)}

    def number(path):
        device = os.stat(path).st_rdev
        return f"{os.major(device)}:{os.minor(device)}"

    def kept():
        return daemon.get(f"/containers/{one}/json").json()["HostConfig"].get("BlkioDeviceReadBps")

    change = {"BlkioDeviceReadBps": [{"Path": second, "Rate": 2 << 20}]}
    assert set(rules()) == {number(first)}
    assert daemon.post(f"/v1.54/containers/{one}/update", change).status == 501
    assert daemon.post(f"/v1.55/containers/{one}/update", change).status == 200
    assert set(rules()) == {number(second)} and kept() == [{"Path": second, "Rate": 2 << 20}]
    assert daemon.post(f"/v1.55/containers/{one}/update", {"BlkioDeviceReadBps": None, "CpuShares": 512}).status == 200
    assert set(rules()) == {number(second)}
    assert daemon.post(f"/v1.55/containers/{one}/update", {"BlkioDeviceReadBps": []}).status == 200
    assert rules() == {} and not kept()
    wrong = daemon.post(f"/v1.55/containers/{one}/update", {"BlkioDeviceReadBps": [{"Path": "/nosuch", "Rate": 1}]})
    assert wrong.status in (400, 404, 500) and not kept()
