"""Images of many layers run: each file comes from the uppermost layer that has it."""

import pytest
from support import bundle as bundles

layout = bundles.layout


@pytest.mark.parametrize("count", [2, 4, 20, 100])
def test_run(instance, tmp_path, count):
    layers = [layout.make_tar([layout.regular("top", f"{number}\n"), layout.regular(f"file{number}", "x")])
              for number in range(1, count)]
    bundles.busybox_image(tmp_path / "layout", name="deep:latest", layers=layers)
    instance.hull("load", "--input", tmp_path / "layout", timeout=300)
    done = instance.hull("run", "--rm", "--network", "none", "deep", "sh", "-c", "cat /top; ls -d /file* | wc -l")
    assert done.stdout.split() == [str(count - 1), str(count - 1)]
