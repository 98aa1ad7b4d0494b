"""An instance whose commands an ordinary user gives, on a host of its own: accounts, ranges of ids, devices, a network."""

import os
import pathlib
import signal
import subprocess

from support.instance import BIN, Instance, wait_until

UID = 4242
FIRST_SUBID, SUBIDS = 200000, 65536

UNIFIED = "/sys/fs/cgroup" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "/sys/fs/cgroup/unified"


def hierarchies():
    """Where control groups are made: every hierarchy with controllers, and the one of version 2."""
    if UNIFIED == "/sys/fs/cgroup":
        return [UNIFIED]
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        rows = [line.split() for line in mounts]
    return [row[1] for row in rows if row[2] in ("cgroup", "cgroup2") and "name=" not in row[3]]


PREPARE = """
set -e
mount --make-rprivate /
for file in passwd group subuid subgid; do mount --bind "$1/$file" /etc/$file; done
if [ "$2" = forbidden ]; then
  echo 0 > /proc/sys/user/max_user_namespaces
else
  mknod -m 666 "$1/tun" c 10 200
  mount --bind "$1/tun" /dev/net/tun
fi
echo ready
exec sleep infinity
"""


class OrdinaryInstance(Instance):
    """`ranges`: the user has lines in /etc/subuid and /etc/subgid; `namespaces`: may make user namespaces (where not,
    the host is a user namespace itself, whose limit is 0); `path`: where programs are looked for;
    `delegated`: control groups that an administrator gave the user: "named" in hull.toml, in every hierarchy, or
    "own", the one of the v2 hierarchy in which the user's commands run; "systemd": the test sees to it."""

    def __init__(self, settings="", ranges=True, namespaces=True, path=None, delegated=""):
        if delegated in ("own", "systemd"):
            settings += 'cgroup_parent = "hull"\n'
        super().__init__(settings)
        self.login = None
        if delegated in ("own", "named"):
            self.delegate(delegated)
        if path:
            self.environment["PATH"] = path
        host = self.folder / "host"
        host.mkdir()
        account = f"sailor:x:{UID}:"
        passwd, group = pathlib.Path("/etc/passwd").read_text(), pathlib.Path("/etc/group").read_text()
        (host / "passwd").write_text(passwd + f"{account}{UID}::{self.folder}:/bin/sh\n")
        (host / "group").write_text(group + account + "\n")
        for name in ("subuid", "subgid"):
            pathlib.Path("/etc", name).touch()
            (host / name).write_text(f"sailor:{FIRST_SUBID}:{SUBIDS}\n" if ranges else "")
        # A way out, so that pasta has something to copy; nothing answers there.
        for command in (["ip", "link", "add", "out0", "type", "veth", "peer", "name", "out1"],
                        ["ip", "address", "add", "192.0.2.10/24", "dev", "out0"],
                        ["ip", "link", "set", "out0", "up"], ["ip", "link", "set", "out1", "up"],
                        ["ip", "route", "add", "default", "via", "192.0.2.1"]):
            self.in_netns(command)
        os.chown(self.folder, UID, UID)
        os.chmod(self.config, 0o644)
        enter, self.walled = [], None
        if not namespaces:
            self.walled = subprocess.Popen(["unshare", "--user", "sleep", "infinity"])
            own = pathlib.Path("/proc", str(self.walled.pid))
            wait_until(lambda: os.readlink(own / "ns/user") != os.readlink("/proc/self/ns/user"), "the namespace")
            for name in ("uid_map", "gid_map"):
                (own / name).write_text("0 0 300000\n")
            enter = ["nsenter", f"--user={own}/ns/user"]
        self.host = subprocess.Popen([*enter, "unshare", "--mount", "sh", "-c", PREPARE, "sh", str(host),
                                      "allowed" if namespaces else "forbidden"], stdout=subprocess.PIPE, text=True)
        assert self.host.stdout.readline() == "ready\n"

    def delegate(self, how):
        """As `mkdir` and `chown -R` below /sys/fs/cgroup do it."""
        for top in ([UNIFIED] if how == "own" else hierarchies()):
            group = pathlib.Path(top, self.cgroup_parent[1:])
            group.mkdir()
            if (group / "cpuset.cpus").exists() and top != UNIFIED:
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (group / name).write_text(pathlib.Path(top, name).read_text())
            elif top == UNIFIED:  # on a host with version 2 alone
                names = pathlib.Path(top, "cgroup.controllers").read_text().split()
                wanted = [name for name in names if name in ("cpu", "cpuset", "io", "memory", "pids")]
                pathlib.Path(top, "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))
            if top == UNIFIED:
                self.login = group / "login"
                self.login.mkdir()
            subprocess.run(["chown", "-R", str(UID), group], check=True)

    def command(self, *arguments, program="hull"):
        words = [str(word) for word in arguments]
        enter = ["/bin/sh", "-c", 'echo 0 > "$0/cgroup.procs"; exec "$@"', str(self.login)] if self.login else []
        own = [f"--user=/proc/{self.walled.pid}/ns/user"] if self.walled else []
        return [*enter, "/usr/bin/nsenter", *own, f"--mount=/proc/{self.host.pid}/ns/mnt", f"--net=/run/netns/{self.netns}",
                "/usr/bin/setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", str(BIN / program), *words]

    def keepers(self):
        """hull-rootless (both), pasta."""
        return {pid: line for pid, line in super().processes().items()
                if "hull-rootless" in line or line.startswith("pasta")}

    def processes(self):
        keepers = self.keepers()
        return {pid: line for pid, line in super().processes().items() if pid not in keepers}

    def close(self):
        super().close()
        for pid in self.keepers():  # they would end by themselves in a moment
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_until(lambda: not self.keepers(), "the keepers to end")
        for path in self.cgroups():  # those that the keepers were in; one that has just ended is in it for a moment
            wait_until(lambda path=path: subprocess.run(["rmdir", path], capture_output=True).returncode == 0, path)
        for process in filter(None, (self.host, self.walled)):
            process.kill()
            process.wait()
        self.host.stdout.close()
