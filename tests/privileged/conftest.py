"""What most of these tests start from: workloads in the background of a private Hull."""

import pytest


@pytest.fixture
def background(hull):
    """background(*flags, command=...) -> id of a running container, removed afterwards."""
    made = []

    def start(*flags, command=("sleep", "1000")):
        made.append(hull.hull("run", "-d", "--network", "none", *flags, "test", *command).stdout.strip())
        return made[-1]

    yield start
    if made:
        hull.hull("rm", "-f", "-v", *made, check=False)
