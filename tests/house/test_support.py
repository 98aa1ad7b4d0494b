"""The test fixtures do what they say: images are the same each time, and registries take and give them back."""

import os
import shutil
import subprocess

import pytest
from support import bundle as bundles
from support.instance import remove_tree


def test_image_is_reproducible(tmp_path):
    first = bundles.busybox_image(tmp_path / "one")
    assert bundles.busybox_image(tmp_path / "two") == first


def test_demo_image_is_reproducible(tmp_path):
    maker = bundles.SOURCE / "cmake/make_demo_image.py"
    for name in ("one", "two"):
        subprocess.run([maker, "--busybox", bundles.BUSYBOX, "--files", bundles.SOURCE / "cmake/demo", tmp_path / name],
                       check=True)
    assert (tmp_path / "one/index.json").read_bytes() == (tmp_path / "two/index.json").read_bytes()


@pytest.mark.parametrize("options", [{}, {"user": "ada", "password": "lovelace"}, {"tls": True}])
def test_registry_takes_an_image(make_registry, busybox_layout, options, tmp_path):
    registry = make_registry(**options)
    reference = registry.push_layout(busybox_layout, "busybox:latest", "team/busybox:1")
    command = ["skopeo", "inspect", "--tls-verify=false"]
    if registry.user:
        assert subprocess.run([*command, f"docker://{reference}"], capture_output=True).returncode != 0
        command += ["--creds", f"{registry.user}:{registry.password}"]
    subprocess.run([*command, f"docker://{reference}"], check=True, capture_output=True)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root")
def test_remove_tree_never_follows_a_mount(tmp_path):
    inside, outside = tmp_path / "folder" / "mount", tmp_path / "outside"
    inside.mkdir(parents=True)
    outside.mkdir()
    (outside / "kept").write_text("kept")
    subprocess.run(["mount", "--bind", outside, inside], check=True)
    remove_tree(tmp_path / "folder")
    assert (outside / "kept").exists() and not (tmp_path / "folder").exists()
