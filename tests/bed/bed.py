"""The bed: a whole machine emulated by QEMU, with AMD's nested virtualization, in which a stock Debian kernel has a real
/dev/kvm. Programs of the build run in it as on a user's machine; commands go in and results come out over a serial port.

    with Bed({"bin/hull-vmm": path}) as bed:
        code, output = bed.run("hull-vmm --config /machine.json", timeout=120)

With a HostFolder it has this machine's programs, the source tree and the build too, each at its place:

    with HostFolder([SOURCE, BUILD]) as host, Bed(host=host) as bed:
        bed.run(f"/usr/bin/python3 -m pytest {SOURCE}/tests/privileged/test_parity.py", timeout=600)
"""

import base64
import contextlib
import hashlib
import os
import pathlib
import re
import select
import shutil
import socket
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
# "HULL <exit code> <base64>". Meanwhile the console is told every two seconds that the bed lives, by a program in memory.
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
mkdir /run/beat && cp /bin/busybox /run/beat/
(cd /run/beat && exec ./busybox sh -c 'while echo HULL beats && ./busybox sleep 2; do :; done' > /dev/ttyS0) &
ip link set lo up
for module in $(cat /modules/order); do insmod /modules/$module.ko || echo "insmod $module failed"; done
if [ -e /host ]; then exec sh /host; fi
exec sh /commands
"""

# This machine's folders with a layer in memory on them as the root; what is mounted moves there.
HOST = """mkdir -p /lower /above /new
mount -t virtiofs host-folder /lower -o ro && mount -t tmpfs above /above && mkdir /above/upper /above/work || exit 1
mount -t overlay -o lowerdir=/lower,upperdir=/above/upper,workdir=/above/work overlay /new || exit 1
cd /new
mkdir -p bin sbin lib lib64 proc sys dev tmp run root var/lib var/tmp mnt host
for name in bin sbin lib lib64; do rmdir $name && ln -s usr/$name $name; done
ln -s ../run var/run
for place in proc sys dev tmp run; do mount --move /$place /new/$place; done
cp /commands /new/host/
for path in $(cat /files); do mkdir -p /new/$(dirname $path); cp /$path /new/$path; done
exec switch_root /new /bin/sh /host/commands
"""

COMMANDS = """export PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin HOME=/root TERM=dumb
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


SIGN_OF_LIFE_S = 60  # a bed that is silent for so long has died, however busy the machine is


class BedError(Exception):
    pass


class BedDead(BedError):
    """The bed itself ended, fell silent, or never answered a command: nothing is known about what was tested in it.
    conftest.py then starts the bed anew and tries the test once more."""


