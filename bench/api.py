"""The section "api": hulld beside dockerd with the same clients. `docker run`, requests a second on kept connections and on
fresh ones, memory at rest and with many workloads, processor use while nothing happens."""

import json
import os
import pathlib
import shutil
import subprocess
import time

import services
from measure import Case, measure
from support import peers
from support.api import Connection
from support.instance import wait_until

IMAGE = "busybox:latest"
RUN = ["run", "--rm", "--network", "none", IMAGE, "true"]


class DockerApart(peers.Docker):
    """In a network namespace of its own: its firewall drops what other engines' containers send each other."""

    isolated = True


class Hulld:
    """hulld on a socket of its own."""

    def __init__(self, setting):
        self.socket = setting.folder / "hulld.sock"
        self.process = subprocess.Popen([setting.bin / "hulld", "--host", f"unix://{self.socket}"],
                                        env=setting.hull_environment(), stdin=subprocess.DEVNULL)
        setting.closing.append(self.close)
        wait_until(self.socket.exists, "hulld listens")

    def close(self):
        self.process.terminate()
        self.process.wait()

    def processes(self):
        """hulld, the processes of its connections and those that wait for one; monitors are no part of it."""
        return [self.process.pid, *(pid for pid in children_of(self.process.pid) if name_of(pid).startswith("hulld-"))]

    def waiting(self):
        return sum(name_of(pid) == "hulld-idle" for pid in children_of(self.process.pid))


