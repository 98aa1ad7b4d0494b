"""Unit files of workloads: what they say is what the workload was made with."""

import json
import pathlib
import re
import shutil
import subprocess

import pytest


@pytest.fixture
def made(hull):
    """made(*flags, command=...) -> name of a created workload."""
    names = []

    def make(*flags, command=("sleep", "1000")):
        names.append(f"unit{len(names)}")
        hull.hull("create", "--name", names[-1], *flags, "test", *command)
        return names[-1]

    yield make
    if names:
        hull.hull("rm", "-f", "-v", *names, check=False)


RICH = ["--env", "A=b c", "--env", "QUOTE=it's \"$5\" 100%", "--label", "x=y", "-v", "/srv:/data:ro", "--tmpfs", "/run:size=1m",
        "-p", "127.0.0.1:8080:80/tcp", "-m", "64m", "--cpus", "0.5", "--cap-add", "NET_ADMIN", "--read-only", "--init",
        "--user", "1000", "--ulimit", "nofile=100:200", "--health-cmd", "true", "--health-interval", "5s", "--stop-timeout", "3",
        "--log-opt", "max-size=1m", "--sysctl", "net.ipv4.ip_forward=1", "--security-opt", "no-new-privileges"]


def verify(text, tmp_path, name="unit.service"):
    if not shutil.which("systemd-analyze"):
        return
    file = tmp_path / name
    file.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(file)], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if name in line and "is not executable" not in line]
    assert not complaints, done.stderr


def test_a_unit_that_starts_what_is_there(hull, made, tmp_path):
    name = made()
    text = hull.hull("generate", "systemd", "--name", "--after", "db.service", "-t", "7", name).stdout
    assert re.search(rf"^ExecStart=/\S+/hull start --attach {name}$", text, re.M)
    assert re.search(rf"^ExecStop=/\S+/hull stop --time 7 {name}$", text, re.M)
    assert "Restart=on-failure\n" in text and "TimeoutStopSec=67\n" in text and "After=db.service\n" in text
    verify(text, tmp_path)


def test_a_policy_of_its_own_is_left_to_the_monitor(hull, made, tmp_path):
    name = made("--restart", "always")
    text = hull.hull("generate", "systemd", "-n", name).stdout
    assert "Type=oneshot" in text and "RemainAfterExit=yes" in text and "Restart=on-failure" not in text
    assert re.search(rf"^ExecStart=/\S+/hull start {name}$", text, re.M)
    verify(text, tmp_path)


def words_of(line):
    """As systemd splits a command line."""
    words, word, quote, at = [], None, False, 0
    while at < len(line):
        c = line[at]
        if c == "\\":
            at += 1
            word = (word or "") + {"n": "\n"}.get(line[at], line[at])
        elif c == '"':
            quote = not quote
            word = word or ""
        elif c == " " and not quote:
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + c
        at += 1
    if word is not None:
        words.append(word)
    return [w.replace("%%", "%").replace("$$", "$") for w in words]


def test_anew_says_the_same(hull, made, tmp_path):
    name = made(*RICH, command=("sh", "-c", 'echo "a $HOME" \\\n; sleep 5'))
    text = hull.hull("generate", "systemd", "--new", name).stdout
    verify(text, tmp_path)
    words = words_of(re.search(r"^ExecStart=(.*)$", text, re.M).group(1))
    assert words[1:5] == ["run", "--rm", "--name", name]
    hull.hull("create", "--name", "twin", *words[5:])
    documents = [json.loads(hull.hull("inspect", one).stdout)[0] for one in (name, "twin")]
    hull.hull("rm", "twin")
    for document in documents:
        document["Config"].pop("Hostname")
        document["Config"].pop("Cmd"), document["Config"].pop("Entrypoint")
    for part in ("Config", "HostConfig", "Mounts", "Path", "Args"):
        one, other = (document[part] for document in documents)
        if part == "Mounts":
            one, other = (sorted(json.dumps(m, sort_keys=True) for m in side) for side in (one, other))
        assert one == other, part


def test_quadlet(hull, made):
    name = made(*RICH, "--restart", "on-failure", command=("sleep", "5"))
    text = hull.hull("generate", "quadlet", name).stdout
    for line in ("Image=test", f"ContainerName={name}", "Volume=/srv:/data:ro", "PublishPort=127.0.0.1:8080:80/tcp",
                 "AddCapability=NET_ADMIN", "ReadOnly=true", "HealthCmd=true", "Exec=sleep 5", "Restart=on-failure",
                 "PodmanArgs=--cpus 0.500000000"):
        assert line in text.splitlines(), text


def test_files_and_refusals(hull, made, tmp_path):
    name = made()
    done = subprocess.run(hull.command("generate", "systemd", "-n", "-f", name), env=hull.environment, cwd=tmp_path,
                          capture_output=True, text=True)
    path = pathlib.Path(done.stdout.strip())
    assert path == tmp_path / f"hull-{name}.service" and path.read_text().startswith(f"# hull-{name}.service\n")
    for wrong in (["--restart-policy", "often"], ["--container-prefix", "../x"], ["--after", "a\nb"]):
        assert hull.hull("generate", "systemd", *wrong, name, check=False).returncode in (1, 125)
    assert hull.hull("generate", "systemd", "nobody", check=False).returncode == 1
