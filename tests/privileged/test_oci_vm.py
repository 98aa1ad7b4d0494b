"""hull-oci-vm: the life of a bundle as a virtual machine, under QEMU's emulation. A boot takes seconds, so that each
test asks one machine for many things."""

import array
import fcntl
import json
import os
import pathlib
import pty
import select
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time
import uuid

import pytest
from support import instance as instances
from support import vm as vm_support
from support import vm_runtime
from support.instance import wait_until

SLOW = 120  # seconds that a boot may take on a busy machine
WAITS = ("sh", "-c", "trap 'echo got-term; exit 9' TERM; trap 'echo got-usr1' USR1; echo up; while :; do sleep 0.2; done")


@pytest.fixture(scope="module")
def data():
    vm_support.need_machines()
    made = vm_runtime.DataRoot()
    yield made
    made.close()


@pytest.fixture
def vm(data):
    made = vm_runtime.VmRuntime(data)
    yield made
    made.close()


def capable(document):
    names = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_NET_RAW", "CAP_SYS_ADMIN"]
    document["process"]["capabilities"] = {kind: names for kind in ("bounding", "effective", "permitted")}


def add_flock(rootfs):
    """flock(1) of this machine with its libraries: busybox has none."""
    needed = subprocess.run(["ldd", "/usr/bin/flock"], capture_output=True, text=True, check=True).stdout.split()
    for path in ["/usr/bin/flock", *(word for word in needed if word.startswith("/"))]:
        target = rootfs / ("bin/flock" if path.endswith("flock") else path.lstrip("/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def state(runtime, name):
    return json.loads(runtime.call("state", name).stdout)


def status(runtime, name):
    return state(runtime, name)["status"]


def read_until(stream, words, seconds=SLOW):
    """Bytes of a descriptor up to and with the words."""
    fd = stream if isinstance(stream, int) else stream.fileno()
    end = time.monotonic() + seconds
    got = b""
    while words not in got:
        ready, _, _ = select.select([fd], [], [], max(0, end - time.monotonic()))
        assert ready, f"waited for {words}, got {got}"
        more = os.read(fd, 65536)
        assert more, f"ended before {words}: {got}"
        got += more
    return got


def ended(runtime, name, seconds=60):
    wait_until(lambda: status(runtime, name) == "stopped", "the end of the machine", seconds)


def records(runtime):
    folder = runtime.folder / "state"
    return [name for name in os.listdir(folder) if name != "@seccomp"] if folder.exists() else []


def nothing_runs(runtime):
    wait_until(lambda: not runtime.processes(), "every process of the machine to be gone", 20)


# The life of a machine


def test_life_and_commands(vm, tmp_path):
    bundle = vm.bundle(WAITS)
    started = vm.spawn("run", "--pid-file", tmp_path / "pid", "--bundle", bundle, "c")
    assert read_until(started.stdout, b"up\n") == b"up\n"
    document = state(vm, "c")
    assert document["status"] == "running" and document["bundle"] == str(bundle)
    supervisor = int((tmp_path / "pid").read_text())
    assert document["pid"] == supervisor
    assert os.readlink(f"/proc/{supervisor}/root") == "/run/hull-vm"  # it sees nothing of the host any more
    capabilities = pathlib.Path(f"/proc/{supervisor}/status").read_text().split("CapEff:")[1].split()[0]
    assert int(capabilities, 16) == 1 << 5  # CAP_KILL
    assert vm.call("list", "-q").stdout == "c\n"
    again = vm.call("create", "--bundle", bundle, "c", check=False)
    assert again.returncode == 1 and "container with id exists" in again.stderr

    # exec: streams kept apart, exit codes, what can't be executed
    done = vm.call("exec", "c", "sh", "-c", "echo to-out; echo to-err >&2; exit 5", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (5, "to-out\n", "to-err\n")
    with (tmp_path / "in").open("w+b") as file:
        file.write(os.urandom(300000))
        file.seek(0)
        counted = vm.call("exec", "c", "md5sum", stdin=file).stdout.split()[0]
        file.seek(0)
        assert counted == subprocess.run(["md5sum"], stdin=file, capture_output=True, text=True).stdout.split()[0]
    missing = vm.call("exec", "c", "nosuch", check=False)
    assert missing.returncode == 255 and "executable file not found in $PATH" in missing.stderr
    denied = vm.call("exec", "c", "/etc", check=False)
    assert denied.returncode == 255 and "permission denied" in denied.stderr
    assert vm.call("exec", "c", "sh", "-c", "kill -9 $$", check=False).returncode == 137
    assert vm.call("exec", "--user", "1000:100", "--cwd", "/tmp", "--env", "A=b", "c", "sh", "-c",
                   "echo $(id -u):$(id -g) $PWD $A").stdout == "1000:100 /tmp b\n"
    assert "uid=0(root)" in vm.call("exec", "--user", "root", "c", "id").stdout
    kernel = vm.call("exec", "c", "uname", "-r").stdout.strip()
    assert kernel.endswith("cloud-amd64") and kernel != os.uname().release

    # its own processes, and those of the host
    table = vm.call("ps", "c").stdout.splitlines()
    assert table[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert any("got-term" in line for line in table[1:])
    assert "COMMAND" in vm.call("ps", "c", "-o", "pid,args").stdout
    pids = json.loads(vm.call("ps", "--format", "json", "c").stdout)
    assert supervisor in pids and len(pids) >= 4 and set(pids) == vm.processes()

    # limits, numbers
    vm.call("update", "--pids-limit", "40", "c")
    forks = vm.call("exec", "c", "sh", "-c", "for i in $(seq 60); do sleep 2 & done 2>&1; wait", check=False)
    assert "fork" in forks.stdout + forks.stderr or forks.returncode != 0
    grown = vm.call("update", "--memory", str(8 << 30), "c", check=False)
    assert grown.returncode == 1 and "can't grow" in grown.stderr
    told = vm.call("events", "--stats", "c")
    stats = json.loads(told.stdout)
    assert "guest" in stats, told.stderr
    assert stats["data"]["memory"]["usage"]["usage"] > stats["guest"]["memoryTotal"] / 8
    assert stats["data"]["memory"]["usage"]["limit"] > vm_runtime.MEMORY
    assert stats["guest"]["workload"]["data"]["memory"]["usage"]["limit"] == vm_runtime.MEMORY

    # pause
    vm.call("pause", "c")
    assert status(vm, "c") == "paused"
    refused = vm.call("exec", "c", "true", check=False)
    assert refused.returncode == 255 and "paused" in refused.stderr
    vm.call("kill", "c", "USR1")
    assert not select.select([started.stdout], [], [], 0.5)[0]
    vm.call("resume", "c")
    assert read_until(started.stdout, b"\n") == b"got-usr1\n"
    assert abs(int(vm.call("exec", "c", "date", "+%s").stdout) - time.time()) < 30

    # the end
    assert vm.call("delete", "c", check=False).returncode == 1
    vm.call("kill", "c", "TERM")
    assert started.wait(timeout=60) == 9
    assert started.stdout.read() == b"got-term\n" and started.stderr.read() == b""
    gone = vm.call("state", "c", check=False)
    assert gone.returncode == 1 and "does not exist" in gone.stderr
    nothing_runs(vm)


def test_create_start_delete_and_detached_exec(vm, tmp_path):
    bundle = vm.bundle(["sh", "-c", "cat; sleep 1000"], edit=lambda d: d["process"].update(terminal=False))
    with open(os.devnull) as null, (tmp_path / "out").open("wb") as out:
        vm_process = subprocess.run(vm.command("create", "--bundle", bundle, "--pid-file", tmp_path / "pid", "c"), stdin=null,
                                    stdout=out, stderr=out, env=vm.environment, timeout=60)
    assert vm_process.returncode == 0, (tmp_path / "out").read_text()
    assert status(vm, "c") == "created"
    assert os.readlink(f"/proc/{(tmp_path / 'pid').read_text()}/ns/net") != os.readlink("/proc/self/ns/net")
    vm.call("kill", "c", "TERM")  # as a container that waits to be started: ignored
    assert vm.call("exec", "c", "true", check=False).returncode == 255
    vm.call("start", "c")
    assert status(vm, "c") == "running"
    assert vm.call("start", "c", check=False).returncode == 1

    # detached, as engines do it: the pid of the pid file ends with the process's code
    process = {"args": ["sh", "-c", "echo detached; exit 6"], "cwd": "/", "env": ["PATH=/bin"],
               "user": {"uid": 0, "gid": 0}}
    (tmp_path / "process.json").write_text(json.dumps(process))
    subreaper = tmp_path / "subreaper.py"
    subreaper.write_text(
        "import ctypes, os, subprocess, sys\n"
        "ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"
        "assert subprocess.run(sys.argv[2:]).returncode == 0\n"
        "pid = int(open(sys.argv[1]).read())\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n")
    done = subprocess.run(["/usr/bin/python3", str(subreaper), str(tmp_path / "exec.pid"),
                           *vm.command("exec", "--process", tmp_path / "process.json", "--detach", "--pid-file",
                                       tmp_path / "exec.pid", "c")], capture_output=True, text=True, timeout=60)
    assert done.stdout == "detached\n6\n", done.stderr

    # SIGKILL: the guest is shut down in order, and everything goes
    vm.call("kill", "c", "KILL")
    ended(vm, "c")
    vm.call("delete", "c")
    nothing_runs(vm)


def test_output_input_and_failures_of_the_program(vm, tmp_path):
    data = os.urandom(1 << 20)
    bundle = vm.bundle(["sh", "-c", "cat; echo apart >&2; exit 7"])
    with (tmp_path / "in").open("w+b") as file:
        file.write(data)
        file.seek(0)
        done = vm.spawn("run", "--bundle", bundle, "c", stdin=file)
        out, errors = done.communicate(timeout=SLOW)
    assert done.returncode == 7 and out == data and errors == b"apart\n"
    missing = vm.call("run", "--bundle", vm.bundle(["nosuch"]), "c", check=False)
    assert missing.returncode == 1 and "executable file not found in $PATH" in missing.stderr
    nothing_runs(vm)
    assert vm.call("list", "-q").stdout == ""


# Terminals


def test_terminal_in_the_foreground(vm):
    bundle = vm.bundle(["sh", "-c", "stty size; read line; echo read-$line; trap 'stty size' WINCH; echo r; while :; do sleep 0.2; done"],
                       edit=lambda d: d["process"].update(terminal=True))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    shown = subprocess.Popen(vm.command("run", "--bundle", bundle, "c"), stdin=slave, stdout=slave, stderr=slave,
                             start_new_session=True, env=vm.environment,
                             preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    os.close(slave)
    read_until(master, b"33 101\r\n")
    os.write(master, b"words\r")
    read_until(master, b"read-words\r\nr\r\n")
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 99, 0, 0))
    read_until(master, b"44 99\r\n")
    os.write(master, b"\x03")
    assert shown.wait(timeout=60) == 130
    os.close(master)


def receive_master(listener):
    connection, _ = listener.accept()
    with connection:
        fds = array.array("i")
        _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_LEN(fds.itemsize))
        fds.frombytes(ancillary[0][2][:fds.itemsize])
    return fds[0]


def test_console_sockets(vm, tmp_path):
    bundle = vm.bundle(["sh", "-c", "tty; echo typed-$(head -n 1); sleep 1000"], edit=lambda d: d["process"].update(terminal=True))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "console"))
        listener.listen()
        vm.call("create", "--bundle", bundle, "--console-socket", tmp_path / "console", "c")
        first = receive_master(listener)
        vm.call("start", "c")
        read_until(first, b"/dev/pts/0\r\n")
        os.write(first, b"abc\r")
        read_until(first, b"typed-abc\r\n")
        vm.call("exec", "--tty", "--detach", "--console-socket", tmp_path / "console", "c", "sh", "-c",
                "stty size; while read x; do stty size; done")
        second = receive_master(listener)
        fcntl.ioctl(second, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 34, 0, 0))
        time.sleep(1)
        os.write(second, b"\r")
        read_until(second, b"12 34\r\n")
    vm.call("delete", "--force", "c")
    os.close(first)
    os.close(second)
    nothing_runs(vm)


