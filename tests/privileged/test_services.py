"""Keeping services running: restart policies with their back-off, health checks, what runs after a boot, logs that
rotate under a reader; and what kill -9 of anything leaves of that."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import pytest
from support import images
from support.instance import wait_until


def document(hull, ref):
    return json.loads(hull.hull("inspect", ref).stdout)[0]


def state(hull, ref):
    return document(hull, ref)["State"]


def starts(hull, ref):
    """How often it has started, from the events."""
    done = hull.hull("events", "--since", "1970-01-01", "--until", "0s", "--format", "json", "--filter", f"container={ref}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def monitor_of(hull, identifier):
    for pid, command in hull.processes().items():
        if "hull-monitor" in command.split(" ")[0] and identifier in command:
            return pid
    return None


# Restart policies


def test_always_restarts_with_growing_pauses(hull, background):
    identifier = background("--restart", "always", command=("sh", "-c", "exit 3"))
    wait_until(lambda: document(hull, identifier)["RestartCount"] >= 4, "four restarts", 30)
    now = state(hull, identifier)
    assert now["Status"] in ("restarting", "running")
    times = [event["timeNano"] for event in starts(hull, identifier) if event["Action"] == "start"]
    pauses = [(b - a) / 1e9 for a, b in zip(times, times[1:])]
    for pause, least in zip(pauses, (0.1, 0.2, 0.4, 0.8)):
        assert pause >= least
    hull.hull("stop", identifier)
    count = document(hull, identifier)["RestartCount"]
    time.sleep(2)
    after = document(hull, identifier)
    assert after["State"]["Status"] == "exited" and after["RestartCount"] == count
    assert after["State"]["ExitCode"] in (3, 137)  # the program's own, or it was met while it ran


def test_update_changes_the_policy_of_a_running_container(hull, background):
    """From when `update` has ended, also when the program ends at once."""
    command = ("sh", "-c", "while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 4")
    kept = background(command=command)
    assert hull.hull("update", "--restart", "on-failure:2", kept).stderr == ""
    hull.hull("exec", kept, "touch", "/tmp/end")
    wait_until(lambda: document(hull, kept)["RestartCount"] == 2 and state(hull, kept)["Status"] == "exited", "its end", 30)
    left = background("--restart", "always", command=command)
    hull.hull("update", "--restart", "no", left)
    hull.hull("exec", left, "touch", "/tmp/end")
    assert hull.hull("wait", left).stdout.strip() == "4"
    time.sleep(1)
    assert state(hull, left)["Status"] == "exited" and document(hull, left)["RestartCount"] == 0


def test_restarting_is_shown(hull, background):
    identifier = background("--restart", "always", "--name", "looper", command=("sh", "-c", "exit 7"))
    wait_until(lambda: document(hull, identifier)["RestartCount"] >= 5, "five restarts", 30)
    wait_until(lambda: state(hull, identifier)["Status"] == "restarting", "the wait", 10)
    wait_until(lambda: (lambda now: now["Restarting"] and now["Running"] and now["Pid"] == 0 and now["ExitCode"] == 7)(
        state(hull, identifier)), "the state of one that waits", 20)
    wait_until(lambda: re.fullmatch(r"Restarting \(7\) .* ago\|restarting", hull.hull(
        "ps", "--filter", "name=looper", "--format", "{{.Status}}|{{.State}}").stdout.strip()), "the line", 20)
    wait_until(lambda: hull.hull("ps", "-q", "--no-trunc", "--filter", "status=restarting").stdout.strip() == identifier,
               "the filter to show it", 20)
    wait_until(lambda: "is restarting" in hull.hull("exec", identifier, "true", check=False).stderr, "the refusal", 20)
    done = hull.hull("rm", identifier, check=False)
    assert done.returncode == 1 and "force" in done.stderr
    hull.hull("start", identifier)  # by hand, without the wait
    wait_until(lambda: document(hull, identifier)["RestartCount"] <= 4, "a count that begins anew")


def test_on_failure_gives_up(hull, background):
    identifier = background("--restart", "on-failure:2", command=("sh", "-c", "echo run; exit 5"))
    wait_until(lambda: state(hull, identifier)["Status"] == "exited", "the end", 20)
    after = document(hull, identifier)
    assert after["RestartCount"] == 2 and after["State"]["ExitCode"] == 5
    assert hull.hull("logs", identifier).stdout == "run\n" * 3
    fine = background("--restart", "on-failure", command=("true",))
    wait_until(lambda: state(hull, fine)["Status"] == "exited", "the end", 20)
    assert document(hull, fine)["RestartCount"] == 0


def test_stop_of_always_is_final(hull, background):
    identifier = background("--restart", "always")
    hull.hull("stop", "-t", "1", identifier)
    time.sleep(0.5)
    assert state(hull, identifier)["Status"] == "exited"
    hull.hull("start", identifier)
    hull.hull("kill", identifier)
    time.sleep(0.5)
    assert state(hull, identifier)["Status"] == "exited"
    hull.hull("start", identifier)
    first = state(hull, identifier)["Pid"]
    os.kill(first, signal.SIGKILL)  # not by Hull: its policy brings it back
    wait_until(lambda: state(hull, identifier)["Pid"] not in (0, first), "another process", 10)


def test_stop_during_the_wait(hull, background):
    identifier = background("--restart", "always", command=("false",))
    wait_until(lambda: document(hull, identifier)["RestartCount"] >= 6, "a long wait", 30)
    wait_until(lambda: state(hull, identifier)["Status"] == "restarting", "the wait", 10)
    begin = time.monotonic()
    hull.hull("stop", identifier)
    assert time.monotonic() - begin < 3
    assert state(hull, identifier)["Status"] == "exited"
    wait_until(lambda: monitor_of(hull, identifier) is None, "the monitor's end")


@pytest.mark.parametrize("moment", range(12))
def test_rm_in_the_middle_of_a_loop(hull, background, moment):
    identifier = background("--restart", "always", command=("true",))
    time.sleep(0.05 * moment)
    hull.hull("rm", "-f", identifier)
    assert hull.hull("inspect", identifier, check=False).returncode == 1
    wait_until(lambda: not [c for c in hull.processes().values() if identifier in c], "no process of it", 5)
    assert not (hull.root / "workloads" / identifier).exists()
    assert not [path for path in hull.cgroups() if identifier in path]


def test_a_killed_monitor_is_made_up_for(hull, background):
    identifier = background("--restart", "always", command=("sh", "-c", "sleep 1000"))
    first = state(hull, identifier)["Pid"]
    os.kill(monitor_of(hull, identifier), signal.SIGKILL)
    hull.hull("ps")  # whichever command comes next
    wait_until(lambda: state(hull, identifier)["Pid"] not in (0, first), "another run", 15)
    assert document(hull, identifier)["RestartCount"] == 1


def test_a_monitor_killed_in_the_wait(hull, background):
    identifier = background("--restart", "always", command=("sh", "-c", "[ -e /once ] && sleep 1000; [ -e /b ] && touch /once; touch /b; exit 1"))
    wait_until(lambda: state(hull, identifier)["Status"] == "restarting", "the wait", 10)
    pid = monitor_of(hull, identifier)
    if pid is not None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_until(lambda: hull.hull("ps", "-q") and state(hull, identifier)["Status"] == "running", "it to run again", 20)


def test_stop_after_the_monitor_was_killed(hull, background):
    identifier = background("--restart", "always")
    os.kill(monitor_of(hull, identifier), signal.SIGKILL)
    hull.hull("stop", "-t", "0", identifier)
    time.sleep(1)
    assert state(hull, identifier)["Status"] == "exited"


def test_refused_together(hull):
    done = hull.hull("run", "--rm", "--restart", "always", "test", "true", check=False)
    assert done.returncode == 125 and "--restart and --rm" in done.stderr
    done = hull.hull("run", "-d", "--rm", "--network", "none", "test", "sleep", "100")
    restarted = hull.hull("restart", done.stdout.strip(), check=False)
    assert restarted.returncode == 1 and "--rm" in restarted.stderr
    hull.hull("rm", "-f", done.stdout.strip(), check=False)


def test_foreground_ends_with_the_first_run(hull):
    done = hull.hull("run", "--name", "front", "--restart", "on-failure:1", "--network", "none", "test", "sh", "-c",
                     "echo once; exit 4", check=False)
    assert (done.returncode, done.stdout) == (4, "once\n")
    wait_until(lambda: state(hull, "front")["Status"] == "exited", "the end", 10)
    assert document(hull, "front")["RestartCount"] == 1
    hull.hull("rm", "-f", "front")


def test_many_restarts_leak_nothing(hull, background):
    """HULL_RESTARTS=1000 for the long one."""
    rounds = int(os.environ.get("HULL_RESTARTS", "40"))
    identifier = background("--restart", "always", command=("sleep", "1000"))
    hull.hull("exec", identifier, "true")

    def counts():
        return (len(hull.processes()), len(hull.cgroups()), sum(1 for _ in hull.run_folder.rglob("*")))

    before = counts()
    data = sum(1 for _ in (hull.root / "workloads").rglob("*"))
    for number in range(rounds):
        pid = state(hull, identifier)["Pid"]
        os.kill(pid, signal.SIGKILL)
        if number % 4 != 0:
            # By hand it does not wait, and begins with the short pause again.
            wait_until(lambda: not (state(hull, identifier)["Status"] == "running" and state(hull, identifier)["Pid"] == pid),
                       "its end")
            hull.hull("start", identifier)
        wait_until(lambda: state(hull, identifier)["Pid"] not in (0, pid), "another run", 20)
    wait_until(lambda: counts() == before, f"{before}, not {counts()}", 10)
    assert abs(sum(1 for _ in (hull.root / "workloads").rglob("*")) - data) <= 2


# Health


def health(hull, ref):
    return state(hull, ref).get("Health", {})


def test_health_from_starting_to_unhealthy_and_back(hull, background):
    identifier = background("--name", "patient", "--health-cmd", "echo checked; test -e /well", "--health-interval", "200ms",
                         "--health-retries", "2", "--health-timeout", "5s")
    assert health(hull, identifier)["Status"] == "starting"
    assert "(health: starting)" in hull.hull("ps", "--filter", "name=patient", "--format", "{{.Status}}").stdout
    wait_until(lambda: health(hull, identifier)["Status"] == "unhealthy", "unhealthy", 20)
    bad = health(hull, identifier)
    assert bad["FailingStreak"] >= 2 and bad["Log"][-1]["ExitCode"] == 1 and bad["Log"][-1]["Output"] == "checked\n"
    hull.hull("exec", identifier, "touch", "/well")
    wait_until(lambda: health(hull, identifier)["Status"] == "healthy", "healthy", 20)
    assert health(hull, identifier)["FailingStreak"] == 0
    wait_until(lambda: len(health(hull, identifier)["Log"]) == 5, "five results", 20)
    assert hull.hull("ps", "-q", "--no-trunc", "--filter", "health=healthy").stdout.strip() == identifier
    assert "(healthy)" in hull.hull("ps", "--filter", "name=patient", "--format", "{{.Status}}").stdout
    actions = [event["Action"] for event in starts(hull, identifier)]
    wait_until(lambda: "health_status: healthy" in [e["Action"] for e in starts(hull, identifier)], "the event", 5)
    assert "health_status: unhealthy" in actions
    hull.hull("stop", "-t", "0", identifier)
    assert health(hull, identifier)["Status"] == "unhealthy" and len(health(hull, identifier)["Log"]) == 5


def test_a_check_that_hangs_is_ended(hull, background):
    identifier = background("--health-cmd", "echo waiting; sleep 1000", "--health-interval", "100ms", "--health-timeout",
                         "300ms", "--health-retries", "1")
    wait_until(lambda: health(hull, identifier)["Status"] == "unhealthy", "unhealthy", 20)
    result = health(hull, identifier)["Log"][-1]
    assert result["ExitCode"] == -1 and result["Output"].startswith("Health check exceeded timeout (300ms): waiting")


def test_a_check_that_can_not_be_executed(hull, background, tmp_path):
    archive = tmp_path / "root.tar"
    subprocess.run(["tar", "-C", str(tmp_path), "-cf", str(archive), "--files-from", "/dev/null"], check=True)
    identifier = background("--health-cmd", "/no/such/program", "--health-interval", "100ms", "--health-retries", "1")
    wait_until(lambda: health(hull, identifier)["Status"] == "unhealthy", "unhealthy", 20)
    assert health(hull, identifier)["Log"][-1]["ExitCode"] == 127


def test_the_start_period_forgives(hull, background):
    identifier = background("--health-cmd", "false", "--health-interval", "30s", "--health-start-interval", "100ms",
                         "--health-start-period", "2s", "--health-retries", "1")
    wait_until(lambda: len(health(hull, identifier).get("Log", [])) >= 3, "checks in the start period", 10)
    seen = health(hull, identifier)
    assert seen["Status"] == "starting" and seen["FailingStreak"] == 0


def test_an_endless_output_does_not_stall(hull, background):
    identifier = background("--health-cmd", "yes | head -c 3000000", "--health-interval", "100ms", command=("sh", "-c", "echo up; sleep 1000"))
    wait_until(lambda: health(hull, identifier)["Status"] == "healthy", "healthy", 20)
    assert len(health(hull, identifier)["Log"][-1]["Output"]) == 4096
    assert hull.hull("logs", identifier).stdout == "up\n"


@pytest.mark.parametrize("action", ["kill", "stop", "restart", "none"])
def test_what_an_unhealthy_one_gets(hull, background, action):
    identifier = background("--health-cmd", "test -e /well", "--health-interval", "100ms", "--health-retries", "2",
                         "--health-on-failure", action, "--stop-timeout", "1", command=("sh", "-c", "sleep 1000"))
    if action == "none":
        wait_until(lambda: health(hull, identifier)["Status"] == "unhealthy", "unhealthy", 20)
        time.sleep(0.5)
        assert state(hull, identifier)["Status"] == "running"
    elif action == "restart":
        wait_until(lambda: document(hull, identifier)["RestartCount"] >= 1, "a restart", 20)
        hull.hull("stop", "-t", "0", identifier)
        time.sleep(0.5)
        assert state(hull, identifier)["Status"] == "exited"
    else:
        wait_until(lambda: state(hull, identifier)["Status"] == "exited", "the end", 20)
        assert state(hull, identifier)["ExitCode"] == 137


def test_no_healthcheck(hull, background):
    identifier = background("--no-healthcheck")
    assert "Health" not in state(hull, identifier)
    assert hull.hull("ps", "-q", "--no-trunc", "--filter", "health=none").stdout.split().count(identifier) == 1
    assert hull.hull("ps", "--filter", "health=poorly", check=False).returncode == 1


def test_a_paused_one_is_not_checked(hull, background):
    identifier = background("--health-cmd", "true", "--health-interval", "100ms")
    wait_until(lambda: health(hull, identifier)["Status"] == "healthy", "healthy", 20)
    hull.hull("pause", identifier)
    time.sleep(0.5)
    last = health(hull, identifier)["Log"][-1]
    time.sleep(0.6)
    assert health(hull, identifier)["Log"][-1] == last
    hull.hull("unpause", identifier)
    wait_until(lambda: health(hull, identifier)["Log"][-1] != last, "another check", 10)


# After a boot


def reboot(instance):
    """What a power failure does: every process is gone, and so is the run folder."""
    for _ in range(50):
        left = instance.processes()
        if not left:
            break
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.05)
    subprocess.run(["sh", "-c", f"umount -l {instance.run_folder}/layers/* 2>/dev/null"], check=False)
    for folder in instance.cgroups():
        try:
            os.rmdir(folder)
        except OSError:
            pass
    shutil.rmtree(instance.run_folder, ignore_errors=True)


def test_start_all_after_a_boot(instance, tmp_path):
    images.load(instance, tmp_path)

    def run(name, *flags):
        instance.hull("run", "-d", "--network", "none", "--name", name, *flags, "test", "sleep", "1000")

    run("plain")
    run("base", "--restart", "always")
    run("guest", "--restart", "always", "--pid", "container:base")
    run("unless", "--restart", "unless-stopped")
    run("unless-not", "--restart", "unless-stopped")
    run("always-stopped", "--restart", "always")
    run("failing", "--restart", "on-failure")
    instance.hull("stop", "-t", "0", "unless-not", "always-stopped")
    instance.hull("create", "--name", "never", "--restart", "always", "test", "true")
    reboot(instance)
    assert instance.hull("ps", "-q").stdout == ""
    pretended = instance.hull("system", "start-all", "--dry-run").stdout.splitlines()
    assert sorted(pretended) == sorted(f"would start {n}" for n in ("base", "guest", "unless", "always-stopped", "failing"))
    assert pretended.index("would start base") < pretended.index("would start guest")
    instance.hull("system", "start-all")
    running = set(instance.hull("ps", "--format", "{{.Names}}").stdout.split())
    assert running == {"base", "guest", "unless", "always-stopped", "failing"}
    assert instance.hull("system", "start-all").stdout == ""
    # An orderly shutdown: nothing is remembered as stopped.
    instance.hull("system", "stop-all", "-t", "0")
    assert instance.hull("ps", "-q").stdout == ""
    reboot(instance)
    instance.hull("system", "start-all")
    assert set(instance.hull("ps", "--format", "{{.Names}}").stdout.split()) == running


def test_start_all_waits_for_health(instance, tmp_path):
    images.load(instance, tmp_path)
    project = ["--label", "com.docker.compose.project=p"]
    common = ["--network", "none", "--restart", "always"]
    instance.hull("create", "--name", "web", *common, *project, "--label", "com.docker.compose.service=web", "--label",
                  "com.docker.compose.depends_on=db:service_healthy:false", "test", "sleep", "1000")
    instance.hull("create", "--name", "db", *common, *project, "--label", "com.docker.compose.service=db", "--health-cmd",
                  "test -e /tmp/up", "--health-interval", "100ms", "--health-retries", "100", "test", "sh", "-c",
                  "sleep 1; touch /tmp/up; sleep 1000")
    instance.hull("start", "web", "db")
    reboot(instance)
    assert instance.hull("system", "start-all").stdout.split("\n")[:2] == ["started db", "started web"]
    health_of_db = json.loads(instance.hull("inspect", "db").stdout)[0]["State"]["Health"]["Status"]
    assert health_of_db == "healthy"


# Logs


def test_rotation_loses_no_line_under_a_follower(hull, background):
    lines = 4000
    identifier = background("--log-opt", "max-size=20k", "--log-opt", "max-file=50", command=(
        "sh", "-c", f"sleep 0.5; i=0; while [ $i -lt {lines} ]; do echo line $i of the log; i=$((i+1)); done"))
    followed = hull.hull("logs", "-f", identifier, timeout=120).stdout
    assert followed == "".join(f"line {i} of the log\n" for i in range(lines))
    assert len(list((hull.root / "workloads" / identifier).glob("*-json.log.*"))) > 5


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_compressed_rotation(hull, background, driver):
    lines = 6000
    identifier = background("--log-driver", driver, "--log-opt", "max-size=40k", "--log-opt", "max-file=30", "--log-opt",
                         "compress=true", command=(
        "sh", "-c", f"i=0; while [ $i -lt {lines} ]; do echo line $i of the log; i=$((i+1)); done; printf end"))
    wait_until(lambda: state(hull, identifier)["Status"] == "exited", "the end", 60)
    expected = "".join(f"line {i} of the log\n" for i in range(lines)) + "end"
    assert hull.hull("logs", identifier).stdout == expected
    folder = hull.root / "workloads" / identifier
    wait_until(lambda: not list(folder.glob("*.tmp")), "the compressor's end", 10)
    assert list(folder.glob("*.gz"))
    assert hull.hull("logs", "--tail", "3", identifier).stdout == "".join(expected.splitlines(True)[-3:])


def test_local_keeps_bytes_and_times(hull, background):
    identifier = background("--log-driver", "local", command=("sh", "-c", r"printf 'a\tb \377\n'; echo err >&2; printf open"))
    wait_until(lambda: state(hull, identifier)["Status"] == "exited", "the end", 20)
    done = subprocess.run(hull.command("logs", identifier), env=hull.environment, capture_output=True)
    assert done.stdout == b"a\tb \xff\nopen" and done.stderr == b"err\n"
    path = document(hull, identifier)["LogPath"]
    assert re.match(rb"\d{4}-\d\d-\d\dT[\d:.]+Z stdout F a\tb \xff\n", pathlib.Path(path).read_bytes())


def test_attributes_in_records(hull, background):
    identifier = background("--label", "tier=front", "--env", "COLOR=red", "--env", "OTHER=x", "--log-opt", "labels=tier", "--log-opt",
                         "env-regex=^COL", "--log-opt", "tag={{.Name}}/{{.ID}}", "--name", "tagged", command=("echo", "hi"))
    wait_until(lambda: state(hull, identifier)["Status"] == "exited", "the end", 20)
    record = json.loads(pathlib.Path(document(hull, identifier)["LogPath"]).read_text())
    assert record["attrs"] == {"tier": "front", "COLOR": "red", "tag": f"tagged/{identifier[:12]}"}
    assert hull.hull("logs", identifier).stdout == "hi\n"


def fields_of(datagram):
    """The journal's native protocol."""
    fields = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
        else:
            name, length = line, struct.unpack("<Q", rest[:8])[0]
            value, rest = rest[8:8 + length], rest[8 + length + 1:]
        fields[name.decode()] = value
        datagram = rest
    return fields


