"""hulld with both Docker command lines: images against a real registry, volumes, files, events, changes to containers."""

import io
import json
import os
import pathlib
import re
import socket
import subprocess
import tarfile
import threading
import time

import pytest
from support import images
from support.instance import BIN, wait_until

CLIENTS = {name: path for name, path in {"docker-28": "/usr/local/bin/docker", "docker.io": "/usr/bin/docker"}.items()
           if os.path.exists(path)}


class Api:
    """A hulld of a private instance, spoken to by curl and by Docker's command lines."""

    def __init__(self, hull):
        self.hull, self.socket = hull, hull.folder / "docker.sock"
        self.process = hull.start("--host", f"unix://{self.socket}", program="hulld", stderr=open(hull.folder / "hulld.log", "wb"))
        wait_until(self.answers, "hulld to listen")

    def answers(self):
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket))
                return True
        except OSError:
            return False

    def docker(self, client, *words, check=True, **more):
        environment = dict(self.hull.environment, DOCKER_HOST=f"unix://{self.socket}", DOCKER_CONFIG=str(self.hull.folder / client),
                           DOCKER_CLI_HINTS="false")
        more.setdefault("text", True)
        if "input" not in more and "stdin" not in more:
            more["stdin"] = subprocess.DEVNULL
        done = subprocess.run([CLIENTS[client], *map(str, words)], capture_output=True, env=environment, timeout=90, **more)
        if check:
            assert done.returncode == 0, (words, done.stdout, done.stderr, (self.hull.folder / "hulld.log").read_text()[-2000:])
        return done

    def curl(self, method, path, *words, data=None, check=None):
        done = subprocess.run(["curl", "-sS", "--unix-socket", str(self.socket), "-X", method, "-w", "\n%{http_code}", *words,
                               f"http://hull{path}"], capture_output=True, input=data, timeout=60)
        body, _, status = done.stdout.rpartition(b"\n")
        if check is not None:
            assert int(status) == check, (path, status, body[:2000])
        return int(status), body

    def close(self):
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="module")
def api(shared_instance, tmp_path_factory):
    images.load(shared_instance, tmp_path_factory.mktemp("image"))
    one = Api(shared_instance)
    yield one
    one.close()


@pytest.fixture(params=sorted(CLIENTS) or ["none"])
def docker(request, api):
    """docker(*words) of one client."""
    if request.param not in CLIENTS:
        pytest.skip("no Docker command line")
    return lambda *words, **more: api.docker(request.param, *words, **more)


@pytest.fixture
def box(api):
    api.hull.hull("run", "-d", "--name", "apibox", "--network", "none", "test", "sh", "-c",
                  "mkdir -p /work/sub; echo one > /work/one; echo two > /work/sub/two; ln -s sub /work/link; exec sleep 1000")
    wait_until(lambda: api.hull.hull("exec", "apibox", "test", "-L", "/work/link", check=False).returncode == 0, "the files")
    yield "apibox"
    api.hull.hull("rm", "-f", "apibox", "renamed", check=False)


def test_push_pull_and_inspect_at_the_registry(api, docker, make_registry):
    registry = make_registry(netns=api.hull.netns)
    name = f"{registry.host}/team/app"
    docker("tag", "test", f"{name}:1")
    pushed = docker("push", f"{name}:1").stdout
    digest = re.search(r"1: digest: (sha256:[0-9a-f]{64}) size: \d+", pushed).group(1)
    docker("rmi", f"{name}:1")
    assert "sha256:" not in docker("images", "-q", name).stdout
    pulled = docker("pull", f"{name}:1").stdout
    assert f"Digest: {digest}" in pulled and f"{name}:1" in pulled
    shown = json.loads(docker("image", "inspect", f"{name}:1").stdout)[0]
    assert f"{name}@{digest}" in shown["RepoDigests"] and shown["RootFS"]["Layers"]
    told = json.loads(api.curl("GET", f"/v1.53/images/{name}:1/json", check=200)[1])
    assert told["Identity"] == {"Pull": [{"Repository": name}]} and "Identity" not in shown
    [listed] = [one for one in json.loads(api.curl("GET", "/v1.54/images/json?manifests=1&identity=1", check=200)[1])
                if f"{name}:1" in one["RepoTags"]]
    assert listed["Manifests"][0]["ImageData"]["Identity"] == told["Identity"]
    remote = json.loads(api.curl("GET", f"/v1.43/distribution/{name}:1/json", check=200)[1])
    assert remote["Descriptor"]["digest"] == digest and remote["Platforms"][0]["architecture"] == "amd64"
    found = json.loads(api.curl("GET", f"/v1.43/images/search?term={registry.host}/tea", check=200)[1])
    assert [one["name"] for one in found] == [f"{registry.host}/team/app"]
    missing = docker("pull", f"{name}:none", check=False)
    assert missing.returncode == 1 and "none" in missing.stderr
    assert api.curl("POST", f"/v1.43/images/create?fromImage={name}&tag=none")[0] == 404
    docker("rmi", f"{name}:1")