class Bed:
    """A running bed. files: path inside -> path outside, bytes or text. modules: loaded before the first command.
    deaths: why it had to be started anew, each time. cpus: with two, which QEMU runs as threads, the processor's state gets
    lost between an exit of a guest and the host's next instruction (QEMU 7.2): a triple fault of the bed or of the guest
    after some million exits, or a bed that stands still. With one this was never seen, and it takes no longer."""

    def __init__(self, files=None, modules=(), cpus=1, memory_mib=2048, boot_timeout=120, kernel=None,
                 host=None):
        self.kernel = kernel or cloud_kernel()
        self.host = host
        self.cpus, self.memory_mib, self.boot_timeout = cpus, memory_mib, boot_timeout
        self.deaths = []
        self.process = None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hull-bed."))
        self.console = self.folder / "console.log"
        try:
            (self.folder / "initramfs").write_bytes(self.initramfs(files or {}, modules))
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self):
        """Starts it, a second time when the first one dies while booting."""
        try:
            self.start_once()
        except BedDead as dead:
            self.restart(f"while booting: {dead}")

    def restart(self, reason):
        """Starts it anew with the same files; what was done in it is gone."""
        self.deaths.append(reason)
        self.end_process()
        self.start_once()

    def start_once(self):
        self.number = 0
        self.buffer = b""
        self.heard, self.console_seen = time.monotonic(), 0
        self.console.unlink(missing_ok=True)
        if self.host:
            self.host.start()
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(self.cpus),
             "-m", str(self.memory_mib), *(self.host.arguments(self.memory_mib) if self.host else ()), "-display", "none",
             "-nodefaults", "-no-reboot", "-no-user-config", "-kernel", self.kernel.vmlinux,
             "-initrd", self.folder / "initramfs", "-append", COMMAND_LINE,
             "-serial", f"file:{self.console}", "-serial", "stdio",
             "-monitor", f"unix:{self.folder}/monitor,server,nowait"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(self.folder / "qemu.log", "w"))
        os.set_blocking(self.process.stdout.fileno(), False)
        line = self.read_line(self.boot_timeout, silence=self.boot_timeout)
        if line != "HULL ready":
            raise BedError(f"the bed says '{line}' instead of being ready")

    def initramfs(self, files, modules):
        archive = cpio.Archive()
        cpio.console_node(archive)
        for folder in ("proc", "sys", "dev", "tmp", "run", "etc", "bin", "sbin", "usr/bin", "usr/sbin", "root", "mnt"):
            archive.folder(folder)
        archive.file("bin/busybox", BUSYBOX)
        archive.file("init", INIT, 0o755)
        archive.file("commands", COMMANDS)
        if self.host:
            archive.file("host", HOST)
            archive.file("files", "".join(f"{path}\n" for path in files))
            modules = ("virtio_pci", "virtiofs", "overlay", *modules)
        order = self.kernel.with_dependencies((*KVM_MODULES, *modules))
        archive.file("modules/order", "\n".join(order) + "\n")
        for name in order:
            archive.file(f"modules/{name}.ko", self.kernel.module(name))
        for path, content in files.items():
            archive.file(path, content)
        return archive.bytes()

    def read_line(self, timeout, silence=SIGN_OF_LIFE_S):
        """The next line of the second port that begins with HULL; silence: how long, in seconds, nothing may come from
        either port."""
        deadline = time.monotonic() + timeout
        while True:
            while b"\n" in self.buffer:
                line, self.buffer = self.buffer.split(b"\n", 1)
                line = line.strip(b"\r")
                if line.startswith(b"HULL"):
                    return line.decode()
            now = time.monotonic()
            size = self.console.stat().st_size if self.console.exists() else 0
            if size != self.console_seen:
                self.heard, self.console_seen = now, size
            if now - self.heard > silence:
                raise BedDead(f"no sign of life for {silence} s: {self.processor()}; the console's last lines:\n"
                              f"{self.last_lines()}")
            if now >= deadline:
                raise BedDead(f"no answer within {timeout:.0f} s; the console's last lines:\n{self.last_lines()}")
            if select.select([self.process.stdout], [], [], min(1, deadline - now))[0]:
                self.heard = time.monotonic()
                data = os.read(self.process.stdout.fileno(), 1 << 20)
                if not data:
                    raise BedDead(f"the bed ended; the console's last lines:\n{self.last_lines()}")
                self.buffer += data

    def answers(self):
        """Whether a command is still carried out."""
        try:
            return self.run("echo alive", timeout=SIGN_OF_LIFE_S)[1] == "alive\n"
        except (BedDead, OSError):
            return False

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
        self.heard = time.monotonic()
        line = b"\n%d %s %s" % (self.number, hashlib.md5(text).hexdigest().encode(), text)
        arrived = False
        self.send(line)
        while True:
            left = max(1, end - time.monotonic())
            try:
                fields = self.read_line(left if arrived else min(15, left)).split(" ", 2)
            except BedDead:
                if arrived or self.silent() or time.monotonic() >= end:
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

    def processor(self):
        """Where the emulated processor is, thrice within a second: whether it spins or waits."""
        seen = []
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(1)
            monitor.connect(str(self.folder / "monitor"))
            for _ in range(3):
                monitor.sendall(b"info registers -a\n")
                said = b""
                with contextlib.suppress(TimeoutError):
                    while data := monitor.recv(1 << 16):
                        said += data
                seen += re.findall(r"RIP=\w+ RFL=\w+|HLT=\d", said.decode(errors="replace"))
        return " ".join(seen) or "its emulator is silent too"

    def silent(self):
        return self.process.poll() is not None or time.monotonic() - self.heard > SIGN_OF_LIFE_S

    def send(self, line):
        try:
            self.process.stdin.write(line)
            self.process.stdin.flush()
        except BrokenPipeError:
            raise BedDead(f"the bed ended; the console's last lines:\n{self.last_lines()}") from None

    def last_lines(self, count=60):
        if not self.console.exists():
            return ""
        lines = [line for line in self.console.read_text(errors="replace").splitlines() if line.strip() != "HULL beats"]
        return "\n".join(lines[-count:])

    def end_process(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
            self.process = None

    def stop(self):
        self.end_process()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