def test_journald_native_protocol(make_instance, tmp_path):
    path = tmp_path / "journal"
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind(str(path))
    journal.settimeout(20)
    one = make_instance(f'[log]\njournal_socket = "{path}"\n')
    images.load(one, tmp_path / "image")
    one.hull("run", "--name", "talker", "--network", "none", "--log-driver", "journald", "--label", "my-label=two\nlines",
             "--log-opt", "labels=my-label", "--log-opt", "tag=t-{{.Name}}", "test", "sh", "-c", "echo out; echo err >&2; printf part")
    records = [fields_of(journal.recv(65536)) for _ in range(3)]
    by_text = {record["MESSAGE"]: record for record in records}
    assert set(by_text) == {b"out", b"err", b"part"}
    out = by_text[b"out"]
    assert out["PRIORITY"] == b"6" and by_text[b"err"]["PRIORITY"] == b"3"
    assert out["CONTAINER_NAME"] == b"talker" and out["CONTAINER_TAG"] == out["SYSLOG_IDENTIFIER"] == b"t-talker"
    assert len(out["CONTAINER_ID_FULL"]) == 64 and out["CONTAINER_ID"] == out["CONTAINER_ID_FULL"][:12]
    assert out["MY_LABEL"] == b"two\nlines" and "CONTAINER_PARTIAL_MESSAGE" not in out
    assert by_text[b"part"]["CONTAINER_PARTIAL_MESSAGE"] == b"true"
    # A journal that takes nothing does not hold up a workload that does not wait for it.
    done = one.hull("run", "--rm", "--network", "none", "--log-driver", "journald", "--log-opt", "mode=non-blocking", "test",
                    "sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done", timeout=60)
    assert len(done.stdout.splitlines()) == 3000
    # The monitor writes files itself: it says that it can't leave their lines out.
    for driver in ("json-file", "local"):
        done = one.hull("create", "--log-driver", driver, "--log-opt", "mode=non-blocking", "test", check=False)
        assert done.returncode != 0 and f"journald alone: with {driver}" in done.stderr
    assert one.hull("ps", "-aq", "--filter", "status=created").stdout == ""
    journal.close()
    path.unlink()
    done = one.hull("run", "--rm", "--network", "none", "--log-driver", "journald", "test", "true", check=False)
    assert done.returncode != 0 and "does systemd-journald run?" in done.stderr


