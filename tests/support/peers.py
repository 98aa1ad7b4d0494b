"""Debian's dockerd, containerd and podman, each private: their own folders, sockets, mount and network namespaces."""

import json
import os
import pathlib
import signal
import subprocess
import tempfile
import uuid

from .instance import cgroup_folders, remove_tree, wait_until


def end_process(process, timeout_s=20):
    """Asks a process to end, and kills it when it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Private:
    """A temporary folder, a network namespace, and a process that holds a private mount namespace.

    isolated=False is for a caller that lives in such namespaces already (the benchmark): commands run as they are.
    """

    isolated = True

    def __init__(self, kind):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"hull-{kind}-", dir="/tmp"))
        self.cgroups_before = set(cgroup_folders())
        if not self.isolated:
            return
        self.netns = f"hull-p-{uuid.uuid4().hex[:8]}"
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        # Daemons leave mounts when they are killed; in this namespace they vanish with it. /run is the namespace's own,
        # because these programs also keep fixed paths there.
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c",
             "mount -t tmpfs tmpfs /run && mkdir -p /var/lib/cni && mount -t tmpfs tmpfs /var/lib/cni && echo ready && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline().strip() == "ready"
        self.netns_fd = os.open(f"/run/netns/{self.netns}", os.O_RDONLY)
        self.run(["ip", "link", "set", "lo", "up"])

    def enter(self):
        """The prefix of a command that shall run inside. The network namespace is entered by descriptor, because
        /run/netns is hidden inside."""
        if not self.isolated:
            return []
        return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self.netns_fd}", f"--mount=/proc/{self.holder.pid}/ns/mnt"]

    def command(self, command):
        return [*self.enter(), *map(str, command)]

    def run(self, command, check=True, **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(self.command(command), capture_output=True, text=True, **more)
        if check:
            assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def close(self):
        if self.isolated:
            self.close_namespaces()
        for path in cgroup_folders():
            if path not in self.cgroups_before and any(word in path for word in ("docker", "libpod", "default/", "ctr-")):
                try:
                    os.rmdir(path)
                except OSError:
                    pass
        remove_tree(self.folder)

    def close_namespaces(self):
        mine = os.stat(f"/proc/{self.holder.pid}/ns/mnt").st_ino
        network = os.fstat(self.netns_fd).st_ino
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.members(mine, network):
                try:
                    os.kill(pid, signal_number)
                except ProcessLookupError:
                    pass
            try:
                wait_until(lambda: not self.members(mine, network), "the processes of a private daemon to end", 5)
                break
            except AssertionError:
                continue
        self.holder.stdin.close()
        self.holder.wait()
        os.close(self.netns_fd)
        subprocess.run(["ip", "netns", "del", self.netns], capture_output=True)

    def members(self, mount_namespace, network_namespace):
        """Processes in our mount or network namespace, or with our folder mounted (their containers)."""
        found = []
        own = os.stat("/proc/self/ns/mnt").st_ino
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) in (os.getpid(), self.holder.pid):
                continue
            try:
                mount = os.stat(f"/proc/{entry}/ns/mnt").st_ino
                ours = mount == mount_namespace or os.stat(f"/proc/{entry}/ns/net").st_ino == network_namespace
                if not ours and mount != own:
                    ours = os.fsencode(self.folder) in pathlib.Path(f"/proc/{entry}/mountinfo").read_bytes()
                if ours:
                    found.append(int(entry))
            except OSError:
                continue
        return found


class Docker(Private):
    """dockerd with data, sockets and bridge of its own. runtimes: {name: path of an OCI runtime}."""

    def __init__(self, runtimes=None, insecure=()):
        super().__init__("docker")
        self.socket = self.folder / "docker.sock"
        command = ["dockerd", "--data-root", self.folder / "data", "--exec-root", self.folder / "exec",
                   "--pidfile", self.folder / "pid", "-H", f"unix://{self.socket}",
                   "--config-file", self.folder / "daemon.json", "--log-level", "warn"]
        (self.folder / "daemon.json").write_text("{}")
        for name, path in (runtimes or {}).items():
            command += ["--add-runtime", f"{name}={path}"]
        for registry in insecure:
            command += ["--insecure-registry", registry]
        self.log = open(self.folder / "log", "wb")
        self.daemon = subprocess.Popen(self.command(command), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_until(lambda: self.daemon.poll() is not None or self.docker("version", check=False).returncode == 0,
                   "dockerd", 60)
        if self.daemon.poll() is not None:
            raise RuntimeError("dockerd did not start: " + self.read_log()[-2000:])

    def read_log(self):
        return (self.folder / "log").read_text(errors="replace")

    def docker_command(self, *arguments):
        client = "/usr/bin/docker" if os.path.exists("/usr/bin/docker") else "docker"
        return self.command([client, "-H", f"unix://{self.socket}", *arguments])

    def docker(self, *arguments, check=True, timeout=120, **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(self.docker_command(*arguments), capture_output=True, text=True, timeout=timeout, **more)
        if check:
            assert done.returncode == 0, (f"docker {' '.join(map(str, arguments))}: {done.returncode}\n"
                                          f"{done.stdout}{done.stderr}\n{self.read_log()[-3000:]}")
        return done

    def spec_of(self, identifier):
        """The config.json that dockerd generated for a running container."""
        base = self.folder / "exec/containerd/daemon/io.containerd.runtime.v2.task/moby"
        return json.loads((base / identifier / "config.json").read_text())

    def close(self):
        left = self.docker("ps", "-aq", check=False).stdout.split()
        if left:
            self.docker("rm", "-f", *left, check=False)
        end_process(self.daemon)
        self.log.close()
        super().close()


class Containerd(Private):
    """containerd with state of its own; ctr() is its command line."""

    def __init__(self):
        super().__init__("containerd")
        (self.folder / "config.toml").write_text(
            f'version = 2\nroot = "{self.folder}/root"\nstate = "{self.folder}/state"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\n  address = "{self.folder}/containerd.sock"\n[ttrpc]\n  address = "{self.folder}/ttrpc.sock"\n')
        self.log = open(self.folder / "log", "wb")
        self.daemon = subprocess.Popen(self.command(["containerd", "--config", self.folder / "config.toml"]),
                                       stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_until(lambda: self.daemon.poll() is not None or self.ctr("version", check=False).returncode == 0,
                   "containerd", 60)
        if self.daemon.poll() is not None:
            raise RuntimeError("containerd did not start: " + (self.folder / "log").read_text()[-2000:])

    def ctr(self, *arguments, **more):
        return self.run(["ctr", "--address", self.folder / "containerd.sock", *arguments], **more)

    def close(self):
        end_process(self.daemon)
        self.log.close()
        super().close()


class Podman(Private):
    """podman with storage and state of its own; runtime: the OCI runtime that it shall use. With v1_only the unified
    hierarchy of a hybrid host is hidden, which crun refuses."""

    def __init__(self, runtime=None, v1_only=False):
        super().__init__("podman")
        if v1_only:
            self.run(["umount", "/sys/fs/cgroup/unified"], check=False)
        # podman's own default limits are above the hard limits of hosts without CAP_SYS_RESOURCE.
        (self.folder / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=8192:8192"]\n')
        self.options = ["--root", self.folder / "root", "--runroot", self.folder / "runroot", "--tmpdir",
                        self.folder / "tmp", "--cgroup-manager", "cgroupfs", "--events-backend", "file",
                        "--storage-driver", "overlay", "--log-level", "error"]
        if runtime:
            self.options += ["--runtime", runtime]

    def podman_command(self, *arguments):
        return self.command(["env", f"CONTAINERS_CONF={self.folder}/containers.conf", "podman", *self.options,
                             *arguments])

    def podman(self, *arguments, check=True, timeout=120, **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(self.podman_command(*arguments), capture_output=True, text=True, timeout=timeout, **more)
        if check:
            assert done.returncode == 0, (f"podman {' '.join(map(str, arguments))}: {done.returncode}\n"
                                          f"{done.stdout}{done.stderr}")
        return done

    def close(self):
        self.podman("rm", "--all", "--force", "--time", "0", check=False)
        super().close()
