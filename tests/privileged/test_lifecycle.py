"""What a workload goes through: created, running, paused, stopped, restarted, removed; and what can be asked of it."""

import concurrent.futures
import json
import os
import re
import signal
import time

import pytest
from support.instance import Leaks, wait_until


def state(hull, ref):
    return json.loads(hull.hull("inspect", ref).stdout)[0]["State"]


def test_created_started_exited(hull):
    name = hull.hull("create", "--name", "steps", "--network", "none", "test", "sh", "-c", "echo hi; exit 3").stdout.strip()
    assert state(hull, name)["Status"] == "created"
    done = hull.hull("start", "-a", "steps", check=False)
    assert (done.returncode, done.stdout) == (3, "hi\n")
    now = state(hull, name)
    assert now["Status"] == "exited" and now["ExitCode"] == 3 and now["Pid"] == 0
    assert hull.hull("start", "steps").stdout.strip() == "steps"
    assert hull.hull("wait", "steps").stdout.strip() == "3"
    hull.hull("rm", "steps")
    assert hull.hull("inspect", "steps", check=False).returncode == 1


def test_wait_while_the_end_is_cleaned_up(hull):
    """`wait` meets the monitor's clean-up at every point of it, and tells the code each time."""
    hull.hull("create", "--name", "brief", "--network", "none", "test", "sh", "-c", "exit 3")
    codes = set()
    for _ in range(60):
        hull.hull("start", "brief")
        codes.add(hull.hull("wait", "brief").stdout.strip())
    assert codes == {"3"}
    hull.hull("rm", "brief")


def test_prefix_and_ambiguity(hull, background):
    identifier = background()
    assert hull.hull("inspect", identifier[:12], "--format", "{{.Id}}").stdout.strip() == identifier
    assert hull.hull("inspect", "zzzz", check=False).returncode == 1


def test_stop_sends_term_and_then_kills(hull, background):
    gentle = background("--name", "gentle", command=("sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done"))
    hull.hull("stop", gentle)
    assert state(hull, gentle)["ExitCode"] == 5
    stubborn = background(command=("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"))
    begin = time.monotonic()
    hull.hull("stop", "-t", "1", stubborn)
    assert 0.9 < time.monotonic() - begin < 6
    assert state(hull, stubborn)["ExitCode"] == 137


def test_stop_of_a_stopped_one_is_fine(hull, background):
    identifier = background(command=("true",))
    hull.hull("wait", identifier)
    hull.hull("stop", identifier)


def test_restart_keeps_files_and_changes_pid(hull, background):
    identifier = background()
    hull.hull("exec", identifier, "touch", "/kept")
    first = state(hull, identifier)["Pid"]
    hull.hull("restart", "-t", "0", identifier)
    assert state(hull, identifier)["Pid"] not in (0, first)
    hull.hull("exec", identifier, "test", "-e", "/kept")


def test_kill_with_a_signal(hull, background):
    identifier = background(command=("sh", "-c", "trap 'exit 9' USR1; while :; do sleep 0.05; done"))
    wait_until(lambda: state(hull, identifier)["Running"], "a running container")
    time.sleep(0.2)  # until the shell has set its trap
    hull.hull("kill", "-s", "USR1", identifier)
    assert hull.hull("wait", identifier).stdout.strip() == "9"
    done = hull.hull("kill", identifier, check=False)
    assert done.returncode == 1 and "not running" in done.stderr


def test_rm_refuses_what_runs(hull, background):
    identifier = background()
    done = hull.hull("rm", identifier, check=False)
    assert done.returncode == 1 and "force" in done.stderr
    hull.hull("rm", "-f", identifier)


def test_pause_and_unpause(hull, background):
    identifier = background(command=("sh", "-c", "while :; do echo tick; sleep 0.02; done"))
    hull.hull("pause", identifier)
    assert state(hull, identifier)["Status"] == "paused"
    before = hull.hull("logs", identifier).stdout
    time.sleep(0.3)
    assert hull.hull("logs", identifier).stdout == before
    assert hull.hull("exec", identifier, "true", check=False).returncode != 0
    hull.hull("unpause", identifier)
    wait_until(lambda: hull.hull("logs", identifier).stdout != before, "more output")


