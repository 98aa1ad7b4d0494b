"""A small Linux guest under QEMU's emulation for tests of our virtio devices: Debian's cloud kernel, an initramfs of
busybox, the modules asked for and guest_helper, and a shell on the serial console."""

import os
import pathlib
import re
import selectors
import shutil
import socket
import subprocess
import time

from support.instance import BUILD, SOURCE, wait_until

BUSYBOX = "/bin/busybox"
TRANSPORT = ["virtio_mmio"]
QUIET = ("console=ttyS0 reboot=t panic=-1 quiet tsc_early_khz=1000000 tsc=reliable no_timer_check i8042.noaux i8042.nomux"
         " i8042.dumbkbd i8042.nopnp 8250.nr_uarts=1 cryptomgr.notests rcupdate.rcu_expedited=1 random.trust_cpu=on"
         " mitigations=off")
INIT = """#!/bin/sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /tmp
for m in $(cat /modules.order); do insmod /$m || echo "insmod $m failed"; done
export PS1= PS2=
stty -echo -onlcr < /dev/ttyS0
echo; echo '@@ready@@'
exec setsid sh -c 'exec sh < /dev/ttyS0 > /dev/ttyS0 2>&1'
"""


def kernel_folder():
    """Debian's cloud kernel, unpacked: HULL_TEST_KERNEL names a .deb, else build/cache/ has or gets one."""
    cache = SOURCE / "build" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    named = os.environ.get("HULL_TEST_KERNEL")
    debs = [pathlib.Path(named)] if named else sorted(cache.glob("linux-image-*-cloud-amd64_*.deb"))
    if not debs:
        depends = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True)
        package = re.search(r"Depends: (linux-image-\S+-cloud-amd64)", depends.stdout)
        assert package, "no kernel package is known: apt-get update, or name one with HULL_TEST_KERNEL"
        subprocess.run(["apt-get", "download", package.group(1)], cwd=cache, check=True, capture_output=True)
        debs = sorted(cache.glob("linux-image-*-cloud-amd64_*.deb"))
    folder = cache / debs[-1].stem
    if not folder.exists():
        part = cache / f"{debs[-1].stem}.{os.getpid()}"
        subprocess.run(["dpkg", "-x", str(debs[-1]), str(part)], check=True)
        try:
            part.rename(folder)
        except OSError:  # another test was quicker
            shutil.rmtree(part)
    return folder


def modules_in_order(folder, wanted):
    """Paths of the modules and what they depend on, each after what it needs; what is built in is left out."""
    found = {path.stem.replace("-", "_"): path for path in folder.glob("lib/modules/*/kernel/**/*.ko")}
    order = []

    def add(name):
        path = found.get(name.replace("-", "_"))
        if path is None or path in order:
            return
        depends = re.search(rb"depends=([^\0]*)\0", path.read_bytes())
        for needed in depends.group(1).decode().split(",") if depends else []:
            add(needed)
        order.append(path)

    for name in wanted:
        add(name)
    return order


class Cpio:
    """The "newc" format, as the kernel unpacks it."""

    def __init__(self):
        self.data = bytearray()
        self.number = 0

    def add(self, name, mode, data=b"", device=(0, 0)):
        self.number += 1
        encoded = name.encode() + b"\0"
        fields = [self.number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0]
        self.data += b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
        self.data += bytes(-len(self.data) % 4)
        self.data += data + bytes(-len(data) % 4)

    def finish(self):
        self.add("TRAILER!!!", 0)
        return bytes(self.data)


def initramfs(folder, modules):
    archive = Cpio()
    for name in ("bin", "dev", "proc", "sys", "tmp"):
        archive.add(name, 0o040755)
    archive.add("dev/console", 0o020600, device=(5, 1))
    archive.add("bin/busybox", 0o100755, pathlib.Path(BUSYBOX).read_bytes())
    archive.add("bin/sh", 0o120777, b"busybox")
    archive.add("bin/guest_helper", 0o100755, (BUILD / "tests" / "guest_helper").read_bytes())
    order = modules_in_order(folder, TRANSPORT + list(modules))
    for path in order:
        archive.add(path.name, 0o100644, path.read_bytes())
    archive.add("modules.order", 0o100644, "\n".join(path.name for path in order).encode())
    archive.add("init", 0o100755, INIT.encode())
    return archive.finish()


