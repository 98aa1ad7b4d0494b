"""Debian's docker-registry on a loopback port, plain, with htpasswd, or with TLS from a certificate authority of its
own."""

import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import ssl


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Registry:
    """host is what references start with; ca is the certificate authority's file with tls, None without. With
    client_certificates it takes only clients that show one (ca.crt, client.cert and client.key in its folder's client/). `tokens` is the
    support.token_server.TokenServer that it trusts; then user and password are for push_layout."""

    def __init__(self, user=None, password=None, tls=False, netns=None, port=None, tokens=None, client_certificates=False):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hull-registry-"))
        self.port = port or free_port()
        self.host = f"localhost:{self.port}" if tls else f"127.0.0.1:{self.port}"
        self.user, self.password, self.ca, self.netns = user, password, None, netns
        lines = [
            "version: 0.1",
            "log: {level: error, accesslog: {disabled: true}}",
            f"storage: {{filesystem: {{rootdirectory: {self.folder}/data}}, delete: {{enabled: true}}}}",
            "http:",
            f"  addr: 127.0.0.1:{self.port}",
            "  secret: not-a-secret",
        ]
        if tls:
            self.make_certificates()
            lines += ["  tls:", f"    certificate: {self.folder}/server.crt", f"    key: {self.folder}/server.key"]
        if client_certificates:
            lines += ["    clientcas:", f"      - {self.ca}"]
        self.client_certificates = client_certificates
        if tokens:
            lines += tokens.registry_settings()
        elif user:
            hashed = subprocess.run(["htpasswd", "-nbB", user, password], capture_output=True, text=True, check=True)
            (self.folder / "htpasswd").write_text(hashed.stdout.strip() + "\n")
            lines += ["auth:", f"  htpasswd: {{realm: hull-tests, path: {self.folder}/htpasswd}}"]
        (self.folder / "config.yml").write_text("\n".join(lines) + "\n")
        command = ["docker-registry", "serve", str(self.folder / "config.yml")]
        if netns:
            command = ["nsenter", f"--net=/run/netns/{netns}", *command]
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        if not netns:
            self.wait_ready()
        else:
            self.wait_listening()

    def make_certificates(self):
        self.ca = self.folder / "ca.crt"
        key, request, extension = self.folder / "server.key", self.folder / "server.csr", self.folder / "extension"
        extension.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")

        def openssl(*arguments):
            subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Hull test authority",
                "-keyout", self.folder / "ca.key", "-out", self.ca)
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial",
                "-days", "2", "-extfile", extension, "-out", self.folder / "server.crt")
        client = self.folder / "client"
        client.mkdir()
        (client / "ca.crt").write_bytes(self.ca.read_bytes())
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=client", "-keyout", client / "client.key", "-out",
                request)
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial",
                "-days", "2", "-out", client / "client.cert")

    def wait_ready(self):
        context = ssl.create_default_context(cafile=str(self.ca)) if self.ca else None
        if self.client_certificates:
            context.load_cert_chain(self.folder / "client/client.cert", self.folder / "client/client.key")
        url = f"{'https' if self.ca else 'http'}://{self.host}/v2/"
        self.poll(lambda: self.answers(url, context))

    @staticmethod
    def answers(url, context):
        try:
            urllib.request.urlopen(url, timeout=2, context=context).close()
            return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def wait_listening(self):
        """In another network namespace: until the port is listed as listening there."""
        wanted = f"{self.port:04X} 00000000:0000 0A"
        self.poll(lambda: wanted in pathlib.Path(f"/proc/{self.process.pid}/net/tcp").read_text())

    def poll(self, ready):
        end = time.monotonic() + 15
        while not ready():
            alive = self.process.poll() is None and time.monotonic() < end
            assert alive, "docker-registry did not start: " + (self.folder / "log").read_text(errors="replace")
            time.sleep(0.02)

    def push_layout(self, layout, name, reference, compression=None):
        """Pushes an image of an OCI layout with skopeo, a foreign client; returns the full reference."""
        target = f"docker://{self.host}/{reference}"
        command = ["skopeo", "copy", "-q", "--insecure-policy"]
        command += ["--dest-tls-verify=false"]
        if self.client_certificates:
            command += ["--dest-cert-dir", str(self.folder / "client")]
        if self.user:
            command += ["--dest-creds", f"{self.user}:{self.password}"]
        if compression:
            command += ["--dest-compress-format", compression, "--dest-compress"]
        command += [f"oci:{layout}:{name}", target]
        if self.netns:
            command = ["nsenter", f"--net=/run/netns/{self.netns}", *command]
        subprocess.run(command, check=True)
        return f"{self.host}/{reference}"

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
