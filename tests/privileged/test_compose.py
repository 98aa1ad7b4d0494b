"""hull compose: applications of several services, from `config` to `down`, with real containers."""

import json
import os
import signal
import subprocess
import time
import urllib.request

import pytest
from support import instance as instances, vm as machines

WEB = """
services:
  web:
    image: test
    init: true
    command: sh -c 'mkdir -p /www && echo "hello $$(cat /run/secrets/name)" > /www/index.html && exec busybox httpd -f -p 80 -h /www'
    secrets: [name]
    ports: ["127.0.0.1:18080:80"]
    healthcheck:
      test: busybox wget -q -O /dev/null http://127.0.0.1/
      interval: 200ms
      retries: 20
    depends_on:
      setup: {condition: service_completed_successfully}
  setup:
    image: test
    command: [sh, -c, "echo ready > /data/state"]
    volumes: [data:/data]
  client:
    image: test
    init: true
    command: sh -c 'busybox wget -q -O - http://web/; cat /data/state; sleep 1000'
    volumes: [data:/data:ro]
    depends_on:
      web: {condition: service_healthy}
volumes: {data: {}}
secrets: {name: {environment: WHO}}
"""


class Project:
    def __init__(self, hull, folder, text, **environment):
        self.hull, self.folder, self.environment = hull, folder, environment
        self.write(text)

    def write(self, text, name="compose.yaml"):
        (self.folder / name).write_text(text)

    def compose(self, *words, **more):
        environment = dict(self.environment, **more.pop("environment", {}))
        return self.hull.hull("compose", *words, cwd=self.folder, environment=environment, **more)

    def start(self, *words, **more):
        environment = dict(self.hull.environment, **self.environment)
        return subprocess.Popen(self.hull.command("compose", *words), cwd=self.folder, env=environment, **more)

    def ps(self, *words):
        out = self.compose("ps", "--format", "json", *words).stdout
        return [json.loads(line) for line in out.splitlines()]

    def states(self, *words):
        return {row["Name"]: row["State"] for row in self.ps("--all", *words)}

    def ids(self):
        return {row["Name"]: row["ID"] for row in self.ps("--all", "--no-trunc")}


@pytest.fixture
def project(hull, tmp_path):
    made = []

    def make(text, name="demo", **environment):
        folder = tmp_path / name
        folder.mkdir()
        made.append(Project(hull, folder, text, **environment))
        return made[-1]

    yield make
    for one in made:
        one.compose("down", "--volumes", "--remove-orphans", "-t", "0", check=False)
        left = one.hull.hull("ps", "-aq", "--filter", f"label=com.docker.compose.project={one.folder.name}").stdout.split()
        if left:
            one.hull.hull("rm", "-f", *left)


def test_an_application_comes_up_in_order_and_goes_down_whole(project):
    app = project(WEB, WHO="you")
    done = app.compose("up", "-d", "--wait")
    assert app.states() == {"demo-web-1": "running", "demo-setup-1": "exited", "demo-client-1": "running"}
    steps = [line.split()[1:] for line in done.stderr.splitlines() if line.startswith(" Container")]
    assert steps.index(["demo-setup-1", "Completed"]) < steps.index(["demo-web-1", "Started"])
    assert steps.index(["demo-web-1", "Healthy"]) < steps.index(["demo-client-1", "Started"])
    instances.wait_until(lambda: "ready" in app.compose("logs", "client").stdout, "the client's output")
    assert app.compose("logs", "--no-log-prefix", "client").stdout == "hello you\nready\n"
    assert app.compose("logs", "client").stdout.splitlines()[0] == "client-1  | hello you"
    page = app.hull.in_netns(["curl", "-s", "http://127.0.0.1:18080/"]).stdout
    assert page == "hello you\n"
    assert app.compose("port", "web", "80").stdout == "127.0.0.1:18080\n"
    # Nothing has changed: nothing is touched.
    before = app.ids()
    app.compose("up", "-d")
    assert app.ids() == before
    assert [row["Name"] for row in json.loads("[" + app.compose("ls", "--format", "json").stdout.strip() + "]")] == ["demo"]
    app.compose("down")
    assert app.states() == {}
    networks = app.hull.hull("network", "ls", "--format", "{{.Name}}").stdout.split()
    assert "demo_default" not in networks
    assert "demo_data" in app.hull.hull("volume", "ls", "-q").stdout.split()
    app.compose("down", "-v")
    assert "demo_data" not in app.hull.hull("volume", "ls", "-q").stdout.split()


