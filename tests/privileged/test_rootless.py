"""Hull as an ordinary user: what the user namespace is, ports, networks, names, and what is said when it can't be."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest
from support import images
from support.instance import wait_until
from support.ordinary_user import UID, UNIFIED, OrdinaryInstance


@contextlib.contextmanager
def instance_with_image(*settings, **options):
    made = OrdinaryInstance(*settings, **options)
    try:
        folder = made.folder / "image"
        folder.mkdir()
        images.load(made, folder)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def user():
    with instance_with_image('[registry."192.0.2.20:5000"]\ninsecure = true\n') as made:
        yield made


def test_root_inside_is_the_user_outside(user):
    ran = user.hull("run", "-d", "test", "sleep", "1000").stdout.strip()
    pid = int(user.hull("inspect", "--format", "{{.State.Pid}}", ran).stdout)
    assert re.search(rf"^Uid:\s+{UID}\b", open(f"/proc/{pid}/status").read(), re.M)
    maps = open(f"/proc/{pid}/uid_map").read().split()
    assert maps[:3] == ["0", str(UID), "1"]
    assert user.hull("exec", ran, "id", "-u").stdout == "0\n"
    assert any("sleep 1000" in row for row in user.hull("top", ran).stdout.splitlines())
    user.hull("rm", "-f", ran)


def test_nothing_has_more_rights_than_the_user(user):
    user.hull("ps")
    for pid in user.keepers():
        assert re.search(rf"^Uid:\s+{UID}\b", open(f"/proc/{pid}/status").read(), re.M)


def test_ports_are_the_hosts_and_go_with_the_workload(user):
    ran = user.hull("run", "-d", "-p", "127.0.0.1:8123:80", "-p", "8124:80", "test", "httpd", "-f", "-p", "80", "-h",
                    "/data").stdout.strip()
    ask = ["curl", "-s", "-m", "10"]
    assert user.in_netns([*ask, "http://127.0.0.1:8123/seed"]).stdout == "from the image\n"
    assert user.in_netns([*ask, "http://192.0.2.10:8124/seed"]).stdout == "from the image\n"
    assert user.in_netns([*ask, "http://192.0.2.10:8123/seed"], check=False).returncode == 7, "a loopback port stays one"
    taken = user.hull("run", "--rm", "-p", "127.0.0.1:8123:80", "test", "true", check=False)
    assert taken.returncode == 125 and "8123" in taken.stderr
    user.hull("rm", "-f", ran)
    closed = lambda: user.in_netns([*ask, "http://127.0.0.1:8123/"], check=False).returncode == 7  # noqa: E731
    wait_until(closed, "the port to close")


def test_a_port_of_the_hosts_programs_is_refused(user):
    server = subprocess.Popen(["nsenter", f"--net=/run/netns/{user.netns}", "socat", "TCP-LISTEN:8125,fork", "STDOUT"])
    try:
        wait_until(lambda: ":8125" in user.in_netns(["ss", "-ltn"]).stdout, "the server")
        done = user.hull("run", "--rm", "-p", "8125:80", "test", "true", check=False)
        assert done.returncode == 125 and "8125" in done.stderr, done.stderr
        low = user.hull("run", "--rm", "-p", "80:80", "test", "true", check=False)
        assert low.returncode == 125 and "ip_unprivileged_port_start" in low.stderr, low.stderr
    finally:
        server.kill()
        server.wait()


def test_networks_and_names(user):
    user.hull("network", "create", "mynet")
    ran = user.hull("run", "-d", "--name", "alice", "--network", "mynet", "test", "sleep", "1000").stdout.strip()
    asked = user.hull("run", "--rm", "--network", "mynet", "test", "nslookup", "alice").stdout
    assert "127.0.0.11" in asked and "Name:\talice" in asked, asked
    user.hull("run", "--rm", "--network", "mynet", "test", "ping", "-c", "1", "-W", "5", "alice")
    user.hull("rm", "-f", ran)
    user.hull("network", "rm", "mynet")


def test_whiteouts_and_the_writable_layer(user):
    ran = user.hull("run", "-d", "--name", "writer", "test", "sh", "-c",
                    "rm -r /data /home; mkdir /data; echo new > /data/file; sleep 1000").stdout.strip()
    wait_until(lambda: user.hull("exec", ran, "ls", "/data", check=False).stdout == "file\n", "the change")
    user.hull("restart", "-t", "0", ran)
    assert user.hull("exec", ran, "ls", "/").stdout.split().count("home") == 0
    user.hull("rm", "-f", ran)


@pytest.mark.parametrize("command", [["pause"], ["stats", "--no-stream"]])
def test_what_needs_a_control_group_says_so(user, command):
    ran = user.hull("run", "-d", "test", "sleep", "1000").stdout.strip()
    done = user.hull(*command, ran, check=False)
    assert done.returncode == 1 and "control group" in done.stderr and "chown" in done.stderr, done.stderr
    user.hull("rm", "-f", ran)


@pytest.mark.parametrize("limit", [["--memory", "64m"], ["--cpus", "1"], ["--pids-limit", "10"]])
def test_limits_are_refused_without_a_control_group(user, limit):
    done = user.hull("run", "--rm", *limit, "test", "true", check=False)
    assert done.returncode == 125 and "need a control group" in done.stderr and "chown" in done.stderr, done.stderr
    user.hull("create", "--name", "limited", "test", "true")
    done = user.hull("update", *limit, "limited", check=False)
    assert done.returncode == 1 and "need a control group" in done.stderr, done.stderr
    user.hull("rm", "limited")
    done = user.hull("run", "--rm", "--cgroup-parent", "mine", "test", "true", check=False)
    assert done.returncode == 125 and "control group of this user's own" in done.stderr, done.stderr


@pytest.fixture(scope="module", params=["own", "named"])
def delegated(request):
    """A user whom an administrator gave control groups: of version 2 around the shell, or named in hull.toml."""
    with instance_with_image(delegated=request.param) as made:
        yield made


def groups_of(user, workload):
    return [path for path in user.cgroups() if path.endswith("/" + workload)]


def test_pause_stats_and_exec_in_a_delegated_group(delegated):
    ran = delegated.hull("run", "-d", "test", "sh", "-c", "while :; do :; done").stdout.strip()
    groups = groups_of(delegated, ran)
    assert groups and all(os.stat(path).st_uid == UID for path in groups)
    pid = int(delegated.hull("inspect", "--format", "{{.State.Pid}}", ran).stdout)
    used = lambda: pathlib.Path("/proc", str(pid), "stat").read_text().rsplit(")", maxsplit=1)[1].split()[11]  # noqa: E731
    delegated.hull("pause", ran)
    assert delegated.hull("inspect", "--format", "{{.State.Status}}", ran).stdout == "paused\n"
    before = used()
    time.sleep(0.3)
    assert used() == before
    delegated.hull("unpause", ran)
    wait_until(lambda: used() != before, "it to go on")
    row = delegated.hull("stats", "--no-stream", "--format", "{{.CPUPerc}} {{.PIDs}}", ran).stdout.split()
    assert float(row[0].rstrip("%")) > 1 and row[1] == "1", row
    delegated.hull("exec", "-d", ran, "sleep", "1000")
    for path in groups:
        wait_until(lambda path=path: len(pathlib.Path(path, "cgroup.procs").read_text().split()) == 2, "both in " + path)
    assert len(delegated.hull("top", ran).stdout.splitlines()) == 3
    delegated.hull("rm", "-f", ran)
    assert not groups_of(delegated, ran)


def controllers(user):
    """What was given that can limit something."""
    names = user.hull("info", "--format", "{{.MemoryLimit}} {{.CpuCfsQuota}} {{.PidsLimit}}").stdout.split()
    return dict(zip(("memory", "cpu", "pids"), (name == "true" for name in names)))


@pytest.mark.parametrize("controller,limit,changed,file", [
    ("memory", ["--memory", "64m"], ["--memory", "80m"], "memory"),
    ("cpu", ["--cpus", "0.5"], ["--cpus", "0.25"], "cpu"),
    ("pids", ["--pids-limit", "10"], ["--pids-limit", "20"], "pids")])
def test_limits_hold_where_their_controller_was_given(delegated, controller, limit, changed, file):
    if not controllers(delegated)[controller]:
        done = delegated.hull("run", "--rm", *limit, "test", "true", check=False)
        assert done.returncode == 125 and f"with the controller {controller}" in done.stderr, done.stderr
        return
    ran = delegated.hull("run", "-d", *limit, "test", "sleep", "1000").stdout.strip()
    names = {"memory": ("memory.limit_in_bytes", "memory.max"), "cpu": ("cpu.cfs_quota_us", "cpu.max"),
             "pids": ("pids.max",)}[file]

    def value():
        found = [pathlib.Path(path, name).read_text().split()[0] for path in groups_of(delegated, ran) for name in names
                 if pathlib.Path(path, name).exists()]
        assert len(found) == 1, found
        return int(found[0])

    before, after = {"memory": (64 << 20, 80 << 20), "cpu": (50000, 25000), "pids": (10, 20)}[file]
    assert value() == before
    delegated.hull("update", *changed, *(["--memory-swap", "-1"] if file == "memory" else []), ran)
    assert value() == after
    delegated.hull("rm", "-f", ran)


def test_doctor_and_info_tell_of_delegated_groups(delegated):
    said = delegated.hull("doctor", check=False).stdout
    assert f"control groups are made in {delegated.cgroup_parent[1:]}" in said, said
    assert delegated.hull("info", "--format", "{{.CgroupDriver}}").stdout == "cgroupfs\n"


def test_a_group_of_somebody_elses_is_not_taken(delegated):
    ran = delegated.hull("run", "-d", "--cgroup-parent", "/", "test", "sleep", "1000", check=False)
    assert ran.returncode == 125 or all(delegated.cgroup_parent in path
                                        for path in groups_of(delegated, ran.stdout.strip())), ran.stderr
    if ran.returncode == 0:
        delegated.hull("rm", "-f", ran.stdout.strip())


class UsersSystemd:
    """The user's systemd as a host with control groups v2 alone has it, of a session whose group is not the user's.

    The host's own systemd, which would move processes out of the session, is not here: the user may write the one file
    that needs it."""

    def __init__(self, user):
        self.user = user
        self.top = pathlib.Path(UNIFIED, user.cgroup_parent[1:])
        of_user = self.top / f"user.slice/user-{UID}.slice"
        self.manager, self.session = of_user / f"user@{UID}.service", of_user / "session-1.scope"
        for folder in (self.manager, self.session):
            folder.mkdir(parents=True)
        subprocess.run(["chown", "-R", str(UID), self.manager, of_user / "cgroup.procs"], check=True)
        self.runtime = user.folder / "xdg"
        self.runtime.mkdir()
        os.chown(self.runtime, UID, UID)
        user.environment["XDG_RUNTIME_DIR"] = str(self.runtime)
        mounts = ("mount -t cgroup2 none /sys/fs/cgroup; mount -t tmpfs none /run/systemd; mkdir /run/systemd/system; "
                  "echo ready; exec sleep infinity")
        self.holder = subprocess.Popen(
            self.within(self.top, "nsenter", f"--mount=/proc/{user.host.pid}/ns/mnt", "unshare", "--cgroup", "sh", "-ec",
                        mounts), stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "ready\n"
        plain = user.command
        user.command = lambda *words, **more: self.within(self.session, "nsenter", f"--cgroup={self.namespace()}",
                                                          *plain(*words, **more))
        self.systemd = subprocess.Popen(
            self.within(self.manager, "nsenter", f"--mount=/proc/{user.host.pid}/ns/mnt",
                        f"--cgroup={self.namespace()}", "setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups",
                        "/lib/systemd/systemd", "--user"),
            env=user.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: (self.runtime / "systemd/private").exists(), "the user's systemd")

    @staticmethod
    def within(group, *command):
        return ["/bin/sh", "-c", 'echo 0 > "$0/cgroup.procs"; exec "$@"', str(group), *command]

    def namespace(self):
        return f"/proc/{self.holder.pid}/ns/cgroup"

    def close(self):
        self.systemd.terminate()
        for process in (self.systemd, self.holder):
            try:
                process.wait(5 if process is self.systemd else 0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.holder.stdout.close()


def test_a_scope_of_the_users_systemd():
    user = OrdinaryInstance(delegated="systemd")
    systemd = None
    try:
        systemd = UsersSystemd(user)
        folder = user.folder / "image"
        folder.mkdir()
        images.load(user, folder)
        scope = systemd.manager / "app.slice/hull.scope"
        assert not scope.exists()
        ran = user.hull("run", "-d", "test", "sleep", "1000").stdout.strip()
        assert (scope / "hull" / ran / "cgroup.procs").read_text().split()
        assert not (scope / "cgroup.procs").read_text(), "a group with processes hands no controllers down"
        assert (scope / "commands/cgroup.procs").read_text().split(), "its monitor"
        user.hull("pause", ran)
        assert user.hull("inspect", "--format", "{{.State.Status}}", ran).stdout == "paused\n"
        user.hull("unpause", ran)
        assert user.hull("exec", ran, "echo", "from the session").stdout == "from the session\n"
        other = user.hull("run", "-d", "--cgroup-parent", "mine", "test", "sleep", "1000").stdout.strip()
        assert (scope / "mine" / other).exists()
        assert "hull.scope" in user.hull("doctor", check=False).stdout.replace("\n", "").replace(" ", "")
        user.hull("rm", "-f", ran, other)
        wait_until(lambda: not scope.exists(), "the scope to end with its last process")
        assert user.hull("run", "--rm", "test", "echo", "again").stdout == "again\n"
    finally:
        for workload in user.hull("ps", "-aq", check=False).stdout.split():
            user.hull("rm", "-f", workload, check=False)
        wait_until(lambda: not user.keepers(), "the keepers to end")
        if systemd:
            systemd.close()
            del user.command
        user.close()


def test_machines_are_refused(user):
    done = user.hull("run", "--rm", "--vm", "test", "true", check=False)
    assert done.returncode == 125 and "virtual machines need root" in done.stderr, done.stderr


def test_doctor(user):
    done = user.hull("doctor", check=False)
    assert "an ordinary user" in done.stdout, done.stdout


def test_killed_keepers_are_replaced_and_workloads_stay(user):
    ran = user.hull("run", "-d", "-p", "127.0.0.1:8129:80", "test", "httpd", "-f", "-p", "80", "-h",
                    "/data").stdout.strip()
    ask = ["curl", "-s", "-m", "10", "http://127.0.0.1:8129/seed"]
    before = user.keepers()
    for pid, line in before.items():
        if "hull-rootless" in line:
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any("hull-rootless" in line for line in user.keepers().values()), "their end")
    assert user.hull("exec", ran, "echo", "still here").stdout == "still here\n"
    assert set(user.keepers()) != set(before)
    assert user.in_netns(ask).stdout == "from the image\n", "its port is open again"
    user.hull("rm", "-f", ran)
    wait_until(lambda: user.in_netns(ask, check=False).returncode == 7, "the port to close")


@pytest.mark.parametrize("which", ["inside", "outside"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("workload", [True, False])
def test_half_a_keeper_is_replaced_too(user, which, number, workload):
    ran = user.hull("run", "-d", "--name", "lonely", "test", "sleep", "1000").stdout.strip()
    if not workload:
        user.hull("rm", "-f", ran)
    names = {pid: pathlib.Path("/proc", str(pid), "comm").read_text().strip() for pid in user.keepers()}
    wanted = {"inside": "hull-rootless-i", "outside": "hull-rootless"}[which]
    victim, = [pid for pid, name in names.items() if name == wanted]
    os.kill(victim, number)
    for _ in range(3):
        assert user.hull("ps", "-q").stdout.split() == ([ran[:12]] if workload else [])
    if workload:
        assert user.hull("exec", ran, "echo", "still here").stdout == "still here\n"
        user.hull("rm", "-f", ran)
    assert user.hull("run", "--rm", "test", "echo", "goes on").stdout == "goes on\n"
    whole = lambda: sorted(line.split()[0].rsplit("/")[-1] for line in user.keepers().values())  # noqa: E731
    wait_until(lambda: whole() == ["hull-rootless", "hull-rootless", "pasta"], "the old ones to end")


def test_a_command_meets_a_dying_keeper(user):
    """A dying process has no namespaces left a moment before it counts as ended."""
    for turn in range(80):
        user.hull("ps", "-q")
        names = {pid: pathlib.Path("/proc", str(pid), "comm").read_text().strip() for pid in user.keepers()}
        wanted = ("hull-rootless-i", "hull-rootless")[turn % 2]
        for victim in [pid for pid, name in names.items() if name == wanted]:
            os.kill(victim, signal.SIGKILL)
        user.hull("ps", "-q")


def pastas(user):
    return [pid for pid, line in user.keepers().items() if line.startswith("pasta")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_pasta_is_started_again(user, number):
    """Outside is the host's other address, as in test_pull_and_push."""
    user.in_netns(["ip", "address", "add", "192.0.2.21/24", "dev", "out0"], check=False)
    folder = user.folder / "outside"
    folder.mkdir(exist_ok=True)
    (folder / "page").write_text("outside\n")
    server = subprocess.Popen(["nsenter", f"--net=/run/netns/{user.netns}", "/usr/bin/python3", "-m", "http.server", "-b",
                               "192.0.2.21", "-d", str(folder), "8140"], stderr=subprocess.DEVNULL)
    try:
        ran = user.hull("run", "-d", "test", "sleep", "1000").stdout.strip()
        ask = "printf 'GET /page HTTP/1.0\\r\\n\\r\\n' | timeout 1 nc 192.0.2.21 8140"
        reach = lambda: "outside" in user.hull("exec", ran, "sh", "-c", ask, check=False).stdout  # noqa: E731
        wait_until(reach, "the way out")
        for _ in range(2):
            old, = pastas(user)
            os.kill(old, number)
            wait_until(lambda old=old: pastas(user) not in ([], [old]), "the next one")
            wait_until(reach, "the way out")
        user.hull("rm", "-f", ran)
    finally:
        server.kill()
        server.wait()
    wait_until(lambda: not user.keepers(), "all to end")


