"""What config.json may ask of hull-oci on this host, seen from inside the container, and the life of a container."""

import array
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest
from support import instance as instances

ALL_CAPS = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SYS_ADMIN",
            "CAP_MKNOD", "CAP_NET_ADMIN"]
NAMESPACES = ["cgroup", "ipc", "mnt", "net", "pid", "uts"]


def caps(*names):
    return {"bounding": list(names), "effective": list(names), "permitted": list(names)}


def process(document, **members):
    document["process"].update(members)


def state(runtime, name):
    return json.loads(runtime.call("state", name).stdout)


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


@pytest.fixture
def sleeper(runtime):
    bundle = runtime.bundle(["sleep", "1000"], edit=lambda d: d["linux"]["namespaces"].append({"type": "cgroup"}))
    runtime.start(bundle, "sleeper")
    return "sleeper"


def inside(runtime, script, edit=None, prepare=None, **more):
    """Output of a shell script run as the container's program."""
    return runtime.run(runtime.bundle(["sh", "-c", script], edit=edit, prepare=prepare), **more).stdout.strip()


# The life of a container


def test_life(runtime):
    bundle = runtime.bundle(["sh", "-c", "echo started; exit 7"])
    runtime.call("create", "--bundle", bundle, "--pid-file", bundle / "pid", "c")
    document = state(runtime, "c")
    assert document["status"] == "created" and document["bundle"] == str(bundle)
    assert document["pid"] == int((bundle / "pid").read_text()) > 0
    assert runtime.call("list", "-q").stdout == "c\n"
    again = runtime.call("create", "--bundle", bundle, "c", check=False)
    assert again.returncode == 1 and "container with id exists" in again.stderr
    assert runtime.call("delete", "c", check=False).returncode == 1
    runtime.call("start", "c")
    until(lambda: state(runtime, "c")["status"] == "stopped")
    assert state(runtime, "c")["pid"] == 0
    for command in (("start", "c"), ("kill", "c", "KILL"), ("exec", "c", "true"), ("pause", "c")):
        assert runtime.call(*command, check=False).returncode != 0, command
    runtime.call("delete", "c")
    gone = runtime.call("state", "c", check=False)
    assert gone.returncode == 1 and "does not exist" in gone.stderr
    runtime.call("delete", "--force", "c")


def test_exit_codes(runtime):
    assert runtime.run(runtime.bundle(["sh", "-c", "exit 42"]), check=False).returncode == 42
    killed = runtime.run(runtime.bundle(["sh", "-c", "sh -c 'kill -9 $$'; exit $?"]), check=False)
    assert killed.returncode == 137
    for program, words in (("nosuch", "executable file not found in $PATH"), ("/nosuch", "No such file or directory"),
                           ("/etc", "permission denied")):
        done = runtime.run(runtime.bundle([program]), check=False)
        assert done.returncode == 1 and words.lower() in done.stderr.lower(), done.stderr


def test_exec_joins_every_namespace(runtime, sleeper):
    pid = state(runtime, sleeper)["pid"]
    script = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in NAMESPACES) + "; hostname; cat /proc/1/comm"
    lines = runtime.call("exec", sleeper, "sh", "-c", script).stdout.split()
    assert lines[:-2] == [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in NAMESPACES]
    assert all(line != os.readlink(f"/proc/self/ns/{kind}") for line, kind in zip(lines, NAMESPACES))
    assert lines[-2:] == ["bundle", "sleep"]


def test_exec_joins_the_cgroups(runtime, sleeper):
    pid = state(runtime, sleeper)["pid"]
    runtime.call("exec", "--detach", "--pid-file", runtime.folder / "pid", sleeper, "sleep", "1000")
    other = int((runtime.folder / "pid").read_text())
    with open(f"/proc/{pid}/cgroup") as ours, open(f"/proc/{other}/cgroup") as theirs:
        assert ours.read() == theirs.read()
    assert json.loads(runtime.call("ps", "--format", "json", sleeper).stdout) == sorted([pid, other])


