"""hulld for one instance, and clients of it: Docker's command lines, plain HTTP over its socket."""

import http.client
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import time

from .instance import wait_until

# The newest docker in PATH (a static one, where somebody put it), and always Debian's docker.io.
NEWEST = shutil.which("docker")
DEBIAN = "/usr/bin/docker"
CLIENTS = sorted({os.path.realpath(path) for path in (NEWEST, DEBIAN) if path and os.path.exists(path)})


def version_of(client):
    done = subprocess.run([client, "--version"], capture_output=True, text=True)
    return re.search(r"version ([\d.]+)", done.stdout).group(1)


class Daemon:
    """One hulld. Killed and started again it serves the same socket."""

    def __init__(self, instance, *arguments, listens=True):
        self.instance = instance
        self.socket = str(instance.folder / "docker.sock")
        self.arguments = arguments or ("--host", f"unix://{self.socket}")
        self.log = open(instance.folder / "hulld.log", "a")
        self.process = None
        self.start(listens)

    def start(self, listens=True):
        self.process = self.instance.start(*self.arguments, program="hulld", stderr=self.log, stdin=subprocess.DEVNULL)
        if listens:
            wait_until(self.answers, "hulld listens")

    def answers(self):
        assert self.process.poll() is None, (self.instance.folder / "hulld.log").read_text()
        try:
            return self.get("/_ping").status == 200
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        self.log.close()

    def connect(self, timeout=30):
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(timeout)
        one.connect(self.socket)
        return one

    def request(self, method, path, body=None, headers=None, timeout=30):
        """An answer with .status, .headers, .text and .json()."""
        connection = Connection(self.socket, timeout)
        try:
            return connection.ask(method, path, body, headers)
        finally:
            connection.close()

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.request("POST", path, body, **more)

    def raw(self, data, timeout=10):
        """Sends bytes and returns everything until the server closes (or says nothing for the timeout)."""
        with self.connect(timeout) as one:
            one.sendall(data)
            return read_to_end(one)

    def docker(self, client, *arguments, check=True, timeout=60, **more):
        if "input" not in more and "stdin" not in more:
            more["stdin"] = subprocess.DEVNULL
        done = subprocess.run([client, *map(str, arguments)], capture_output=True, text=True, timeout=timeout,
                              env=self.client_environment(), **more)
        self.instance.note_ids()
        if check:
            assert done.returncode == 0, f"docker {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def client_environment(self):
        return {"PATH": os.environ["PATH"], "HOME": str(self.instance.folder), "DOCKER_HOST": f"unix://{self.socket}",
                "DOCKER_CLI_HINTS": "false", "TERM": "xterm"}


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        self.text = body.decode(errors="replace")

    def json(self):
        return json.loads(self.body)

    @property
    def message(self):
        return self.json()["message"]


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket, kept alive between requests."""

    def __init__(self, path, timeout=30):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def ask(self, method, path, body=None, headers=None):
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            headers["Content-Type"] = "application/json"
        super().request(method, path, body, headers)
        got = self.getresponse()
        return Answer(got.status, got.headers, got.read())


def read_to_end(one):
    data = b""
    try:
        while piece := one.recv(65536):
            data += piece
    except (TimeoutError, ConnectionResetError):
        pass
    return data


def frames(data):
    """Multiplexed output taken apart: [(stream, bytes)]."""
    found = []
    while data:
        stream, size = data[0], int.from_bytes(data[4:8], "big")
        found.append((stream, data[8:8 + size]))
        data = data[8 + size:]
    return found


class Terminal:
    """A program on a pseudo terminal of its own."""

    def __init__(self, arguments, environment, size=(24, 80)):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execve(arguments[0], arguments, environment)
        self.resize(*size)
        self.seen = ""

    def resize(self, rows, columns):
        import fcntl
        import struct
        import termios
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.kill(self.pid, signal.SIGWINCH)

    def type(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern, timeout=20):
        """Reads until the pattern is there; what was read before it is dropped."""
        end = time.monotonic() + timeout
        while not (found := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"{pattern!r} did not come; seen: {self.seen!r}"
            try:
                piece = os.read(self.master, 4096)
            except OSError:
                piece = b""
            assert piece, f"the program ended before {pattern!r}; seen: {self.seen!r}"
            self.seen += piece.decode(errors="replace")
        self.seen = self.seen[found.end():]
        return found

    def wait(self, timeout=20):
        """The exit code, after reading the rest."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            ready, _, _ = select.select([self.master], [], [], 0.1)
            if ready:
                try:
                    self.seen += os.read(self.master, 4096).decode(errors="replace")
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.master)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"the program did not end; seen: {self.seen!r}")
