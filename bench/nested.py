"""The section "bed": a stock kernel under hull-vmm and under QEMU's microvm machine on real KVM, inside the emulated machine
of tests/bed, where a stock kernel has a KVM on any computer. All times are those of an emulated processor, on which an exit
of a guest costs far more than on a real one: only the ratios count."""

import json
import pathlib
import stat
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests"))
from bed import cpio  # noqa: E402
from bed.bed import BUSYBOX, Bed  # noqa: E402
from bed.host import HostFolder  # noqa: E402
from bed.kernel import cloud_kernel  # noqa: E402

MODULES = ("virtio_mmio", "virtio_blk", "virtio_net")
INIT = """#!/bin/busybox sh
echo PID1 > /dev/ttyS0
PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
case $(cat /proc/cmdline) in *load=yes*)
  for module in $(cat /modules/order); do insmod /modules/$module.ko; done
  ip link set eth0 up
  ip address add 10.9.0.2/24 dev eth0
  for i in 1 2 3 4 5 6 7 8 9 10; do ping -c 1 -W 1 10.9.0.1 > /dev/null && break; done
  rate() { name=$1; shift; set -- $(guest_load "$@" 2>&1); echo "RATE $name $2" > /dev/ttyS0; }
  guest_load read /dev/vda 1024 4096 > /dev/null
  rate read-1MiB read /dev/vda 1024 131072
  rate read-4KiB read /dev/vda 4 8192
  rate tcp-sent send 10.9.0.1 5001 16384
  rate tcp-received receive 10.9.0.1 5001
  echo LOADED > /dev/ttyS0;;
esac
exec sleep 100000
"""


def guest(kernel, load):
    archive = cpio.Archive()
    cpio.console_node(archive)
    archive.node("dev/ttyS0", stat.S_IFCHR, 4, 64)
    archive.folder("proc")
    archive.file("bin/busybox", BUSYBOX)
    archive.file("bin/guest_load", load)
    archive.file("init", INIT, 0o755)
    order = kernel.with_dependencies(MODULES)
    archive.file("modules/order", "\n".join(order) + "\n")
    for name in order:
        archive.file(f"modules/{name}.ko", kernel.module(name))
    return archive.bytes()


def bed(setting):
    """hull-vmm beside QEMU, both with KVM, in the bed: boot, disk, network, memory, the n-th machine."""
    if setting.smoke:
        return {"in the bed": "left out of the small run: a bed boots for half a minute"}
    load = setting.folder / "guest_load"
    subprocess.run(["gcc", "-O2", "-static", "-o", load, HERE / "guest_load.c"], check=True)
    kernel = cloud_kernel()
    files = {"guest/vmlinux": kernel.vmlinux, "guest/initramfs": guest(kernel, load), "guest/guest_load": load}
    folders = {HERE.parent, setting.bin.parent}
    command = (f"/usr/bin/python3 -B {HERE}/nested_inside.py --bin {setting.bin} --runs {setting.runs(5)} "
               "--machines 8 2>&1")
    with HostFolder([one for one in folders if not folders & set(one.parents)]) as host:
        with Bed(files, host=host, modules=("tun",), memory_mib=3072, kernel=kernel) as running:
            code, output = running.run(command, timeout=3600)
    for line in output.splitlines():
        if line.startswith("RESULT "):
            return json.loads(line.removeprefix("RESULT "))
    return {"error": f"exit code {code} in the bed: {output[-2000:]}"}
