"""Who may do what: mutual TLS, roles, scopes, the audit log, addresses that are refused, systemd's sockets."""

import http.client
import json
import os
import socket
import ssl
import stat
import subprocess

import pytest
from support import api, images
from support.instance import wait_until

NONE = {"NetworkMode": "none"}


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """certificates(name, ca="ca", days=...): (certificate, key) files."""
    folder = tmp_path_factory.mktemp("certificates")

    def authority(name):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / f"{name}.key", "-out",
                folder / f"{name}.pem", "-subj", f"/CN={name}", "-days", "10")

    authority("ca")
    authority("other")

    def make(name, ca="ca", days=10):
        certificate, key = folder / f"{name}-{ca}.pem", folder / f"{name}-{ca}.key"
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", folder / "request", "-subj", f"/CN={name}")
        names = folder / "names"
        names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl("x509", "-req", "-in", folder / "request", "-CA", folder / f"{ca}.pem", "-CAkey", folder / f"{ca}.key",
                "-CAcreateserial", "-days", days, "-extfile", names, "-out", certificate)
        return certificate, key

    make.folder = folder
    return make


class TlsClient:
    def __init__(self, daemon, certificates, port, name, **how):
        self.context = ssl.create_default_context(cafile=certificates.folder / "ca.pem")
        if name:
            self.context.load_cert_chain(*certificates(name, **how))
        self.port, self.netns = port, daemon.instance.netns

    def ask(self, method, path, body=None):
        # The port is in the instance's network namespace; a socket stays in the one where it was made.
        with open("/proc/self/ns/net") as here, open(f"/run/netns/{self.netns}") as there:
            import ctypes
            libc = ctypes.CDLL(None)
            assert libc.setns(there.fileno(), 0x40000000) == 0
            try:
                plain = socket.create_connection(("127.0.0.1", self.port), 10)
            finally:
                assert libc.setns(here.fileno(), 0x40000000) == 0
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context)
        connection.sock = self.context.wrap_socket(plain, server_hostname="127.0.0.1")
        text = json.dumps(body) if body is not None else None
        connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
        got = connection.getresponse()
        answer = api.Answer(got.status, got.headers, got.read())
        connection.close()
        return answer


@pytest.fixture
def served(make_instance, certificates, tmp_path):
    """A daemon over TLS with roles, its instance loaded with an image."""
    server, key = certificates("server")
    audit = tmp_path / "audit.log"
    instance = make_instance(f"""
[api]
hosts = ["tcp://127.0.0.1:2376", "unix:///PATH"]
tls_ca = "{certificates.folder}/ca.pem"
tls_cert = "{server}"
tls_key = "{key}"
audit_log = "{audit}"
[api.root]
role = "admin"
[api.worker]
role = "operator"
[api.reader]
role = "viewer"
[api.blue]
role = "operator"
labels = ["team=blue"]
""")
    text = instance.config.read_text().replace("unix:///PATH", f"unix://{instance.folder}/docker.sock")
    instance.config.write_text(text)
    images.load(instance, tmp_path / "image", name="busybox:latest")
    daemon = api.Daemon.__new__(api.Daemon)
    daemon.instance, daemon.socket, daemon.arguments = instance, str(instance.folder / "docker.sock"), ()
    daemon.log = open(instance.folder / "hulld.log", "a")
    daemon.start()
    daemon.audit = audit
    daemon.client = lambda name, **how: TlsClient(daemon, certificates, 2376, name, **how)
    yield daemon
    daemon.close()


def create(**more):
    return {"Image": "busybox", "Cmd": ["sleep", "1000"], "Env": ["SECRET=hidden"], "HostConfig": {**NONE, **more.pop("host", {})},
            **more}


