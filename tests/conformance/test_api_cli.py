"""Docker's own command lines against hulld: the newest `docker` in PATH, and Debian's docker.io (20.10)."""

import concurrent.futures
import json
import signal
import subprocess

import pytest
from support import api
from support.instance import wait_until

NONE = ["--network", "none"]


@pytest.fixture(params=api.CLIENTS, ids=api.version_of)
def run(request, daemon):
    """run("ps", "-a"): one command line of the client."""

    def call(*arguments, **more):
        return daemon.docker(request.param, *arguments, **more)

    call.client = request.param
    call.environment = daemon.client_environment()
    yield call
    left = call("ps", "-aq").stdout.split()
    if left:
        call("rm", "-f", "-v", *left)


def test_run(run):
    done = run("run", "--rm", *NONE, "busybox", "sh", "-c", "echo out; echo err >&2; exit 5", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (5, "out\n", "err\n")
    assert run("ps", "-aq").stdout == ""


def test_no_output_is_lost_when_many_run(run):
    """The command that starts a container may be gone before its monitor has let in those who wait for the output."""
    def output(_):
        return run("run", "--rm", *NONE, "busybox", "echo", "out").stdout

    with concurrent.futures.ThreadPoolExecutor(6) as clients:
        assert list(clients.map(output, range(120))) == ["out\n"] * 120


def test_run_passes_input(run):
    text = "line\n" * 20_000
    done = run("run", "-i", "--rm", *NONE, "busybox", "cat", input=text)
    assert done.stdout == text


def test_run_of_what_is_not_there(run):
    done = run("run", "--rm", *NONE, "busybox", "nosuch", check=False)
    assert done.returncode == 127 and "nosuch" in done.stderr
    done = run("run", "--rm", *NONE, "busybox", "/etc/passwd", check=False)
    assert done.returncode == 126
    assert run("ps", "-aq").stdout == ""


def test_life_of_a_container(run):
    run("run", "-d", "--name", "one", "--label", "a=b", *NONE, "busybox", "sh", "-c", "echo begin; exec sleep 1000")
    line = run("ps", "--format", "{{.Names}} {{.Image}} {{.Status}}").stdout
    assert line.startswith("one busybox Up ")
    assert run("ps", "-q", "--filter", "label=a=c").stdout == ""
    assert run("exec", "one", "echo", "inside").stdout == "inside\n"
    assert run("exec", "one", "sh", "-c", "exit 3", check=False).returncode == 3
    assert run("exec", "-i", "one", "cat", input="typed").stdout == "typed"
    assert "sleep 1000" in run("top", "one").stdout
    run("pause", "one")
    assert "Paused" in run("ps").stdout
    run("unpause", "one")
    run("restart", "-t", "0", "one")
    run("kill", "-s", "KILL", "one")
    assert run("wait", "one").stdout == "137\n"
    assert run("logs", "one").stdout == "begin\nbegin\n"
    run("start", "one")
    run("stop", "-t", "0", "one")
    run("rm", "one")
    assert run("inspect", "one", check=False).returncode == 1


def test_inspect(run):
    run("create", "--name", "seen", "-e", "KEY=value", "-v", "/kept", "--memory", "64m", "--tmpfs", "/t", *NONE, "busybox",
        "true")
    document = json.loads(run("inspect", "seen").stdout)[0]
    assert document["State"]["Status"] == "created" and document["Name"] == "/seen"
    assert "KEY=value" in document["Config"]["Env"] and document["HostConfig"]["Memory"] == 64 << 20
    assert {mount["Destination"] for mount in document["Mounts"]} >= {"/kept"}


def test_exec_detached(run):
    run("run", "-d", "--name", "two", *NONE, "busybox", "sleep", "1000")
    run("exec", "-d", "two", "sh", "-c", "echo here > /made")
    wait_until(lambda: run("exec", "two", "cat", "/made", check=False).stdout == "here\n", "the exec has written")


def test_exec_of_what_is_not_there(run):
    run("run", "-d", "--name", "two", *NONE, "busybox", "sleep", "1000")
    done = run("exec", "two", "nosuch", check=False)
    assert done.returncode in (126, 127) and "nosuch" in done.stdout + done.stderr


def test_terminal(run):
    terminal = api.Terminal([run.client, "run", "-it", "--rm", "--name", "tty", *NONE, "busybox", "sh"],
                            run.environment, size=(30, 100))
    terminal.expect(r"[#$] ")
    terminal.type("stty size\n")
    terminal.expect(r"30 100")
    terminal.resize(40, 120)
    terminal.type("while [ \"$(stty size)\" != '40 120' ]; do true; done; echo re\"\"sized\n")
    terminal.expect("resized")
    terminal.type("exit 7\n")
    assert terminal.wait() == 7


def test_exec_on_a_terminal(run):
    run("run", "-d", "--name", "two", *NONE, "busybox", "sleep", "1000")
    terminal = api.Terminal([run.client, "exec", "-it", "two", "sh"], run.environment, size=(30, 100))
    terminal.expect(r"[#$] ")
    terminal.type("tty; echo do\"\"ne\n")
    terminal.expect("/dev/pts/")
    terminal.type("while [ \"$(stty size)\" != '30 100' ]; do true; done; echo si\"\"zed\n")
    terminal.expect("sized")
    terminal.type("exit 4\n")
    assert terminal.wait() == 4


def test_detach_and_attach(run):
    terminal = api.Terminal([run.client, "run", "-it", "--name", "tty", *NONE, "busybox", "sh"], run.environment)
    terminal.expect(r"[#$] ")
    terminal.type("\x10\x11")
    terminal.wait()
    assert run("ps", "--format", "{{.Names}}").stdout == "tty\n"
    terminal = api.Terminal([run.client, "attach", "tty"], run.environment)
    terminal.type("echo a\"\"gain\n")
    terminal.expect("again")
    terminal.type("exit 2\n")
    assert terminal.wait() == 2


def test_logs_follow(run):
    run("run", "-d", "--name", "talks", *NONE, "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; done; exec sleep 1000")
    followed = subprocess.Popen([run.client, "logs", "-f", "talks"], stdout=subprocess.PIPE, text=True,
                                env=run.environment)
    assert [followed.stdout.readline() for _ in range(3)] == ["1\n", "2\n", "3\n"]
    run("stop", "-t", "0", "talks")
    followed.wait(20)
    assert run("logs", "--tail", "1", "talks").stdout == "3\n"
    stamped = run("logs", "-t", "talks").stdout.splitlines()[0]
    assert stamped.endswith("Z 1")


def test_stats(run):
    run("run", "-d", "--name", "busy", *NONE, "busybox", "sleep", "1000")
    line = json.loads(run("stats", "--no-stream", "--format", "{{json .}}", "busy").stdout)
    assert line["Name"] == "busy" and line["PIDs"] == "1" and not line["MemUsage"].startswith("0B")


def test_an_interrupt_reaches_the_program(run):
    client = subprocess.Popen([run.client, "run", "--rm", *NONE, "busybox", "sh", "-c",
                               "trap 'exit 9' INT; echo ready; while true; do sleep 0.1; done"],
                              stdout=subprocess.PIPE, text=True, env=run.environment)
    assert client.stdout.readline() == "ready\n"
    client.send_signal(signal.SIGINT)
    assert client.wait(20) == 9


def test_a_killed_daemon_is_not_missed(run, daemon):
    run("run", "-d", "--name", "lives", *NONE, "busybox", "sh", "-c", "while true; do sleep 0.1; done")
    before = run("inspect", "-f", "{{.State.Pid}}", "lives").stdout
    daemon.kill()
    daemon.start()
    assert run("inspect", "-f", "{{.State.Pid}} {{.State.Running}}", "lives").stdout == f"{before.strip()} true\n"
    assert run("exec", "lives", "echo", "on").stdout == "on\n"


def test_prune(run):
    run("run", "--name", "old", *NONE, "busybox", "true")
    assert "Deleted Containers" in run("container", "prune", "-f").stdout
    assert run("ps", "-aq").stdout == ""


def test_what_is_not_here(run):
    assert "Hull builds no images yet" in run("build", "-", check=False, input="FROM busybox\n").stderr
    assert "not a swarm manager" in run("node", "ls", check=False).stderr
    assert run("version", "--format", "{{.Server.Version}}").stdout.strip() == "0.1.0"
    assert "Swarm: inactive" in run("info").stdout