def test_exec_options(runtime, sleeper):
    out = runtime.call("exec", "--cwd", "/tmp", "--env", "A=b", "--user", "12:34", "--additional-gids", "56",
                       "--no-new-privs", sleeper, "sh", "-c", "pwd; echo $A; id -u; id -g; id -G; "
                       "grep NoNewPrivs /proc/self/status").stdout.split()
    assert out == ["/tmp", "b", "12", "34", "34", "56", "NoNewPrivs:", "1"]
    assert runtime.call("exec", sleeper, "sh", "-c", "exit 9", check=False).returncode == 9
    missing = runtime.call("exec", sleeper, "nosuch", check=False)
    assert missing.returncode == 255 and "executable file not found" in missing.stderr
    document = {"user": {"uid": 5, "gid": 6}, "args": ["id", "-u"], "env": ["PATH=/bin"], "cwd": "/"}
    (runtime.folder / "process.json").write_text(json.dumps(document))
    assert runtime.call("exec", "--process", runtime.folder / "process.json", sleeper).stdout == "5\n"


def test_kill_all_and_pause(runtime, sleeper):
    runtime.call("exec", "--detach", sleeper, "sleep", "1000")
    runtime.call("pause", sleeper)
    assert state(runtime, sleeper)["status"] == "paused"
    assert runtime.call("exec", sleeper, "true", check=False).returncode == 255
    runtime.call("resume", sleeper)
    assert state(runtime, sleeper)["status"] == "running"
    runtime.call("kill", "--all", sleeper, "KILL")
    until(lambda: state(runtime, sleeper)["status"] == "stopped")


def test_update_and_events(runtime, sleeper):
    runtime.call("update", "--memory", "64m", "--pids-limit", "77", sleeper)
    stats = json.loads(runtime.call("events", "--stats", sleeper).stdout)
    assert stats["type"] == "stats" and stats["data"]["memory"]["usage"]["limit"] == 64 << 20
    assert stats["data"]["pids"]["limit"] == 77
    resources = json.dumps({"memory": {"limit": 48 << 20}})
    subprocess.run(runtime.command("update", "--resources", "-", sleeper), input=resources.encode(), check=True)
    assert json.loads(runtime.call("events", "--stats", sleeper).stdout)["data"]["memory"]["usage"]["limit"] == 48 << 20


def test_hooks_in_order_with_state(runtime):
    log = runtime.folder / "hooks"
    kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]

    def edit(document):
        hook = lambda kind, path: [{"path": path, "args": ["sh", "-c", f"echo {kind} $(cat) >> {path and log}"]}]
        document["hooks"] = {kind: hook(kind, "/bin/sh") for kind in kinds}
        # startContainer runs in the container, with the container's files.
        document["hooks"]["startContainer"][0]["args"][2] = "echo startContainer $(cat) > /hook"
        document["root"]["readonly"] = False
        process(document, args=["sh", "-c", "cat /hook"])

    bundle = runtime.bundle(edit=edit)
    out = runtime.call("run", "--bundle", bundle, "hooked").stdout
    assert out.startswith("startContainer ") and json.loads(out.split(" ", 1)[1])["status"] == "created"
    lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert [line[0] for line in lines] == [kind for kind in kinds if kind != "startContainer"]
    states = {kind: json.loads(text) for kind, text in lines}
    assert states["createRuntime"]["status"] == "creating" and states["createRuntime"]["pid"] > 0
    assert states["poststart"]["status"] == "running" and states["poststop"]["status"] == "stopped"
    assert all(one["id"] == "hooked" and one["bundle"] == str(bundle) for one in states.values())


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer", "poststart"])
def test_failing_hook_ends_the_container(runtime, kind):
    def edit(document):
        document["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]}

    done = runtime.run(runtime.bundle(["sleep", "1000"], edit=edit), check=False)
    assert done.returncode == 1 and kind in done.stderr and "exit status 3" in done.stderr
    assert runtime.call("list", "-q").stdout == ""


def test_slow_hook_is_killed(runtime):
    def edit(document):
        document["hooks"] = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]}

    begun = time.monotonic()
    done = runtime.run(runtime.bundle(edit=edit), check=False)
    assert done.returncode == 1 and "within 1 s" in done.stderr and time.monotonic() - begun < 10


def test_killed_create_leaves_nothing_after_delete(runtime):
    """kill -9 at any moment of create: delete --force finds and clears everything."""
    bundle = runtime.bundle(["sleep", "1000"])
    before = instances.settled_mounts()
    for delay_us in range(0, 12000, 400):
        child = subprocess.Popen(runtime.command("create", "--bundle", bundle, "victim"), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay_us / 1e6)
        child.send_signal(signal.SIGKILL)
        child.wait()
        runtime.call("delete", "--force", "victim")
        assert runtime.call("list", "-q").stdout == ""
        assert not [path for path in instances.cgroup_folders() if f"/{runtime.cgroup}/" in path], delay_us
    assert instances.settled_mounts() == before


