"""Clients of the Docker API that make, use and remove containers as fast as they can, and check every answer.

usage: soak.py SOCKET CLIENTS SECONDS NUMBER; prints one JSON object. A program of its own, so that several share the work.
"""

import json
import pathlib
import random
import sys
import threading
import time
import traceback

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from support import api  # noqa: E402

FRAME_HEAD = 8


class Failed(Exception):
    pass


class Client:
    def __init__(self, socket, name, end):
        self.socket, self.name, self.end = socket, name, end
        self.random = random.Random(name)
        self.counts, self.failures = {}, []
        self.connection = None

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def ask(self, method, path, body=None, expect=(200,)):
        """On a kept connection; now and then on a fresh one, as the docker command comes."""
        if self.connection is None or self.random.random() < 0.2:
            if self.connection:
                self.connection.close()
            self.connection = api.Connection(self.socket, 120)
        answer = self.connection.ask(method, "/v1.44" + path, body)
        if answer.status not in expect:
            raise Failed(f"{method} {path}: {answer.status} {answer.text[:300]}")
        return answer

    def hijack(self, path, body=b"{}"):
        """The stream after the head of an answer that takes over its connection."""
        connection = api.Connection(self.socket, 120)
        connection.connect()
        connection.sock.sendall(
            f"POST /v1.44{path} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = connection.sock.recv(1)
            if not piece:
                raise Failed(f"{path}: closed after {head!r}")
            head += piece
        if not head.startswith(b"HTTP/1.1 101"):
            raise Failed(f"{path}: {head!r}")
        return connection.sock

    def output_of(self, stream):
        """What came on each stream until its end."""
        data = b""
        while piece := stream.recv(65536):
            data += piece
        stream.close()
        found = {1: b"", 2: b""}
        for number, text in api.frames(data):
            found[number] += text
        return found

    def expect_output(self, found, out, err):
        if found != {1: out.encode(), 2: err.encode()}:
            raise Failed(f"expected {out!r} and {err!r}, came {found}")

    def create(self, number, command):
        bridge = self.random.random() < 0.2
        body = {"Image": "busybox", "Cmd": ["sh", "-c", command], "Labels": {"soak": self.name},
                "HostConfig": {"NetworkMode": "bridge" if bridge else "none"}}
        made = self.ask("POST", f"/containers/create?name={self.name}-{number}", body, (201,)).json()["Id"]
        self.count("on the bridge" if bridge else "without network")
        return made

    def short_life(self, number):
        """Attached before its start, waited for, its log read, removed."""
        text = f"{self.name} {number}"
        one = self.create(number, f"echo out {text}; echo err {text} >&2; exit 7")
        stream = self.hijack(f"/containers/{one}/attach?stream=1&stdout=1&stderr=1")
        self.ask("POST", f"/containers/{one}/start", expect=(204,))
        self.expect_output(self.output_of(stream), f"out {text}\n", f"err {text}\n")
        code = self.ask("POST", f"/containers/{one}/wait").json()["StatusCode"]
        if code != 7:
            raise Failed(f"exit code {code} instead of 7")
        log = self.ask("GET", f"/containers/{one}/logs?stdout=1&stderr=1").body
        if sorted(api.frames(log)) != [(1, f"out {text}\n".encode()), (2, f"err {text}\n".encode())]:
            raise Failed(f"the log holds {log!r}")
        self.ask("DELETE", f"/containers/{one}?v=1", expect=(204,))
        return one

    def long_life(self, number):
        """Execs in a container that runs, streams that the client leaves, then its end in one of several ways."""
        text = f"{self.name} {number}"
        one = self.create(number, "trap 'exit 3' TERM; echo up; while :; do sleep 0.5; done")
        self.ask("POST", f"/containers/{one}/start", expect=(204,))
        for turn in range(self.random.randint(1, 4)):
            body = {"Cmd": ["sh", "-c", f"echo exec {text} {turn}; exit {turn}"], "AttachStdout": True, "AttachStderr": True}
            made = self.ask("POST", f"/containers/{one}/exec", body, (201,)).json()["Id"]
            stream = self.hijack(f"/exec/{made}/start", b'{"Detach":false,"Tty":false}')
            if self.random.random() < 0.2:
                stream.close()
                self.count("execs left")
                continue
            self.expect_output(self.output_of(stream), f"exec {text} {turn}\n", "")
            state = self.ask("GET", f"/exec/{made}/json").json()
            if state["Running"] or state["ExitCode"] != turn:
                raise Failed(f"exec ended with {state['ExitCode']} instead of {turn}, running: {state['Running']}")
            self.count("execs")
        if self.random.random() < 0.3:
            left = self.hijack(f"/containers/{one}/attach?stream=1&stdout=1&stdin=1")
            left.close()
            self.count("attachments left")
        state = self.ask("GET", f"/containers/{one}/json").json()["State"]
        if state["Status"] != "running":
            raise Failed(f"it should run, and is {state}")
        # Before its trap is set the first process of a container gets no SIGTERM at all: it says when that is done.
        while b"up\n" not in self.ask("GET", f"/containers/{one}/logs?stdout=1").body:
            time.sleep(0.1)
        ways = {"removed while running": lambda: None,
                "stopped": lambda: self.ask("POST", f"/containers/{one}/stop?t=60", expect=(204,)),
                "killed": lambda: self.ask("POST", f"/containers/{one}/kill", expect=(204,))}
        way = self.random.choice(sorted(ways))
        ways[way]()
        if way != "removed while running":
            code = self.ask("POST", f"/containers/{one}/wait").json()["StatusCode"]
            if code != {"stopped": 3, "killed": 137}[way]:
                raise Failed(f"{way}: exit code {code}")
        self.count(way)
        self.ask("DELETE", f"/containers/{one}?force=1&v=1", expect=(204,))
        return one

    def run(self):
        number = 0
        while time.monotonic() < self.end and len(self.failures) < 5:
            number += 1
            try:
                life = self.short_life if self.random.random() < 0.5 else self.long_life
                one = life(number)
                self.ask("GET", f"/containers/{one}/json", expect=(404,))
                self.count("lives")
            except (Failed, OSError, ValueError, KeyError) as error:
                self.failures.append(f"{self.name} {number}: {error} {traceback.format_exc().splitlines()[-3].strip()}")
                self.connection = None
        if self.connection:
            self.connection.close()


def main():
    socket, clients, seconds, number = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    end = time.monotonic() + seconds
    made = [Client(socket, f"c{number}x{index}", end) for index in range(clients)]
    threads = [threading.Thread(target=client.run) for client in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = {}
    for client in made:
        for what, count in client.counts.items():
            total[what] = total.get(what, 0) + count
    print(json.dumps({"counts": total, "failures": [text for client in made for text in client.failures][:20]}))


if __name__ == "__main__":
    main()
