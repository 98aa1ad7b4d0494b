"""Virtual machines in tests: the guest kernel, installed once and shared by hard links, and what a machine needs here."""

import os
import pathlib
import shutil
import subprocess

import pytest

from . import instance as instances

DEB = instances.SOURCE / "build/cache/linux-image.deb"
# A data folder in which a kernel is installed already: where unpacking one takes minutes.
INSTALLED = os.environ.get("HULL_TEST_KERNELS")


def missing():
    """Why no machine can run here, or ""."""
    if not shutil.which("qemu-system-x86_64") and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "needs qemu-system-x86 or KVM"
    if not INSTALLED and not DEB.exists():
        return "needs the guest kernel's package: scripts/setup downloads it"
    return ""


def install_kernel(folder):
    """Installs the guest kernel into an empty data folder and returns it."""
    if INSTALLED:
        shutil.copytree(f"{INSTALLED}/vm", f"{folder}/vm", symlinks=True)
        return pathlib.Path(folder)
    done = subprocess.run([str(instances.BIN / "hull"), "--root", str(folder), "--run-root", str(folder / "run"), "vm",
                           "kernel", "install", str(DEB)], capture_output=True, text=True, timeout=300,
                          env={"PATH": os.environ["PATH"], "HULL_CONFIG": "/dev/null"})
    assert done.returncode == 0, done.stdout + done.stderr
    return pathlib.Path(folder)


def share_kernel(instance, data):
    """Gives an instance the kernels of another data folder; names of the same files."""
    (instance.root / "vm").mkdir(parents=True, exist_ok=True, mode=0o700)
    os.chmod(instance.root, 0o700)
    subprocess.run(["cp", "-al", str(data / "vm/kernels"), str(instance.root / "vm/")], check=True)


def need_machines():
    reason = missing()
    if reason:
        pytest.skip(reason)