# What the process is


def test_process(runtime):
    def edit(document):
        process(document, cwd="/made/for/it", user={"uid": 7, "gid": 8, "additionalGids": [9, 10], "umask": 0o27},
                env=["PATH=/bin", "A=1", "A=2"], oomScoreAdj=321, noNewPrivileges=True,
                rlimits=[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 1, "hard": 2}],
                capabilities=caps("CAP_KILL", "CAP_CHOWN"), ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 6},
                scheduler={"policy": "SCHED_BATCH", "nice": 5})

    out = inside(runtime, "pwd; id -u; id -g; id -G; umask; echo $A; cat /proc/self/oom_score_adj; "
                 "grep -E 'NoNewPrivs|CapInh|CapPrm|CapEff|CapBnd|CapAmb' /proc/self/status; "
                 "grep -E 'open files|core' /proc/self/limits; ionice", edit)
    words = out.split()
    assert words[:9] == ["/made/for/it", "7", "8", "8", "9", "10", "0027", "2", "321"]
    assert "CapBnd: 0000000000000021" in " ".join(words) and "CapInh: 0000000000000000" in " ".join(words)
    assert "NoNewPrivs: 1" in " ".join(words)
    assert "Max open files 100 200" in " ".join(words) and "Max core file size 1 2" in " ".join(words)
    assert out.endswith("best-effort: prio 6")


def test_home_comes_from_passwd(runtime):
    def prepare(root):
        (root / "etc").mkdir(exist_ok=True)
        (root / "etc/passwd").write_text("a:x:4294967303:7::/overflow:\nb:x:+7:7::/sign:\nc:x:7:7::/right:/bin/sh\n")

    assert inside(runtime, "echo $HOME", lambda d: process(d, user={"uid": 7, "gid": 7}), prepare) == "/right"
    assert inside(runtime, "echo $HOME", lambda d: process(d, user={"uid": 99, "gid": 7}), prepare) == "/"