class Machine:
    """A booted guest. run() executes a shell command in it."""

    def __init__(self, folder, modules=(), devices=(), memory_mib=160, cpus=2, pass_fds=(), prefix=()):
        self.folder = pathlib.Path(folder)
        kernel = kernel_folder()
        ramdisk = self.folder / "initramfs"
        ramdisk.write_bytes(initramfs(kernel, modules))
        command = [
            *prefix, "qemu-system-x86_64", "-M", "microvm,acpi=on,pit=on,pic=on,memory-backend=mem", "-accel", "tcg,thread=multi",
            "-cpu", "max", "-smp", str(cpus), "-m", f"{memory_mib}M",
            "-object", f"memory-backend-memfd,id=mem,size={memory_mib}M,share=on",
            "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
            "-kernel", str(next(kernel.glob("boot/vmlinuz-*"))), "-initrd", str(ramdisk), "-append", QUIET, *devices,
        ]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        pass_fds=pass_fds)
        self.output = b""
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        self.serial = 0
        self.read_until(b"@@ready@@", 120)

    def read_until(self, mark, timeout_s):
        """What came up to the mark; fails with the console's end when it does not come."""
        end = time.monotonic() + timeout_s
        while mark not in self.output:
            left = end - time.monotonic()
            assert left > 0 and self.selector.select(left), f"no {mark!r} within {timeout_s} s:\n{self.tail()}"
            piece = os.read(self.process.stdout.fileno(), 65536)
            assert piece, f"the guest ended before {mark!r}:\n{self.tail()}"
            self.output += piece
        before, _, self.output = self.output.partition(mark)
        return before

    def tail(self):
        return self.output.decode(errors="replace")[-3000:]

    def run(self, command, timeout_s=60, check=True):
        """(exit code, output) of a shell command in the guest; with check, the output of one that succeeds."""
        self.serial += 1
        begin, end = f"@@b{self.serial}@@", f"@@e{self.serial}@@"
        line = f"echo @@b{self.serial}'@@'; {command}\necho @@e{self.serial}'@@' $?\n"
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()
        self.read_until(begin.encode() + b"\n", timeout_s)
        output = self.read_until(end.encode(), timeout_s).decode(errors="replace")
        code = int(self.read_until(b"\n", timeout_s).split()[-1])
        if not check:
            return code, output
        assert code == 0, f"{command}: exit code {code}:\n{output}"
        return output

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stdin.close()
        self.selector.close()


class Backend:
    """hull-vmm --vhost-user for one device, listening at self.socket."""

    def __init__(self, folder, kind, *options, pass_fds=(), prefix=()):
        self.socket = pathlib.Path(folder) / f"{kind}.vhost"
        self.process = subprocess.Popen(
            [*prefix, str(BUILD / "bin" / "hull-vmm"), "--vhost-user", kind, "--socket", str(self.socket), *options],
            stderr=subprocess.PIPE, text=True, pass_fds=pass_fds)
        wait_until(lambda: self.socket.exists() or self.process.poll() is not None, f"{self.socket}")
        assert self.process.poll() is None, self.process.stderr.read()

    def device(self, name, *more):
        """QEMU's arguments for the device behind this back end."""
        chardev = f"back{self.process.pid}"
        return ["-chardev", f"socket,id={chardev},path={self.socket}",
                "-device", ",".join([f"{name},chardev={chardev}", *more])]

    def stop(self):
        """Ends it if the front end's end has not; (exit code, what it said)."""
        try:
            _, said = self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, said = self.process.communicate()
        return self.process.returncode, said


def connect_vsock(path, port, timeout_s=30):
    """A connection to the guest's vsock port through the machine's unix socket; None when the guest refuses."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    connection.connect(str(path))
    connection.sendall(f"CONNECT {port}\n".encode())
    line = b""
    while not line.endswith(b"\n"):
        piece = connection.recv(1)
        if not piece:
            connection.close()
            return None
        line += piece
    assert re.fullmatch(rb"OK \d+\n", line), line
    return connection
