"""A private Hull: data, run and configuration folders of its own, in a network namespace of its own."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import uuid

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILT = [SOURCE / "build" / preset for preset in ("release", "debug")]
BUILD = pathlib.Path(os.environ.get("HULL_BUILD") or next((b for b in BUILT if (b / "bin/hull").exists()), BUILT[0]))
BIN = pathlib.Path(os.environ.get("HULL_BIN", BUILD / "bin"))
ID = re.compile(r"[0-9a-f]{64}")


def wait_until(condition, what, timeout_s=10.0):
    """Polls until condition() is true and returns its value; fails the test after timeout_s."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {timeout_s} s for {what}"
        time.sleep(0.01)


def mounts_under(folder):
    """The mount points below a folder, innermost first."""
    prefix = str(folder).rstrip("/") + "/"
    points = []
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split(" ")[4].encode().decode("unicode_escape")
        if point.startswith(prefix):
            points.append(point)
    return points[::-1]


def settled_mounts():
    """The host's mount points, without those of instances that other tests make and remove meanwhile."""
    passing = ("/run/netns", "/tmp/hull-")
    return {point for point in mounts_under("/") if not point.startswith(passing)}


def remove_tree(folder):
    """Unmounts what is mounted below a folder, then removes it; never crosses into another file system."""
    for point in mounts_under(folder):
        subprocess.run(["umount", "-l", point], capture_output=True)
    if not mounts_under(folder):
        subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=False)