def test_ambient_and_all_sets(runtime):
    def edit(document):
        sets = {kind: ["CAP_CHOWN"] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")}
        process(document, user={"uid": 7, "gid": 7}, capabilities=sets)

    out = inside(runtime, "grep ^Cap /proc/self/status", edit).split()
    assert out[1::2] == ["0000000000000001"] * 5


def test_unknown_capability_is_a_warning(runtime):
    done = runtime.run(runtime.bundle(edit=lambda d: process(d, capabilities=caps("CAP_NEVER"))))
    assert "CAP_NEVER" in done.stderr


def test_impossible_rlimit_is_an_error(runtime):
    limits = [{"type": "RLIMIT_NEVER", "soft": 1, "hard": 1}]
    done = runtime.run(runtime.bundle(edit=lambda d: process(d, rlimits=limits)), check=False)
    assert done.returncode == 1 and "RLIMIT_NEVER" in done.stderr


def test_affinity_of_exec(runtime, sleeper):
    document = {"user": {"uid": 0, "gid": 0}, "args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "cwd": "/",
                "env": ["PATH=/bin"], "execCPUAffinity": {"initial": "0", "final": "0"}}
    (runtime.folder / "process.json").write_text(json.dumps(document))
    assert runtime.call("exec", "-p", runtime.folder / "process.json", sleeper).stdout.split()[-1] == "0"


def test_preserved_descriptors(runtime):
    read_end, write_end = os.pipe()
    saved = os.dup(write_end)
    try:
        os.dup2(write_end, 3, inheritable=True)
        bundle = runtime.bundle(["sh", "-c", "echo through >&3; ls /proc/self/fd"])
        done = subprocess.run(
            runtime.command("run", "--preserve-fds", "1", "--bundle", bundle, "fds"), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, pass_fds=(3,))
        assert os.read(read_end, 100) == b"through\n"
        assert set(done.stdout.split()) <= {"0", "1", "2", "3", "4"}
    finally:
        for fd in (read_end, write_end, saved):
            os.close(fd)


def receive_terminal(path, got):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def take():
        connection, _ = listener.accept()
        fds = array.array("i")
        text, ancillary, _, _ = connection.recvmsg(100, socket.CMSG_SPACE(4))
        fds.frombytes(ancillary[0][2][:4])
        got.append((fds[0], text.decode()))

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    return thread


def read_all(fd):
    data = b""
    while True:
        try:
            part = os.read(fd, 4096)
        except OSError:
            return data.decode()
        if not part:
            return data.decode()
        data += part


def test_terminal(runtime):
    def edit(document):
        process(document, terminal=True, consoleSize={"height": 33, "width": 77}, user={"uid": 7, "gid": 7})

    bundle = runtime.bundle(["sh", "-c", "tty; stty size; ls -ln /dev/console; echo hi > /dev/tty"], edit=edit)
    got = []
    thread = receive_terminal(runtime.folder / "console", got)
    runtime.call("create", "--bundle", bundle, "--console-socket", runtime.folder / "console", "t")
    thread.join(10)
    runtime.call("start", "t")
    out = read_all(got[0][0])
    os.close(got[0][0])
    assert "/dev/pts/0" in out and "33 77" in out and "hi" in out and " 7 " in out
    refused = runtime.call("create", "--bundle", bundle, "u", check=False)
    assert "console socket" in refused.stderr


def test_terminal_of_exec(runtime, sleeper):
    got = []
    thread = receive_terminal(runtime.folder / "console", got)
    runtime.call("exec", "--tty", "--detach", "--console-socket", runtime.folder / "console", sleeper, "tty")
    thread.join(10)
    assert "/dev/pts/0" in read_all(got[0][0])
    os.close(got[0][0])


def test_terminal_in_the_foreground(runtime):
    bundle = runtime.bundle(["sh", "-c", "tty; stty size; exit 5"], edit=lambda d: process(d, terminal=True))
    done = runtime.run(bundle, check=False)
    assert done.returncode == 5 and "/dev/pts/0" in done.stdout


# Files and mounts


def mount_options(out, destination):
    for line in out.splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[4] == destination:
            return set(fields[5].split(",")), fields
    raise AssertionError(f"{destination} is not mounted:\n{out}")


def test_mounts(runtime, tmp_path):
    (tmp_path / "folder/below").mkdir(parents=True)
    (tmp_path / "file").write_text("of the host\n")

    def edit(document):
        document["root"]["readonly"] = True
        document["mounts"] += [
            {"destination": "/a/deep/folder", "type": "bind", "source": str(tmp_path / "folder"),
             "options": ["rbind", "ro", "nosuid", "nodev", "noexec", "nosymfollow"]},
            {"destination": "/a/file", "type": "bind", "source": str(tmp_path / "file"), "options": ["bind", "ro"]},
            {"destination": "relative", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "noatime"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid"]},
            {"destination": "/rec", "type": "bind", "source": str(tmp_path / "folder"), "options": ["rbind", "rro"]},
            {"destination": "/slave", "type": "bind", "source": str(tmp_path / "folder"), "options": ["rbind", "rslave"]},
            {"destination": "/shared", "type": "bind", "source": str(tmp_path / "folder"), "options": ["rbind", "rshared"]},
        ]

    out = inside(runtime, "cat /proc/self/mountinfo; cat /a/file; touch /x 2>&1; touch /relative/y && echo written", edit)
    options, _ = mount_options(out, "/a/deep/folder")
    assert {"ro", "nosuid", "nodev", "noexec", "nosymfollow"} <= options
    assert "noatime" in mount_options(out, "/relative")[0]
    assert "ro" in mount_options(out, "/rec")[0] and "ro" in mount_options(out, "/")[0]
    assert any(field.startswith("shared:") for field in mount_options(out, "/shared")[1])
    assert "of the host" in out and "Read-only file system" in out and out.endswith("written")


def test_tmpcopyup(runtime):
    def prepare(root):
        (root / "data/sub").mkdir(parents=True)
        (root / "data/sub/file").write_text("kept\n")
        (root / "data/link").symlink_to("sub/file")
        os.chmod(root / "data", 0o711)

    def edit(document):
        document["mounts"].append({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]})

    out = inside(runtime, "cat /data/link; stat -c %a /data; touch /data/new; grep ' /data ' /proc/mounts", edit, prepare)
    assert out.split()[:2] == ["kept", "711"] and "tmpfs /data" in out
    assert not (runtime.made[-1] / "rootfs/data/new").exists()


def test_overlay_as_root(runtime, tmp_path):
    """Hull's extension: the root file system is an overlay that is mounted nowhere on the host."""
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()

    def edit(document):
        document["root"]["path"] = "empty"
        lower = runtime.folder / f"bundle{len(runtime.made)}" / "rootfs"
        document["mounts"].insert(0, {"destination": "/", "type": "overlay", "source": "overlay", "options": [
            f"lowerdir={lower}", f"upperdir={tmp_path}/upper", f"workdir={tmp_path}/work"]})

    bundle = runtime.bundle(["sleep", "1000"], edit=edit)
    (bundle / "empty").mkdir()
    before = instances.settled_mounts()
    runtime.start(bundle, "o")
    assert instances.settled_mounts() == before
    runtime.call("exec", "o", "sh", "-c", "echo new > /made; grep ' / overlay' /proc/mounts")
    assert (tmp_path / "upper/made").read_text() == "new\n"


def test_idmapped_bind(runtime, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/file").write_text("x")

    def edit(document):
        document["mounts"].append({"destination": "/m", "type": "bind", "source": str(tmp_path / "shared"),
                                   "options": ["bind", "idmap"],
                                   "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
                                   "gidMappings": [{"containerID": 0, "hostID": 2000, "size": 10}]})

    assert inside(runtime, "stat -c %u:%g /m/file", edit) == "1000:2000"


def test_masked_and_readonly_paths(runtime):
    def edit(document):
        document["linux"]["maskedPaths"] = ["/proc/cpuinfo", "/proc/net", "/sys/kernel", "/sys/class", "/nosuch"]
        document["linux"]["readonlyPaths"] = ["/proc/sys", "/tmp", "/nosuch"]
        process(document, capabilities=caps(*ALL_CAPS))

    out = inside(runtime, "wc -c < /proc/cpuinfo; ls /sys/kernel /sys/class | wc -l; touch /tmp/x 2>&1; "
                 "echo y > /proc/sys/kernel/hostname", edit, check=False)
    assert out.split()[0] == "0" and "Read-only file system" in out


def test_devices(runtime):
    def edit(document):
        document["linux"]["devices"] = [
            {"path": "/dev/deep/chardev", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4},
            {"path": "/dev/fifo", "type": "p", "fileMode": 0o600}]

    out = inside(runtime, "stat -c '%n %F %a %u %g %t %T' /dev/deep/chardev /dev/fifo /dev/null; readlink /dev/fd; "
                 "readlink /dev/ptmx; echo x > /dev/null && echo fine", edit)
    assert "/dev/deep/chardev character special file 640 3 4 a e5" in out
    assert "/dev/fifo fifo 600 0 0" in out and "/dev/null character special file 666 0 0 1 3" in out
    assert "/proc/self/fd" in out and "pts/ptmx" in out and out.endswith("fine")


# Namespaces and the kernel


def user_namespace(document):
    document["linux"]["namespaces"].append({"type": "user"})
    document["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    document["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 200000, "size": 65536}]


def test_user_namespace(runtime):
    def edit(document):
        user_namespace(document)
        document["linux"]["devices"] = [{"path": "/dev/extra", "type": "c", "major": 1, "minor": 5, "fileMode": 0o606,
                                         "uid": 5, "gid": 6}]
        process(document, capabilities=caps("CAP_CHOWN", "CAP_SYS_ADMIN"), rlimits=[
            {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}])

    def prepare(root):
        subprocess.run(["chown", "-R", "100000:200000", str(root)], check=True)

    bundle = runtime.bundle(["sh", "-c", "cat /proc/self/uid_map; id -u; stat -c '%a %u %g' /dev/extra; "
                             "head -c 3 /dev/extra | wc -c; ulimit -n; sleep 1000"], edit=edit, prepare=prepare)
    out = runtime.folder / "out"
    with open(out, "w") as file:
        subprocess.run(runtime.command("run", "--detach", "--bundle", bundle, "u"), stdout=file, stderr=file,
                       stdin=subprocess.DEVNULL, check=True)
    until(lambda: len(out.read_text().split()) >= 9)
    assert out.read_text().split() == ["0", "100000", "65536", "0", "606", "5", "6", "3", "64"]
    assert os.stat(f"/proc/{state(runtime, 'u')['pid']}").st_uid in (0, 100000)
    assert runtime.call("exec", "u", "sh", "-c", "id -u; cat /proc/self/uid_map").stdout.split()[:3] == ["0", "0", "100000"]


def test_joins_namespaces_by_path(runtime, sleeper):
    pid = state(runtime, sleeper)["pid"]
    kinds = {"network": "net", "ipc": "ipc", "uts": "uts", "pid": "pid"}

    def edit(document):
        document["linux"]["namespaces"] = [{"type": "mount"}] + [
            {"type": kind, "path": f"/proc/{pid}/ns/{name}"} for kind, name in kinds.items()]
        document.pop("hostname")

    out = inside(runtime, "for n in net ipc uts pid; do readlink /proc/self/ns/$n; done; hostname", edit).split()
    assert out == [os.readlink(f"/proc/{pid}/ns/{name}") for name in kinds.values()] + ["bundle"]


def test_joins_a_user_namespace_by_path(runtime):
    def owner(root):
        subprocess.run(["chown", "-R", "100000:200000", str(root)], check=True)

    runtime.start(runtime.bundle(["sleep", "1000"], edit=user_namespace, prepare=owner), "first")
    pid = state(runtime, "first")["pid"]

    def edit(document):
        document["linux"]["namespaces"].append({"type": "user", "path": f"/proc/{pid}/ns/user"})

    out = inside(runtime, "readlink /proc/self/ns/user; id -u; echo $$", edit, owner)
    assert out.split() == [os.readlink(f"/proc/{pid}/ns/user"), "0", "1"]


def test_wrong_kind_of_namespace(runtime):
    def edit(document):
        document["linux"]["namespaces"][1]["path"] = "/proc/self/ns/uts"

    done = runtime.run(runtime.bundle(edit=edit), check=False)
    assert done.returncode == 1 and "is not a network namespace" in done.stderr


def test_time_namespace(runtime):
    def edit(document):
        document["linux"]["namespaces"].append({"type": "time"})
        document["linux"]["timeOffsets"] = {"boottime": {"secs": 1000000}, "monotonic": {"secs": 2000000}}

    with open("/proc/uptime") as uptime:
        here = float(uptime.read().split()[0])
    there = float(inside(runtime, "cat /proc/uptime", edit).split()[0])
    assert 1000000 <= there - here < 1000100


def test_names_sysctls_and_loopback(runtime):
    def edit(document):
        document["hostname"], document["domainname"] = "ship", "harbour"
        document["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "12345"}

    out = inside(runtime, "hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward "
                 "/proc/sys/kernel/msgmax; ip -o link show lo | grep -c UP", edit).split()
    assert out == ["ship", "harbour", "1", "12345", "1"]


def test_sysctl_of_the_host_is_refused(runtime):
    done = runtime.run(runtime.bundle(edit=lambda d: d["linux"].update(sysctl={"vm.swappiness": "1"})), check=False)
    assert done.returncode == 1 and "vm.swappiness" in done.stderr


def test_net_devices(runtime):
    name = f"hd{os.getpid() % 100000}"
    namespace = f"hull-t-{name}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        run = ["nsenter", f"--net=/run/netns/{namespace}"]
        subprocess.run(run + ["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"], check=True)
        subprocess.run(run + ["ip", "addr", "add", "10.1.2.3/24", "dev", name], check=True)
        bundle = runtime.bundle(["ip", "-o", "addr", "show", "dev", "inner"],
                                edit=lambda d: d["linux"].update(netDevices={name: {"name": "inner"}}))
        done = subprocess.run(run + runtime.command("run", "--bundle", bundle, "n"), capture_output=True, text=True,
                              stdin=subprocess.DEVNULL)
        assert done.returncode == 0 and "10.1.2.3/24" in done.stdout, done.stderr
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=True)


def test_seccomp_errno_and_exec(runtime):
    def edit(document):
        document["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}

    bundle = runtime.bundle(["sh", "-c", "mkdir /x 2>&1; grep ^Seccomp: /proc/self/status; sleep 1000"], edit=edit)
    out = runtime.folder / "out"
    with open(out, "w") as file:
        subprocess.run(runtime.command("run", "--detach", "--bundle", bundle, "s"), stdout=file, stderr=file,
                       stdin=subprocess.DEVNULL, check=True)
    until(lambda: "Seccomp" in out.read_text())
    assert "No space left" in out.read_text() and out.read_text().split()[-1] == "2"
    done = runtime.call("exec", "s", "mkdir", "/y", check=False)
    assert done.returncode == 1 and "No space left" in done.stderr


def test_tight_seccomp_filter_without_no_new_privileges(runtime):
    """Nothing but what the program needs is allowed: the runtime's own calls must all come before the filter."""
    def edit(document):
        document["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"action": "SCMP_ACT_ALLOW", "names": [
            "execve", "exit", "exit_group", "write", "brk", "arch_prctl", "set_tid_address", "set_robust_list", "rseq",
            "prlimit64", "readlink", "getrandom", "mprotect", "prctl", "getuid", "capset", "mmap", "munmap", "fstat",
            "newfstatat", "writev", "ioctl", "readlinkat", "rt_sigaction", "rt_sigprocmask", "geteuid", "getgid", "getegid"]}]}

    for more in ({"noNewPrivileges": True}, {"user": {"uid": 5, "gid": 5}}, {}):
        def with_more(document, more=more):
            edit(document)
            process(document, **more)

        assert runtime.run(runtime.bundle(["echo", "alive"], edit=with_more)).stdout == "alive\n"


