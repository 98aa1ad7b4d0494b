"""The Engine API by hand: versions, errors, streams, hijacked connections, and clients that do not behave."""

import bz2
import gzip
import io
import json
import lzma
import os
import pathlib
import socket
import subprocess
import tarfile
import time

import pytest
from support import api
from support.instance import wait_until

JSON = {"Content-Type": "application/json"}
NONE = {"NetworkMode": "none"}


@pytest.fixture
def make(daemon):
    """make(cmd, **config): creates a container; removed at the end."""
    made = []

    def create(*command, host=None, **config):
        body = {"Image": "busybox", "Cmd": list(command), "HostConfig": {**NONE, **(host or {})}, **config}
        answer = daemon.post("/v1.44/containers/create", body)
        assert answer.status == 201, answer.text
        made.append(answer.json()["Id"])
        daemon.instance.note_ids()
        return made[-1]

    yield create
    for one in made:
        daemon.request("DELETE", f"/containers/{one}?force=1&v=1")


def start(daemon, one):
    answer = daemon.post(f"/containers/{one}/start")
    assert answer.status == 204, answer.text


def upgrade(daemon, path, body=b""):
    one = daemon.connect()
    one.sendall(f"POST {path} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = one.recv(1)
        assert piece, head
        head += piece
    return one, head


def name_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def processes(daemon):
    """hulld's, without those that only wait for a connection."""
    return [pid for pid, line in daemon.instance.processes().items() if "hulld" in line and name_of(pid) != "hulld-idle"]


def waiting(daemon):
    return {pid for pid, line in daemon.instance.processes().items() if "hulld" in line and name_of(pid) == "hulld-idle"}


def test_versions(daemon):
    for prefix in ("", "/v1.24", "/v1.43", "/v1.51"):
        answer = daemon.get(prefix + "/version")
        assert answer.status == 200 and answer.json()["MinAPIVersion"] == "1.24"
    newest = daemon.get("/_ping").headers["Api-Version"]
    assert daemon.get(f"/v{newest}/info").status == 200
    assert daemon.get("/v1.99/info").status == 400 and "too new" in daemon.get("/v1.99/info").message
    assert "too old" in daemon.get("/v1.12/info").message
    assert daemon.get("/nothing").json() == {"message": "page not found"}
    assert daemon.request("PUT", "/info").status == 405
    assert daemon.request("HEAD", "/_ping").status == 200


def test_a_connection_is_kept(daemon):
    connection = api.Connection(daemon.socket)
    for _ in range(50):
        assert connection.ask("GET", "/containers/json?all=1").status == 200
    assert connection.ask("GET", "/containers/nosuch/json").status == 404
    assert connection.ask("POST", "/containers/create", {"Image": "nosuch"}).status == 404
    connection.close()


@pytest.mark.parametrize("body, says", [
    ("{", "JSON"), ("[]", "object"), ('{"Image":"busybox"} x', "JSON"), ('{"Image":"busybox"}{}', "JSON"),
    ('{"Image":"busybox","Image":"other"}', "twice"), ('{"Image":"busybox","HostConfig":{"Binds":["a:b:c:d"]}}', "invalid"),
    ('{"Image":"busybox","HostConfig":{"Runtime":"other"}}', "runtime"),
    ('{"Image":"busybox","HostConfig":{"Privileged":"yes"}}', "Privileged"),
    ('{"Image":"busybox","HostConfig":{"NoSuchSwitch":true}}', "NoSuchSwitch"),
    ("[" * 100_000, "nested"), ("", "empty"),
])
def test_bodies_that_are_wrong(daemon, body, says):
    answer = daemon.post("/containers/create", body, headers=JSON)
    assert answer.status == 400 and says in answer.message
    assert daemon.get("/containers/json?all=1").json() == []


@pytest.mark.parametrize("request_bytes, status", [
    (b"nonsense\r\n\r\n", 400),
    (b"GET /_ping HTTP/1.1\r\n\r\n", 400),  # no Host
    (b"GET /_ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET /_ping HTTP/3.7\r\nHost: a\r\n\r\n", 505),
    (b"POST /containers/create HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
    (b"POST /containers/create HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400),
    (b"POST /containers/create HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    (b"GET /_ping HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", 431),
    (b"GET /_ping HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 1000 + b"\r\n", 431),
    (b"GET /containers/%00/json HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /containers/%zz/json HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET http://elsewhere/_ping HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /containers/../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    (b"GET /containers/..%2f..%2fetc/json HTTP/1.1\r\nHost: a\r\n\r\n", 404),
])
def test_requests_that_are_wrong(daemon, request_bytes, status):
    with daemon.connect(5) as one:
        one.sendall(request_bytes)
        one.shutdown(socket.SHUT_WR)
        got = api.read_to_end(one)
    assert got.startswith(f"HTTP/1.1 {status} ".encode()), got[:200]
    assert daemon.get("/_ping").status == 200


def test_requests_that_come_byte_by_byte_and_together(daemon):
    with daemon.connect() as one:
        for byte in b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n":
            one.sendall(bytes([byte]))
        assert b"200 OK" in one.recv(4096)
        one.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n" * 3)
        one.shutdown(socket.SHUT_WR)
        assert api.read_to_end(one).count(b"HTTP/1.1 200 OK") == 3


def test_a_body_that_is_too_large(daemon):
    answer = daemon.post("/containers/create", b'{"Image":"' + b"a" * (5 << 20) + b'"}', headers=JSON)
    assert answer.status in (400, 413) and "longer" in answer.message


def test_run_by_hand(daemon, make):
    """As Docker's client does it: attach and wait come before the start, on connections of their own."""
    one = make("sh", "-c", "cat; echo err >&2; exit 3", OpenStdin=True, StdinOnce=True, AttachStdin=True)
    stream, head = upgrade(daemon, f"/v1.44/containers/{one}/attach?stream=1&stdin=1&stdout=1&stderr=1")
    assert b"101 UPGRADED" in head and b"application/vnd.docker.multiplexed-stream" in head
    waiter = api.Connection(daemon.socket)
    waiter.request("POST", f"/v1.44/containers/{one}/wait?condition=next-exit")
    answer = waiter.getresponse()  # the head comes before the end
    stream.sendall(b"typed ahead\n")
    start(daemon, one)
    stream.sendall(b"typed\n")
    stream.shutdown(socket.SHUT_WR)
    got = api.frames(api.read_to_end(stream))
    assert b"".join(data for number, data in got if number == 1) == b"typed ahead\ntyped\n"
    assert b"".join(data for number, data in got if number == 2) == b"err\n"
    assert json.loads(answer.read()) == {"StatusCode": 3}
    stream.close()
    waiter.close()


def test_nothing_is_lost_before_the_attach_is_served(daemon, make):
    for _ in range(10):
        one = make("echo", "first")
        stream, _ = upgrade(daemon, f"/v1.44/containers/{one}/attach?stream=1&stdout=1&stderr=1")
        start(daemon, one)
        assert api.frames(api.read_to_end(stream)) == [(1, b"first\n")]
        stream.close()


def test_processes_that_wait_for_connections(daemon, make):
    """They are used again after a look and never after a change, may be killed, and know of what was changed since."""
    def three():
        found = waiting(daemon)
        return found if len(found) >= 3 else None

    first = wait_until(three, "three wait")
    assert daemon.get("/containers/json?all=1").status == 200
    wait_until(lambda: first <= waiting(daemon), "the one that looked waits again")
    before = waiting(daemon)
    one = make("sleep", "1000")
    ids = [entry["Id"] for entry in daemon.get("/containers/json?all=1").json()]
    assert one in ids
    wait_until(lambda: before - waiting(daemon), "the one that made a container has ended")
    killed = wait_until(three, "three wait")
    for pid in killed:
        os.kill(pid, 9)
    wait_until(lambda: not killed & waiting(daemon), "they are gone")
    assert daemon.get(f"/containers/{one}/json").status == 200
    # A data folder that is put in another's place is the one that counts.
    wait_until(three, "three wait")
    data = daemon.instance.root
    kept, fresh = data.with_name("data.kept"), data.with_name("data.fresh")
    try:
        data.rename(kept)
        data.mkdir(mode=0o700)
        assert daemon.get(f"/containers/{one}/json").status == 404
    finally:
        data.rename(fresh)
        kept.rename(data)
    assert daemon.get(f"/containers/{one}/json").status == 200


def test_a_waiter_that_died_is_skipped(daemon, make):
    one = make("echo", "on")
    before = set(processes(daemon))
    stream, _ = upgrade(daemon, f"/containers/{one}/attach?stream=1&stdout=1")
    for pid in set(processes(daemon)) - before:
        os.kill(pid, 9)
    stream.close()
    start(daemon, one)
    wait_until(lambda: daemon.get(f"/containers/{one}/json").json()["State"]["Status"] == "exited", "it has ended")
    assert api.frames(daemon.get(f"/containers/{one}/logs?stdout=1").body) == [(1, b"on\n")]


def test_wait_for_the_removal(daemon):
    body = {"Image": "busybox", "Cmd": ["sh", "-c", "exit 4"], "HostConfig": {**NONE, "AutoRemove": True}}
    one = daemon.post("/containers/create", body).json()["Id"]
    daemon.instance.note_ids()
    waiter = api.Connection(daemon.socket)
    waiter.request("POST", f"/v1.44/containers/{one}/wait?condition=removed")
    answer = waiter.getresponse()
    start(daemon, one)
    assert json.loads(answer.read())["StatusCode"] == 4
    assert daemon.get(f"/containers/{one}/json").status == 404
    waiter.close()


def test_wait_for_what_has_ended(daemon, make):
    one = make("sh", "-c", "exit 6")
    start(daemon, one)
    assert daemon.post(f"/containers/{one}/wait").json()["StatusCode"] == 6
    assert daemon.post(f"/containers/{one}/wait").json()["StatusCode"] == 6
    assert daemon.post(f"/containers/{one}/wait?condition=never").status == 400


def test_exec_by_hand(daemon, make):
    one = make("sleep", "1000")
    assert daemon.post(f"/containers/{one}/exec", {"Cmd": ["true"]}).status == 409
    start(daemon, one)
    assert daemon.post(f"/containers/{one}/exec", {"Cmd": []}).status == 400
    made = daemon.post(f"/containers/{one}/exec",
                       {"Cmd": ["sh", "-c", "echo out; echo err >&2; exit 5"], "AttachStdout": True, "AttachStderr": True})
    exec_id = made.json()["Id"]
    assert daemon.get(f"/exec/{exec_id}/json").json()["Running"] is False
    stream, head = upgrade(daemon, f"/v1.44/exec/{exec_id}/start", b'{"Detach":false,"Tty":false}')
    assert sorted(api.frames(api.read_to_end(stream))) == [(1, b"out\n"), (2, b"err\n")]
    state = daemon.get(f"/exec/{exec_id}/json").json()
    assert (state["Running"], state["ExitCode"], state["ContainerID"]) == (False, 5, one)
    assert daemon.post(f"/exec/{exec_id}/start", {}).status == 409
    assert daemon.get(f"/exec/{'0' * 64}/json").status == 404
    stream.close()


def test_an_exec_outlives_its_client(daemon, make):
    one = make("sleep", "1000")
    start(daemon, one)
    command = "i=0; while [ $i -lt 3000 ]; do echo some output of more than a pipe takes; i=$((i+1)); done; echo > /done"
    exec_id = daemon.post(f"/containers/{one}/exec", {"Cmd": ["sh", "-c", command], "AttachStdout": True}).json()["Id"]
    stream, _ = upgrade(daemon, f"/exec/{exec_id}/start", b"{}")
    stream.recv(100)
    stream.close()
    wait_until(lambda: daemon.get(f"/exec/{exec_id}/json").json()["ExitCode"] == 0, "the exec has ended well")


def test_the_exec_of_a_killed_keeper(daemon, make):
    one = make("sleep", "1000")
    start(daemon, one)
    exec_id = daemon.post(f"/containers/{one}/exec", {"Cmd": ["sleep", "1000"]}).json()["Id"]
    assert daemon.post(f"/exec/{exec_id}/start", {"Detach": True}).status == 200
    assert daemon.get(f"/exec/{exec_id}/json").json()["Running"] is True
    assert "sleep" in str(daemon.get(f"/containers/{one}/top").json()["Processes"])


def test_clients_that_vanish(daemon, make):
    """In the middle of every kind of stream: no process of hulld stays."""
    one = make("sh", "-c", "while true; do echo noise; sleep 0.1; done")
    idle = make("sleep", "1000", OpenStdin=True, Tty=True)
    never = make("true")
    start(daemon, one)
    start(daemon, idle)
    before = set(processes(daemon))
    opened = []
    for path in (f"/containers/{one}/attach?stream=1&stdout=1", f"/containers/{idle}/attach?stream=1&stdin=1&stdout=1",
                 f"/containers/{never}/attach?stream=1&stdout=1"):
        opened.append(upgrade(daemon, path)[0])
    for method, path in (("GET", f"/containers/{one}/logs?stdout=1&follow=1"), ("GET", f"/containers/{one}/stats"),
                         ("POST", f"/v1.44/containers/{idle}/wait"), ("POST", f"/v1.24/containers/{idle}/wait"),
                         ("POST", f"/v1.44/containers/{never}/wait?condition=next-exit")):
        stream = daemon.connect()
        stream.sendall(f"{method} {path} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
        opened.append(stream)
    wait_until(lambda: len(set(processes(daemon)) - before) == len(opened), "all are served")
    for stream in opened:
        stream.close()
    wait_until(lambda: not set(processes(daemon)) - before, "all have gone", 15)
    assert daemon.get(f"/containers/{one}/json").json()["State"]["Running"]


def test_websocket(daemon, make):
    one = make("cat", OpenStdin=True, AttachStdin=True)
    start(daemon, one)
    with daemon.connect() as stream:
        stream.sendall(f"GET /containers/{one}/attach/ws?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\n"
                       "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += stream.recv(1)
        assert b"101" in head and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        mask = b"\1\2\3\4"
        text = b"through a frame\n"
        stream.sendall(bytes([0x81, 0x80 | len(text)]) + mask + bytes(c ^ mask[i % 4] for i, c in enumerate(text)))
        got = b""
        while len(got) < 2 + len(text):
            got += stream.recv(100)
        assert got == bytes([0x82, len(text)]) + text
        stream.sendall(b"\x88\x80" + mask)
        assert stream.recv(10) == b"\x88\x00"
    assert daemon.get(f"/containers/{one}/attach/ws").status == 400


def test_slow_clients_do_not_hold_others_up(daemon):
    slow = [daemon.connect() for _ in range(20)]
    for one in slow:
        one.sendall(b"GET /_ping HT")
    began = time.monotonic()
    assert daemon.get("/_ping").status == 200
    assert time.monotonic() - began < 5
    for one in slow:
        one.close()


def test_stats_and_logs(daemon, make):
    one = make("sh", "-c", "echo a; echo b >&2; exec sleep 1000")
    start(daemon, one)
    wait_until(lambda: len(api.frames(daemon.get(f"/containers/{one}/logs?stdout=1&stderr=1").body)) == 2, "both lines")
    assert api.frames(daemon.get(f"/containers/{one}/logs?stderr=1").body) == [(2, b"b\n")]
    assert daemon.get(f"/containers/{one}/logs").status == 400
    once = daemon.get(f"/containers/{one}/stats?stream=false&one-shot=true").json()
    assert once["cpu_stats"]["cpu_usage"]["total_usage"] > 0 and once["memory_stats"]["usage"] > 0
    twice = daemon.get(f"/containers/{one}/stats?stream=false").json()
    assert twice["precpu_stats"]["cpu_usage"]["total_usage"] > 0


def test_list_filters(daemon, make):
    one = make("true", Labels={"team": "blue"})
    two = make("true", Labels={"team": "red"})
    ask = lambda filters: {c["Id"] for c in daemon.get(f"/containers/json?all=1&filters={filters}").json()}  # noqa: E731
    assert ask('{"label":["team=blue"]}') == {one}
    assert ask('{"label":{"team=red":true}}') == {two}
    assert daemon.get('/containers/json?filters={"nosuch":["x"]}').status == 400
    assert daemon.get('/containers/json?filters=[]').status == 400
    assert len(daemon.get("/containers/json?all=1&limit=1").json()) == 1


def test_a_second_daemon_does_not_take_the_socket(daemon):
    done = daemon.instance.hull("--host", f"unix://{daemon.socket}", program="hulld", check=False)
    assert done.returncode == 1 and "serves it already" in done.stderr
    assert daemon.get("/_ping").status == 200


def test_python_docker(daemon):
    docker = pytest.importorskip("docker")
    client = docker.DockerClient(base_url=f"unix://{daemon.socket}")
    try:
        assert client.containers.run("busybox", ["echo", "from python"], network_mode="none", remove=True) == b"from python\n"
        one = client.containers.run("busybox", ["sleep", "1000"], network_mode="none", detach=True)
        daemon.instance.note_ids()
        assert one.exec_run(["echo", "x"]) == (0, b"x\n")
        assert one.exec_run(["sh", "-c", "exit 3"]).exit_code == 3
        assert one.status in ("created", "running")
        one.stop(timeout=0)
        one.reload()
        assert one.status == "exited"
        one.remove()
        assert client.containers.list(all=True) == []
    finally:
        client.close()


def an_archive(name, content):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


@pytest.mark.parametrize("compression", ["none", "gzip", "bzip2", "xz", "zstd"])
def test_archives_may_be_compressed(daemon, make, compression):
    """As Docker takes them; large enough that both pipes fill."""
    one = make("cat", "/tmp/file")
    content = os.urandom(3 << 20)
    compress = {"none": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lambda data: lzma.compress(data, preset=0),
                "zstd": lambda data: subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout}[compression]
    data = compress(an_archive("file", content))
    answer = daemon.request("PUT", f"/containers/{one}/archive?path=/tmp", data)
    assert answer.status == 200, answer.text
    got = daemon.get(f"/containers/{one}/archive?path=/tmp/file")
    with tarfile.open(fileobj=io.BytesIO(got.body)) as archive:
        assert archive.extractfile("file").read() == content
    if compression != "none":
        broken = daemon.request("PUT", f"/containers/{one}/archive?path=/tmp", data[: len(data) // 2])
        assert broken.status == 400, broken.text
        garbage = daemon.request("PUT", f"/containers/{one}/archive?path=/tmp", data[:6] + b"\xff" * 4096)
        assert garbage.status in (400, 501), garbage.text
    assert not [line for line in daemon.instance.processes().values() if "decompress" in line]


def test_list_and_statistics_tell_more(daemon, make):
    """Where mounts are, packets of each interface, what images share."""
    one = make("sleep", "1000", host={"NetworkMode": "bridge", "Binds": ["named:/a", "/tmp:/b:ro"]})
    start(daemon, one)
    [row] = daemon.get("/containers/json?filters=" + json.dumps({"id": [one]}).replace(" ", "")).json()
    assert sorted((mount["Type"], mount.get("Name"), mount["Destination"], mount["RW"]) for mount in row["Mounts"]) == [
        ("bind", None, "/b", False), ("volume", "named", "/a", True)]
    for value in ("named", "/a", "/tmp", "/b"):
        assert [found["Id"] for found in daemon.get(f'/containers/json?filters={{"volume":["{value}"]}}').json()] == [one]
    wait_until(lambda: daemon.get(f"/containers/{one}/stats?stream=0&one-shot=1").json()["networks"]["eth0"]["tx_packets"] > 0,
               "packets are counted")
    images = {image["Id"]: image["SharedSize"] for image in daemon.get("/images/json?shared-size=1").json()}
    made = daemon.post(f"/commit?container={one}&repo=grown")
    assert made.status == 201, made.text
    try:
        shared = {image["Id"]: image["SharedSize"] for image in daemon.get("/images/json?shared-size=1").json()}
        [base] = images
        assert images[base] == 0 and shared[base] > 0 and shared[made.json()["Id"]] == shared[base]
        assert {image["Id"]: image["SharedSize"] for image in daemon.get("/system/df").json()["Images"]} == shared
        assert {image["SharedSize"] for image in daemon.get("/images/json").json()} == {-1}
    finally:
        daemon.request("DELETE", "/images/grown")


def test_resize_waits_for_an_exec_to_begin(daemon, make):
    one = make("sleep", "1000")
    start(daemon, one)
    made = daemon.post(f"/containers/{one}/exec", {"Cmd": ["sleep", "1000"], "Tty": True, "AttachStdout": True}).json()["Id"]
    connection = api.Connection(daemon.socket)
    connection.request("POST", f"/exec/{made}/resize?h=30&w=100")
    stream, _ = upgrade(daemon, f"/exec/{made}/start", b'{"Tty":true}')
    assert connection.getresponse().status == 200
    stream.close()
    connection.close()
