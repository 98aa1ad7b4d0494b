"""What Docker and Podman must be able to do with our runtime. Both speak the same command line, so the tests are written
once. A file of one engine has the fixtures `run`, a function that takes the engine's arguments and returns the finished
process, and `state`, made of it by inspect_state()."""

import json
import time


def host_has_all_capabilities():
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        every = (1 << (int(file.read()) + 1)) - 1
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("CapEff:"))
    return int(line.split()[1], 16) & every == every


def inspect_state(run):
    return lambda name: json.loads(run("inspect", name).stdout)[0]["State"]


class EngineTests:
    def test_output_and_exit_code(self, run):
        assert run("run", "--rm", "busybox", "echo", "hello").stdout == "hello\n"
        assert run("run", "--rm", "busybox", "sh", "-c", "exit 7", check=False).returncode == 7
        assert run("run", "--rm", "busybox", "/no/such/program", check=False).returncode in (125, 126, 127)

    def test_standard_input(self, run):
        done = run("run", "--rm", "-i", "busybox", "cat", stdin=None, input="through the container\n")
        assert done.stdout == "through the container\n"

    def test_terminal(self, run):
        assert "/dev/pts/" in run("run", "--rm", "-t", "busybox", "tty").stdout

    def test_process_settings(self, run):
        done = run("run", "--rm", "-u", "12:34", "-w", "/tmp", "-e", "COLOUR=blue", "-h", "ship", "busybox", "sh", "-c",
                   "echo $(id -u) $(id -g) $(pwd) $COLOUR $(hostname)")
        assert done.stdout.strip() == "12 34 /tmp blue ship"

    def test_detached_exec_stop_remove(self, run, state):
        identifier = run("run", "-d", "--name", "long", "busybox", "sh", "-c",
                         "trap 'exit 3' TERM; echo started; while :; do sleep 0.05; done").stdout.strip()
        end = time.monotonic() + 10
        while "started" not in run("logs", "long").stdout:
            assert time.monotonic() < end, "the container printed nothing"
            time.sleep(0.05)
        assert state("long")["Status"] == "running"
        assert run("exec", "long", "echo", "inside").stdout == "inside\n"
        assert run("exec", "long", "sh", "-c", "exit 9", check=False).returncode == 9
        assert run("exec", "-i", "long", "cat", stdin=None, input="piped").stdout == "piped"
        assert run("exec", "-t", "long", "tty").stdout.strip().startswith("/dev/pts/")
        assert run("exec", "-u", "5", "long", "id", "-u").stdout.strip() == "5"
        run("stop", "-t", "10", "long")
        assert state("long")["ExitCode"] == 3
        run("rm", "long")
        assert identifier[:12] not in run("ps", "-aq").stdout

    def test_kill(self, run, state):
        run("run", "-d", "--name", "victim", "busybox", "sleep", "100")
        run("kill", "-s", "KILL", "victim")
        run("wait", "victim", check=False)
        assert state("victim")["ExitCode"] == 137
        run("rm", "victim")

    def test_pause(self, run, state):
        run("run", "-d", "--name", "pausing", "busybox", "sleep", "100")
        run("pause", "pausing")
        assert state("pausing")["Status"] == "paused"
        run("unpause", "pausing")
        assert state("pausing")["Status"] == "running"
        run("rm", "-f", "pausing")

    def test_limits(self, run):
        read = ("cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes; "
                "cat /sys/fs/cgroup/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids/pids.max")
        done = run("run", "--rm", "--memory", "64m", "--pids-limit", "50", "busybox", "sh", "-c", read)
        assert done.stdout.split() == [str(64 << 20), "50"]

    def test_top_and_stats(self, run):
        run("run", "-d", "--name", "busy", "busybox", "sleep", "100")
        assert "sleep 100" in run("top", "busy").stdout
        assert "busy" in run("stats", "--no-stream", "busy").stdout
        run("rm", "-f", "busy")

    def test_mounts(self, run, tmp_path):
        (tmp_path / "from-host").write_text("host\n")
        done = run("run", "--rm", "-v", f"{tmp_path}:/data", "-v", f"{tmp_path}:/fixed:ro", "--tmpfs", "/scratch",
                   "busybox", "sh", "-c",
                   "cat /data/from-host; echo new > /data/made; echo x > /fixed/no 2>/dev/null || echo read-only; "
                   "grep -c ' /scratch tmpfs' /proc/mounts")
        assert done.stdout.split() == ["host", "read-only", "1"]
        assert (tmp_path / "made").read_text() == "new\n"

    def test_restrictions(self, run):
        done = run("run", "--rm", "busybox", "sh", "-c",
                   "mount -t tmpfs x /mnt 2>/dev/null || echo no-mount; echo 1 > /proc/sys/kernel/sysrq 2>/dev/null || "
                   "echo no-sysctl; wc -c < /proc/kcore; grep Seccomp: /proc/self/status")
        words = done.stdout.split()
        assert words[:2] == ["no-mount", "no-sysctl"] and words[-1] == "2", done.stdout
        done = run("run", "--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "busybox",
                   "sh", "-c", "touch /file 2>/dev/null || echo read-only; grep -E 'CapEff|NoNewPrivs' /proc/self/status")
        assert done.stdout.split() == ["read-only", "CapEff:", "0000000000000000", "NoNewPrivs:", "1"]

    def test_privileged_and_devices(self, run):
        # Docker asks for every capability by name; a host that lacks one itself can't give it.
        rights = ["--privileged"] if host_has_all_capabilities() else ["--cap-add", "SYS_ADMIN"]
        done = run("run", "--rm", *rights, "busybox", "sh", "-c", "mount -t tmpfs x /tmp && echo mounted")
        assert done.stdout == "mounted\n"
        done = run("run", "--rm", "--device", "/dev/fuse:/dev/other", "busybox", "sh", "-c",
                   "test -c /dev/other && echo there")
        assert done.stdout == "there\n"