def test_seccomp_listener(runtime):
    path = runtime.folder / "agent"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    got = []

    def take():
        connection, _ = listener.accept()
        text, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(4))
        got.append((json.loads(text), ancillary))

    thread = threading.Thread(target=take, daemon=True)
    thread.start()

    def edit(document):
        document["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": str(path), "listenerMetadata": "some words",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}

    runtime.start(runtime.bundle(["sleep", "1000"], edit=edit), "l")
    thread.join(10)
    document, ancillary = got[0]
    assert len(ancillary) == 1 and document["fds"] == ["seccompFd"] and document["metadata"] == "some words"
    assert document["state"]["id"] == "l" and document["pid"] == state(runtime, "l")["pid"]


def test_personality_and_rootfs_propagation(runtime):
    def edit(document):
        document["linux"]["personality"] = {"domain": "LINUX32"}
        document["linux"]["rootfsPropagation"] = "shared"

    out = inside(runtime, "uname -m; grep ' / / ' /proc/self/mountinfo; cat /proc/self/mountinfo | head -1", edit)
    assert out.split()[0] in ("i686", "armv8l") and "shared:" in out


@pytest.mark.parametrize("propagation", ["shared", "rshared", "slave", "private", "unbindable", None])
def test_the_hosts_shared_mounts_stay(runtime, tmp_path, propagation):
    """Whatever the container's root is: leaving the host's tree unmounts nothing on the host."""
    top, below = tmp_path / "top", tmp_path / "top/below"
    top.mkdir()

    def edit(document):
        if propagation:
            document["linux"]["rootfsPropagation"] = propagation

    subprocess.run(["mount", "-t", "tmpfs", "hull-t", top], check=True)
    try:
        subprocess.run(["mount", "--make-shared", top], check=True)
        below.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "hull-t", below], check=True)
        inside(runtime, "true", edit)
        assert os.path.ismount(below) and os.path.ismount(top)
    finally:
        subprocess.run(["umount", "-R", top])