SLEEPERS = """
services:
  a: {image: test, init: true, command: sleep 1000, environment: {X: "${X:-1}"}}
  b: {image: test, init: true, command: sleep 1000, depends_on: [a], volumes: [/scratch]}
"""


def test_only_what_has_changed_is_made_anew(project):
    app = project(SLEEPERS)
    app.compose("up", "-d")
    first = app.ids()
    app.compose("exec", "-T", "b", "touch", "/scratch/kept")
    app.compose("up", "-d", environment={"X": "2"})
    second = app.ids()
    assert second["demo-a-1"] != first["demo-a-1"] and second["demo-b-1"] == first["demo-b-1"]
    app.compose("up", "-d", "--no-recreate")
    assert app.ids() == second
    app.compose("up", "-d", "--force-recreate")
    third = app.ids()
    assert not set(third.values()) & set(second.values())
    # An anonymous volume goes on with the next container.
    assert app.compose("exec", "-T", "b", "ls", "/scratch").stdout == "kept\n"
    app.compose("up", "-d", "--force-recreate", "-V")
    assert app.compose("exec", "-T", "b", "ls", "/scratch").stdout == ""


def test_scale_up_and_down(project):
    app = project(SLEEPERS)
    app.compose("up", "-d", "--scale", "a=3")
    assert sorted(app.states()) == ["demo-a-1", "demo-a-2", "demo-a-3", "demo-b-1"]
    found = app.compose("exec", "-T", "b", "busybox", "nslookup", "a", check=False).stdout
    assert found.count("Address") >= 3, found
    kept = app.ids()["demo-a-1"]
    app.compose("scale", "a=1")
    assert sorted(app.states()) == ["demo-a-1", "demo-b-1"] and app.ids()["demo-a-1"] == kept
    assert app.compose("up", "-d", "--scale", "nobody=1", check=False).returncode == 1


def test_orphans(project):
    app = project(SLEEPERS)
    app.compose("up", "-d")
    app.write("services: {a: {image: test, init: true, command: sleep 1000}}\n")
    done = app.compose("up", "-d")
    assert "no longer has: demo-b-1" in done.stderr and "demo-b-1" in app.states()
    app.compose("up", "-d", "--remove-orphans")
    assert sorted(app.states()) == ["demo-a-1"]


def test_lifecycle_of_services(project):
    app = project(SLEEPERS)
    app.compose("create")
    assert set(app.states().values()) == {"created"}
    app.compose("start")
    assert set(app.states().values()) == {"running"}
    app.compose("pause", "a")
    assert app.states()["demo-a-1"] == "paused"
    app.compose("unpause", "a")
    app.compose("restart", "-t", "0", "b")
    app.compose("stop", "-t", "0", "b")
    assert app.states() == {"demo-a-1": "running", "demo-b-1": "exited"}
    assert [row["Name"] for row in app.ps("--status", "exited")] == ["demo-b-1"]
    app.compose("kill", "a")
    assert set(app.states().values()) == {"exited"}
    app.compose("rm", "-f", "a")
    assert sorted(app.states()) == ["demo-b-1"]
    assert [line.split()[:3] for line in app.compose("images").stdout.splitlines()[1:]] == [["demo-b-1", "test", "latest"]]
    app.compose("up", "-d")
    assert "sleep 1000" in app.compose("top").stdout
    app.compose("stop", "-t", "0")


