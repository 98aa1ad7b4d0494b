"""Debian's docker-compose 1.29, unchanged, against hulld: an application of three services from `up` to `down`, and what
hull itself then sees of it."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest
from support import images, instance as instances
from support.peers import end_process

APPLICATION = """
services:
  store:
    image: test
    init: true
    command: sh -c 'echo 7 > /data/number && exec busybox httpd -f -p 6000 -h /data'
    volumes: ["numbers:/data"]
    healthcheck: {test: "busybox wget -q -O - http://127.0.0.1:6000/number | grep -q 7", interval: 1s, retries: 20, timeout: 3s}
  app:
    image: test
    init: true
    command: sh -c 'mkdir /www; busybox wget -q -O /www/index.html http://store:6000/number; echo serving; exec busybox httpd -f -p 80 -h /www'
    depends_on: {store: {condition: service_healthy}}
    networks: {default: {aliases: [site]}}
  client:
    image: test
    init: true
    command: sh -c 'until busybox wget -q -O - http://site/; do sleep 0.2; done; exec sleep 1000'
    depends_on: [app]
volumes: {numbers: {}}
"""


@pytest.fixture(scope="module")
def compose(shared_instance, tmp_path_factory):
    """compose(*words): docker-compose in the application's folder, talking to a hulld of a private instance."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed")
    if not (instances.BIN / "hulld").exists():
        pytest.skip("there is no hulld")
    folder = tmp_path_factory.mktemp("application") / "shop"
    folder.mkdir()
    (folder / "docker-compose.yml").write_text(APPLICATION)
    images.load(shared_instance, tmp_path_factory.mktemp("image"))
    socket = shared_instance.folder / "docker.sock"
    log = open(shared_instance.folder / "hulld.log", "wb")
    daemon = shared_instance.start("--host", f"unix://{socket}", program="hulld", stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log)
    instances.wait_until(lambda: socket.exists() or daemon.poll() is not None, "hulld's socket")
    environment = {"PATH": os.environ["PATH"], "HOME": str(shared_instance.folder), "DOCKER_HOST": f"unix://{socket}",
                   "LC_ALL": "C.UTF-8"}

    def call(*words, check=True, timeout=120):
        done = subprocess.run([program, "--no-ansi", *words], cwd=folder, env=environment, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=timeout)
        if check:
            said = pathlib.Path(log.name).read_text(errors="replace")[-3000:]
            assert done.returncode == 0, f"docker-compose {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}\n{said}"
        return done

    call.folder = folder
    yield call
    call("down", "-v", "-t", "0", check=False)
    end_process(daemon)
    log.close()


@pytest.fixture(scope="module")
def running(compose):
    compose("up", "-d")
    return compose


def names(hull):
    listed = hull.hull("ps", "-a", "--format", "json", "--filter", "label=com.docker.compose.project=shop").stdout
    return {row["Names"]: row["State"] for row in map(json.loads, listed.splitlines())}


def test_up_waits_for_health(running, shared_instance):
    assert sorted(names(shared_instance)) == ["shop_app_1", "shop_client_1", "shop_store_1"]
    assert set(names(shared_instance).values()) == {"running"}
    assert "Up (healthy)" in running("ps").stdout
    instances.wait_until(lambda: "7" in running("logs", "client").stdout, "the client's answer", 30)


def test_logs_and_exec(running):
    assert "serving" in running("logs", "--no-color", "app").stdout
    assert running("exec", "-T", "store", "cat", "/data/number").stdout == "7\n"
    assert "httpd" in running("top", "app").stdout


def test_scale(running, shared_instance):
    running("up", "-d", "--scale", "client=3")
    assert {"shop_client_1", "shop_client_2", "shop_client_3"} <= set(names(shared_instance))
    running("up", "-d", "--scale", "client=1")
    assert "shop_client_3" not in names(shared_instance)


def test_restart_and_stop(running, shared_instance):
    running("restart", "-t", "0", "client")
    assert names(shared_instance)["shop_client_1"] == "running"
    running("stop", "-t", "0", "client")
    assert names(shared_instance)["shop_client_1"] == "exited"
    running("start", "client")
    assert names(shared_instance)["shop_client_1"] == "running"


def test_run_makes_one_more(running):
    assert running("run", "--rm", "-T", "client", "cat", "/etc/passwd").stdout.startswith("root:")


def test_nothing_changes_when_nothing_has_changed(running, shared_instance):
    before = shared_instance.hull("ps", "-aq", "--no-trunc").stdout
    assert "is up-to-date" in running("up", "-d").stderr
    assert shared_instance.hull("ps", "-aq", "--no-trunc").stdout == before


def test_hull_compose_sees_the_same_project(running, shared_instance):
    listed = shared_instance.hull("compose", "ls", "--format", "json").stdout
    assert json.loads(listed.splitlines()[0])["Name"] == "shop"
    rows = shared_instance.hull("compose", "-p", "shop", "ps", "--services").stdout.split()
    assert rows == ["app", "client", "store"]


def test_down_leaves_nothing(running, shared_instance):
    running("down", "-v", "-t", "0")
    assert names(shared_instance) == {}
    assert "shop_default" not in shared_instance.hull("network", "ls", "--format", "{{.Name}}").stdout
    assert "shop_numbers" not in shared_instance.hull("volume", "ls", "-q").stdout
