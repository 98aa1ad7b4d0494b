"""A stock Debian kernel under hull-vmm on KVM, in the bed."""

import os
import pathlib

import pytest

from .bed import Bed, with_libraries
from .guests import INITRAMFS, KERNEL, initramfs, machine, run_vmm
from .kernel import cloud_kernel

BUILD = pathlib.Path(os.environ.get("HULL_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build/release"))

VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
BZIMAGE = "/guest/vmlinuz"

REPORT = """
case $(cat /proc/cmdline) in *net=yes*)
  ip link set eth0 up && ip address add 10.9.0.2/24 dev eth0 &&
  echo "REPORT net=$(cat /sys/class/net/eth0/address):$(wget -q -O - http://10.9.0.1:8080/answer)";;
esac
case $(cat /proc/cmdline) in *share=yes*)
  mount -t virtiofs share /mnt && echo "REPORT share=$(cat /mnt/from-host)" && echo guest > /mnt/from-guest && umount /mnt;;
esac
for disk in /sys/block/vd*; do
  [ -e $disk ] || continue
  name=$(basename $disk)
  echo "REPORT disk=$name:$(cat $disk/size):$(cat $disk/ro):$(md5sum < /dev/$name | cut -d' ' -f1)"
done
case $(cat /proc/cmdline) in *write=yes*)
  mount -t ext4 /dev/vdb /mnt && echo written > /mnt/file && mkdir /mnt/folder && umount /mnt && echo "REPORT write=done";;
esac
echo "REPORT rng=$(cat /sys/class/misc/hw_random/rng_current)"

echo "REPORT cpus=$(grep -c ^processor /proc/cpuinfo)"
echo "REPORT memory=$(awk '/MemTotal/ {print $2}' /proc/meminfo)"
echo "REPORT clock=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
echo "REPORT time=$(date +%s)"
for package in /sys/devices/system/cpu/cpu*/topology; do
  echo "REPORT topology=$(cat $package/physical_package_id):$(cat $package/core_id)"
done
for device in /sys/bus/virtio/devices/*; do
  echo "REPORT virtio=$(cat $device/device):$(basename $(readlink $device/driver)):$(cat $device/status)"
done
"""


@pytest.fixture(scope="module")
def bed():
    kernel = cloud_kernel()
    guest = initramfs(kernel, REPORT + "case $(cat /proc/cmdline) in *end=reset*) reboot -f;; *) poweroff -f;; esac\n",
                      modules=("virtio_mmio", "virtio_blk", "virtio_rng", "virtio_net", "virtiofs",
                               "vmw_vsock_virtio_transport"))
    files = {"bin/hull-vmm": BUILD / "bin/hull-vmm", "bin/with_tap": BUILD / "tests/with_tap", KERNEL: kernel.vmlinux,
             INITRAMFS: guest, BZIMAGE: kernel.bzimage, **with_libraries(VIRTIOFSD),
             **with_libraries(BUILD / "bin/hull-kernel"), "bin/hull-kernel": BUILD / "bin/hull-kernel"}
    with Bed(files, modules=("loop", "tun", "fuse")) as running:
        yield running


def reports(console):
    found = {}
    for line in console.splitlines():
        if line.startswith("REPORT "):
            key, value = line.removeprefix("REPORT ").strip().split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def test_one_processor_powers_off(bed):
    code, console, said = run_vmm(bed, machine(vsock_socket="/tmp/vsock"))
    assert (code, said) == (0, ""), said + console
    found = reports(console)
    assert found["cpus"] == ["1"]
    assert found["clock"] == ["kvm-clock"]
    assert 140_000 < int(found["memory"][0]) < 192 << 10
    bed_time = int(bed.run("date +%s")[1])
    assert abs(int(found["time"][0]) - bed_time) < 120
    assert found["virtio"] == ["0x0013:vmw_vsock_virtio_transport:0x0000000f"], "the vsock driver is not up"


def test_a_compressed_kernel_is_unpacked_once(bed):
    kept = []
    for _ in range(2):
        code, console, said = run_vmm(bed, machine(kernel=BZIMAGE))
        assert (code, said) == (0, ""), said + console
        assert reports(console)["cpus"] == ["1"]
        kept.append(bed.run("ls -i /var/lib/hull/unpacked-kernels")[1].split())
    assert len(kept[0]) == 2 and kept[1] == kept[0], "one inode and one name, and the same the second time"
    bed.run(f"head -c 4000000 {BZIMAGE} > /tmp/cut", check=True)
    code, console, said = run_vmm(bed, machine(kernel="/tmp/cut"))
    assert code == 4 and "can't be unpacked: a damaged kernel image" in said, said


def test_four_processors(bed):
    code, console, said = run_vmm(bed, machine(vcpus=4), timeout=180)
    assert (code, said) == (0, ""), said + console
    found = reports(console)
    assert found["cpus"] == ["4"]
    assert sorted(found["topology"]) == ["0:0", "0:1", "0:2", "0:3"]


