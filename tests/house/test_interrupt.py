"""A test run that gets SIGTERM runs the ends of its fixtures."""

import os
import signal
import subprocess
import sys

import tree

PROGRAM = '''
import pathlib, pytest, signal

@pytest.fixture
def thing():
    yield
    pathlib.Path({ended!r}).write_text("ended")

def test_waits(thing):
    pathlib.Path({began!r}).write_text("began")
    print("waiting", flush=True)
    signal.pause()
'''


def test_sigterm_ends_the_fixtures(tmp_path):
    began, ended, file = tmp_path / "began", tmp_path / "ended", tmp_path / "test_one.py"
    file.write_text(PROGRAM.format(began=str(began), ended=str(ended)))
    (tmp_path / "conftest.py").write_text((tree.SOURCE / "tests" / "conftest.py").read_text())
    environment = dict(os.environ, PYTHONPATH=str(tree.SOURCE / "tests"), PYTHONDONTWRITEBYTECODE="1")
    run = subprocess.Popen([sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", str(file)], cwd=tmp_path,
                           env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in run.stdout:
        if "waiting" in line:
            break
    assert began.exists()
    run.send_signal(signal.SIGTERM)
    output = run.communicate(timeout=60)[0]
    assert ended.exists(), output
    assert run.returncode == 2, output