def children_of(pid):
    try:
        return [int(child) for task in os.listdir(f"/proc/{pid}/task")
                for child in pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    except OSError:
        return []


def name_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def daemons_of(docker):
    """dockerd's process and its containerd's. The shims of containers are none of them."""
    [dockerd] = [pid for pid in {docker.daemon.pid, *children_of(docker.daemon.pid)} if name_of(pid) == "dockerd"]
    return [dockerd, *(pid for pid in children_of(dockerd) if name_of(pid) == "containerd")]


def proportional_kib(pids):
    """Memory of these processes with what they share counted once."""
    total = 0
    for pid in pids:
        try:
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


def mib(kib):
    return f"{kib / 1024:.1f} MiB"


def docker_run(setting, socket, docker):
    client = shutil.which("docker")
    version = subprocess.run([client, "--version"], capture_output=True, text=True).stdout.split()[2].rstrip(",")
    environment = dict(os.environ, HOME=str(setting.folder), DOCKER_CLI_HINTS="false")
    cases = [Case("hulld", [client, "-H", f"unix://{socket}", *RUN], environment=environment),
             Case("dockerd", [client, "-H", f"unix://{docker.socket}", *RUN], environment=environment),
             Case("client alone", [client, "--version"], environment=environment),
             Case("hull run", [setting.bin / "hull", *RUN], environment=setting.hull_environment())]
    return f"docker run, client {version}", measure(cases, setting.runs(30), setting.warmup(3))


def fill(socket, count):
    """Containers made through the API; the id of the last one."""
    connection = Connection(str(socket), 120)
    body = {"Image": IMAGE, "Cmd": ["sleep", "100000"], "Env": ["A=1", "B=2"], "Labels": {"app": "web", "tier": "front"},
            "HostConfig": {"NetworkMode": "none"}}
    for _ in range(count):
        made = connection.ask("POST", "/v1.40/containers/create", body)
        if made.status != 201:
            raise RuntimeError(f"create: {made.status} {made.text}")
    identifier = made.json()["Id"]
    started = connection.ask("POST", f"/v1.40/containers/{identifier}/start")
    if started.status != 204:
        raise RuntimeError(f"start: {started.status} {started.text}")
    connection.close()
    return identifier


def load(program, socket, target, connections, seconds, pids, fresh=False):
    """What http_load measured, and the server's processor time for one request."""
    before = services.ticks(pids())
    done = subprocess.run([program, socket, target, str(connections), str(seconds), *(["new"] if fresh else [])],
                          capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode != 0:
        raise RuntimeError(f"{target}: {done.stderr.strip()}")
    result = json.loads(done.stdout)
    # Processes of connections that have ended are counted once their parent has waited for them.
    time.sleep(0.05)
    result["server_us"] = 1e6 * (services.ticks(pids()) - before) / services.TICK / result["requests"]
    return result


def describe(result):
    return (f"{result['rate']:,.0f} a second, median {result['median_us']:,.0f} us, 99th percentile {result['p99_us']:,.0f} us, "
            f"processor time of the server {result['server_us']:,.0f} us each, answer {result['bytes']:,} bytes, "
            f"client busy {100 * result['busy']:.0f} %")


def requests(setting, servers, count):
    program = setting.folder / "http_load"
    source = pathlib.Path(__file__).resolve().parent / "http_load.c"
    subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-o", program, source], check=True)
    ids = {name: fill(socket, count) for name, (socket, _) in servers.items()}
    works = [(f"list {count} containers", lambda _: "/v1.40/containers/json?all=1", 4, False),
             ("inspect one", lambda name: f"/v1.40/containers/{ids[name]}/json", 4, False),
             ("inspect one, a connection each", lambda name: f"/v1.40/containers/{ids[name]}/json", 4, True),
             ("ping, a connection each", lambda _: "/_ping", 4, True)]
    results = {}
    for work, target, connections, fresh in works:
        rounds = {name: [] for name in servers}
        for turn in range(1 if setting.smoke else 3):
            for name, (socket, pids) in sorted(servers.items(), reverse=turn % 2 == 1):
                rounds[name].append(load(program, socket, target(name), connections, 0.2 if setting.smoke else 5, pids, fresh))
        middle = {name: sorted(found, key=lambda one: one["rate"])[len(found) // 2] for name, found in rounds.items()}
        ratio = middle["hulld"]["rate"] / middle["dockerd"]["rate"]
        results[work] = {**{name: describe(found) for name, found in middle.items()},
                         "requests a second, hulld / dockerd": f"{ratio:.1f} (goal: at least 5)"
                         if "each" not in work else f"{ratio:.1f}"}
    return results


def asked_memory(hulld, count):
    """hulld's memory with two connections kept that have listed everything, as a dashboard's and a client's."""
    kept = [Connection(str(hulld.socket), 60) for _ in range(2)]
    for connection in kept:
        if len(connection.ask("GET", "/v1.40/containers/json?all=1").json()) < count:
            raise RuntimeError("not all containers are listed")
    # The connections' processes share most of what they have with their parent; all of them count.
    total = proportional_kib(hulld.processes())
    for connection in kept:
        connection.close()
    return total


def idle(setting, pids):
    seconds = 1 if setting.smoke else 60
    before, woken = services.ticks(pids), services.switches(pids)
    time.sleep(seconds)
    return f"{1000 * (services.ticks(pids) - before) / services.TICK:.0f} ms in {seconds} s, woken {services.switches(pids) - woken} times"


def api(setting):
    if not (setting.bin / "hulld").exists():
        return {"error": "hulld is not built"}
    count, running = (10, 3) if setting.smoke else (1000, 100)
    setting.hull("load", "-i", setting.archive())
    docker = setting.start(DockerApart)
    docker.docker("load", "-i", setting.archive())
    hulld = Hulld(setting)
    run_folder = setting.folder / "hull/run"
    wait_until(lambda: hulld.waiting() >= 3, "hulld's processes wait")
    at_rest = {"hulld": f"{mib(proportional_kib(hulld.processes()))} (goal: at most 15)",
               "dockerd and its containerd": mib(proportional_kib(daemons_of(docker)))}

    name, timed = docker_run(setting, hulld.socket, docker)
    results = {"docker run": timed, "the client": name}
    servers = {"hulld": (hulld.socket, hulld.processes), "dockerd": (docker.socket, lambda: daemons_of(docker))}
    results.update(requests(setting, servers, count))
    results["memory at rest"] = at_rest
    results[f"memory with {count} containers"] = {
        "hulld, two connections that listed all": f"{mib(asked_memory(hulld, count))} (goal: at most 40)",
        "dockerd and its containerd": mib(proportional_kib(daemons_of(docker)))}

    identifiers = setting.hull("ps", "-aq").stdout.split()
    setting.hull("start", *identifiers[:running])
    monitors = services.monitors(run_folder)
    # The start's clients are gone; what is left waits.
    time.sleep(0 if setting.smoke else 2)
    results["idle"] = {f"hulld and {len(monitors)} monitors": idle(setting, [*hulld.processes(), *monitors])
                       + " (goal: none measurable)", "dockerd and its containerd": idle(setting, daemons_of(docker))}
    return results