@pytest.mark.parametrize("kinds", [["cgroup"], []])
def test_cgroup_mount(runtime, kinds):
    """With a cgroup namespace the container sees its group as the top; without one everything is read-only."""
    def edit(document):
        document["linux"]["namespaces"] += [{"type": kind} for kind in kinds]
        document["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": []})
        process(document, capabilities=caps(*ALL_CAPS))

    out = inside(runtime, "cat /proc/self/cgroup; grep ' /sys/fs/cgroup' /proc/mounts; ls /sys/fs/cgroup", edit)
    lines = [line.split() for line in out.splitlines() if " cgroup" in line and "/sys/fs/cgroup" in line]
    assert lines
    if kinds:
        assert "0::/\n" in out
    else:
        assert all("ro" in line[3].split(",") for line in lines), out


def test_no_process_is_an_error_only_at_start(runtime):
    bundle = runtime.bundle(edit=lambda d: d.pop("process"))
    runtime.call("create", "--bundle", bundle, "c")
    assert runtime.call("start", "c", check=False).returncode == 1


# Commands


def test_spec_makes_a_bundle_that_runs(runtime):
    bundle = runtime.bundle()
    (bundle / "config.json").unlink()
    runtime.call("spec", "--bundle", bundle)
    assert runtime.call("spec", "--bundle", bundle, check=False).returncode == 1
    document = json.loads((bundle / "config.json").read_text())
    assert document["process"]["args"] == ["sh"] and document["root"]["readonly"]
    document["process"].update(args=["echo", "works"], terminal=False)
    document["linux"]["cgroupsPath"] = f"/{runtime.cgroup}/spec"
    (bundle / "config.json").write_text(json.dumps(document))
    assert runtime.run(bundle).stdout == "works\n"