def test_foreground_shows_output_and_stops_on_a_signal(project):
    app = project("""
services:
  one: {image: test, init: true, command: sh -c 'echo from one; sleep 1000'}
  other: {image: test, init: true, command: sh -c 'echo from other; sleep 1000', stop_grace_period: 1s}
""")
    up = app.start("up", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = {up.stdout.readline(), up.stdout.readline()}
    assert lines == {"one-1    | from one\n", "other-1  | from other\n"}
    up.send_signal(signal.SIGINT)
    _, errors = up.communicate(timeout=30)
    assert "\x1b" not in "".join(lines)
    assert up.returncode == 130, errors
    assert set(app.states().values()) == {"exited"}


def test_exit_code_from(project):
    app = project("""
services:
  tests: {image: test, command: sh -c 'sleep 0.3; exit 7'}
  helper: {image: test, init: true, command: sleep 1000, stop_grace_period: 0s}
""")
    assert app.compose("up", "--exit-code-from", "tests", check=False).returncode == 7
    assert set(app.states().values()) == {"exited"}
    assert app.compose("up", "--abort-on-container-exit", check=False).returncode == 7


def test_conditions_that_fail_are_told(project):
    app = project("""
services:
  sick: {image: test, init: true, command: sleep 1000, healthcheck: {test: "false", interval: 100ms, retries: 2}}
  after: {image: test, command: "true", depends_on: {sick: {condition: service_healthy}}}
""")
    done = app.compose("up", "-d", check=False)
    assert done.returncode == 1 and "demo-sick-1 is unhealthy" in done.stderr
    assert "demo-after-1" not in app.states()
    app.compose("down", "-t", "0")
    app.write("""
services:
  fails: {image: test, command: sh -c 'exit 4'}
  after: {image: test, command: "true", depends_on: {fails: {condition: service_completed_successfully}}}
""")
    done = app.compose("up", "-d", check=False)
    assert done.returncode == 1 and "did not complete: it ended with exit code 4" in done.stderr
    app.compose("down", "-t", "0")
    app.write("""
services:
  plain: {image: test, init: true, command: sleep 1000}
  after: {image: test, command: "true", depends_on: {plain: {condition: service_healthy}}}
""")
    assert "has no health check" in app.compose("up", "-d", check=False).stderr


def test_run_makes_a_container_of_its_own(project):
    app = project(SLEEPERS)
    done = app.compose("run", "--rm", "-T", "b", "sh", "-c", "echo in $X; exit 5", "-e", check=False)
    assert done.returncode == 5 and done.stdout == "in\n"
    done = app.compose("run", "--rm", "-T", "-e", "X=9", "a", "sh", "-c", "echo in $X")
    assert done.stdout == "in 9\n"
    assert app.states() == {"demo-a-1": "running"}  # what b depends on was started
    assert app.compose("run", "-d", "--name", "mine", "a", "sleep", "1000").stdout == "mine\n"
    app.compose("down", "-t", "0")
    assert app.hull.hull("ps", "-aq", "--filter", "name=mine").stdout == ""


def test_configs_hooks_and_namespaces(project):
    app = project("""
services:
  web:
    image: test
    init: true
    command: sleep 1000
    configs: [{source: app, target: /etc/app.conf, mode: 0444}]
    post_start: [{command: [sh, -c, "echo started > /tmp/hook"]}]
  side: {image: test, init: true, command: sleep 1000, network_mode: "service:web", pid: "service:web"}
configs: {app: {content: "one\\n"}}
""")
    app.compose("up", "-d")
    assert app.compose("exec", "-T", "web", "cat", "/etc/app.conf", "/tmp/hook").stdout == "one\nstarted\n"
    assert "sleep" in app.compose("exec", "-T", "side", "ps").stdout
    address = "ip -4 -o addr show eth0 | tr -s ' ' | cut -d' ' -f4"
    assert (app.compose("exec", "-T", "side", "sh", "-c", address).stdout ==
            app.compose("exec", "-T", "web", "sh", "-c", address).stdout != "")
    first = app.ids()
    app.write((app.folder / "compose.yaml").read_text().replace('"one\\n"', '"two\\n"'))
    app.compose("up", "-d", "-t", "0")
    assert app.compose("exec", "-T", "web", "cat", "/etc/app.conf").stdout == "two\n"
    # Who shares namespaces with what is made anew is made anew too.
    assert not set(app.ids().values()) & set(first.values())


def test_networks_with_addresses_and_aliases(project):
    app = project("""
services:
  a: {image: test, init: true, command: sleep 1000, networks: {inner: {ipv4_address: 10.123.45.67, aliases: [known]}}}
  b: {image: test, init: true, command: sleep 1000, networks: [inner, outer]}
  c: {image: test, init: true, command: sleep 1000, networks: [outer]}
networks:
  inner: {internal: true, ipam: {config: [{subnet: 10.123.45.0/24}]}, labels: {k: v}}
  outer: {}
""")
    app.compose("up", "-d")
    assert "10.123.45.67" in app.compose("exec", "-T", "b", "busybox", "nslookup", "known").stdout
    assert app.compose("exec", "-T", "b", "ping", "-c1", "-W2", "a").returncode == 0
    assert app.compose("exec", "-T", "c", "busybox", "nslookup", "a", check=False).returncode != 0
    document = json.loads(app.hull.hull("network", "inspect", "demo_inner").stdout)[0]
    assert document["Internal"] and document["Labels"]["com.docker.compose.network"] == "inner"
    assert document["Labels"]["k"] == "v"


def test_external_resources_must_be_there(project):
    app = project("""
services: {a: {image: test, init: true, command: sleep 1000, volumes: ["v:/v"], networks: [n]}}
volumes: {v: {external: true, name: outside-v}}
networks: {n: {external: true, name: outside-n}}
""")
    done = app.compose("up", "-d", check=False)
    assert done.returncode == 1 and "hull network create outside-n" in done.stderr
    app.hull.hull("network", "create", "outside-n")
    app.hull.hull("volume", "create", "outside-v")
    app.compose("up", "-d")
    app.compose("down", "-v", "-t", "0")
    assert "outside-v" in app.hull.hull("volume", "ls", "-q").stdout
    app.hull.hull("network", "rm", "outside-n")
    app.hull.hull("volume", "rm", "outside-v")


@pytest.mark.parametrize("round_", range(6))
def test_killed_at_any_moment_the_next_command_carries_on(project, round_):
    app = project(SLEEPERS.replace("services:", "services:\n  c: {image: test, init: true, command: sleep 1000, depends_on: [b]}"))
    up = app.start("up", "-d", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.02 + 0.05 * round_)
    up.kill()
    up.wait()
    app.compose("up", "-d")
    assert app.states() == {"demo-a-1": "running", "demo-b-1": "running", "demo-c-1": "running"}
    down = app.start("down", "-t", "0", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.02 + 0.04 * round_)
    down.kill()
    down.wait()
    app.compose("down", "-t", "0")
    assert app.states() == {}
    assert "demo_default" not in app.hull.hull("network", "ls", "--format", "{{.Name}}").stdout


@pytest.mark.parametrize("text, message", [
    ("services:\n  a:\n    image: test\n    prots: []\n", 'compose.yaml:4: services.a.prots: unknown key (did you mean "ports"?)'),
    ("services:\n  a: {image: test\n", "compose.yaml:"),
    ("services:\n  a: {build: .}\n", "compose.yaml:2: services.a: build is not in this version of Hull"),
    ("services:\n  a: {image: test, restart: sometimes}\n", "compose.yaml:2: services.a.restart"),
    ("services:\n  a: {image: test, networks: [x]}\n", "not defined under networks"),
    ("services:\n  a: {image: test, ports: ['1:2:3:4:5']}\n", "compose.yaml:2: port 1:2:3:4:5"),
    ("a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
     "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n", "too large"),
    ("services:\n  a: {image: no-such-image-here, pull_policy: never}\n", "pull policy is never"),
])
def test_wrong_files_change_nothing(project, text, message):
    app = project(text)
    done = app.compose("up", "-d", check=False)
    assert done.returncode == 1 and message in done.stderr, done.stderr
    assert app.hull.hull("ps", "-aq", "--filter", "label=com.docker.compose.project=demo").stdout == ""
    assert "demo_default" not in app.hull.hull("network", "ls", "--format", "{{.Name}}").stdout


def test_config_agrees_with_docker_compose(project):
    """Debian's docker-compose 1.29 is the oracle where both understand."""
    text = """
version: "3.9"
x-env: &env {A: "1", B: two}
services:
  web:
    image: "nginx:${TAG:-1}"
    command: run --now 'in one'
    environment: {<<: *env, C: "${MISSING:-three}"}
    ports: ["8080:80", "127.0.0.1:9000:9000/udp"]
    volumes: ["./site:/srv:ro", "data:/data"]
    depends_on: {db: {condition: service_healthy}}
    labels: [one=1, two]
    restart: always
    dns: [9.9.9.9]
    cap_add: [NET_ADMIN]
    healthcheck: {test: [CMD, "true"], interval: 5s, retries: 2}
    networks: {front: {aliases: [www]}, default: }
  db:
    extends: {service: base}
    image: db
    env_file: db.env
    expose: ["5432"]
  base: {image: x, user: "12", working_dir: /w, init: true, read_only: true, stop_grace_period: 3s}
networks: {front: {internal: true}}
volumes: {data: {labels: {k: v}}}
"""
    app = project(text)
    (app.folder / "db.env").write_text("FROM=file\n")
    theirs = subprocess.run(["docker-compose", "config"], cwd=app.folder, capture_output=True, text=True, check=True,
                            env={"PATH": os.environ["PATH"], "HOME": str(app.folder)}).stdout
    ours = json.loads(app.compose("config", "--format", "json").stdout)
    theirs = json.loads(subprocess.run(["/usr/bin/python3", "-c", "import sys, yaml, json; print(json.dumps(yaml.safe_load(sys.stdin)))"],
                                       input=theirs, capture_output=True, text=True, check=True).stdout)
    assert set(ours["services"]) == set(theirs["services"])
    for name, service in theirs["services"].items():
        mine = ours["services"][name]
        for key in ("image", "user", "working_dir", "init", "read_only", "restart", "cap_add", "expose"):
            assert mine.get(key) == service.get(key), (name, key)
        assert mine.get("environment", {}) == {k: str(v) for k, v in service.get("environment", {}).items()}
        assert mine.get("labels", {}) == service.get("labels", {})
        assert sorted(mine.get("depends_on", {})) == sorted(service.get("depends_on", {}))
        assert sorted(mine["networks"]) == sorted(service.get("networks", {"default": None}))
        assert mine.get("healthcheck", {}).get("test") == service.get("healthcheck", {}).get("test")
        ports = {(p["target"], int(p["published"]), p.get("protocol", "tcp")) for p in mine.get("ports", [])}
        assert ports == {(int(str(p).split("/")[0].split(":")[-1]), int(str(p).split("/")[0].split(":")[-2]),
                          str(p).split("/")[1] if "/" in str(p) else "tcp") if isinstance(p, str) else
                         (p["target"], int(p["published"]), p.get("protocol", "tcp")) for p in service.get("ports", [])}
        mounts = {(m["source"], m["target"], m.get("read_only", False)) for m in mine.get("volumes", [])}
        assert mounts == {tuple(v.split(":")[:2]) + (v.endswith(":ro"),) if isinstance(v, str) else
                          (v["source"], v["target"], v.get("read_only", False)) for v in service.get("volumes", [])}
    assert mine is not None and ours["volumes"]["data"]["labels"] == theirs["volumes"]["data"]["labels"]
    assert ours["networks"]["front"]["internal"] is True


def test_a_service_in_a_virtual_machine(project, hull, guest_kernel):
    """The request only: machines themselves are tested by the parity suite."""
    machines.share_kernel(hull, guest_kernel)
    app = project("services: {a: {image: test, isolation: vm, command: 'true'}, b: {image: test, runtime: hull-vm, command: 'true'}}\n")
    app.compose("create")
    kinds = {row["Names"]: row["Isolation"] for row in map(json.loads, hull.hull(
        "ps", "-a", "--format", "json", "--filter", "label=com.docker.compose.project=demo").stdout.splitlines())}
    assert kinds == {"demo-a-1": "vm", "demo-b-1": "vm"}
