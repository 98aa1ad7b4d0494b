"""The same checks behind both walls: what works in a container works in a virtual machine, and gives the same result.

A machine takes seconds to boot where there is no KVM, so most checks look at one long-running workload, the box."""

import fcntl
import hashlib
import json
import os
import pty
import re
import signal
import struct
import subprocess
import tarfile
import termios
import time

import pytest
from support import images
from support import vm as machines
from support.instance import Instance, wait_until

LONG = 120  # seconds that a command may take on a busy machine without KVM


class Wall:
    """An instance in which every workload is behind one wall."""

    def __init__(self, isolation):
        self.isolation = isolation
        self.instance = Instance()

    @property
    def vm(self):
        return self.isolation == "vm"

    def flags(self):
        flags = ["--isolation", self.isolation, "-q"]  # -q: without the line that says that it is emulated
        hypervisor = os.environ.get("HULL_TEST_HYPERVISOR")
        return [*flags, "--hypervisor", hypervisor] if self.vm and hypervisor else flags

    def hull(self, *arguments, timeout=LONG, **more):
        return self.instance.hull(*arguments, timeout=timeout, **more)

    def run(self, *arguments, command=("true",), network="none", memory="96m", **more):
        return self.hull("run", "--rm", *self.flags(), "--network", network, "-m", memory, *arguments, "test", *command,
                         **more)

    def create_and_start(self, *arguments, command, network="none", memory="96m"):
        return self.hull("run", "-d", *self.flags(), "--network", network, "-m", memory, *arguments, "test",
                         *command).stdout.strip()

    def state(self, name):
        return json.loads(self.hull("inspect", name).stdout)[0]["State"]


@pytest.fixture(scope="module", params=["container", "vm"])
def wall(request, tmp_path_factory):
    made = Wall(request.param)
    try:
        if made.vm:
            machines.share_kernel(made.instance, request.getfixturevalue("guest_kernel"))
        images.load(made.instance, tmp_path_factory.mktemp("image"))
        yield made
    finally:
        made.instance.close()


of_machines = pytest.mark.parametrize("wall", ["vm"], indirect=True, scope="module")


BOX = """
env > /shared/env; pwd > /shared/pwd; id > /shared/id; hostname > /shared/hostname
trap 'echo usr1' USR1; trap 'echo bye; exit 5' TERM
httpd -p 8080 -h /data
echo ready; echo warning >&2
while :; do echo tick; sleep 0.2; done
"""


# Programs of this machine, below /host: its Python tells of locks and mappings what busybox can't.
HOST_PROGRAMS = ["-v", "/usr:/host:ro", "-v", "/usr/lib64:/lib64:ro",
                 "-v", "/usr/lib/x86_64-linux-gnu:/lib/x86_64-linux-gnu:ro"]


class Box:
    """The long-running workload and what it shares with the host."""

    def __init__(self, wall, folder):
        self.wall, self.folder = wall, folder
        for name in ("shared", "readonly"):
            (folder / name).mkdir()
        os.chmod(folder / "shared", 0o777)
        (folder / "readonly/file").write_text("from the host\n")
        (folder / "single").write_text("one file\n")
        (folder / "env").write_text("FROM_FILE=yes\n")
        self.id = wall.create_and_start(
            "--name", "box", "-e", "A=b c", "--env-file", folder / "env", "-w", "/work", "-u", "alice:video",
            "--group-add", "staff", "--hostname", "vessel", "--domainname", "example.org", "--add-host", "db:10.1.2.3",
            "--dns", "192.0.2.53", "--dns-search", "example.net", "-v", f"{folder}/shared:/shared",
            "-v", f"{folder}/readonly:/readonly:ro", "--mount",
            f"type=bind,source={folder}/single,target=/etc/single,readonly", "-v", "kept:/data", "--tmpfs",
            "/scratch:size=1m,mode=1777", "--cpus", "1.5", "--pids-limit", "64", "--cap-drop", "ALL", "--cap-add", "KILL",
            "--ulimit", "nofile=123:456", "--sysctl", "net.core.somaxconn=77", "--shm-size", "3m", "--init",
            "--label", "ship=yes", *HOST_PROGRAMS, "-p", "127.0.0.1:0:8080", "--entrypoint", "sh",
            command=("-c", BOX), network="bridge")
        wait_until(lambda: "ready" in self.logs(), "the box to be ready", LONG)

    def logs(self):
        return self.wall.hull("logs", self.id).stdout

    def exec(self, *arguments, command, **more):
        return self.wall.hull("exec", *arguments, self.id, *command, **more)

    def sh(self, script, *arguments):
        return self.exec(*arguments, command=("sh", "-c", script)).stdout.strip()


