"""What most of these tests start from: a private Hull with the image "test", and workloads in the background."""

import pytest
from support import images


@pytest.fixture(scope="module")
def hull(shared_instance, tmp_path_factory):
    images.load(shared_instance, tmp_path_factory.mktemp("image"))
    return shared_instance


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
