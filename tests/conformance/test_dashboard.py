"""The dashboard in Debian's Chromium, driven by playwright-core (web/tests/dashboard.mjs)."""

import os
import pathlib
import signal
import subprocess

import pytest

from support import vm as machines
from support.instance import BUILD, SOURCE, wait_until

PORT = 2390


@pytest.fixture
def served(instance, guest_kernel):
    """An instance with workloads of both kinds, and hulld with its dashboard in front."""
    machines.share_kernel(instance, guest_kernel)
    talk = "while :; do echo tick; echo tock >&2; sleep 1; done"
    instance.hull("run", "-d", "--name", "web", "-v", "kept:/srv", "hull-demo", "sh", "-c", talk)
    instance.hull("run", "-d", "--name", "other", "--stop-timeout", "1", "hull-demo", "sleep", "1000")
    instance.hull("create", "--vm", "--name", "machine", "hull-demo", "sleep", "1000")
    address = f"tcp://127.0.0.1:{PORT}"
    socket = instance.run_folder / "docker.sock"
    hulld = instance.start("--host", f"unix://{socket}", "--dashboard", address, program="hulld")
    try:
        wait_until(socket.exists, "hulld's socket")
        wait_until(lambda: instance.hull("dashboard", check=False).returncode == 0, "the dashboard")
        yield instance
    finally:
        hulld.send_signal(signal.SIGTERM)
        assert hulld.wait(10) == 0


def test_browser(served, tmp_path):
    if not (BUILD / "web/node_modules/playwright-core").is_dir():
        pytest.fail("npm was missing when this tree was configured: run scripts/setup, then build again")
    pictures = pathlib.Path(os.environ.get("HULL_PICTURES", tmp_path))
    environment = dict(os.environ, DASHBOARD=served.hull("dashboard").stdout.strip(), CHROMIUM="/usr/bin/chromium",
                       MODULES=str(BUILD / "web"), PICTURES=str(pictures), HOME=str(tmp_path))
    command = ["nsenter", f"--net=/run/netns/{served.netns}", "node", str(SOURCE / "web/tests/dashboard.mjs")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_port_answers_nobody_else(served):
    def status(*arguments):
        done = served.in_netns(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *arguments])
        return int(done.stdout)

    base = f"http://127.0.0.1:{PORT}"
    token = served.hull("dashboard").stdout.strip().partition("#token=")[2]
    bearer = ("-H", f"Authorization: Bearer {token}")
    assert status(f"{base}/dashboard/") == 200
    assert status(f"{base}/containers/json") == 401
    assert status("-H", "Authorization: Bearer " + "0" * 64, f"{base}/containers/json") == 401
    assert status("-H", f"Cookie: token={token}", f"{base}/containers/json") == 401
    assert status(*bearer, f"{base}/containers/json") == 200
    # A page of another origin, and a name that an attacker's server resolves to this machine.
    assert status(*bearer, "-H", "Origin: http://evil.example", f"{base}/containers/json") == 403
    assert status(*bearer, "-H", "Host: evil.example:2390", f"{base}/containers/json") == 403
    # Nothing but the page's own files.
    for path in ("..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/package.json", "assets", "assets/none.js"):
        assert status("--path-as-is", f"{base}/dashboard/{path}") in (400, 404), path


def test_command_says_what_to_do(instance):
    done = instance.hull("dashboard", check=False)
    assert done.returncode != 0 and "--dashboard" in done.stderr
    done = instance.hull("--dashboard", "tcp://0.0.0.0:2390", program="hulld", check=False)
    assert done.returncode != 0 and "loopback" in done.stderr