def test_login_and_a_registry_with_passwords(api, docker, make_registry):
    registry = make_registry(user="ada", password="secret", netns=api.hull.netns)
    name = f"{registry.host}/closed/app:1"
    docker("tag", "test", name)
    refused = docker("push", name, check=False)
    assert refused.returncode == 1
    wrong = docker("login", "-u", "ada", "--password-stdin", registry.host, input="wrong", check=False)
    assert wrong.returncode == 1
    assert "Login Succeeded" in docker("login", "-u", "ada", "--password-stdin", registry.host, input="secret").stdout
    docker("push", name)
    docker("rmi", name)
    docker("pull", name)
    docker("rmi", name)
    docker("logout", registry.host)
    assert docker("pull", name, check=False).returncode == 1
    # Nobody else's credentials are used, and none were kept.
    assert not (api.hull.folder / ".docker").exists()


def test_save_load_import_history(api, docker, tmp_path):
    docker("save", "-o", str(tmp_path / "one.tar"), "test")
    with tarfile.open(tmp_path / "one.tar") as archive:
        assert "manifest.json" in archive.getnames()
    docker("tag", "test", "second:1")
    docker("save", "-o", str(tmp_path / "two.tar"), "test", "second:1")
    docker("rmi", "second:1")
    assert "Loaded image: second:1" in docker("load", "-i", str(tmp_path / "two.tar")).stdout
    assert "second" in docker("images", "--filter", "reference=second").stdout
    assert docker("history", "-q", "second:1").stdout
    docker("rmi", "second:1")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        info = tarfile.TarInfo("hello")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"hi\n"))
    made = docker("import", "-c", "CMD [\"/hello\"]", "-", "flat:1", input=data.getvalue(), text=False).stdout.decode().strip()
    assert made.startswith("sha256:")
    assert json.loads(docker("image", "inspect", "flat:1").stdout)[0]["Config"]["Cmd"] == ["/hello"]
    docker("rmi", "flat:1")
    bad = docker("load", input=b"this is no archive" * 100, text=False, check=False)
    assert bad.returncode == 1
    assert docker("save", "nothing-here", check=False).returncode == 1


def test_lists_and_prune(api, docker):
    docker("tag", "test", "labelled:1")
    assert "labelled" in docker("images", "--format", "{{.Repository}}").stdout.split()
    assert docker("images", "--filter", "dangling=true", "-q").stdout == ""
    done = docker("rmi", "labelled:1").stdout
    assert "Untagged: labelled:1" in done
    assert docker("rmi", "labelled:1", check=False).returncode == 1
    assert "Total reclaimed space" in docker("image", "prune", "-f").stdout
    assert api.curl("GET", "/v1.43/images/json?filters=%7B%22nonsense%22%3A%5B%22x%22%5D%7D")[0] == 400
    assert api.curl("GET", "/v1.43/images/no-such-image/json")[0] == 404
    listed = json.loads(api.curl("GET", "/v1.48/images/json?manifests=1", check=200)[1])
    assert listed[0]["Manifests"][0]["ImageData"]["Platform"]["os"] == "linux"


def test_volumes(api, docker):
    assert docker("volume", "create", "--label", "app=db", "cargo").stdout.strip() == "cargo"
    assert "cargo" in docker("volume", "ls", "-q", "--filter", "label=app=db").stdout
    assert json.loads(docker("volume", "inspect", "cargo").stdout)[0]["Labels"] == {"app": "db"}
    assert docker("volume", "inspect", "nothing", check=False).returncode == 1
    assert docker("volume", "rm", "cargo").stdout.strip() == "cargo"
    assert docker("volume", "rm", "cargo", check=False).returncode == 1
    assert docker("volume", "rm", "-f", "cargo").returncode == 0
    docker("volume", "create")
    assert "Total reclaimed space" in docker("volume", "prune", "-f").stdout  # clients before 1.42 mean named ones too


