"""The sections of the benchmark; each runs in a process of its own, inside mount and network namespaces of its own."""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import time

import api
import floor
import images
import machines
import nested
import services
import throughput
from images import bundles
from measure import Case, measure, memory_available, private_memory, processes_named
from support import peers
from support.instance import mounts_under, wait_until
from support.registry import Registry

LIMITS = ["--memory", "256m", "--cpus", "1", "--pids-limit", "200", "--ulimit", "nofile=1024:2048"]
IMAGE = "busybox:latest"


class Setting:
    """What the sections share: Hull's programs and environment, the peers (started when first asked for)."""

    def __init__(self, arguments, folder):
        self.bin, self.folder, self.smoke, self.extra_crun = arguments.bin, folder, arguments.smoke, arguments.crun
        self.asked_runs = arguments.runs
        peers.Private.isolated = False
        self.closing = []
        self.cache = pathlib.Path(images.HERE).parent / "build/bench"

    def runs(self, usual):
        return 1 if self.smoke else self.asked_runs or usual

    def warmup(self, usual=3):
        return 0 if self.smoke else usual

    def archive(self):
        path = self.folder / "busybox.tar"
        if not path.exists():
            bundles.docker_archive(self.folder, path)
        return path

    def hull_environment(self, name="hull"):
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "hull.toml").write_text("")
        return dict(os.environ, HULL_ROOT=str(folder / "data"), HULL_RUN=str(folder / "run"),
                    HULL_CONFIG=str(folder / "hull.toml"))

    def hull(self, *arguments, environment=None, check=True):
        done = subprocess.run([self.bin / "hull", *map(str, arguments)], env=environment or self.hull_environment(),
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
        if check and done.returncode != 0:
            raise RuntimeError(f"hull {' '.join(map(str, arguments))}: {done.returncode}: {done.stderr.strip()}")
        return done

    def has_hull(self):
        return (self.bin / "hull").exists()

    def start(self, kind, **options):
        peer = kind(**options)
        self.closing.append(peer.close)
        return peer

    def close(self):
        if self.has_hull() and (self.folder / "hull/data").exists():
            left = self.hull("ps", "-aq", check=False).stdout.split()
            for first in range(0, len(left), 100):
                self.hull("rm", "-f", *left[first : first + 100], check=False)
        for close in reversed(self.closing):
            close()
        for point in mounts_under(self.folder):
            subprocess.run(["umount", "-l", point], capture_output=True)


def docker_config(setting):
    """The config.json that dockerd generates for `docker run` with limits."""
    docker = setting.start(peers.Docker)
    docker.docker("load", "-i", setting.archive())
    identifier = docker.docker("run", "-d", "--network", "none", *LIMITS, IMAGE, "sleep", "1000").stdout.strip()
    spec = docker.spec_of(identifier)
    docker.docker("rm", "-f", identifier)
    setting.closing.pop()()
    return spec


def runtimes(setting):
    """[(name, program)] of the OCI runtimes that are here; extra cruns are named by their version."""
    found = []
    if (setting.bin / "hull-oci").exists():
        found.append(("hull-oci", str(setting.bin / "hull-oci")))
    for program in [*setting.extra_crun, shutil.which("crun"), shutil.which("runc", path="/usr/sbin:/usr/bin")]:
        if program:
            said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
            found.append((" ".join(said.splitlines()[0].replace("version ", "").split()[:2]), program))
    return found


def oci(setting):
    """`run` and `exec` of true under the config.json that Docker generates."""
    bundle, config = images.bench_bundle(setting.folder / "bundle", docker_config(setting))
    (bundle / "config.json").write_text(json.dumps(config))
    floor_program = floor.build(config, bundle, setting.folder / "floor")
    programs = runtimes(setting)

    cases = [Case("floor", [floor_program, "run"])]
    for name, program in programs:
        cases.append(Case(name, [program, "--root", setting.folder / f"state-{name.replace(' ', '-')}", "run", "--bundle",
                                 bundle, f"bench-{os.getpid()}"]))
    run = measure(cases, setting.runs(100), setting.warmup(5))

    # exec: one container of each runtime that sleeps. Each has a bundle and a cgroup of its own.
    keeper = subprocess.Popen([floor_program, "keep"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    kept = int(keeper.stdout.readline())
    keeper.wait()
    cases = [Case("floor", [floor_program, "exec", kept])]
    for name, program in programs:
        label = name.replace(" ", "-").replace(".", "-")
        own = setting.folder / f"bundle-{label}"
        shutil.copytree(bundle, own, symlinks=True)
        sleeping = json.loads(json.dumps(config))
        sleeping["process"]["args"] = ["sleep", "1000"]
        sleeping["linux"]["cgroupsPath"] = f"/hull-bench-{label}"
        (own / "config.json").write_text(json.dumps(sleeping))
        options = [program, "--root", setting.folder / f"state-exec-{label}"]
        done = subprocess.run([*options, "run", "--detach", "--bundle", own, label], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)
        if done.returncode == 0:
            setting.closing.append(lambda options=options, label=label: subprocess.run(
                [*options, "delete", "--force", label], capture_output=True))
        cases.append(Case(name, [*options, "exec", label, "true"]))
    results = measure(cases, setting.runs(100), setting.warmup(5))
    os.kill(kept, 9)
    wait_until(lambda: subprocess.run([floor_program, "remove"], capture_output=True).returncode == 0,
               "the floor's container to end")
    return {"run": run, "exec": results}


def engines(setting):
    """(Hull's environment or None, docker, podman), each with busybox loaded."""
    environment = None
    if setting.has_hull():
        environment = setting.hull_environment()
        setting.hull("load", "-i", setting.archive())
    docker = setting.start(peers.Docker)
    docker.docker("load", "-i", setting.archive())
    # crun refuses hybrid hosts, so podman gets runc where the host is one.
    hybrid = os.path.exists("/sys/fs/cgroup/unified/cgroup.procs")
    podman = setting.start(peers.Podman, runtime="/usr/sbin/runc" if hybrid else None)
    podman.podman("load", "-i", setting.archive())
    return environment, docker, podman


def engine(setting):
    """`run --rm` and `exec` of true, beside docker and podman."""
    environment, docker, podman = engines(setting)
    hull = setting.bin / "hull"
    results = {}
    for work, network, usual in (("run, no network", ["--network", "none"], 20), ("run, bridge", [], 15)):
        cases = [Case("docker", docker.docker_command("run", "--rm", *network, IMAGE, "true")),
                 Case("podman", podman.podman_command("run", "--rm", *network, IMAGE, "true"))]
        if environment:
            cases.insert(0, Case("hull", [hull, "run", "--rm", *network, IMAGE, "true"], environment=environment))
        results[work] = measure(cases, setting.runs(usual), setting.warmup(2))

    docker.docker("run", "-d", "--name", "stays", "--network", "none", IMAGE, "sleep", "10000")
    podman.podman("run", "-d", "--name", "stays", "--network", "none", IMAGE, "sleep", "10000")
    cases = [Case("docker", docker.docker_command("exec", "stays", "true")),
             Case("podman", podman.podman_command("exec", "stays", "true"))]
    if environment:
        setting.hull("run", "-d", "--name", "stays", "--network", "none", IMAGE, "sleep", "10000")
        cases.insert(0, Case("hull", [hull, "exec", "stays", "true"], environment=environment))
    results["exec"] = measure(cases, setting.runs(30), setting.warmup(2))
    return results


def memory(setting):
    """Private memory of the process that stays with each running container, and of the daemons."""
    environment, docker, podman = engines(setting)
    before = set(processes_named("hull-monitor", "conmon", "containerd-shim-runc-v2"))
    if environment:
        setting.hull("run", "-d", "--network", "none", IMAGE, "sleep", "10000")
    docker.docker("run", "-d", "--network", "none", IMAGE, "sleep", "10000")
    podman.podman("run", "-d", "--network", "none", IMAGE, "sleep", "10000")
    each = {name: private_memory(pid) for pid, name in
            processes_named("hull-monitor", "conmon", "containerd-shim-runc-v2").items() if pid not in before}
    daemons = {pid: name for pid, name in processes_named("dockerd", "containerd").items()}
    own = sum(private_memory(pid) for pid in daemons if str(docker.folder) in pathlib.Path(
        f"/proc/{pid}/cmdline").read_text())
    return {"private memory for each running container": {name: f"{kib} KiB" for name, kib in sorted(each.items())},
            "goal for hull-monitor": "at most 1024 KiB",
            "dockerd and its containerd at rest": f"{own // 1024} MiB"}


def pull(setting):
    """A 4-layer image from docker-registry on loopback until it can run, and igzip of the same layers into files."""
    size = (1 << 20) if setting.smoke else images.LAYER_BYTES
    layout, unpacked, files = images.make_big_layout(setting.cache / f"big-{size >> 20}/layout", size)
    registry = setting.start(Registry)
    reference = registry.push_layout(layout, "big:latest", "big:latest")
    layers = images.gzip_layers(layout)
    docker = setting.start(peers.Docker, insecure=[registry.host])
    podman = setting.start(peers.Podman, runtime="/usr/sbin/runc")
    scratch = setting.folder / "scratch"

    def igzip():
        scratch.mkdir(exist_ok=True)
        waiting, running = list(layers), []
        while waiting or running:
            while waiting and len(running) < 2:
                layer = waiting.pop(0)
                with open(scratch / layer.name, "wb") as output:
                    running.append(subprocess.Popen(["igzip", "-dc", layer], stdout=output))
            running.pop(0).wait()

    def clear(*folders):
        def work():
            for folder in folders:
                for point in mounts_under(folder):
                    subprocess.run(["umount", "-l", point], capture_output=True)
                subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)
            os.sync()
        return work

    cases = []
    if setting.has_hull():
        environment = setting.hull_environment("pulling")
        cases.append(Case("hull", [setting.bin / "hull", "pull", "-q", reference], environment=environment,
                          before=clear(environment["HULL_ROOT"], environment["HULL_RUN"])))
    cases += [
        Case("igzip", None, timed=igzip, before=clear(scratch)),
        Case("docker", docker.docker_command("pull", "-q", reference),
             before=lambda: (docker.docker("rmi", "-f", reference, check=False), os.sync())),
        Case("podman", podman.podman_command("pull", "-q", "--tls-verify=false", reference),
             before=lambda: (podman.podman("rmi", "-f", reference, check=False), os.sync())),
    ]
    results = {"pull": measure(cases, setting.runs(4), setting.warmup(1))}
    if setting.has_hull() and "median" in results["pull"].get("hull", {}):
        ran = setting.hull("run", "--rm", "--network", "none", reference, environment=environment, check=False)
        results["the pulled image runs"] = "yes" if ran.returncode == 0 else f"error: {ran.stderr.strip()}"
        setting.hull("rmi", "-f", reference, environment=environment, check=False)
    results["the image"] = (f"{describe_layers(layers)} compressed, {unpacked >> 20} MiB unpacked, {files} files")
    return results


def describe_layers(layers):
    return f"{len(layers)} layers, {sum(path.stat().st_size for path in layers) >> 20} MiB"


def many(setting):
    """Containers started one after another and kept running: does the last one start as fast as the first?"""
    if not setting.has_hull():
        return {"error": "hull is not built"}
    count = 20 if setting.smoke else 1000
    environment = setting.hull_environment()
    setting.hull("load", "-i", setting.archive())
    setting.hull("run", "--rm", "--network", "none", IMAGE, "true")
    results = {}
    for network in ("none", "bridge"):
        before, seconds = memory_available(), []
        begin = time.perf_counter()
        for _ in range(count):
            case = Case("start", [setting.bin / "hull", "run", "-d", "--network", network, IMAGE, "sleep", "100000"],
                        environment=environment)
            case.run_once(True)
            seconds += case.seconds
        took = time.perf_counter() - begin
        used = (before - memory_available()) / 1024
        edge = max(1, count // 20)
        first, last = (1000 * statistics.median(part) for part in (seconds[:edge], seconds[-edge:]))
        running = len(setting.hull("ps", "-q").stdout.split())
        results[f"{count} containers, network {network}"] = {
            f"first {edge}, median": f"{first:.1f} ms", f"last {edge}, median": f"{last:.1f} ms",
            "last / first": f"{last / first:.2f} (goal: at most 1.3)", "containers per second": f"{count / took:.1f}",
            "memory used": f"{used:.0f} MiB (goal: 2048 is enough)", "running at the end": running}
        listed = time.perf_counter()
        setting.hull("ps")
        results[f"{count} containers, network {network}"]["hull ps"] = f"{1000 * (time.perf_counter() - listed):.1f} ms"
        removing = time.perf_counter()
        left = setting.hull("ps", "-aq").stdout.split()
        for first_one in range(0, len(left), 100):
            setting.hull("rm", "-f", *left[first_one : first_one + 100])
        results[f"{count} containers, network {network}"]["all removed in"] = f"{time.perf_counter() - removing:.1f} s"
    return results


APPLICATION = """
services:
  store:
    image: busybox
    command: sh -c 'echo 7 > /tmp/index.html; exec httpd -f -p 6000 -h /tmp'
    stop_signal: SIGKILL
    healthcheck: {test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1:6000/"], interval: 100ms, timeout: 5s, retries: 100}
  app:
    image: busybox
    command: sh -c 'echo page > /tmp/index.html; exec httpd -f -p 80 -h /tmp'
    stop_signal: SIGKILL
    healthcheck: {test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1/"], interval: 100ms, timeout: 5s, retries: 100}
    depends_on: {store: {condition: service_healthy}}
  client:
    image: busybox
    command: sleep 1000
    stop_signal: SIGKILL
    healthcheck: {test: [CMD, wget, -q, -O, /dev/null, "http://app/"], interval: 100ms, timeout: 5s, retries: 100}
    depends_on: {app: {condition: service_healthy}}
"""


def compose(setting):
    """An application of three services from loaded images until the last one is healthy, and down again."""
    folder = setting.folder / "application"
    folder.mkdir()
    (folder / "docker-compose.yml").write_text(APPLICATION)
    # What waits for the last service, for docker-compose 1.29, which has no --wait.
    (folder / "healthy.yml").write_text("services: {done: {image: busybox, command: 'true', "
                                        "depends_on: {client: {condition: service_healthy}}}}\n")
    up, down = [], []
    if setting.has_hull():
        ours = setting.hull_environment()
        setting.hull("load", "-i", setting.archive())
        program = [setting.bin / "hull", "compose", "-f", folder / "docker-compose.yml"]

        def hull_down():
            subprocess.run([*program, "down", "-t", "0"], env=ours, capture_output=True, check=True)

        def hull_up():
            subprocess.run([*program, "up", "-d"], env=ours, capture_output=True, check=True)

        up.append(Case("hull compose", [*program, "up", "-d", "--wait"], after=hull_down, environment=ours))
        down.append(Case("hull compose", [*program, "down", "-t", "0"], before=hull_up, environment=ours))
    if shutil.which("docker-compose"):
        docker = setting.start(api.DockerApart)
        docker.docker("load", "-i", setting.archive())
        theirs = dict(os.environ, DOCKER_HOST=f"unix://{docker.socket}", COMPOSE_PROJECT_NAME="application")
        plain = ["docker-compose", "-f", str(folder / "docker-compose.yml")]
        waiting = [*plain, "-f", str(folder / "healthy.yml")]

        def docker_down():
            subprocess.run([*waiting, "down", "-t", "0"], env=theirs, capture_output=True, check=True)

        def docker_up():
            subprocess.run([*plain, "up", "-d"], env=theirs, capture_output=True, check=True)

        up.append(Case("docker-compose", [*waiting, "up", "-d"], after=docker_down, environment=theirs))
        down.append(Case("docker-compose", [*plain, "down", "-t", "0"], before=docker_up, environment=theirs))
    return {"up until healthy": measure(up, setting.runs(10), setting.warmup(1)),
            "down": measure(down, setting.runs(10), setting.warmup(1))}


def programs(setting):
    """How fast the command line answers, and how large the programs are, stripped."""
    if not setting.has_hull():
        return {"error": "hull is not built"}
    results = {"start": measure([Case("hull version", [setting.bin / "hull", "version"],
                                      environment=setting.hull_environment())], setting.runs(100), setting.warmup(5))}
    sizes = {}
    for name in ("hull", "hull-oci", "hull-monitor", "hull-images", "hull-vmm"):
        if (setting.bin / name).exists():
            stripped = setting.folder / f"stripped-{name}"
            subprocess.run(["strip", "-o", stripped, setting.bin / name], check=True)
            sizes[name] = f"{stripped.stat().st_size / 1024:.0f} KiB"
    results["size, stripped"] = sizes
    results["goals"] = "hull version under 3 ms, hull-monitor under 1024 KiB, hull-vmm under 2048 KiB"
    return results


ALL = {"oci": oci, "engine": engine, "memory": memory, "pull": pull, "many": many, "programs": programs, "compose": compose,
       "api": api.api, "vm": machines.vm, "bed": nested.bed,
       "throughput": throughput.throughput, "services": services.services}