def test_pull_and_push(user):
    """Through pasta: the registry is on another address of the host, since its own is copied."""
    user.in_netns(["ip", "address", "add", "192.0.2.20/24", "dev", "out0"])
    folder = user.folder / "registry"
    folder.mkdir()
    config = folder / "config.yml"
    config.write_text(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}}}}}\nhttp: {{addr: '192.0.2.20:5000'}}\n")
    server = subprocess.Popen(["nsenter", f"--net=/run/netns/{user.netns}", "docker-registry", "serve", str(config)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: ":5000" in user.in_netns(["ss", "-ltn"]).stdout, "the registry")
        user.hull("tag", "test", "192.0.2.20:5000/test:pushed")
        user.hull("push", "192.0.2.20:5000/test:pushed")
        user.hull("rmi", "192.0.2.20:5000/test:pushed")
        user.hull("pull", "192.0.2.20:5000/test:pushed")
        assert user.hull("run", "--rm", "192.0.2.20:5000/test:pushed", "cat", "/data/seed").stdout == "from the image\n"
        user.hull("rmi", "192.0.2.20:5000/test:pushed")
    finally:
        server.kill()
        server.wait()


def test_hulld_of_an_ordinary_user(user):
    """Its sockets are the host's, its workloads the user's; the user's commands see the same."""
    server = user.start("--dashboard", "tcp://127.0.0.1:8130", program="hulld")
    try:
        socket = user.run_folder / "docker.sock"
        wait_until(socket.exists, "its socket")
        docker = {"DOCKER_HOST": f"unix://{socket}"}
        assert os.stat(socket).st_uid == UID
        done = subprocess.run([*user.command()[:-1], "docker", "run", "-d", "--name", "by-docker", "-p",
                               "127.0.0.1:8131:80", "test", "httpd", "-f", "-p", "80", "-h", "/data"],
                              env={**user.environment, **docker}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "by-docker" in user.hull("ps", "--format", "{{.Names}}").stdout
        assert user.in_netns(["curl", "-s", "-m", "10", "http://127.0.0.1:8131/seed"]).stdout == "from the image\n"
        page = user.in_netns(["curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}",
                              "http://127.0.0.1:8130/"]).stdout
        assert page in ("200", "401"), page
        assert "http://127.0.0.1:8130" in user.hull("dashboard").stdout
    finally:
        server.terminate()
        server.wait(10)
        user.hull("rm", "-f", "by-docker", check=False)


def test_nothing_is_left_after_the_last_workload_and_all_comes_back(user):
    namespaces = set()

    def nothing():
        return not user.keepers() and not user.processes() and not still_there(namespaces)

    user.hull("network", "create", "again")
    run = ["run", "--rm", "--network", "again", "-p", "127.0.0.1:8126:80", "test", "sh", "-c",
           "ip -4 address show eth0 | grep -o 'inet [0-9.]*'"]
    first = user.hull(*run).stdout
    host = inodes_of(os.getpid()) | {os.readlink(f"/proc/{user.host.pid}/ns/mnt"), netns_of(user)}
    for pid in user.keepers():
        namespaces |= inodes_of(pid) - host
    assert len(namespaces) >= 3
    wait_until(nothing, "the keepers to end")
    # A new network namespace, in which nothing is left of what the run folder tells.
    assert first.startswith("inet 172.") and user.hull(*run).stdout.startswith(first[:11])
    ran = user.hull("run", "-d", "test", "sleep", "1000").stdout.strip()
    time.sleep(3)
    assert user.keepers(), "a workload keeps them"
    user.hull("rm", "-f", ran)
    user.hull("network", "rm", "again")
    wait_until(nothing, "the keepers to end")


def inodes_of(pid):
    return {os.readlink(f"/proc/{pid}/ns/{name}") for name in ("user", "mnt", "net")}


def netns_of(instance):
    return f"net:[{os.stat(f'/run/netns/{instance.netns}').st_ino}]"


def still_there(namespaces):
    """Processes in one of these namespaces."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and inodes_of(entry) & namespaces:
                found.append(entry)
        except OSError:
            continue
    return found


def test_a_workload_that_calls_itself_a_monitor_is_not_joined(user):
    ran = user.hull("run", "-d", "--network", "host", "test", "sh", "-c",
                    "echo -n hull-monitor > /proc/self/comm; sleep 1000").stdout.strip()
    monitors = [pid for pid, line in user.processes().items() if "hull-monitor" in line]
    for pid in [*monitors, *user.keepers()]:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not user.keepers(), "their end")
    # The workload is all that is left inside; the command gets namespaces of its own, with the host's files.
    assert ran in user.hull("ps", "-aq", "--no-trunc").stdout
    user.hull("rm", "-f", ran)


def test_a_client_that_breaks_off_does_not_keep_the_keeper_busy(user):
    ran = user.hull("run", "-d", "-p", "127.0.0.1:8127:80", "test", "nc", "-l", "-p", "80", "-e", "sleep",
                    "1000").stdout.strip()
    wait_until(lambda: "0050" in user.hull("exec", ran, "cat", "/proc/net/tcp", "/proc/net/tcp6").stdout, "the server")
    code = ("import socket, struct, time\n"
            "s = socket.create_connection(('127.0.0.1', 8127)); s.shutdown(socket.SHUT_WR); time.sleep(0.2)\n"
            "s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()")
    user.in_netns(["/usr/bin/python3", "-c", code])
    outside = [pid for pid, line in user.keepers().items() if "hull-rootless" in line]

    def ticks():
        return sum(sum(map(int, pathlib.Path("/proc", str(pid), "stat").read_text().split(")")[1].split()[11:13]))
                   for pid in outside)

    before = ticks()
    time.sleep(1)
    assert ticks() - before < 20
    user.hull("rm", "-f", ran)


def test_processes_that_nobody_waits_for_do_not_keep_the_keeper_busy(user):
    ran = user.hull("run", "-d", "test", "sh", "-c", "(sleep 0.1 &) ; exec sleep 1000").stdout.strip()
    outside, = [pid for pid in user.keepers() if pathlib.Path("/proc", str(pid), "comm").read_text() == "hull-rootless\n"]
    monitors = [pid for pid, line in user.processes().items() if "hull-monitor" in line]
    time.sleep(0.5)
    for pid in monitors:
        os.kill(pid, signal.SIGKILL)  # the next to be watched is found among the rest

    def ticks():
        return sum(map(int, pathlib.Path("/proc", str(outside), "stat").read_text().split(")")[1].split()[11:13]))

    before = ticks()
    time.sleep(1)
    assert ticks() - before < 20
    user.hull("rm", "-f", ran)


def test_large_answers_come_whole(user):
    ran = user.hull("run", "-d", "-p", "127.0.0.1:8128:80", "test", "sh", "-c",
                    "dd if=/dev/zero of=/data/large bs=1M count=32; exec httpd -f -p 80 -h /data").stdout.strip()
    size = lambda: user.in_netns(["curl", "-s", "--limit-rate", "100M", "-o", "/dev/null", "-w", "%{size_download}",  # noqa: E731
                                  "http://127.0.0.1:8128/large"], check=False).stdout
    wait_until(lambda: size() == str(32 << 20), "the whole file")
    user.hull("rm", "-f", ran)


def test_doctor_tells_everything_that_is_missing():
    bare = OrdinaryInstance(ranges=False, path="/nowhere")
    try:
        done = bare.hull("doctor", check=False)
        assert done.returncode == 1, done
        for word in ("/etc/subuid", "/etc/subgid", "usermod --add-subuids", "pasta", "install the package passt"):
            assert word in done.stdout, done.stdout
    finally:
        bare.close()


def test_without_user_namespaces_it_says_what_to_do():
    bare = OrdinaryInstance(namespaces=False)
    try:
        for command in ("ps", "doctor"):
            done = bare.hull(command, check=False)
            assert done.returncode == 1 and "user.max_user_namespaces" in done.stdout + done.stderr, done
    finally:
        bare.close()


def test_without_a_range_it_says_what_to_do():
    bare = OrdinaryInstance(ranges=False)
    try:
        done = bare.hull("ps", check=False)
        assert done.returncode != 0 and "/etc/subuid" in done.stderr and "usermod --add-subuids" in done.stderr
    finally:
        bare.close()