class Instance:
    def __init__(self, settings=""):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hull-t-", dir="/tmp"))
        self.root, self.run_folder, self.config = self.folder / "data", self.folder / "run", self.folder / "hull.toml"
        self.netns = f"hull-t-{uuid.uuid4().hex[:8]}"
        self.cgroup_parent = f"/{self.netns}"  # so that its cgroups can be told from those of other tests
        own = "" if "cgroup_parent" in settings else f'cgroup_parent = "{self.cgroup_parent}"\n'
        self.config.write_text(own + settings)
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        self.in_netns(["ip", "link", "set", "lo", "up"])
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "HULL_ROOT": str(self.root),
            "HULL_RUN": str(self.run_folder),
            "HULL_CONFIG": str(self.config),
        }
        self.ids = set()

    def command(self, *arguments, program="hull"):
        """The argument list that runs a Hull program in this instance (with self.environment)."""
        return ["nsenter", f"--net=/run/netns/{self.netns}", str(BIN / program), *map(str, arguments)]

    def in_netns(self, command, **more):
        """Runs a command in this instance's network namespace, where published ports and bridges are."""
        more.setdefault("check", True)
        return subprocess.run(["nsenter", f"--net=/run/netns/{self.netns}", *map(str, command)],
                              capture_output=True, text=True, **more)

    def hull(self, *arguments, check=True, timeout=60, program="hull", **more):
        """Runs hull and waits. With check a non-zero exit status fails the test and shows what was said."""
        if "input" not in more and "stdin" not in more:
            more["stdin"] = subprocess.DEVNULL
        more.setdefault("text", True)
        environment = dict(self.environment, **more.pop("environment", {}))
        done = subprocess.run(self.command(*arguments, program=program), capture_output=True, env=environment,
                              timeout=timeout, **more)
        self.note_ids()
        if check:
            assert done.returncode == 0, (
                f"hull {' '.join(map(str, arguments))}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, *arguments, program="hull", **more):
        """Starts hull in the background; the caller waits for it or kills it."""
        return subprocess.Popen(self.command(*arguments, program=program), env=self.environment, **more)

    def note_ids(self):
        """Remembers the ids of the workloads that are on disk, to recognise their cgroups later."""
        for folder in (self.root, self.run_folder):
            if folder.is_dir():
                for path in [folder, *folder.glob("*")]:
                    try:
                        self.ids.update(name for name in os.listdir(path) if ID.fullmatch(name))
                    except (FileNotFoundError, NotADirectoryError):
                        continue  # a run folder that goes meanwhile

    def cgroups(self):
        """The cgroups of this instance in every hierarchy, innermost first."""
        return [path for path in cgroup_folders() if self.cgroup_parent in path or self.ids & set(path.split("/"))]

    def processes(self):
        """Processes of this instance: programs with its HULL_ROOT, and whatever lives on its overlay mounts."""
        found = {}
        own_mounts = os.readlink("/proc/self/ns/mnt")
        overlay = b"dir=" + os.fsencode(self.folder)  # upperdir=, lowerdir=
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            process = pathlib.Path("/proc") / entry
            try:
                ours = b"HULL_ROOT=" + os.fsencode(self.root) in (process / "environ").read_bytes().split(b"\0")
                if not ours and os.readlink(process / "ns/mnt") != own_mounts:
                    ours = overlay in (process / "mountinfo").read_bytes()
                if ours:
                    found[int(entry)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it ended while we looked
        return found

    def close(self):
        """Ends and removes everything of this instance, also what a test left broken."""
        if (BIN / "hull").exists() and self.root.exists():
            try:
                left = self.hull("ps", "--all", "--quiet", "--no-trunc", check=False).stdout.split()
                if left:
                    self.hull("rm", "--force", "--volumes", *left, check=False)
            except (subprocess.TimeoutExpired, OSError):
                pass
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        end = time.monotonic() + 5
        while self.processes() and time.monotonic() < end:
            time.sleep(0.01)
        for path in self.cgroups():
            try:
                os.rmdir(path)
            except OSError:
                pass
        subprocess.run(["ip", "netns", "del", self.netns], capture_output=True)
        remove_tree(self.folder)


def cgroup_folders():
    """Every cgroup of every hierarchy, innermost first."""
    found = []
    for folder, _, _ in os.walk("/sys/fs/cgroup", topdown=False):
        found.append(folder)
    return found


def tree_listing(folder):
    if not os.path.isdir(folder):
        return set()
    return {os.path.relpath(os.path.join(where, name), folder)
            for where, folders, names in os.walk(folder) for name in folders + names}


class Leaks:
    """What an instance holds of the machine, counted before and after: Leaks(instance), work, .new()."""

    def __init__(self, instance):
        self.instance = instance
        self.before = self.count()

    def count(self):
        instance = self.instance
        links = instance.in_netns(["ip", "-o", "link"]).stdout
        addresses = instance.in_netns(["ip", "-o", "address"]).stdout
        rules = instance.in_netns(["nft", "list", "ruleset"], check=False).stdout
        workload_folders = {entry for entry in tree_listing(instance.root) | tree_listing(instance.run_folder)
                            if ID.search(entry) and not entry.startswith(("layers", "blobs", "content", "images"))}
        return {
            "mounts": set(mounts_under(instance.folder)),
            "processes": set(instance.processes().items()),
            "cgroups": set(instance.cgroups()),
            "links": {re.sub(r"^\d+: ", "", line).split(":")[0].split("@")[0] for line in links.splitlines()},
            "addresses": {" ".join(line.split()[1:4]) for line in addresses.splitlines()},
            "rules": {line.strip() for line in rules.splitlines() if re.search(r"dnat|dport|veth|elements", line)},
            "namespaces": {path.name for path in pathlib.Path("/run/netns").glob("*") if "hull-t-" not in path.name},
            "files": workload_folders,
            "temporary files": {name for name in os.listdir("/tmp") if name.startswith(("hull.", "hull-run"))},
        }

    def new(self, ignore=()):
        """{kind: what is there now and was not before}, empty kinds left out."""
        now = self.count()
        fresh = {kind: sorted(map(str, now[kind] - self.before[kind])) for kind in now if kind not in ignore}
        return {kind: items for kind, items in fresh.items() if items}


def which(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