@pytest.fixture(scope="module")
def box(wall, tmp_path_factory):
    return Box(wall, tmp_path_factory.mktemp("box"))


# What the first process finds

def test_environment_and_working_folder(box):
    lines = (box.folder / "shared/env").read_text().splitlines()
    assert {"A=b c", "FROM_FILE=yes", "HOSTNAME=vessel", "HOME=/home/alice"} <= set(lines)
    assert (box.folder / "shared/pwd").read_text() == "/work\n"


def test_user_and_groups(box):
    assert re.fullmatch(r"uid=1000\(alice\) gid=44\(video\) groups=(44\(video\),)?50\(staff\)\n",
                        (box.folder / "shared/id").read_text())


def test_hostname_and_network_files(box):
    assert (box.folder / "shared/hostname").read_text() == "vessel\n"
    assert box.sh("cat /etc/hostname /proc/sys/kernel/domainname").split() == ["vessel", "example.org"]
    hosts = box.sh("cat /etc/hosts")
    assert re.search(r"10\.1\.2\.3\s+db", hosts) and "vessel" in hosts
    resolv = box.sh("cat /etc/resolv.conf")
    assert "nameserver 192.0.2.53" in resolv and "search example.net" in resolv


def test_init_is_the_first_process(box):
    assert "docker-init" in box.sh("tr '\\0' ' ' < /proc/1/cmdline")


def test_capabilities_limits_and_sysctls(box):
    status = box.sh("cat /proc/1/status", "-u", "0")
    assert re.search(r"^CapBnd:\s*0*20$", status, re.M)  # CAP_KILL alone
    assert box.sh("ulimit -n; ulimit -H -n").split() == ["123", "456"]
    assert box.sh("cat /proc/sys/net/core/somaxconn") == "77"
    assert re.search(r"^Seccomp:\s*2$", status, re.M)


def test_tmpfs_and_shm(box):
    sizes = box.sh("df -k /scratch /dev/shm | awk 'NR>1 {print $2}'").split()
    assert sizes == ["1024", "3072"]
    assert box.exec(command=("dd", "if=/dev/zero", "of=/scratch/big", "bs=1k", "count=2048"), check=False).returncode == 1
    box.sh("rm /scratch/big")


# Volumes

def test_volumes_both_ways(box):
    box.sh("echo from inside > /shared/inside; mkdir /shared/folder")
    assert (box.folder / "shared/inside").read_text() == "from inside\n"
    assert os.stat(box.folder / "shared/inside").st_uid == 1000
    (box.folder / "shared/outside").write_text("first\n")
    assert box.sh("cat /shared/outside") == "first"
    (box.folder / "shared/outside").write_text("second\n")
    assert box.sh("cat /shared/outside") == "second"
    os.unlink(box.folder / "shared/outside")
    wait_until(lambda: box.sh("ls /shared/outside 2>&1 || true").endswith("No such file or directory"), "the removal")


def test_read_only_volume_and_single_file(box):
    assert box.sh("cat /readonly/file /etc/single").splitlines() == ["from the host", "one file"]
    for path in ("/readonly/new", "/readonly/file", "/etc/single"):
        done = box.exec("-u", "0", command=("sh", "-c", f"echo x > {path}"), check=False)
        assert done.returncode == 1 and "Read-only" in done.stderr, (path, done.stderr)
    assert (box.folder / "readonly/file").read_text() == "from the host\n"


def test_named_volume_has_the_images_files(box):
    assert box.sh("cat /data/seed") == "from the image"
    assert "kept" in box.wall.hull("volume", "ls", "-q").stdout