def test_reset_ends_the_machine(bed):
    code, console, said = run_vmm(bed, machine(command_line="quiet end=reset"))
    assert (code, said) == (0, ""), said + console
    assert reports(console)["cpus"] == ["1"]


def test_panic_is_told_by_the_console(bed):
    code, console, _ = run_vmm(bed, machine(command_line="quiet panic=-1 rdinit=/nothing"))
    assert code == 0
    assert "Kernel panic" in console


def test_reset_through_the_bios_vector_ends_the_machine(bed):
    code, console, said = run_vmm(bed, machine(command_line="quiet reboot=bios end=reset"))
    assert (code, said) == (0, ""), said + console


def test_disks_and_entropy(bed):
    """A read-only disk of two files, and a writable one that takes a file system's files."""
    bed.run("head -c 1048576 /dev/urandom > /tmp/one; head -c 500000 /dev/urandom > /tmp/two; rm -f /tmp/scratch; "
            "head -c 67108864 /dev/zero > /tmp/scratch; D=$(losetup -f) && losetup $D /tmp/scratch && mke2fs $D && losetup -d $D", check=True)
    disks = [{"extents": ["/tmp/one", "/tmp/two"], "read_only": True, "serial": "layers"},
             {"extents": ["/tmp/scratch"], "read_only": False}]
    code, console, said = run_vmm(bed, machine(disks=disks, rng=True, command_line="quiet write=yes"))
    assert (code, said) == (0, ""), said + console
    found = reports(console)
    sum_of_both = bed.run("{ cat /tmp/one /tmp/two; head -c 224 /dev/zero; } | md5sum | cut -d' ' -f1")[1].strip()
    assert found["disk"][0] == f"vda:{(1048576 + 500000 + 224) // 512}:1:{sum_of_both}"
    assert found["disk"][1].startswith("vdb:131072:0:")
    assert found["rng"] == ["virtio_rng.0"]
    assert found["write"] == ["done"]
    code, listing = bed.run("mkdir -p /tmp/m && mount -t ext4 -o loop /tmp/scratch /tmp/m && cat /tmp/m/file && ls /tmp/m; umount /tmp/m")
    assert listing.split() == ["written", "file", "folder", "lost+found"], listing


def test_a_network_card_carries_traffic(bed):
    bed.run("mkdir -p /tmp/www && echo from the bed > /tmp/www/answer && mkdir -p /dev/net && "
            "{ [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200; }", check=True)
    # The tap is there once hull-vmm has it; the guest asks the web server when it has booted.
    bed.run("(for i in $(seq 1 100); do ip link show tap0 >/dev/null 2>&1 && break; sleep 0.1; done; "
            "ip address add 10.9.0.1/24 dev tap0; ip link set tap0 up; httpd -p 10.9.0.1:8080 -h /tmp/www) "
            ">/dev/null 2>&1 &", check=True)
    code, console, said = run_vmm(bed, machine(nets=[{"tap_fd": 9, "mac": "02:42:0a:09:00:02"}],
                                               command_line="quiet net=yes"), before="with_tap tap0 9")
    bed.run("killall httpd")
    assert (code, said) == (0, ""), said + console
    assert reports(console)["net"] == ["02:42:0a:09:00:02:from the bed"], console


def test_a_folder_is_shared(bed):
    bed.run("mkdir -p /tmp/shared /var/run && rm -rf /tmp/shared/* && echo host > /tmp/shared/from-host && "
            f"({VIRTIOFSD} --socket-path=/tmp/fs.sock -o source=/tmp/shared -o sandbox=chroot > /tmp/fs.log 2>&1 &) && "
            "for i in $(seq 1 100); do [ -e /tmp/fs.sock ] && break; sleep 0.1; done", check=True)
    code, console, said = run_vmm(bed, machine(filesystems=[{"tag": "share", "socket": "/tmp/fs.sock"}],
                                               command_line="quiet share=yes"))
    assert (code, said) == (0, ""), said + console + bed.run("cat /tmp/fs.log")[1]
    assert reports(console)["share"] == ["host"], console
    assert bed.run("cat /tmp/shared/from-guest")[1] == "guest\n"


def test_bad_files_are_named(bed):
    for members, word, wanted in (({"kernel": "/init"}, "is no kernel", 4),
                                  ({"kernel": "/nowhere"}, "/nowhere", 4),
                                  ({"initramfs": "/nowhere"}, "/nowhere", 4),
                                  ({"memory_bytes": 32 << 20}, "too small", 4),
                                  ({"memory_bytes": 1 << 40}, "this host has only", 5),
                                  ({"disks": [{"extents": ["/nowhere"]}]}, "/nowhere", 4),
                                  ({"vcpus": 1000}, "vcpus", 2)):
        code, _, said = run_vmm(bed, machine(**members))
        assert (code, word in said) == (wanted, True), said
