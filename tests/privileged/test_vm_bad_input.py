"""Machines that can't be, or that go wrong: a clear message, the documented exit code, nothing left."""

import os
import pathlib
import signal
import subprocess
import time

import pytest
from support import images
from support import instance as instances
from support import vm as machines
from support.instance import wait_until

LONG = 120
SMALL = ("--vm", "-q", "--network", "none", "-m", "64m")


def prepare(instance, kernels, folder):
    machines.share_kernel(instance, kernels)
    images.load(instance, folder)
    return instance


@pytest.fixture
def hull(instance, guest_kernel, tmp_path):
    """An instance with an image and a kernel; a test may damage both."""
    return prepare(instance, guest_kernel, tmp_path / "image")


def run(hull, *arguments, command=("true",), **more):
    return hull.hull("run", "--rm", *SMALL, *arguments, "test", *command, check=False, timeout=LONG, **more)


def nothing_left(hull):
    assert hull.hull("ps", "-aq").stdout == ""
    wait_until(lambda: not hull.processes(), "every process to end", 20)
    wait_until(lambda: not [path for path in hull.cgroups() if hull.ids & set(path.split("/"))], "the control groups to go")
    hull.hull("system", "check")


def replace(path, content):
    """The file may be shared with other instances by a hard link."""
    path.unlink()
    path.write_bytes(content)


def kernel_file(hull, name):
    return next((hull.root / "vm/kernels").glob(f"*/{name}"))


@pytest.mark.parametrize("content", [b"", b"no kernel at all\n", b"\x7fELF" + b"x" * 5000, b"\x7fELF\x02\x01\x01" + bytes(9000)])
def test_damaged_kernel(hull, content):
    replace(kernel_file(hull, "vmlinux"), content)
    done = run(hull)
    assert done.returncode == 125 and ("virtual machine" in done.stderr or "is damaged" in done.stderr), done.stderr
    nothing_left(hull)


def test_damaged_initramfs(hull):
    path = kernel_file(hull, "initramfs*")
    replace(path, path.read_bytes()[:1000] + os.urandom(2000))
    done = run(hull)
    assert done.returncode == 125 and ("virtual machine" in done.stderr or "is damaged" in done.stderr), done.stderr
    assert "hull vm kernel install" in done.stderr, done.stderr
    nothing_left(hull)


def test_missing_kernel_files(hull):
    kernel_file(hull, "vmlinux").unlink()
    done = run(hull)
    assert done.returncode == 125 and "hull vm kernel install" in done.stderr, done.stderr
    nothing_left(hull)


def test_a_layer_that_is_none(hull):
    layer = max((hull.root / "layers").glob("*.erofs"), key=lambda path: path.stat().st_size)
    replace(layer, os.urandom(1 << 20))
    done = run(hull)
    assert done.returncode == 125, (done.returncode, done.stderr)
    assert "layer" in done.stderr or "erofs" in done.stderr, done.stderr
    assert hull.hull("ps", "-aq").stdout == ""
    wait_until(lambda: not hull.processes(), "every process to end", 20)


@pytest.mark.parametrize("arguments,words", [
    (["--cpus", "1000"], "at most 64 processors"), (["--cpus", "0.0000001"], "from 0.01 up"), (["-m", "1k"], "memory"),
    (["-m", "100000g"], "this host has"), (["--storage-opt", "size=1k"], "expected 16MiB"),
])
def test_sizes(hull, arguments, words):
    done = run(hull, *arguments)
    assert done.returncode == 125 and words in done.stderr, done.stderr
    nothing_left(hull)


def test_a_panic_shows_the_last_lines(hull):
    done = run(hull, "--privileged", command=("sh", "-c", "echo before; sleep 0.5; echo c > /proc/sysrq-trigger; sleep 100"))
    assert done.returncode == 125 and done.stdout == "before\n", (done.returncode, done.stdout, done.stderr)
    assert "the guest's kernel panicked" in done.stderr and "sysrq triggered crash" in done.stderr, done.stderr
    nothing_left(hull)


def hypervisor(hull):
    return [pid for pid, line in hull.processes().items() if "qemu-system" in line or "hull-vmm --config" in line]


def test_a_guest_that_ignores_its_stop(hull):
    """First a program that does not end by SIGTERM, then a machine that does not answer at all."""
    stubborn = ("sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")
    for frozen in (False, True):
        name = hull.hull("run", "-d", *SMALL, "test", *stubborn, timeout=LONG).stdout.strip()
        wait_until(lambda: hull.hull("logs", name).stdout == "up\n", "the workload", LONG)
        if frozen:
            for pid in hypervisor(hull):
                os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
        hull.hull("stop", "-t", "1", name, timeout=LONG)
        assert time.monotonic() - begin < 60
        assert hull.hull("wait", name).stdout.strip() == "137"
        hull.hull("rm", name)
    nothing_left(hull)


def test_scratch_disk_is_full(hull):
    done = run(hull, "--storage-opt", "size=32m", command=("sh", "-c", "dd if=/dev/zero of=/work/big bs=1M; echo code $?; echo x"))
    assert done.returncode == 0 and "No space left on device" in done.stderr and done.stdout.endswith("x\n"), done.stderr
    nothing_left(hull)


def test_the_hosts_disk_is_full_under_the_scratch_disk(hull):
    """The guest's writes fail; it neither stops for ever nor takes the host's command with it."""
    disks = hull.root / "workloads"
    disks.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "hull-t", str(disks)], check=True)
    script = "dd if=/dev/zero of=/work/big bs=1M count=64 conv=fsync; echo code $?"
    done = run(hull, "--storage-opt", "size=200m", command=("sh", "-c", script))
    assert "code 1" in done.stdout, (done.returncode, done.stdout, done.stderr)
    wait_until(lambda: not hull.processes(), "every process to end", 20)
    assert hull.hull("ps", "-aq").stdout == ""


def test_the_hosts_memory_is_gone(hull):
    """What the machine may use on the host is taken away from it while it runs."""
    process = hull.start("run", "--rm", *SMALL, "test", "sh", "-c", "echo up; sleep 2; head -c 50000000 /dev/zero | tail; echo on",
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    assert process.stdout.readline() == "up\n"
    hull.note_ids()
    folder = next(pathlib.Path(path) for path in hull.cgroups()
                  if set(path.split("/")) & hull.ids and ("memory" in path or "memory.max" in os.listdir(path)))
    v2 = (folder / "memory.max").exists()
    used = int((folder / ("memory.current" if v2 else "memory.usage_in_bytes")).read_text())
    (folder / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(used + (4 << 20)))
    out, errors = process.communicate(timeout=LONG)
    assert process.returncode == 125 and "on\n" not in out, (process.returncode, out, errors)
    assert "out of memory" in errors, errors
    nothing_left(hull)
