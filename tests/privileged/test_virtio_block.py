"""hull's block and random-number devices against Linux's own drivers, as back ends of an emulated machine."""

import hashlib
import os

import pytest
from support import machine as machines

MIB = 1 << 20


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("block")
    scratch = folder / "scratch"
    scratch.write_bytes(os.urandom(16 * MIB))
    # Three files as one read-only disk; the last ends within a sector.
    layers = [folder / f"layer{number}" for number in range(3)]
    for layer, size in zip(layers, (4096, 5 * MIB, 3 * MIB + 100)):
        layer.write_bytes(os.urandom(size))
    os.makedirs(folder / "a")
    os.makedirs(folder / "b")
    backends = [
        machines.Backend(folder / "a", "block", "--disk", str(scratch), "--writable", "--serial", "hull-scratch"),
        machines.Backend(folder / "b", "block", *[f for layer in layers for f in ("--disk", str(layer))]),
        machines.Backend(folder, "rng"),
    ]
    devices = (backends[0].device("vhost-user-blk") + backends[1].device("vhost-user-blk")
               + backends[2].device("vhost-user-rng"))
    machine = machines.Machine(folder, ["virtio_blk", "virtio_rng"], devices)
    names = machine.run("for d in /sys/block/vd*; do echo ${d##*/} $(cat $d/ro); done").split()
    assert sorted(names[1::2]) == ["0", "1"], names
    disks = dict(zip(names[1::2], names[::2]))
    machine.scratch, machine.layers = f"/dev/{disks['0']}", f"/dev/{disks['1']}"
    machine.scratch_file, machine.layer_files = scratch, layers
    yield machine
    machine.stop()
    assert [backend.stop() for backend in backends] == [(0, "")] * 3


def guest_hash(guest, device, skip=0, count=None):
    part = "" if count is None else f"count={count}"
    return guest.run(f"dd if={device} bs=4096 skip={skip} {part} 2>/dev/null | sha256sum").split()[0]


def test_read_only_disk_of_three_files(guest):
    whole = b"".join(layer.read_bytes() for layer in guest.layer_files)
    whole += bytes(-len(whole) % 512)
    assert int(guest.run(f"cat /sys/block/{guest.layers[5:]}/size")) == len(whole) // 512
    assert guest_hash(guest, guest.layers) == hashlib.sha256(whole).hexdigest()
    code, _ = guest.run(f"dd if=/dev/zero of={guest.layers} bs=4096 count=1", check=False)
    assert code != 0
    assert guest.layer_files[0].read_bytes() == whole[:4096]


def test_serial(guest):
    assert guest.run(f"cat /sys/block/{guest.scratch[5:]}/serial").strip() == "hull-scratch"


def test_written_and_flushed_is_in_the_file(guest):
    guest.run("dd if=/dev/urandom of=/tmp/data bs=4096 count=700 2>/dev/null")
    expected = guest.run("sha256sum /tmp/data").split()[0]
    guest.run(f"dd if=/tmp/data of={guest.scratch} bs=65536 seek=2 conv=fsync 2>/dev/null; rm /tmp/data")
    with open(guest.scratch_file, "rb") as file:
        file.seek(131072)
        assert hashlib.sha256(file.read(700 * 4096)).hexdigest() == expected
    guest.run("echo 3 > /proc/sys/vm/drop_caches")
    assert guest_hash(guest, guest.scratch, 32, 700) == expected


def test_discard_and_write_zeroes(guest):
    before = guest.scratch_file.read_bytes()
    blocks = guest.scratch_file.stat().st_blocks
    guest.run(f"guest_helper discard {guest.scratch} {8 * MIB} {2 * MIB}")
    guest.run(f"guest_helper zero {guest.scratch} {12 * MIB + 512} 70144")
    after = guest.scratch_file.read_bytes()
    expected = bytearray(before)
    expected[8 * MIB:10 * MIB] = bytes(2 * MIB)
    expected[12 * MIB + 512:12 * MIB + 512 + 70144] = bytes(70144)
    assert after == bytes(expected)
    assert guest.scratch_file.stat().st_blocks <= blocks - 2 * MIB // 512


def test_random_numbers(guest):
    assert "virtio" in guest.run("cat /sys/class/misc/hw_random/rng_current")
    guest.run("dd if=/dev/hwrng of=/tmp/a bs=512 count=8 2>/dev/null; dd if=/dev/hwrng of=/tmp/b bs=512 count=8 2>/dev/null")
    assert guest.run("wc -c < /tmp/a").strip() == "4096"
    assert guest.run("cmp -s /tmp/a /tmp/b", check=False)[0] == 1
