"""The Docker command line's `network` commands against hulld."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess

import pytest
from support import images
from support.instance import wait_until


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)


class Api:
    def __init__(self, instance):
        self.instance = instance
        self.socket = f"{instance.folder}/docker.sock"
        self.process = instance.start("--host", f"unix://{self.socket}", program="hulld")
        wait_until(lambda: os.path.exists(self.socket), "hulld's socket")

    def docker(self, *arguments, check=True):
        done = subprocess.run(["docker", "--host", f"unix://{self.socket}", *arguments], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=60,
                              env=dict(os.environ, HOME=str(self.instance.folder)))
        if check:
            assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
        return done

    def request(self, method, path, body=None):
        connection = UnixConnection(self.socket)
        connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text else None

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


@pytest.fixture(scope="module")
def api(shared_instance, tmp_path_factory):
    if not shutil.which("docker"):
        pytest.skip("docker is not installed")
    images.load(shared_instance, tmp_path_factory.mktemp("image"))
    made = Api(shared_instance)
    yield made
    made.close()


def test_network_commands(api):
    identifier = api.docker("network", "create", "--subnet", "10.71.0.0/16", "--gateway", "10.71.0.254", "--ip-range",
                            "10.71.9.0/24", "--aux-address", "nas=10.71.9.1", "--label", "a=b", "--internal", "-o",
                            "com.docker.network.driver.mtu=1400", "shop").stdout.strip()
    assert len(identifier) == 64
    listed = api.docker("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}}").stdout.splitlines()
    assert sorted(listed) == ["bridge bridge local false", "host host local false", "none null local false",
                              "shop bridge local true"]
    assert api.docker("network", "ls", "-q", "--filter", "label=a=b").stdout.strip() == identifier[:12]
    shown = json.loads(api.docker("network", "inspect", "shop").stdout)[0]
    assert shown["IPAM"]["Config"] == [{"Subnet": "10.71.0.0/16", "IPRange": "10.71.9.0/24", "Gateway": "10.71.0.254",
                                        "AuxiliaryAddresses": {"nas": "10.71.9.1"}}]
    assert shown["Internal"] and shown["Labels"] == {"a": "b"} and shown["Containers"] == {}
    assert "network with name shop already exists" in api.docker("network", "create", "shop", check=False).stderr
    assert "Pool overlaps" in api.docker("network", "create", "--subnet", "10.71.2.0/24", "b", check=False).stderr
    assert api.docker("network", "rm", "shop").stdout == "shop\n"
    assert "network shop not found" in api.docker("network", "inspect", "shop", check=False).stderr
    assert "pre-defined network" in api.docker("network", "rm", "host", check=False).stderr


def test_connect_disconnect_and_prune(api):
    hull = api.instance.hull
    api.docker("network", "create", "--subnet", "10.72.0.0/24", "front")
    api.docker("network", "create", "--subnet", "10.73.0.0/24", "back")
    api.docker("network", "create", "unused")
    try:
        web = hull("run", "-d", "--name", "web", "--network", "front", "test", "sleep", "1000").stdout.strip()
        api.docker("network", "connect", "--ip", "10.73.0.9", "--alias", "www", "back", "web")
        _, shown = api.request("GET", f"/v1.43/containers/{web}/json")
        networks = shown["NetworkSettings"]["Networks"]
        _, front = api.request("GET", "/v1.43/networks/front")
        assert networks["back"]["IPAddress"] == "10.73.0.9" and networks["back"]["Aliases"] == ["www"]
        assert networks["front"]["NetworkID"] == front["Id"]
        assert front["Containers"][web]["EndpointID"] == networks["front"]["EndpointID"]
        assert set(networks["front"]) >= {"IPAMConfig", "Links", "Aliases", "DriverOpts", "NetworkID", "EndpointID",
                                          "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address",
                                          "GlobalIPv6PrefixLen", "MacAddress", "DNSNames"}
        again = api.docker("network", "connect", "back", "web", check=False)
        assert "endpoint with name web already exists in network back" in again.stderr
        assert "has active endpoints" in api.docker("network", "rm", "back", check=False).stderr
        api.docker("network", "disconnect", "back", "web")
        assert "is not connected to network back" in api.docker("network", "disconnect", "back", "web", check=False).stderr
        pruned = api.docker("network", "prune", "-f").stdout
        assert "unused" in pruned and "back" in pruned and "front" not in pruned
    finally:
        hull("rm", "-f", "web", check=False)
        api.docker("network", "rm", "front", "back", "unused", check=False)


def test_bodies_and_statuses(api):
    assert api.request("POST", "/v1.43/networks/create", {"Name": "x"})[0] == 201
    assert api.request("POST", "/v1.43/networks/create", {"Name": "x"})[0] == 409
    assert api.request("POST", "/v1.43/networks/create", {"Name": "a/b"})[0] == 400
    assert api.request("POST", "/v1.43/networks/create", {"Name": "y", "Driver": 5})[0] == 400
    assert api.request("POST", "/v1.43/networks/create",
                       {"Name": "y", "IPAM": {"Config": [{"Subnet": "10.0.0.1/8"}]}})[0] == 400
    assert api.request("POST", "/v1.43/networks/create", {"Name": "y", "Driver": "overlay"})[0] == 503
    assert api.request("POST", "/v1.43/networks/create", {"Name": "y", "Driver": "nothing"})[0] == 404
    assert api.request("POST", "/v1.43/networks/x/connect", {"Container": "nobody"})[0] == 404
    assert api.request("POST", "/v1.43/networks/nowhere/connect", {"Container": "nobody"})[0] == 404
    assert api.request("GET", "/v1.43/networks/nowhere")[0] == 404
    status, listed = api.request("GET", '/v1.43/networks?filters={"name":["x"]}')
    assert status == 200 and [one["Name"] for one in listed] == ["x"]
    assert api.request("GET", '/v1.43/networks?filters={"colour":["x"]}')[0] == 400
    assert api.request("DELETE", "/v1.43/networks/bridge")[0] == 403
    assert api.request("DELETE", "/v1.43/networks/x")[0] == 204
    assert api.request("DELETE", "/v1.43/networks/x")[0] == 404