# Files


def test_volumes(vm, tmp_path):
    volume = tmp_path / "volume"
    (volume / "nested").mkdir(parents=True)
    (volume / "file").write_text("from the host\n")
    subprocess.run(["mount", "-t", "tmpfs", "hull-t", str(volume / "nested")], check=True)
    (volume / "nested/deep").write_text("deep\n")
    script = ("cat /volume/file /volume/nested/deep /one; echo new > /volume/new; mkdir -p /volume/a/b; "
              "(echo x > /read-only/x) 2>&1 | grep -o 'Read-only file system'; (echo x > /one) 2>&1 | grep -o 'Read-only'; "
              "ln -s target /volume/link; chown 12:34 /volume/new; echo ready; read go; cat /volume/later; "
              "flock -n /volume/lock true && echo got-lock || echo locked; id > /volume/nested/id; df /dev/shm | tail -1")

    def edit(document):
        capable(document)
        document["mounts"] += [
            {"destination": "/volume", "type": "bind", "source": str(volume), "options": ["rbind", "rw"]},
            {"destination": "/read-only", "type": "bind", "source": str(volume), "options": ["rbind", "ro"]},
            {"destination": "/one", "type": "bind", "source": str(volume / "file"), "options": ["bind", "ro"]},
        ]

    try:
        bundle = vm.bundle(["sh", "-c", script], edit=edit, prepare=add_flock)
        run = vm.spawn("run", "--bundle", bundle, "c", stdin=subprocess.PIPE)
        read_until(run.stdout, b"from the host\ndeep\nfrom the host\nRead-only file system\nRead-only\nready\n")
        assert (volume / "new").read_text() == "new\n" and (volume / "a/b").is_dir()
        info = (volume / "new").stat()
        assert (info.st_uid, info.st_gid) == (12, 34) and os.readlink(volume / "link") == "target"
        assert not (volume / "x").exists()
        (volume / "later").write_text("written later\n")
        with (volume / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            run.stdin.write(b"go\n")
            run.stdin.flush()
            read_until(run.stdout, b"written later\nlocked\n")
        out, errors = run.communicate(timeout=60)
        assert run.returncode == 0, errors
        assert (volume / "nested/id").read_text().startswith("uid=0")
    finally:
        subprocess.run(["umount", "-l", str(volume / "nested")], check=False)


def erofs(folder, image, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    subprocess.run(["mkfs.erofs", str(image), str(folder)], check=True, capture_output=True)
    size = image.stat().st_size
    os.truncate(image, (size + 4095) // 4096 * 4096)
    return image


def test_layers_and_scratch_disk(vm, data, tmp_path):
    """As the engine has it: vm.json names layers and a writable disk."""
    bundle = vm.bundle(["sh", "-c", "cat /top /both /bin/mark; cat /kept; echo kept > /kept; id -un; echo $HOME; rm -f /both"],
                       edit=lambda d: d["process"]["user"].update(username="someone"))
    root = bundle / "rootfs"
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nsomeone:x:0:0::/home/some:/bin/sh\n")
    base = erofs(root, tmp_path / "base.erofs", {"both": "base\n", "bin/mark": "base\n"})
    top = erofs(tmp_path / "top", tmp_path / "top.erofs", {"top": "top\n", "both": "top\n"})
    scratch = tmp_path / "scratch"
    with scratch.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(scratch)], check=True)
    subprocess.run(["rm", "-rf", str(root)], check=True)
    console = tmp_path / "console.log"
    (bundle / "vm.json").write_text(json.dumps({
        "layers": [str(top), str(base)], "scratch": str(scratch), "memory": 160 << 20, "vcpus": 1, "hypervisor": "qemu",
        "dataRoot": str(data.folder), "consoleLog": str(console), "resolveUser": True}))
    first = vm.call("run", "--bundle", bundle, "c")
    assert first.stdout == "top\ntop\nbase\nroot\n/home/some\n" and "/kept" in first.stderr
    second = vm.call("run", "--bundle", bundle, "c", check=False)
    assert second.stdout == "top\nbase\nkept\nroot\n/home/some\n" and "/both" in second.stderr and second.returncode == 0
    assert console.exists()


# The network


@pytest.fixture
def wire():
    """A network namespace with a configured eth0, and one with its other end: (path, name of the other one)."""
    name = f"hull-t-{uuid.uuid4().hex[:8]}"
    near, far = name + "n", name + "f"
    for one in (near, far):
        subprocess.run(["ip", "netns", "add", one], check=True)

    def ip(where, *words):
        subprocess.run(["ip", "-n", where, *words], check=True)

    ip(near, "link", "add", "eth0", "type", "veth", "peer", "name", "far0", "netns", far)
    ip(near, "link", "set", "eth0", "address", "02:00:00:00:07:01", "mtu", "1400", "up")
    ip(near, "address", "add", "10.231.7.2/24", "dev", "eth0")
    ip(far, "address", "add", "10.231.7.1/24", "dev", "far0")
    ip(far, "address", "add", "10.231.8.1/32", "dev", "far0")
    ip(far, "link", "set", "far0", "up")
    ip(near, "route", "add", "default", "via", "10.231.7.1")
    yield f"/run/netns/{near}", far
    for one in (near, far):
        subprocess.run(["ip", "netns", "delete", one], check=False)


def test_network_is_handed_over(vm, wire):
    path, far = wire

    def edit(document):
        capable(document)
        for entry in document["linux"]["namespaces"]:
            if entry["type"] == "network":
                entry["path"] = path
        document["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "99", "vm.overcommit_memory": "1"}

    script = ("ip -o link show eth0 | grep -o 'mtu 1400\\|02:00:00:00:07:01'; ip -4 -o address show eth0 | grep -o 10.231.7.2/24; "
              "ip route | grep -o 'default via 10.231.7.1'; ping -c 1 -w 20 10.231.8.1 > /dev/null && echo pinged; "
              "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/vm/overcommit_memory; echo up; "
              "echo answer | nc -l -p 4000 -w 60; echo end")
    run = vm.spawn("run", "--bundle", vm.bundle(["sh", "-c", script], edit=edit), "c")
    read_until(run.stdout, b"mtu 1400\n02:00:00:00:07:01\n10.231.7.2/24\ndefault via 10.231.7.1\npinged\n99\n1\nup\n")
    answer = wait_until(lambda: subprocess.run(["nsenter", f"--net=/run/netns/{far}", "busybox", "nc", "-w", "5", "10.231.7.2",
                                                "4000"], input=b"", capture_output=True).stdout, "the guest's answer", 20)
    assert answer == b"answer\n"
    assert run.wait(timeout=60) == 0, run.stderr.read()


def test_two_interfaces_are_handed_over(vm, wire):
    """Those that are in the namespace when the machine is created; the order is that of their names."""
    path, far = wire
    near = pathlib.Path(path).name
    subprocess.run(["ip", "-n", near, "link", "add", "eth1", "type", "veth", "peer", "name", "far1", "netns", far], check=True)
    subprocess.run(["ip", "-n", near, "address", "add", "10.231.9.2/24", "dev", "eth1"], check=True)
    subprocess.run(["ip", "-n", near, "link", "set", "eth1", "up"], check=True)
    subprocess.run(["ip", "-n", far, "address", "add", "10.231.9.1/24", "dev", "far1"], check=True)
    subprocess.run(["ip", "-n", far, "link", "set", "far1", "up"], check=True)

    def edit(document):
        capable(document)
        for entry in document["linux"]["namespaces"]:
            if entry["type"] == "network":
                entry["path"] = path

    script = ("ip -4 -o address show | awk '$2 != \"lo\" {print $2, $4}'; ping -c 1 -w 20 10.231.9.1 > /dev/null && "
              "ping -c 1 -w 20 10.231.8.1 > /dev/null && echo both")
    done = vm.call("run", "--bundle", vm.bundle(["sh", "-c", script], edit=edit), "c")
    assert done.stdout == "eth0 10.231.7.2/24\neth1 10.231.9.2/24\nboth\n", done.stdout


# What can't be


def test_refused_before_anything_is_made(vm, tmp_path):
    def namespace(kind, **entry):
        def edit(document):
            spaces = [one for one in document["linux"]["namespaces"] if one["type"] != kind]
            document["linux"]["namespaces"] = spaces + ([{"type": kind, **entry}] if entry else [])
        return edit

    def mount(source):
        return lambda d: d["mounts"].append({"destination": "/x", "type": "bind", "source": str(source), "options": ["bind"]})

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    cases = [
        (namespace("network"), "can't use the host's network"),
        (namespace("pid"), "can't use the host's processes"),
        (namespace("ipc", path="/proc/1/ns/ipc"), "can't join the ipc namespace"),
        (namespace("network", path="/proc/self/ns/uts"), "not a network namespace"),
        (mount("/dev/null"), "is a device"),
        (mount(tmp_path / "socket"), "is a socket"),
        (mount(tmp_path / "nosuch"), "No such file"),
        (lambda d: d["linux"].update(devices=[{"path": "/dev/sda", "type": "b", "major": 8, "minor": 0}]), "/dev/sda"),
        (lambda d: d["linux"]["resources"].update(memory={"limit": 1 << 50}), "this host has"),
        (lambda d: d.update(vm={"hypervisor": {"path": "/usr/bin/hull-vmm", "parameters": ["--x"]}}), "parameters"),
        (lambda d: d.update(hooks={"createContainer": [{"path": "/bin/true"}]}), "createContainer"),
    ]
    for edit, words in cases:
        done = vm.call("create", "--bundle", vm.bundle(edit=edit), "c", check=False)
        assert done.returncode == 1 and words in done.stderr, (words, done.stderr)
    descriptors = vm.call("run", "--preserve-fds", "1", "--bundle", vm.bundle(), "c", check=False, pass_fds=[3])
    assert descriptors.returncode == 1 and "descriptor" in descriptors.stderr
    environment = {**vm.environment, "HULL_ROOT": str(tmp_path / "empty")}
    no_kernel = vm.call("run", "--bundle", vm.bundle(), "c", check=False, env=environment)
    assert no_kernel.returncode == 1 and "hull vm kernel install" in no_kernel.stderr
    assert vm.call("list", "-q").stdout == "" and not vm.processes()


def test_a_kernel_that_does_not_boot(vm, tmp_path):
    (tmp_path / "kernel").write_bytes(b"\x7fELF" + b"x" * 5000)
    (tmp_path / "initrd").write_bytes(b"x" * 5000)
    bundle = vm.bundle(edit=lambda d: d.update(vm={
        "hypervisor": {"path": "/usr/bin/qemu-system-x86_64"},
        "kernel": {"path": str(tmp_path / "kernel"), "initrd": str(tmp_path / "initrd")}}))
    done = vm.call("run", "--bundle", bundle, "c", check=False)
    assert done.returncode == 1 and "qemu ended" in done.stderr, done.stderr
    assert vm.call("list", "-q").stdout == ""
    nothing_runs(vm)


# Machines that fail


def test_guest_panic_is_told_with_its_last_words(vm):
    def edit(document):
        for one in document["mounts"]:
            if one["destination"] == "/proc":
                one["options"] = ["rw"]

    bundle = vm.bundle(["sh", "-c", "echo before; sleep 0.5; echo c > /proc/sysrq-trigger; sleep 100"], edit=edit)
    done = vm.call("run", "--bundle", bundle, "c", check=False)
    assert done.returncode == 125 and done.stdout == "before\n"
    assert "the guest's kernel panicked" in done.stderr and "sysrq triggered crash" in done.stderr
    assert vm.call("list", "-q").stdout == ""
    nothing_runs(vm)


def test_out_of_memory_in_the_guest(vm):
    bundle = vm.bundle(["sh", "-c", "tail /dev/zero; echo code $?"])
    done = vm.call("run", "--bundle", bundle, "c", check=False)
    assert "code 137" in done.stdout, (done.stdout, done.stderr)


def test_kill_9_leaves_nothing(vm):
    """Whoever is killed: the rest ends, and delete --force clears what is on disk."""
    mounts = instances.settled_mounts()
    for victim in ("supervisor", "qemu", "virtiofsd", "hung"):
        vm.call("run", "--detach", "--bundle", vm.bundle(["sleep", "1000"]), "c")
        pid = state(vm, "c")["pid"]
        names = {int(one): pathlib.Path(f"/proc/{one}/comm").read_text().strip() for one in vm.processes()}
        qemu = next(one for one, name in names.items() if name.startswith("qemu"))
        if victim == "supervisor":
            os.kill(pid, signal.SIGKILL)
        elif victim == "qemu":
            os.kill(qemu, signal.SIGKILL)
        elif victim == "virtiofsd":
            os.kill(next(one for one, name in names.items() if name == "virtiofsd"), signal.SIGKILL)
        else:  # a guest that does not answer: SIGKILL ends the machine
            os.kill(qemu, signal.SIGSTOP)
            vm.call("kill", "c", "KILL")
        ended(vm, "c")
        nothing_runs(vm)
        assert instances.settled_mounts() <= mounts
        vm.call("delete", "--force", "c")
        assert records(vm) == []
        assert not [path for path in instances.cgroup_folders() if f"/{vm.cgroup}/" in path]


def test_create_killed_at_any_time(vm):
    bundle = vm.bundle(["sleep", "1000"])
    for delay_ms in (1, 3, 6, 10, 15, 25, 40, 60, 90, 150):
        # A machine that was complete lives on, as a container does.
        run = vm.spawn("run", "--bundle", bundle, "c", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay_ms / 1000)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        vm.call("delete", "--force", "c")
        nothing_runs(vm)
        assert records(vm) == []
        assert not [path for path in instances.cgroup_folders() if f"/{vm.cgroup}/" in path]


# hull-oci becomes hull-oci-vm


def test_hull_oci_hands_over(data, tmp_path):
    oci = vm_runtime.VmRuntime(data, "hull-oci")
    try:
        asked = oci.bundle(["uname", "-r"], edit=lambda d: d.update(vm={}))
        assert oci.run(asked).stdout.strip().endswith("cloud-amd64")
        oci.call("--isolation", "vm", "run", "--detach", "--bundle", oci.bundle(WAITS), "c")
        assert status(oci, "c") == "running"
        assert oci.call("exec", "c", "uname", "-r").stdout.strip().endswith("cloud-amd64")
        resources = tmp_path / "resources.json"
        resources.write_text(json.dumps({"pids": {"limit": 30}}))
        with resources.open() as file:
            oci.call("update", "--resources", "-", "c", stdin=file)
        assert "got-term" in oci.call("ps", "c").stdout
        assert "guest" in json.loads(oci.call("events", "--stats", "c").stdout)
        oci.call("pause", "c")
        oci.call("resume", "c")
        oci.call("kill", "c", "KILL")
        ended(oci, "c")
        oci.call("delete", "c")
        contained = oci.bundle(["sleep", "100"])
        oci.call("run", "--detach", "--bundle", contained, "plain")
        refused = subprocess.run([str(instances.BIN / "hull-oci-vm"), *oci.command("kill", "plain", "KILL")[1:]],
                                 capture_output=True, text=True)
        assert refused.returncode == 1 and "use hull-oci" in refused.stderr
        wrong = oci.call("--isolation", "jail", "list", check=False)
        assert wrong.returncode == 1 and "container or vm" in wrong.stderr
    finally:
        oci.close()


def test_features_and_version(data):
    vm = vm_runtime.VmRuntime(data)
    try:
        features = json.loads(vm.call("features").stdout)
        assert features["annotations"]["io.hull.isolation"] == "vm" and "createContainer" not in features["hooks"]
        assert vm.call("--version").stdout.startswith("hull-oci-vm version")
        assert "virtual machines" in vm.call("--help").stdout
    finally:
        vm.close()
