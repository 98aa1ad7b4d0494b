"""hull's network card against Linux's own driver, as a back end of an emulated machine. Everything is in a network
namespace of its own."""

import hashlib
import os
import re
import subprocess
import sys
import uuid

import pytest
from support import machine as machines

# Serves one connection in the namespace: sends N bytes, or says the hash of what it is sent.
PEER = """
import hashlib, socket, sys
s = socket.create_server(("10.91.0.1", int(sys.argv[1]))); print("listening", flush=True)
c, _ = s.accept()
if len(sys.argv) > 2:
    data = open(sys.argv[2], "rb").read(); c.sendall(data); c.close()
else:
    h = hashlib.sha256()
    while piece := c.recv(1 << 20): h.update(piece)
    print(h.hexdigest(), flush=True)
"""


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    name = f"hull-t-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    inside = ["ip", "netns", "exec", name]
    machine = None
    try:
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        backend = machines.Backend(folder, "net", "--tap", "tap0", prefix=inside)
        subprocess.run([*inside, "ip", "addr", "add", "10.91.0.1/24", "dev", "tap0"], check=True)
        subprocess.run([*inside, "ip", "link", "set", "tap0", "up"], check=True)
        chardev = ["-chardev", f"socket,id=c0,path={backend.socket}"]
        machine = machines.Machine(folder, ["virtio_net"], [
            *chardev, "-netdev", "vhost-user,id=n0,chardev=c0",
            "-device", "virtio-net-device,netdev=n0,mac=02:42:0a:5b:00:02"])
        machine.run("ip addr add 10.91.0.2/24 dev eth0 && ip link set eth0 up")
        machine.inside, machine.folder = inside, folder
        yield machine
        machine.stop()
        assert backend.stop() == (0, "")
    finally:
        if machine:
            machine.stop()
        subprocess.run(["ip", "netns", "del", name])


def peer(guest, port, *arguments):
    process = subprocess.Popen([*guest.inside, sys.executable, "-c", PEER, str(port), *arguments], stdout=subprocess.PIPE,
                               text=True)
    assert process.stdout.readline() == "listening\n"
    return process


def test_pings_of_all_sizes(guest):
    assert guest.run("cat /sys/class/net/eth0/address").strip() == "02:42:0a:5b:00:02"
    for size in (0, 56, 1472, 8000, 60000):
        said = guest.run(f"ping -c 2 -W 5 -s {size} 10.91.0.1")
        assert re.search(r"2 packets received|2 received", said), said


def test_offloads_are_on(guest):
    """The driver has taken segmentation and checksums, so large frames cross the queues."""
    features = guest.run("cat /sys/bus/virtio/devices/*/features").split()
    taken = next(bits for bits in features if bits[5] == "1")
    for bit in (0, 1, 7, 8, 11, 12, 15):  # checksums, TSO in both directions, mergeable buffers
        assert taken[bit] == "1", f"bit {bit} of {taken}"


def test_large_data_to_the_guest(guest):
    data = os.urandom(16 << 20)
    (guest.folder / "data").write_bytes(data)
    process = peer(guest, 5001, str(guest.folder / "data"))
    said = guest.run("nc 10.91.0.1 5001 < /dev/null | sha256sum", timeout_s=120)
    assert said.split()[0] == hashlib.sha256(data).hexdigest()
    process.communicate(timeout=10)


def test_large_data_from_the_guest(guest):
    guest.run("dd if=/dev/urandom of=/tmp/data bs=65536 count=256 2>/dev/null")
    expected = guest.run("sha256sum < /tmp/data").split()[0]
    process = peer(guest, 5002)
    guest.run("nc 10.91.0.1 5002 < /tmp/data", timeout_s=120)
    said, _ = process.communicate(timeout=60)
    assert said.strip() == expected