def test_locks_of_files_are_the_hosts(box):
    path = box.folder / "shared/lock"
    path.write_text("")
    os.chmod(path, 0o666)
    try_lock = ("/host/bin/flock", "-n", "/shared/lock", "/bin/true")
    with open(path, "r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert box.exec(command=try_lock, check=False).returncode == 1
        fcntl.flock(held, fcntl.LOCK_UN)
        assert box.exec(command=try_lock, check=False).returncode == 0


def test_files_can_be_mapped(box):
    path = box.folder / "shared/mapped"
    path.write_bytes(b"a" * 8192)
    os.chmod(path, 0o666)
    script = ("import mmap; f = open('/shared/mapped', 'r+b'); m = mmap.mmap(f.fileno(), 0); print(m[4095:4097]); "
              "m[4096:4099] = b'new'; m.flush()")
    assert box.exec(command=("/host/bin/python3", "-c", script)).stdout == "b'aa'\n"
    assert path.read_bytes()[4090:4100] == b"aaaaaanewa"


# Limits and what is told of them

def test_memory_limit_holds(box):
    greedy = 'BEGIN { piece = sprintf("%1048576s", ""); for (i = 0; i < 300; i++) all[i] = piece i; print "had it all" }'
    done = box.exec(command=("awk", greedy), check=False)
    assert done.returncode == 137, (done.returncode, done.stdout, done.stderr)
    assert box.wall.state("box")["Running"]


def test_pids_limit_holds(box):
    many = "i=0; while [ $i -lt 100 ]; do sleep 3 & i=$((i+1)); done 2>&1; echo end"
    out = box.exec(command=("sh", "-c", many), check=False)
    assert "can't fork" in out.stdout + out.stderr, out.stdout + out.stderr
    few = ("sh", "-c", "[ $(ps | wc -l) -lt 20 ]")
    wait_until(lambda: box.exec(command=few, check=False).returncode == 0, "the processes to end", LONG)


def test_processors(box):
    if box.wall.vm:
        assert box.sh("nproc") == "2"  # 1.5 rounded up
    assert json.loads(box.wall.hull("inspect", "box").stdout)[0]["HostConfig"]["NanoCpus"] == 1500000000


def test_files_are_copied_both_ways(box, tmp_path):
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/deep/file").write_text("carried\n")
    os.symlink("deep/file", tmp_path / "in/link")
    box.wall.hull("cp", str(tmp_path / "in"), "box:/tmp")
    assert box.sh("cat /tmp/in/link", "-u", "0") == "carried"
    box.wall.hull("cp", "box:/tmp/in/.", str(tmp_path / "out"))
    assert (tmp_path / "out/deep/file").read_text() == "carried\n" and os.readlink(tmp_path / "out/link") == "deep/file"
    box.wall.hull("cp", "-L", "box:/tmp/in/link", str(tmp_path / "followed"))
    assert (tmp_path / "followed").read_text() == "carried\n"
    big = os.urandom(3_000_000)
    (tmp_path / "big").write_bytes(big)
    box.wall.hull("cp", str(tmp_path / "big"), "box:/tmp/renamed")
    box.wall.hull("cp", "box:/tmp/renamed", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == big
    gone = box.wall.hull("cp", "box:/no/such", str(tmp_path), check=False)
    assert gone.returncode == 1 and "Could not find the file /no/such" in gone.stderr
    box.sh("rm -r /tmp/in /tmp/renamed", "-u", "0")


def test_changes_are_told(box):
    box.sh("mkdir /work/new; echo 1 > /work/new/file; echo 2 > /etc/added; rm -f /etc/group-", "-u", "0")
    lines = set(box.wall.hull("diff", "box").stdout.splitlines())
    assert {"A /work/new", "A /work/new/file", "C /etc", "A /etc/added"} <= lines, lines
    assert not any(line[2:] in ("/proc", "/dev", "/etc/hosts") or line[2:].startswith("/shared/") for line in lines), lines
    box.sh("rm -r /work/new /etc/added", "-u", "0")
    assert not {"A /work/new", "A /etc/added"} & set(box.wall.hull("diff", "box").stdout.splitlines())


def test_files_are_exported(box, tmp_path):
    box.sh("echo exported > /work/file; ln /work/file /work/again; ln -s file /work/link", "-u", "0")
    box.wall.hull("export", "-o", str(tmp_path / "all.tar"), "box")
    with tarfile.open(tmp_path / "all.tar") as archive:
        assert archive.extractfile("work/file").read() == b"exported\n" and archive.getmember("work/link").linkname == "file"
        pair = {name: archive.getmember(name) for name in ("work/again", "work/file")}
        assert pair["work/file"].islnk() and pair["work/file"].linkname == "work/again"
        names = set(archive.getnames())
        assert "shared" in names and "shared/env" not in names and "proc" in names and "proc/self" not in names
    box.sh("rm /work/file /work/again /work/link", "-u", "0")


def test_an_image_is_made_of_what_was_written(box):
    box.sh("mkdir -p /work/kept; echo committed > /work/kept/file; chmod 640 /work/kept/file", "-u", "0")
    for flags in ([], ["--pause=false"]):
        box.wall.hull("commit", *flags, "--change", "ENTRYPOINT []", "box", "made:1")
        done = box.wall.hull("run", "--rm", "--network", "none", "-u", "0", "made:1", "sh", "-c",
                             "cat /work/kept/file; stat -c %a /work/kept/file")
        assert done.stdout == "committed\n640\n"
        box.wall.hull("rmi", "made:1")
    assert box.sh("echo on") == "on"  # it goes on
    box.sh("rm -r /work/kept", "-u", "0")


def test_files_without_tar_in_the_image(wall, tmp_path):
    """Nothing of the image is needed: the work is done by Hull."""
    name = wall.create_and_start(command=("sh", "-c", "rm -f /bin/tar /bin/stat /bin/readlink; echo ready; exec sleep 1000"))
    wait_until(lambda: "ready" in wall.hull("logs", name).stdout, "the workload", LONG)
    (tmp_path / "in").write_text("carried\n")
    wall.hull("cp", str(tmp_path / "in"), f"{name}:/work/new")
    wall.hull("cp", f"{name}:/work/new", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "carried\n"
    for arguments, said in (([str(tmp_path / "in"), f"{name}:/no/such/folder"], "Could not find the file /no/such"),
                            (["-", f"{name}:/work/new"], "must be a directory")):
        done = wall.hull("cp", *arguments, check=False, input="")
        assert done.returncode == 1 and said in done.stderr, done.stderr
    broken = wall.hull("cp", "-", f"{name}:/work", input=b"no archive at all" * 100, text=False, check=False)
    assert broken.returncode == 1
    wall.hull("pause", name)
    if wall.vm:
        for arguments in (["diff", name], ["export", "-o", str(tmp_path / "x"), name], ["cp", f"{name}:/work/new", "-"]):
            done = wall.hull(*arguments, check=False)
            assert done.returncode == 1 and "unpause it first" in done.stderr, done.stderr
    wall.hull("unpause", name)
    wall.hull("kill", name)
    wall.hull("wait", name)
    if wall.vm:
        done = wall.hull("diff", name, check=False)
        assert done.returncode == 1 and "start it first" in done.stderr, done.stderr
    wall.hull("rm", name)


def test_stats_and_top(box):
    document = json.loads(box.wall.hull("stats", "--no-stream", "--format", "json", "box").stdout)
    assert document["ID"] == box.id[:12] and document["Isolation"] == box.wall.isolation
    used, limit = document["MemUsage"].split(" / ")
    assert not used.startswith("0B") and limit != "0B"
    if box.wall.vm:  # guest and monitor are counted
        assert float(re.match(r"[\d.]+", used).group()) > 30 and used.endswith("MiB")
    else:
        assert limit == "96MiB"
    rows = box.wall.hull("top", "box").stdout.splitlines()
    assert "PID" in rows[0].split() and any("httpd -p 8080" in row for row in rows[1:])
    with_arguments = box.wall.hull("top", "box", "-o", "pid,comm").stdout.splitlines()
    assert with_arguments[0].split() == ["PID", "COMMAND"]


def test_ps_and_inspect_tell_the_wall(box):
    line = box.wall.hull("ps", "--format", "{{.Names}} {{.Isolation}}").stdout.splitlines()
    assert f"box {box.wall.isolation}" in line
    document = json.loads(box.wall.hull("inspect", "box").stdout)[0]
    assert document["Isolation"] == box.wall.isolation and document["State"]["Pid"] > 0
    assert box.wall.hull("ps", "-q", "--filter", f"isolation={box.wall.isolation}").stdout.strip() == box.id[:12]


# Further processes

def test_exec(box):
    assert box.exec("-e", "A=exec", "-w", "/data", "-u", "nobody", command=("sh", "-c", "echo $A; pwd; id -u")).stdout \
        .split() == ["exec", "/data", "65534"]
    assert box.exec("-u", "1234:50", command=("sh", "-c", "id -u; id -g; echo $HOME")).stdout.split() == \
        ["1234", "50", "/"]
    done = box.exec("-i", command=("sh", "-c", "cat; echo err >&2; exit 42"), input="through\n", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (42, "through\n", "err\n")
    assert box.exec(command=("no-such-program",), check=False).returncode == 127
    assert box.exec(command=("/etc/passwd",), check=False).returncode == 126
    done = box.exec("-u", "no-such-user", command=("true",), check=False)
    assert done.returncode != 0 and "no-such-user" in done.stderr
    assert box.exec(command=("sh", "-c", "kill -9 $$"), check=False).returncode == 137
    box.exec("-d", command=("touch", "/shared/detached"))
    wait_until((box.folder / "shared/detached").exists, "the file", LONG)


def test_exec_moves_much_data(box):
    done = box.exec("-i", command=("md5sum",), input=b"0123456789abcdef" * 200_000, text=False)
    assert done.stdout.split()[0].decode() == hashlib.md5(b"0123456789abcdef" * 200_000).hexdigest()
    done = box.exec(command=("head", "-c", "3000000", "/dev/zero"), text=False)
    assert len(done.stdout) == 3_000_000 and not done.stdout.strip(b"\0")


class Terminal:
    """A command on a pseudo-terminal of 30 rows and 100 columns."""

    def __init__(self, wall, *arguments, rows=30, columns=100):
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.process = wall.instance.start(*arguments, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                           preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.seen = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern, timeout_s=LONG):
        end = time.monotonic() + timeout_s
        os.set_blocking(self.master, False)
        while not re.search(pattern, self.seen):
            assert time.monotonic() < end, f"no {pattern!r} in {self.seen!r}"
            try:
                got = os.read(self.master, 65536)
            except BlockingIOError:
                time.sleep(0.02)
                continue
            except OSError:  # the other end is closed
                got = b""
            if not got:
                assert re.search(pattern, self.seen), f"ended without {pattern!r}: {self.seen!r}"
            self.seen += got.decode(errors="replace")

    def close(self, timeout=LONG):
        code = self.process.wait(timeout)
        os.close(self.master)
        return code


def test_exec_on_a_terminal(box):
    terminal = Terminal(box.wall, "exec", "-it", box.id, "sh")
    terminal.type("echo size $(stty size); tty\n")
    terminal.expect(r"size 30 100\s+/dev/pts/\d+")
    terminal.resize(20, 77)
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.type("sleep 1; echo again $(stty size)\n")
    terminal.expect(r"again 20 77")
    terminal.type("sleep 1000\n")
    time.sleep(0.5)
    terminal.type("\x03")
    terminal.type("exit 7\n")
    assert terminal.close() == 7


# Network

def test_published_port(box):
    address = box.wall.hull("port", "box", "8080/tcp").stdout.strip()
    script = f"import urllib.request; print(urllib.request.urlopen('http://{address}/seed', timeout=20).read())"
    assert box.wall.instance.in_netns(["/usr/bin/python3", "-c", script]).stdout == "b'from the image\\n'\n"


def test_on_the_bridge_with_a_container(box):
    """A container and the box reach each other, whatever wall the box is behind."""
    addresses = json.loads(box.wall.hull("inspect", "box").stdout)[0]["NetworkSettings"]
    peer = box.wall.hull("run", "-d", "--name", "peer", "test", "httpd", "-f", "-p", "80", "-h", "/data").stdout.strip()
    try:
        mine = json.loads(box.wall.hull("inspect", peer).stdout)[0]["NetworkSettings"]
        ask = "printf 'GET /seed HTTP/1.0\\r\\n\\r\\n' | nc -w 20 "
        out = box.wall.hull("exec", peer, "sh", "-c", f"{ask} {addresses['IPAddress']} 8080").stdout
        assert out.endswith("from the image\n")
        assert box.sh(f"{ask} {mine['IPAddress']} 80").endswith("from the image")
        inside = box.sh("cat /sys/class/net/eth0/address; ip -4 addr show eth0")
        assert addresses["MacAddress"] in inside and f"inet {addresses['IPAddress']}/" in inside
        assert box.sh("ip route").split("\n")[0].startswith(f"default via {addresses['Gateway']}")
    finally:
        box.wall.hull("rm", "-f", peer)


# Its life: these run last, in this order

def test_logs(box):
    done = box.wall.hull("logs", box.id)
    assert done.stdout.startswith("ready\ntick\n") and done.stderr.splitlines()[0] == "warning"
    assert re.match(r"\d{4}-\d\d-\d\dT\S+Z tick$", box.wall.hull("logs", "-t", "--tail", "1", box.id).stdout.splitlines()[-1])


def test_pause_and_unpause(box):
    box.wall.hull("pause", "box")
    assert box.wall.state("box")["Status"] == "paused" and "(Paused)" in box.wall.hull("ps").stdout
    assert box.exec(command=("true",), check=False).returncode != 0
    before = box.logs()
    time.sleep(1)
    assert box.logs() == before
    box.wall.hull("unpause", "box")
    wait_until(lambda: box.logs() != before, "more output", 30)


def test_attach_shows_what_comes(box):
    process = box.wall.instance.start("attach", "--no-stdin", "--sig-proxy=false", box.id, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"tick\n"
    process.kill()
    process.wait()
    process.stdout.close()
    assert box.wall.state("box")["Running"]


def test_kill_with_a_signal_that_is_caught(box):
    box.wall.hull("kill", "-s", "USR1", "box")
    wait_until(lambda: "usr1" in box.logs(), "the trap", 30)


def test_stop_and_start_keep_files(box):
    box.sh("echo kept > /work/file", "-u", "0")
    box.wall.hull("stop", "-t", "30", "box")
    state = box.wall.state("box")
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 5, 0) and box.logs().endswith("bye\n")
    assert box.wall.hull("wait", "box").stdout.strip() == "5"
    box.wall.hull("start", "box")
    assert box.sh("cat /work/file") == "kept"
    done = box.wall.hull("rm", "box", check=False)
    assert done.returncode == 1 and "force" in done.stderr


def test_killed_and_removed_leaves_nothing(box):
    box.wall.hull("kill", "box")
    assert box.wall.hull("wait", "box").stdout.strip() == "137"
    wait_until(lambda: box.wall.state("box")["Status"] == "exited", "the end", 30)
    usage = box.wall.hull("system", "df", "-v").stdout
    assert "box" in usage
    box.wall.hull("rm", "box")
    assert box.wall.hull("ps", "-aq").stdout == ""
    wait_until(lambda: not box.wall.instance.processes(), "every process to end", 30)
    assert not (box.wall.instance.root / "workloads" / box.id).exists()
    box.wall.hull("system", "check")


# Runs of their own

def test_streams_input_and_exit_code(wall):
    done = wall.run("-i", command=("sh", "-c", "cat; echo err >&2; exit 37"), input="typed\n", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (37, "typed\n", "err\n")
    assert wall.hull("ps", "-aq").stdout == ""


def test_missing_program(wall):
    done = wall.run(command=("no-such-program",), check=False)
    assert done.returncode == 127 and "no-such-program" in done.stderr, done.stderr


def test_out_of_memory_is_told(wall):
    name = wall.create_and_start(command=("sh", "-c", "tail /dev/zero; exit $?"), memory="64m")
    assert wall.hull("wait", name).stdout.strip() == "137"
    state = wall.state(name)
    assert state["OOMKilled"] is True and state["ExitCode"] == 137, state
    wall.hull("rm", name)
    name = wall.create_and_start(command=("sh", "-c", "exit 137"))
    assert wall.hull("wait", name).stdout.strip() == "137" and wall.state(name)["OOMKilled"] is False
    wall.hull("rm", name)


def megabytes(text):
    number, unit = re.match(r"([\d.]+)(\w+)", text).groups()
    return float(number) * {"B": 1e-6, "KiB": 1 / 1024, "MiB": 1, "GiB": 1024}[unit]


@of_machines
def test_freed_memory_goes_back_to_the_host(wall):
    """What the guest frees (an object of 100 MiB in its memory) the host has again within seconds, and stats says so."""
    script = ("while :; do sleep 0.2; [ -e /t/take ] && rm /t/take && dd if=/dev/zero of=/t/big bs=1M count=100 && echo took; "
              "[ -e /t/give ] && rm /t/give /t/big && echo gave; done")
    name = wall.create_and_start("--tmpfs", "/t:size=120m,mode=1777", command=("sh", "-c", script), memory="192m")

    def used():
        line = wall.hull("stats", "--no-stream", "--format", "json", name).stdout
        return megabytes(json.loads(line)["MemUsage"].split(" / ")[0])

    def ask(what, answer):
        wall.hull("exec", name, "touch", f"/t/{what}")
        wait_until(lambda: answer in wall.hull("logs", name).stdout, answer, LONG)

    before = used()
    ask("take", "took")
    full = used()
    assert full > before + 90, (before, full)
    ask("give", "gave")
    begin = time.monotonic()
    wait_until(lambda: used() < full - 80, f"memory to come back: {full} MiB, {used()} MiB", 40)
    print(f"{before} MiB, {full} MiB, {used()} MiB after {time.monotonic() - begin:.1f} s")
    wall.hull("rm", "-f", name)


def test_program_that_may_not_be_executed(wall):
    done = wall.run(command=("/etc/passwd",), check=False)
    assert done.returncode == 126 and "/etc/passwd" in done.stderr, done.stderr


def test_unknown_user(wall):
    done = wall.run("-u", "no-such-user", check=False)
    assert done.returncode == 125 and "unable to find user no-such-user" in done.stderr, done.stderr
    assert wall.hull("ps", "-aq").stdout == ""


def test_read_only_root_and_no_network(wall):
    script = "touch /work/x; echo $?; touch /t/x && echo tmpfs; ls /sys/class/net; cat /proc/sys/kernel/hostname"
    done = wall.run("--read-only", "--tmpfs", "/t", command=("sh", "-c", script))
    lines = done.stdout.split()
    assert "Read-only file system" in done.stderr and lines[:2] == ["1", "tmpfs"] and "lo" in lines
    assert re.fullmatch(r"[0-9a-f]{12}", lines[-1])


def test_privileged(wall):
    script = ("awk '/^CapEff|^Seccomp:/ {print $2}' /proc/self/status; mkdir /m; mount -t tmpfs none /m && echo mounted; "
              "echo 1 > /proc/sys/net/ipv4/ip_forward && echo sysctl; test -b /dev/loop0 -o -c /dev/kmsg && echo device")
    done = wall.run("--privileged", command=("sh", "-c", script))
    lines = done.stdout.split()
    assert int(lines[0], 16) & (1 << 21) and lines[1] == "0" and lines[2:] == ["mounted", "sysctl", "device"], done.stdout


def test_terminal_resize_and_signals(wall):
    terminal = Terminal(wall, "run", "--rm", "-it", *wall.flags(), "--network", "none", "-m", "96m", "test", "sh")
    terminal.type("echo size $(stty size)\n")
    terminal.expect(r"size 30 100")
    terminal.resize(25, 90)
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.type("sleep 1; echo again $(stty size)\n")
    terminal.expect(r"again 25 90")
    terminal.type("\x10\x11")  # the detach keys
    assert terminal.close() == 0
    name = wall.hull("ps", "-q").stdout.strip()
    assert name
    again = Terminal(wall, "attach", name)
    again.type("\necho back\n")
    again.expect(r"\nback")
    again.type("exit 3\n")
    assert again.close() == 3
    wait_until(lambda: wall.hull("ps", "-aq").stdout == "", "its removal", 30)


def test_signals_are_passed_on(wall):
    process = wall.instance.start("run", "--rm", *wall.flags(), "--network", "none", "-m", "96m", "test", "sh", "-c",
                                  "trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done", stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=LONG) == 6
    process.stdout.close()


def test_restart(wall):
    name = wall.create_and_start("--name", "again", command=("sh", "-c", "echo start; exec sleep 1000"))
    wait_until(lambda: wall.hull("logs", name).stdout == "start\n", "the first start", LONG)
    first = wall.state(name)["Pid"]
    wall.hull("restart", "-t", "0", name)
    assert wall.state(name)["Pid"] not in (0, first)
    wait_until(lambda: wall.hull("logs", name).stdout == "start\nstart\n", "the second start", LONG)
    wall.hull("rm", "-f", name)


# What is refused

@of_machines
@pytest.mark.parametrize("arguments", [
    ["--network", "host"], ["--network", "container:box"], ["--pid", "host"], ["--ipc", "host"], ["--ipc", "shareable"],
    ["--uts", "host"], ["--cgroupns", "host"], ["--device", "/dev/kvm"], ["--device", "/dev/net/tun"],
    ["--security-opt", "apparmor=mine"], ["--oom-kill-disable"], ["--memory-swappiness", "5"],
    ["--mount", "type=bind,source=/tmp,target=/x,bind-propagation=rshared"], ["-v", "/dev/null:/x"],
])
def test_what_a_machine_cannot_mean_is_refused(wall, arguments):
    done = wall.hull("run", "--rm", *wall.flags(), *arguments, "test", "true", check=False)
    assert done.returncode == 125 and ("--vm" in done.stderr or "virtual machine" in done.stderr), done.stderr
    assert arguments[0] in done.stderr or "bind-propagation" in done.stderr, done.stderr
    assert wall.hull("ps", "-aq").stdout == ""


@of_machines
@pytest.mark.parametrize("arguments,words", [
    (["--storage-opt", "size=1k"], "expected 16MiB"), (["--cpus", "1000"], "at most 64 processors"),
    (["-m", "100000g"], "this host has"), (["--hypervisor", "moon"], "auto, kvm or qemu"),
])
def test_sizes_that_cannot_be_are_refused(wall, arguments, words):
    done = wall.hull("run", "--rm", *wall.flags(), *arguments, "test", "true", check=False)
    assert done.returncode == 125 and words in done.stderr, done.stderr


@of_machines
def test_without_a_guest_kernel_the_command_that_installs_one_is_named(wall, make_instance, tmp_path):
    other = make_instance()
    images.load(other, tmp_path / "image")
    done = other.hull("run", "--vm", "test", "true", check=False)
    assert done.returncode == 125 and "hull vm kernel install" in done.stderr


@of_machines
def test_compare_measures_both(wall):
    """One comparison, on the machine's side of the suite: both walls are in it."""
    picture = wall.instance.folder / "cost.svg"
    done = wall.hull("compare", "-n", "1", "--network", "none", "-m", "96m", "--format", "json", "--svg", picture, "test",
                     "sh", "-c", "echo same; sleep 1; exit 0")
    document = json.loads(done.stdout)
    assert document["output"] == "identical" and document["sameExitCode"] is True
    for side in ("container", "vm"):
        assert document[side]["firstLineMs"] > 0 and document[side]["memoryBytes"] > 0
        assert document[side]["processes"] >= 2
    assert document["vm"]["memoryBytes"] > document["container"]["memoryBytes"]
    assert document["recommendation"]["isolation"] in ("container", "vm") and len(document["difference"]) == 2
    assert picture.read_text().startswith("<svg ")
    assert wall.hull("ps", "-aq").stdout == ""