def test_features_and_version(runtime):
    features = json.loads(runtime.call("features").stdout)
    assert features["ociVersionMin"] == "1.0.0" and features["linux"]["cgroup"]["v1"]
    assert {"rro", "idmap", "tmpcopyup"} <= set(features["mountOptions"])
    lines = runtime.call("--version").stdout.splitlines()
    assert lines[0].startswith("hull-oci version ") and lines[1].startswith("commit: ") and lines[2] == "spec: 1.3.0"


def test_log_in_json(runtime):
    log = runtime.folder / "log.json"
    done = runtime.call("--log", log, "--log-format", "json", "state", "nobody", check=False)
    line = json.loads(log.read_text())
    assert done.returncode == 1 and line["level"] == "error" and "does not exist" in line["msg"] and line["time"]


@pytest.mark.parametrize("arguments", [["nosuch"], ["run"], ["run", "--nosuch", "x"], ["kill", "x", "SIGNEVER"],
                                       ["--log-format", "xml", "list"], ["checkpoint", "x"], ["restore", "x"]])
def test_wrong_commands(runtime, arguments):
    done = runtime.call(*arguments, check=False)
    assert done.returncode != 0 and done.stderr.strip()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ociVersion": 7}', '{"ociVersion": "9.0.0"}', "{}" * 9])
