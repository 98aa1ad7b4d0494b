"""Virtual machines through the Docker API: the docker command and docker-compose, unchanged, make and use them."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest
from support import api, images
from support import vm as machines
from support.instance import wait_until

SERVES = "echo page > /tmp/index.html; trap 'echo got-term; exit 4' TERM; echo up; busybox httpd -f -p 8000 -h /tmp & wait; wait"
APPLICATION = """
services:
  machine:
    image: test
    runtime: hull-vm
    mem_limit: 128m
    command: sh -c 'uname -r > /shared/release; echo page > /tmp/index.html; exec busybox httpd -f -p 80 -h /tmp'
    volumes: ["shared:/shared"]
  client:
    image: test
    command: sh -c 'until busybox wget -q -O - http://machine/; do sleep 0.5; done; exec sleep 1000'
    volumes: ["shared:/shared"]
    depends_on: [machine]
    stop_signal: SIGKILL
volumes: {shared: {}}
"""


@pytest.fixture(scope="module")
def daemon(shared_instance, guest_kernel, tmp_path_factory):
    machines.share_kernel(shared_instance, guest_kernel)
    images.load(shared_instance, tmp_path_factory.mktemp("image"))
    made = api.Daemon(shared_instance)
    yield made
    made.close()


@pytest.fixture
def docker(daemon):
    """docker(*words), with the newest client that is there."""
    def call(*words, **more):
        return daemon.docker(api.CLIENTS[-1] if api.NEWEST is None else os.path.realpath(api.NEWEST), *words,
                             **{"timeout": 240, **more})

    yield call
    left = call("ps", "-aq").stdout.split()
    if left:
        call("rm", "-f", "-v", *left)


def is_guest(release):
    return release.strip().endswith("cloud-amd64") and release.strip() != os.uname().release


def test_life_of_a_machine(daemon, docker):
    """Run, inspect, list, exec, copy, logs, stats, stop, remove."""
    done = docker("run", "--rm", "--runtime", "hull-vm", "-m", "128m", "--network", "none", "test", "uname", "-r")
    assert is_guest(done.stdout)
    docker("run", "-d", "--name", "machine", "--runtime", "hull-vm", "-m", "128m", "-e", "KEY=value", "-v", "data:/data", "test",
           "sh", "-c", SERVES)
    described = json.loads(docker("inspect", "machine").stdout)[0]
    assert described["HostConfig"]["Isolation"] == "vm" and described["State"]["Status"] == "running"
    [row] = daemon.get("/containers/json").json()
    assert row["HostConfig"]["Isolation"] == "vm" and row["Mounts"][0]["Destination"] == "/data"
    assert docker("ps", "-q", "--filter", "isolation=vm").stdout.strip()
    assert is_guest(docker("exec", "machine", "uname", "-r").stdout)
    assert docker("exec", "-e", "OTHER=2", "machine", "sh", "-c", "echo $KEY $OTHER").stdout == "value 2\n"
    assert docker("exec", "machine", "sh", "-c", "exit 9", check=False).returncode == 9
    assert docker("exec", "-i", "machine", "cat", input="through the guest\n").stdout == "through the guest\n"
    address = described["NetworkSettings"]["IPAddress"]
    page = wait_until(lambda: daemon.instance.in_netns(["curl", "-s", f"http://{address}:8000/"], check=False).stdout, "a page", 30)
    assert page == "page\n"
    copied = daemon.instance.folder / "copied"
    docker("cp", "machine:/tmp/index.html", copied)
    assert copied.read_text() == "page\n"
    stats = daemon.get("/containers/machine/stats?stream=0&one-shot=1").json()
    assert stats["memory_stats"]["usage"] > 0 and stats["networks"]["eth0"]["rx_packets"] > 0
    assert "httpd" in docker("top", "machine").stdout
    docker("stop", "-t", "30", "machine")
    state = json.loads(docker("inspect", "machine").stdout)[0]["State"]
    assert state["Status"] == "exited" and state["ExitCode"] == 4
    assert docker("logs", "machine").stdout == "up\ngot-term\n"
    docker("rm", "-v", "machine")
    assert docker("inspect", "machine", check=False).returncode != 0


def test_label_and_isolation_make_a_machine(daemon, docker):
    """What a client can send that knows no runtimes; the same words with other values are refused."""
    body = {"Image": "test", "Cmd": ["uname", "-r"], "HostConfig": {"NetworkMode": "none", "Memory": 128 << 20}}
    ways = {"label": {**body, "Labels": {"io.hull.isolation": "vm"}},
            "isolation": {**body, "HostConfig": {**body["HostConfig"], "Isolation": "vm"}}}
    for name, document in ways.items():
        made = daemon.post(f"/v1.44/containers/create?name={name}", document)
        assert made.status == 201, made.text
        assert daemon.post(f"/containers/{name}/start", timeout=120).status == 204
        assert daemon.post(f"/containers/{name}/wait", timeout=120).json()["StatusCode"] == 0
        [(stream, release)] = api.frames(daemon.get(f"/containers/{name}/logs?stdout=1&stderr=1").body)
        assert stream == 1 and is_guest(release.decode())
    done = docker("run", "--runtime", "io.containerd.runc.v9", "test", "true", check=False)
    assert done.returncode == 125 and "hull-vm" in done.stderr


def test_terminal(daemon, docker):
    docker("run", "-d", "--name", "machine", "--runtime", "hull-vm", "-m", "128m", "--network", "none", "test", "sleep", "1000")
    client = os.path.realpath(api.NEWEST)
    terminal = api.Terminal([client, "exec", "-it", "machine", "sh"], daemon.client_environment(), size=(30, 100))
    terminal.type("stty size\n")
    terminal.expect("30 100", 60)
    terminal.resize(40, 120)
    terminal.type("while [ \"$(stty size)\" != '40 120' ]; do sleep 0.2; done; echo resi''zed; exit 6\n")
    terminal.expect("resized", 60)
    assert terminal.wait(60) == 6


def test_compose(daemon, tmp_path):
    """`runtime: hull-vm` makes one service of an application a machine; it shares network, names and volume."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed")
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "docker-compose.yml").write_text(APPLICATION)

    def compose(*words):
        done = subprocess.run([program, "--no-ansi", *words], cwd=folder, env=daemon.client_environment(), timeout=240,
                              capture_output=True, text=True, stdin=subprocess.DEVNULL)
        daemon.instance.note_ids()
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}{log_of(daemon)}"
        return done.stdout

    try:
        compose("up", "-d")
        wait_until(lambda: "page" in compose("logs", "client"), "the client has asked the machine", 60)
        assert is_guest(compose("exec", "-T", "client", "cat", "/shared/release"))
        assert is_guest(compose("exec", "-T", "machine", "uname", "-r"))
        isolations = {row["Labels"]["com.docker.compose.service"]: row["HostConfig"].get("Isolation")
                      for row in daemon.get("/containers/json").json()}
        assert isolations == {"machine": "vm", "client": None}
    finally:
        compose("down", "-v", "-t", "5")
    assert daemon.get("/containers/json?all=1").json() == []


def log_of(daemon):
    return pathlib.Path(daemon.log.name).read_text(errors="replace")[-3000:]
