"""The bed: a whole machine emulated by QEMU, with AMD's nested virtualization, in which a stock Debian kernel has a real
/dev/kvm. Programs of the build run in it as on a user's machine; commands go in and results come out over a serial port.

    with Bed({"bin/hull-vmm": path}) as bed:
        code, output = bed.run("hull-vmm --config /machine.json", timeout=120)
"""

import base64
import hashlib
import os
import pathlib
import re
import select
import shutil
import subprocess
import tempfile
import time

from . import cpio
from .kernel import cloud_kernel

BUSYBOX = pathlib.Path(shutil.which("busybox") or "/bin/busybox")
KVM_MODULES = ("irqbypass", "kvm", "kvm_amd")
# What makes the kernel boot quicker under emulation and loses nothing that the tests look at.
COMMAND_LINE = ("console=ttyS0 quiet tsc=reliable no_timer_check i8042.noaux i8042.nomux i8042.dumbkbd i8042.nopnp "
                "8250.nr_uarts=2 cryptomgr.notests rcupdate.rcu_expedited=1 random.trust_cpu=on mitigations=off "
                "panic=-1 reboot=t")

# Commands come one a line on the second port: number, MD5 sum, base64. A busy machine loses bytes of a serial line now and
# then: what came is told ("HULL got") or asked for again, and no number is executed twice. The answer to each is
# "HULL <exit code> <base64>".
INIT = """#!/bin/busybox sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/ TERM=dumb
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /tmp /run /etc
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
for module in $(cat /modules/order); do insmod /modules/$module.ko || echo "insmod $module failed"; done
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
echo "HULL ready" >&3
last=
while read -r number sum line <&3; do
  [ -n "$number" ] || continue
  [ "$(echo "$line" | md5sum | cut -c1-32)" = "$sum" ] || { echo "HULL again" >&3; continue; }
  echo "HULL got" >&3
  [ "$number" != "$last" ] || continue
  last=$number
  echo "$line" | base64 -d > /tmp/.command
  sh /tmp/.command > /tmp/.output 2>&1 < /dev/null
  code=$?
  { printf 'HULL %d ' $code; base64 /tmp/.output | tr -d '\\n'; echo; } >&3
done
poweroff -f
"""


def with_libraries(program):
    """A dynamically linked program of this machine with what it loads, at the same paths: files for a Bed."""
    program = pathlib.Path(program)
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    paths = [pathlib.Path(path) for path in re.findall(r"(/\S+) \(0x", listed)]
    return {str(path): path.resolve() for path in (program, *paths)}


class BedError(Exception):
    pass


class Bed:
    """A running bed. files: path inside -> path outside, bytes or text. modules: loaded before the first command."""

    def __init__(self, files=None, modules=(), cpus=2, memory_mib=2048, boot_timeout=120, kernel=None):
        self.kernel = kernel or cloud_kernel()
        self.number = 0
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hull-bed."))
        self.console = self.folder / "console.log"
        self.buffer = b""
        self.process = None
        try:
            self.start(files or {}, modules, cpus, memory_mib, boot_timeout)
        except BaseException:
            self.stop()
            raise

    def start(self, files, modules, cpus, memory_mib, boot_timeout):
        initramfs = self.folder / "initramfs"
        initramfs.write_bytes(self.initramfs(files, modules))
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(cpus),
             "-m", str(memory_mib), "-display", "none", "-nodefaults", "-no-reboot", "-no-user-config",
             "-kernel", self.kernel.vmlinux, "-initrd", initramfs, "-append", COMMAND_LINE,
             "-serial", f"file:{self.console}", "-serial", "stdio"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(self.folder / "qemu.log", "w"))
        os.set_blocking(self.process.stdout.fileno(), False)
        line = self.read_line(boot_timeout)
        if line != "HULL ready":
            raise BedError(f"the bed says '{line}' instead of being ready")

    def initramfs(self, files, modules):
        archive = cpio.Archive()
        cpio.console_node(archive)
        for folder in ("proc", "sys", "dev", "tmp", "run", "etc", "bin", "sbin", "usr/bin", "usr/sbin", "root", "mnt"):
            archive.folder(folder)
        archive.file("bin/busybox", BUSYBOX)
        archive.file("init", INIT, 0o755)
        order = self.kernel.with_dependencies((*KVM_MODULES, *modules))
        archive.file("modules/order", "\n".join(order) + "\n")
        for name in order:
            archive.file(f"modules/{name}.ko", self.kernel.module(name))
        for path, content in files.items():
            archive.file(path, content)
        return archive.bytes()

    def read_line(self, timeout):
        """The next line of the second port that begins with HULL."""
        deadline = time.monotonic() + timeout
        while True:
            while b"\n" in self.buffer:
                line, self.buffer = self.buffer.split(b"\n", 1)
                line = line.strip(b"\r")
                if line.startswith(b"HULL"):
                    return line.decode()
            left = deadline - time.monotonic()
            if left <= 0:
                raise BedError(f"no answer within {timeout} s; the console's last lines:\n{self.last_lines()}")
            if select.select([self.process.stdout], [], [], left)[0]:
                data = os.read(self.process.stdout.fileno(), 1 << 20)
                if not data:
                    raise BedError(f"the bed ended; the console's last lines:\n{self.last_lines()}")
                self.buffer += data

    def run(self, command, timeout=60, check=False):
        """Runs a shell command inside; (exit code, output of both streams)."""
        fields = self.exchange(base64.b64encode(command.encode()) + b"\n", time.monotonic() + timeout)
        code, output = int(fields[1]), base64.b64decode(fields[2]).decode(errors="replace")
        if check and code != 0:
            raise BedError(f"{command}: exit code {code}\n{output}")
        return code, output

    def exchange(self, text, end):
        """The words of the answer to one command, which is sent until it has arrived whole."""
        self.number += 1
        line = b"\n%d %s %s" % (self.number, hashlib.md5(text).hexdigest().encode(), text)
        arrived = False
        self.send(line)
        while True:
            left = max(1, end - time.monotonic())
            try:
                fields = self.read_line(left if arrived else min(15, left)).split(" ", 2)
            except BedError:
                if arrived or time.monotonic() >= end:
                    raise
                self.send(line)
                continue
            if fields[1] == "got":
                arrived = True
            elif fields[1] == "again":
                arrived = False
                self.send(line)
            else:
                return fields

    def send(self, line):
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def last_lines(self, count=30):
        if not self.console.exists():
            return ""
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-count:])

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