def test_broken_config(runtime, text):
    bundle = runtime.bundle()
    (bundle / "config.json").write_text(text)
    done = runtime.run(bundle, check=False)
    assert done.returncode == 1 and "config.json" in done.stderr


# sd_notify


@pytest.fixture
def systemd(tmp_path):
    """A socket that stands for systemd's NOTIFY_SOCKET."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "systemd"))
    listener.settimeout(10)
    yield listener
    listener.close()


def say(runtime, name, text):
    """As the program in the container would, through the folder that is mounted there."""
    speaker = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    folder = os.open(runtime.folder / "state" / name / "notify", os.O_PATH)
    try:
        until(lambda: os.path.exists(f"/proc/self/fd/{folder}/notify.sock"))
        speaker.sendto(text, f"/proc/self/fd/{folder}/notify.sock")
    finally:
        os.close(folder)
        speaker.close()


def test_notify_reaches_systemd(runtime, systemd, tmp_path):
    with_socket = dict(os.environ, NOTIFY_SOCKET=str(tmp_path / "systemd"))
    bundle = runtime.bundle(["sh", "-c", 'test -d /run/notify && test "$NOTIFY_SOCKET" = /run/notify/notify.sock && sleep 1000'])
    runtime.call("create", "--bundle", bundle, "ready", env=with_socket)
    starting = subprocess.Popen(runtime.command("start", "ready"), env=with_socket)
    try:
        say(runtime, "ready", b"STATUS=warming up\nNOTREADY=1\n")
        say(runtime, "ready", b"STATUS=up\nREADY=1\nMAINPID=1\nFDSTORE=1\n")
        assert systemd.recv(4096).decode() == f"READY=1\nMAINPID={state(runtime, 'ready')['pid']}\n"
        assert starting.wait(10) == 0
        assert state(runtime, "ready")["status"] == "running"
    finally:
        starting.kill()
        starting.wait()
    runtime.call("delete", "--force", "ready")


def test_notify_of_one_that_ends_first(runtime, systemd, tmp_path):
    with_socket = dict(os.environ, NOTIFY_SOCKET=str(tmp_path / "systemd"))
    runtime.call("create", "--bundle", runtime.bundle(["true"]), "brief", env=with_socket)
    runtime.call("start", "brief", env=with_socket)
    systemd.settimeout(0.2)
    with pytest.raises(socket.timeout):
        systemd.recv(4096)


def test_notify_of_a_foreground_run(runtime, systemd, tmp_path):
    with_socket = dict(os.environ, NOTIFY_SOCKET=str(tmp_path / "systemd"))
    bundle = runtime.bundle(["sleep", "1000"])
    running = subprocess.Popen(runtime.command("run", "--bundle", bundle, "front"), env=with_socket)
    try:
        until(lambda: (runtime.folder / "state" / "front" / "notify").exists())
        say(runtime, "front", b"READY=1")
        assert systemd.recv(4096).decode() == f"READY=1\nMAINPID={running.pid}\n"
    finally:
        runtime.call("kill", "front", "KILL", check=False)
        running.wait(20)