def test_cp(api, docker, box, tmp_path):
    docker("cp", f"{box}:/work", str(tmp_path / "work"))
    assert (tmp_path / "work/sub/two").read_text() == "two\n" and os.readlink(tmp_path / "work/link") == "sub"
    docker("cp", "-L", f"{box}:/work/link", str(tmp_path / "followed"))
    assert (tmp_path / "followed/two").exists()
    (tmp_path / "new").mkdir()
    (tmp_path / "new/file").write_text("from outside\n")
    docker("cp", str(tmp_path / "new"), f"{box}:/work")
    assert api.hull.hull("exec", box, "cat", "/work/new/file").stdout == "from outside\n"
    docker("cp", str(tmp_path / "new/file"), f"{box}:/work/link")
    assert api.hull.hull("exec", box, "cat", "/work/sub/file").stdout == "from outside\n"
    out = docker("cp", f"{box}:/work/one", "-", text=False).stdout
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        assert archive.getnames() == ["one"]
    docker("cp", "-", f"{box}:/work/sub", input=out, text=False)
    assert docker("cp", f"{box}:/nothing", str(tmp_path), check=False).returncode == 1
    assert docker("cp", str(tmp_path / "new"), f"{box}:/work/one", check=False).returncode == 1
    status, _ = api.curl("HEAD", f"/v1.43/containers/{box}/archive?path=/nothing", "-I")
    assert status == 404
    head = subprocess.run(["curl", "-sSI", "--unix-socket", str(api.socket), f"http://hull/v1.43/containers/{box}/archive?path=/work/link"],
                          capture_output=True, text=True).stdout
    import base64
    stat = json.loads(base64.b64decode(re.search(r"(?i)x-docker-container-path-stat: (\S+)", head).group(1)))
    assert stat["name"] == "link" and stat["linkTarget"] == "/work/sub" and stat["mode"] & (1 << 27)
    assert api.curl("PUT", f"/v1.43/containers/{box}/archive?path=/work/one", "--data-binary", "@-", data=out)[0] == 400
    assert api.curl("GET", f"/v1.43/containers/{box}/archive")[0] == 400


def test_diff_export_commit_rename_update(api, docker, box, tmp_path):
    assert "A /work/one" in docker("diff", box).stdout
    docker("export", "-o", str(tmp_path / "all.tar"), box)
    with tarfile.open(tmp_path / "all.tar") as archive:
        assert "work/sub/two" in archive.getnames()
    made = docker("commit", "-m", "why", "-a", "Ada", "-c", "ENV X=1", box, "fromapi:1").stdout.strip()
    assert made == docker("image", "inspect", "fromapi:1", "--format", "{{.Id}}").stdout.strip()
    assert api.hull.hull("run", "--rm", "--network", "none", "fromapi:1", "sh", "-c", "cat /work/one; echo $X").stdout == "one\n1\n"
    docker("rmi", "fromapi:1")
    docker("rename", box, "renamed")
    assert api.hull.hull("inspect", "renamed", "--format", "{{.Name}}").stdout.strip() == "/renamed"
    docker("update", "--memory", "100m", "--memory-swap", "200m", "--pids-limit", "70", "renamed")
    host = json.loads(api.hull.hull("inspect", "renamed").stdout)[0]["HostConfig"]
    assert host["Memory"] == 100 << 20 and host["PidsLimit"] == 70
    assert docker("update", "--memory", "1g", "renamed", check=False).returncode == 1
    docker("rename", "renamed", box)
    assert docker("rename", box, "bad/name", check=False).returncode == 1


def test_events(api, docker):
    seen = []
    environment_since = str(int(time.time()))
    api.hull.hull("run", "--rm", "--name", "heard", "--label", "a=b", "--network", "none", "test", "true")
    time.sleep(1.1)
    out = docker("events", "--since", environment_since, "--until", str(int(time.time())), "--filter", "container=heard",
                 "--format", "{{.Action}} {{.Actor.Attributes.name}}").stdout
    actions = [line.split()[0] for line in out.splitlines()]
    assert [a for a in actions if a in ("create", "start", "die", "destroy")] == ["create", "start", "die", "destroy"]
    # Live, over a connection of its own.
    def listen():
        done = subprocess.run(["curl", "-sS", "-N", "--max-time", "3", "--unix-socket", str(api.socket),
                               "http://hull/v1.43/events?filters=%7B%22type%22%3A%5B%22volume%22%5D%7D"], capture_output=True, text=True)
        seen.extend(json.loads(line) for line in done.stdout.splitlines())
    listener = threading.Thread(target=listen)
    listener.start()
    time.sleep(1)
    docker("volume", "create", "heard-volume")
    docker("volume", "rm", "heard-volume")
    listener.join()
    assert [e["Action"] for e in seen if e["Actor"]["ID"] == "heard-volume"] == ["create", "destroy"]
    assert api.curl("GET", "/v1.43/events?since=10&until=5")[0] == 400


def test_a_client_that_goes_away(api, box):
    """In the middle of an archive, an event stream and an upload: the next request is served, nothing stays behind."""
    before = len(api.hull.processes())
    for request in (f"GET /v1.43/containers/{box}/export HTTP/1.1\r\nHost: x\r\n\r\n",
                    "GET /v1.43/events HTTP/1.1\r\nHost: x\r\n\r\n",
                    "POST /v1.43/images/load HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc",
                    f"PUT /v1.43/containers/{box}/archive?path=/work HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(api.socket))
            client.sendall(request.encode())
            client.settimeout(1)
            try:
                client.recv(100)
            except TimeoutError:
                pass
    api.curl("GET", "/v1.43/_ping", check=200)
    wait_until(lambda: len(api.hull.processes()) <= before, "the connections' processes to end")
