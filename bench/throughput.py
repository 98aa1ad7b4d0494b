"""The section "throughput": TCP between two containers on a bridge, and from outside to a published port, with iperf3 in
the network namespaces of Hull's and of Docker's containers. Engines take turns; medians count."""

import json
import shutil
import statistics
import subprocess
import time

from support import peers

PORT = 5201
OUTSIDE = "hull-bench-outside"


def in_namespace(pid, *command):
    return ["nsenter", "-t", str(pid), "-n", *map(str, command)]


def rate(client, server_pid, address, port, seconds):
    """(Gbit/s of one connection, Gbit for each second of processor time at both ends together); `client` is the command
    that enters the client's namespace. What else the machine does touches the second number less."""
    server = subprocess.Popen(in_namespace(server_pid, "iperf3", "-s", "-1", "-p", PORT), stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):  # the server has no way to say that it listens
            done = subprocess.run([*client, "iperf3", "-c", address, "-p", str(port), "-t", str(seconds), "-J"],
                                  capture_output=True, text=True)
            said = json.loads(done.stdout)
            if "error" not in said:
                busy = said["end"]["cpu_utilization_percent"]
                gbits = said["end"]["sum_received"]["bits_per_second"] / 1e9
                return gbits, gbits / (busy["host_total"] + busy["remote_total"]) * 100
            if "refused" not in said["error"]:
                raise RuntimeError(said["error"])
            time.sleep(0.02)
        raise RuntimeError("iperf3 never listened")
    finally:
        server.kill()
        server.wait()


class Pair:
    """Two containers of one engine: a server whose port is published, and a client."""

    def __init__(self, name, command, published):
        self.name, self.published = name, published
        self.ids = [command("run", "-d", *flags, "busybox:latest", "sleep", "100000").stdout.strip()
                    for flags in (["-p", f"{published}:{PORT}"], [])]
        shown = [json.loads(command("inspect", one).stdout)[0] for one in self.ids]
        self.server, self.client = (one["State"]["Pid"] for one in shown)
        networks = shown[0]["NetworkSettings"]["Networks"]
        self.address = networks["bridge"]["IPAddress"]
        self.remove = lambda: command("rm", "-f", *self.ids)


def throughput(setting):
    if not setting.has_hull() or not shutil.which("iperf3"):
        return {"error": "hull is not built, or iperf3 is not installed"}
    setting.hull("load", "-i", setting.archive())
    environment = setting.hull_environment()
    pairs = [Pair("hull", lambda *words: setting.hull(*words, environment=environment), 15201)]
    if shutil.which("dockerd"):
        docker = setting.start(peers.Docker)
        docker.docker("load", "-i", setting.archive())
        pairs.append(Pair("docker", docker.docker, 15202))
    subprocess.run(["ip", "netns", "add", OUTSIDE], check=True)
    setting.closing.append(lambda: subprocess.run(["ip", "netns", "del", OUTSIDE], capture_output=True))
    outside = ["nsenter", f"--net=/run/netns/{OUTSIDE}"]
    for command in (["ip", "link", "add", "bench0", "type", "veth", "peer", "name", "eth0", "netns", OUTSIDE],
                    ["ip", "address", "add", "198.51.100.1/24", "dev", "bench0"], ["ip", "link", "set", "bench0", "up"],
                    [*outside, "ip", "address", "add", "198.51.100.2/24", "dev", "eth0"],
                    [*outside, "ip", "link", "set", "eth0", "up"],
                    [*outside, "ip", "route", "add", "default", "via", "198.51.100.1"]):
        subprocess.run(command, check=True)
    seconds, rounds = (1, 1) if setting.smoke else (3, setting.runs(5))
    rates = {}
    for number in range(rounds):
        for pair in pairs[number % len(pairs):] + pairs[:number % len(pairs)]:
            inside = in_namespace(pair.client)
            rates.setdefault(("bridge", pair.name), []).append(rate(inside, pair.server, pair.address, PORT, seconds))
            rates.setdefault(("published port", pair.name), []).append(
                rate(outside, pair.server, "198.51.100.1", pair.published, seconds))
    for pair in pairs:
        pair.remove()
    results = {}
    for work in ("bridge", "published port"):
        medians = {pair.name: [statistics.median(values) for values in zip(*rates[work, pair.name])] for pair in pairs}
        shown = {name: f"{speed:.1f} Gbit/s, {economy:.1f} Gbit for a second of processor time"
                 for name, (speed, economy) in medians.items()}
        if "docker" in medians:
            faster, thriftier = (ours / theirs for ours, theirs in zip(medians["hull"], medians["docker"]))
            shown["hull / docker"] = f"{faster:.2f} (goal: at least 1); {thriftier:.2f} for processor time"
        results[work] = shown
    return results
