"""Small guests for hull-vmm inside the bed: an initramfs with busybox and a script as PID 1, and a machine's description."""

import json

from . import cpio
from .bed import BUSYBOX, COMMAND_LINE

KERNEL = "/guest/vmlinux"
INITRAMFS = "/guest/initramfs"
CONSOLE = "/tmp/console.log"
GUEST_LINE = " ".join(word for word in COMMAND_LINE.split() if word.split("=")[0] in
                      ("quiet", "cryptomgr.notests", "rcupdate.rcu_expedited", "mitigations", "panic"))

HEAD = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module.ko || echo "insmod $module failed"; done
"""


def initramfs(kernel, script, modules=(), files=None):
    """An initramfs whose PID 1 loads the modules and runs the script's lines with busybox."""
    archive = cpio.Archive()
    cpio.console_node(archive)
    for folder in ("bin", "proc", "sys", "dev", "mnt", "tmp"):
        archive.folder(folder)
    archive.file("bin/busybox", BUSYBOX)
    archive.file("init", HEAD + script, 0o755)
    order = kernel.with_dependencies(modules)
    archive.file("modules/order", "\n".join(order) + "\n")
    for name in order:
        archive.file(f"modules/{name}.ko", kernel.module(name))
    for path, content in (files or {}).items():
        archive.file(path, content)
    return archive.bytes()


def machine(**members):
    """The description of a machine as hull-vmm reads it."""
    config = {"kernel": KERNEL, "initramfs": INITRAMFS, "memory_bytes": 192 << 20, "vcpus": 1,
              "command_line": GUEST_LINE, "console_log": CONSOLE, "rng": False, "balloon": False}
    return json.dumps({**config, **members})


def run_vmm(bed, description, timeout=120, before=""):
    """Runs one machine in the bed to its end: (exit code of hull-vmm, its console, what hull-vmm itself said). before:
    a command that executes hull-vmm."""
    bed.run(f"rm -f {CONSOLE}; cat > /tmp/machine.json <<'END'\n{description}\nEND")
    code, said = bed.run(f"timeout -s KILL {timeout - 5} {before} hull-vmm --config /tmp/machine.json", timeout=timeout)
    return code, bed.run(f"cat {CONSOLE}")[1], said