def test_journald_itself(make_instance, tmp_path):
    daemon = pathlib.Path("/lib/systemd/systemd-journald")
    if not daemon.exists() or not shutil.which("journalctl"):
        pytest.skip("systemd-journald is not installed")
    name = "hull" + os.urandom(4).hex()
    folders = [pathlib.Path(f"/run/systemd/journal.{name}"), pathlib.Path(f"/run/log/journal/{name}")]
    process = subprocess.Popen([str(daemon), name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: (folders[0] / "socket").exists() or process.poll() is not None, "the journal", 10)
        if process.poll() is not None:
            pytest.skip("a journal of a namespace can't run here")
        one = make_instance(f'[log]\ndriver = "journald"\njournal_socket = "{folders[0]}/socket"\n')
        images.load(one, tmp_path / "image")
        identifier = one.hull("run", "-d", "--network", "none", "test", "sh", "-c",
                              "for i in 1 2 3; do echo line $i; echo error $i >&2; done; sleep 0.3; echo last").stdout.strip()
        done = one.hull("logs", "-f", identifier)
        assert done.stdout == "line 1\nline 2\nline 3\nlast\n" and done.stderr == "error 1\nerror 2\nerror 3\n"
        assert one.hull("logs", "--tail", "1", identifier).stdout == "last\n"
    finally:
        process.terminate()
        process.wait(10)
        for folder in [*folders, *pathlib.Path("/run/log/journal").glob(f"*.{name}"),
                       *pathlib.Path("/var/log/journal").glob(f"*.{name}")]:
            shutil.rmtree(folder, ignore_errors=True)