def test_roles(served):
    root, worker, reader = (served.client(name) for name in ("root", "worker", "reader"))
    made = worker.ask("POST", "/containers/create", create())
    assert made.status == 201
    one = made.json()["Id"]
    served.instance.note_ids()
    assert worker.ask("POST", f"/containers/{one}/start").status == 204
    for host in ({"Privileged": True}, {"Binds": ["/:/host"]}, {"NetworkMode": "host"}, {"PidMode": "host"},
                 {"CapAdd": ["SYS_ADMIN"]}, {"SecurityOpt": ["seccomp=unconfined"]}, {"MaskedPaths": []},
                 {"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}]},
                 {"Mounts": [{"Type": "bind", "Source": "/etc", "Target": "/x"}]}):
        refused = worker.ask("POST", "/containers/create", create(host=host))
        assert refused.status == 403 and "operator" in refused.message, host
    assert worker.ask("POST", f"/containers/{one}/exec", {"Cmd": ["id"], "Privileged": True}).status == 403
    assert worker.ask("POST", f"/containers/{one}/exec", {"Cmd": ["id"]}).status == 201
    assert root.ask("POST", "/containers/create", create(host={"Privileged": True})).status == 201

    shown = reader.ask("GET", f"/containers/{one}/json")
    assert shown.status == 200 and "hidden" not in shown.text and "SECRET" in shown.text
    assert "hidden" in worker.ask("GET", f"/containers/{one}/json").text
    for method, path in (("POST", f"/containers/{one}/exec"), ("POST", f"/containers/{one}/attach"),
                         ("GET", f"/containers/{one}/logs?stdout=1"), ("POST", f"/containers/{one}/stop"),
                         ("DELETE", f"/containers/{one}"), ("POST", "/containers/create")):
        assert reader.ask(method, path).status == 403, path
    assert reader.ask("GET", "/containers/json").status == 200

    lines = [json.loads(line) for line in served.audit.read_text().splitlines()]
    assert {"cert:root", "cert:worker", "cert:reader"} <= {line["who"] for line in lines}
    refused = [line for line in lines if line["status"] == 403]
    assert len(refused) == 16 and all("error" in line for line in refused)
    assert any(line["subject"] == one for line in lines if "subject" in line)
    assert stat.S_IMODE(served.audit.stat().st_mode) == 0o600


def test_scope(served):
    blue, root = served.client("blue"), served.client("root")
    assert blue.ask("POST", "/containers/create", create()).status == 403
    mine = blue.ask("POST", "/containers/create", create(Labels={"team": "blue"})).json()["Id"]
    other = root.ask("POST", "/containers/create", create(Labels={"team": "red"})).json()["Id"]
    served.instance.note_ids()
    assert [c["Id"] for c in blue.ask("GET", "/containers/json?all=1").json()] == [mine]
    for method, path in (("GET", f"/containers/{other}/json"), ("POST", f"/containers/{other}/start"),
                         ("DELETE", f"/containers/{other}?force=1"), ("POST", f"/containers/{other}/wait"),
                         ("GET", f"/containers/{other}/stats"), ("GET", f"/containers/{other}/logs?stdout=1"),
                         ("POST", f"/containers/{other}/attach?stream=1")):
        refused = blue.ask(method, path)
        assert refused.status == 404 and "No such container" in refused.message, path
    assert blue.ask("POST", "/containers/prune").status == 403
    assert blue.ask("POST", f"/containers/{mine}/start").status == 204
    assert blue.ask("DELETE", f"/containers/{mine}?force=1").status == 204


def test_certificates_that_are_refused(served):
    stranger = served.client("stranger").ask("GET", "/_ping")
    assert stranger.status == 403 and "no role" in stranger.message
    for how in ({"name": "root", "ca": "other"}, {"name": "root", "days": "-1"}, {"name": None}):
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            served.client(**how).ask("GET", "/_ping")
    assert served.client("root").ask("GET", "/_ping").status == 200


def test_the_docker_client_over_tls(served, certificates):
    certificate, key = certificates("root")
    done = served.instance.in_netns(
        [api.DEBIAN if os.path.exists(api.DEBIAN) else api.NEWEST, "--tlsverify", "--tlscacert", certificates.folder / "ca.pem",
         "--tlscert", certificate, "--tlskey", key, "-H", "tcp://127.0.0.1:2376", "run", "--rm", "--network", "none", "-i", "busybox", "cat"],
        check=False, input="through TLS\n")
    assert (done.returncode, done.stdout) == (0, "through TLS\n"), done.stderr


@pytest.mark.parametrize("arguments, says", [
    (["--host", "tcp://0.0.0.0:2375"], "TCP without TLS"),
    (["--host", "tcp://0.0.0.0:2375", "--plain-tcp"], "TCP without TLS"),
    (["--host", "tcp://127.0.0.1:2375"], "--plain-tcp"),
    (["--host", "tcp://example:2375"], "numeric"),
    (["--host", "fd://"], "expected unix://"),
    (["--tlscert", "/x"], "tls_ca"),
    (["--host", "unix://relative"], "absolute"),
    (["--nosuch"], "unknown argument"),
    (["--host", "unix:///tmp/hull-no-such-group.sock", "--group", "no-such-group"], "group"),
])
def test_settings_that_are_refused(instance, arguments, says):
    done = instance.hull(*arguments, program="hulld", check=False)
    assert done.returncode == 1 and says in done.stderr


@pytest.mark.parametrize("section, says", [
    ("nosuch = 1", "nosuch"), ('hosts = "x"', "list"), ("[api.x]\nlabels = ['a=b']", "role"),
    ("[api.x]\nrole = 'king'", "admin, operator or viewer"), ("[api.x]\nrole = 'admin'\nlabels = ['a']", "confined"),
])
def test_sections_that_are_refused(make_instance, section, says):
    done = make_instance(f"[api]\n{section}\n").hull(program="hulld", check=False)
    assert done.returncode == 1 and says in done.stderr and "hull.toml:" in done.stderr


def test_the_socket_belongs_to_a_group(instance):
    path = instance.folder / "run" / "docker.sock"
    process = instance.start("--host", f"unix://{path}", "--group", "daemon", program="hulld")
    try:
        wait_until(path.exists, "the socket is there")
        wait_until(lambda: stat.S_IMODE(path.stat().st_mode) == 0o660, "its mode is set")
        import grp
        assert path.stat().st_gid == grp.getgrnam("daemon").gr_gid
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o711
    finally:
        process.terminate()
        assert process.wait(10) == 0
    assert not path.exists()


def test_plain_tcp_is_this_machine_only(instance):
    process = instance.start("--host", "tcp://127.0.0.1:2375", "--plain-tcp", program="hulld")
    try:
        ask = lambda *more: instance.in_netns(  # noqa: E731
            ["curl", "-s", "--noproxy", "*", "--retry", "20", "--retry-connrefused", "--retry-delay", "0", *more,
             "http://127.0.0.1:2375/_ping"], check=False).stdout
        assert ask() == "OK"
        assert "this machine only" in ask("-H", "Host: evil.example")
    finally:
        process.terminate()
        process.wait(10)


def test_socket_activation(instance):
    """As systemd does it: the socket is there before hulld, which finds it at descriptor 3."""
    path = str(instance.folder / "activated.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(instance.folder / "notify"))
    notify.settimeout(10)

    def hand_over():
        os.dup2(listener.fileno(), 3)
        os.environ["LISTEN_PID"] = str(os.getpid())

    script = ("import os,sys; os.environ['LISTEN_PID']=str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])")
    command = instance.command(program="hulld")
    at = next(i for i, word in enumerate(command) if word.endswith("hulld"))
    process = subprocess.Popen([*command[:at], "/usr/bin/python3", "-c", script, *command[at:]], preexec_fn=hand_over,
                               close_fds=False,
                               env={**instance.environment, "LISTEN_FDS": "1", "NOTIFY_SOCKET": str(instance.folder / "notify")})
    try:
        assert notify.recv(100) == b"READY=1\n"
        connection = api.Connection(path)
        assert connection.ask("GET", "/_ping").text == "OK"
        connection.close()
    finally:
        process.terminate()
        assert process.wait(10) == 0
        listener.close()
        notify.close()
    assert os.path.exists(path)  # systemd's, not ours


def test_limits_on_connections(make_instance):
    instance = make_instance("[api]\nmax_connections_per_user = 3\n")
    daemon = api.Daemon(instance)
    try:
        held = [daemon.connect() for _ in range(3)]
        wait_until(lambda: b"503" in daemon.raw(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n", 2), "the fourth is refused")
        for one in held:
            one.close()
        wait_until(daemon.answers, "room again")
    finally:
        daemon.close()