def test_exec(hull, background):
    identifier = background("-e", "A=container", "-w", "/work")
    assert hull.hull("exec", identifier, "sh", "-c", "echo $A; pwd").stdout.split() == ["container", "/work"]
    assert hull.hull("exec", "-e", "A=exec", "-w", "/data", "-u", "alice", identifier, "sh", "-c",
                     "echo $A; pwd; id -u").stdout.split() == ["exec", "/data", "1000"]
    assert hull.hull("exec", identifier, "sh", "-c", "exit 42", check=False).returncode == 42
    assert hull.hull("exec", identifier, "no-such-program", check=False).returncode == 127
    assert hull.hull("exec", identifier, "/etc/passwd", check=False).returncode == 126
    assert hull.hull("exec", "-i", identifier, "cat", input="through").stdout == "through"
    done = hull.hull("exec", identifier, "sh", "-c", "echo o; echo e >&2")
    assert (done.stdout, done.stderr) == ("o\n", "e\n")
    hull.hull("exec", "-d", identifier, "touch", "/detached")
    wait_until(lambda: hull.hull("exec", identifier, "test", "-e", "/detached", check=False).returncode == 0, "the file")


def test_exec_sees_the_same_limits(hull, background):
    identifier = background("-m", "64m", "--cap-drop", "ALL")
    script = "cat /proc/self/cgroup; awk '/^CapEff|^Seccomp:/' /proc/self/status"
    inside = hull.hull("exec", identifier, "sh", "-c", script).stdout
    first = hull.hull("exec", identifier, "sh", "-c", script.replace("self", "1")).stdout
    assert inside == first


def test_exec_in_a_stopped_one_is_refused(hull):
    name = hull.hull("create", "--network", "none", "test").stdout.strip()
    done = hull.hull("exec", name, "true", check=False)
    hull.hull("rm", name)
    assert done.returncode == 1 and "not running" in done.stderr


def test_logs(hull, background):
    identifier = background(command=("sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; echo oops >&2; printf unended"))
    hull.hull("wait", identifier)
    done = hull.hull("logs", identifier)
    assert done.stdout == "".join(f"line {i}\n" for i in range(1, 6)) + "unended" and done.stderr == "oops\n"
    assert hull.hull("logs", "--tail", "2", identifier).stdout in ("unended", "line 5\nunended")
    stamped = hull.hull("logs", "-t", identifier).stdout.splitlines()[0]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z line 1$", stamped)
    when = stamped.split()[0]
    assert hull.hull("logs", "--since", "1h", identifier).stdout.startswith("line 1\n")
    assert hull.hull("logs", "--until", "1h", identifier).stdout == ""
    assert "line 1" in hull.hull("logs", "--since", when, identifier).stdout


def test_logs_follow_until_the_end(hull, background):
    identifier = background(command=("sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"))
    assert hull.hull("logs", "-f", identifier, timeout=20).stdout == "1\n2\n3\n"


def test_log_rotation_keeps_every_line_it_may(hull, background):
    identifier = background("--log-opt", "max-size=16k", "--log-opt", "max-file=3",
                            command=("sh", "-c", "i=0; while [ $i -lt 1000 ]; do echo number $i; i=$((i+1)); done"))
    hull.hull("wait", identifier)
    lines = hull.hull("logs", identifier).stdout.splitlines()
    numbers = [int(line.split()[1]) for line in lines]
    assert numbers == list(range(numbers[0], 1000)) and 100 < len(numbers) < 1000


def test_attach(hull, background):
    identifier = background("-i", command=("sh", "-c", "while read x; do echo got $x; [ $x = end ] && exit 4; done"))
    done = hull.hull("attach", identifier, input="a\nend\n", check=False, timeout=20)
    assert done.stdout == "got a\ngot end\n" and done.returncode == 4


def test_sig_proxy(hull):
    process = hull.start("run", "--rm", "--network", "none", "test", "sh", "-c",
                         "trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done", stdout=-1)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 6
    process.stdout.close()


def test_top_and_stats(hull, background):
    identifier = background()
    rows = hull.hull("top", identifier).stdout.splitlines()
    assert rows[0].split()[:2] == ["UID", "PID"] and any("sleep 1000" in row for row in rows[1:])
    document = json.loads(hull.hull("stats", "--no-stream", "--format", "json", identifier).stdout)
    assert document["PIDs"] == "1" and document["ID"] == identifier[:12]


def test_ps(hull, background):
    identifier = background("--name", "shown", "--label", "team=blue")
    line = hull.hull("ps", "--filter", "label=team=blue").stdout.splitlines()
    assert "CONTAINER ID" in line[0] and "shown" in line[1] and "Up " in line[1] and identifier[:12] in line[1]
    assert hull.hull("ps", "-q", "--no-trunc", "--filter", "name=shown").stdout.strip() == identifier
    assert hull.hull("ps", "--filter", "name=shown", "--format", "{{.Names}}|{{.Image}}|{{.State}}").stdout.strip() == \
        "shown|test|running"
    assert json.loads(hull.hull("ps", "--filter", "name=shown", "--format", "json").stdout)["Names"] == "shown"
    assert hull.hull("ps", "-q", "--filter", "status=exited", "--filter", "name=shown").stdout == ""
    assert hull.hull("ps", "--filter", "nonsense=1", check=False).returncode != 0


def test_prune_takes_only_what_is_stopped(hull, background):
    running = background()
    stopped = background(command=("true",))
    hull.hull("wait", stopped)
    out = hull.hull("container", "prune", "--force").stdout
    assert stopped in out and running not in out
    assert hull.hull("inspect", running).returncode == 0


def test_two_commands_on_the_same_object(hull, background):
    identifier = background()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = [pool.submit(hull.hull, "rm", "-f", identifier, check=False) for _ in range(8)]
        codes = [outcome.result() for outcome in outcomes]
    assert any(done.returncode == 0 for done in codes)
    for done in codes:
        assert done.returncode == 0 or "No such container" in done.stderr or "removal" in done.stderr, done.stderr
    assert hull.hull("inspect", identifier, check=False).returncode == 1


def test_parallel_runs_leave_nothing(hull):
    leaks = Leaks(hull)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda i: hull.hull("run", "--rm", "test", "sh", "-c", f"echo {i}").stdout.strip(), range(24)))
    assert done == [str(i) for i in range(24)]
    hull.hull("system", "check")
    # The bridge and layer mounts stay by design; cgroups and namespaces of other tests come and go beside this one.
    left = leaks.new(ignore=("links", "addresses", "rules", "mounts", "cgroups", "namespaces"))
    assert not left, left


def test_monitor_memory_is_small(hull, background):
    background()
    sizes = []
    for pid, command in hull.processes().items():
        if "hull-monitor" in command:
            text = open(f"/proc/{pid}/smaps_rollup").read()
            sizes.append(sum(int(n) for n in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", text, re.M)))
    assert sizes and max(sizes) <= 1024, sizes


def test_monitor_killed_is_seen_and_repaired(hull, background):
    identifier = background("--name", "orphan")
    for pid, command in hull.processes().items():
        if "hull-monitor" in command and identifier in command + open(f"/proc/{pid}/environ").read():
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: state(hull, identifier)["Running"] is False, "the loss to be seen")
    hull.hull("rm", "-f", identifier)
    assert not [c for c in hull.processes().values() if "sleep 1000" in c and identifier in c]


def test_volumes(hull):
    name = hull.hull("volume", "create", "--label", "x=y", "kept").stdout.strip()
    assert name == "kept"
    document = json.loads(hull.hull("volume", "inspect", "kept").stdout)[0]
    assert document["Name"] == "kept" and document["Labels"] == {"x": "y"} and document["Driver"] == "local"
    identifier = hull.hull("create", "--network", "none", "-v", "kept:/v", "test").stdout.strip()
    done = hull.hull("volume", "rm", "kept", check=False)
    assert done.returncode == 1 and "in use" in done.stderr
    hull.hull("rm", identifier)
    hull.hull("volume", "rm", "kept")
    assert hull.hull("volume", "inspect", "kept", check=False).returncode == 1


def test_volume_prune_takes_anonymous_unused_ones(hull):
    identifier = hull.hull("create", "--network", "none", "-v", "/v", "test").stdout.strip()
    hull.hull("rm", identifier)
    assert hull.hull("volume", "ls", "-q").stdout.strip() != ""
    hull.hull("volume", "prune", "--force")
    assert hull.hull("volume", "ls", "-q").stdout.strip() == ""


@pytest.mark.parametrize("command", [["version"], ["info"], ["system", "df"], ["system", "df", "-v"], ["system", "info"],
                                     ["images"], ["volume", "ls"], ["network", "ls"], ["help"], ["run", "--help"]])
def test_overviews(hull, command):
    assert len(hull.hull(*command).stdout) > 20


def test_version_and_info_as_json(hull):
    assert json.loads(hull.hull("version", "--format", "json").stdout)["Client"]["Version"]
    assert "Containers" in json.loads(hull.hull("info", "--format", "{{json .}}").stdout)


def test_doctor_has_a_verdict(hull):
    done = hull.hull("doctor", check=False)
    assert done.returncode in (0, 1) and "control groups" in done.stdout
