"""hull's vsock device against Linux's own driver, as a vhost-user back end of an emulated machine."""

import hashlib
import os
import socket
import threading
import time

import pytest
from support import machine as machines


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vsock")
    backend = machines.Backend(folder, "vsock", "--vsock-socket", str(folder / "vm"), "--cid", "42")
    machine = machines.Machine(folder, ["vmw_vsock_virtio_transport"], backend.device("vhost-user-vsock-device"))
    machine.vsock = folder / "vm"
    machine.run("guest_helper echo 1024 && guest_helper sink 1025 && guest_helper source 1026 33554432")
    yield machine
    machine.stop()
    assert backend.stop() == (0, ""), "the back end ends with its front end, and has nothing to complain about"


def read_to_end(connection):
    data = bytearray()
    while piece := connection.recv(1 << 16):
        data += piece
    return bytes(data)


def test_host_talks_to_guest(guest):
    with machines.connect_vsock(guest.vsock, 1024) as connection:
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""


def test_port_without_listener_is_refused(guest):
    assert machines.connect_vsock(guest.vsock, 4711) is None


def test_guest_talks_to_host(guest):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"{guest.vsock}_1023")
        listener.listen()
        listener.settimeout(30)
        heard = []

        def answer():
            connection, _ = listener.accept()
            with connection:
                heard.append(read_to_end(connection))
                connection.sendall(b"heard you\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert guest.run("guest_helper say 1023 'it is me'") == "heard you\n"
        thread.join(30)
        assert heard == [b"it is me"]
    code, said = guest.run("guest_helper say 999 x", check=False)
    assert code != 0 and "connect: Connection reset by peer" in said


def test_large_data_comes_back_the_same(guest):
    data = os.urandom(8 << 20)
    with machines.connect_vsock(guest.vsock, 1024) as connection:
        sender = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        echoed = read_to_end(connection)
        sender.join()
    assert hashlib.sha256(echoed).digest() == hashlib.sha256(data).digest()


def test_guest_waits_for_a_slow_host(guest):
    """What the host does not read stays in the guest, and nothing is lost."""
    with machines.connect_vsock(guest.vsock, 1026) as connection:
        time.sleep(1)
        total = 0
        while piece := connection.recv(1 << 20):
            total += len(piece)
        assert total == 33554432


def test_many_connections_at_once(guest):
    connections = [machines.connect_vsock(guest.vsock, 1024) for _ in range(60)]
    for number, connection in enumerate(connections):
        connection.sendall(b"%d" % number)
    for number, connection in enumerate(connections):
        assert connection.recv(100) == b"%d" % number
        connection.close()


def test_throughput_is_not_absurd(guest):
    """Figures for a look at, and a bound that only a stall would miss."""
    size = 32 << 20
    start = time.monotonic()
    with machines.connect_vsock(guest.vsock, 1025) as connection:
        connection.sendall(bytes(size))
        connection.shutdown(socket.SHUT_WR)
        assert int(read_to_end(connection)) == size
    to_guest = time.monotonic() - start
    start = time.monotonic()
    with machines.connect_vsock(guest.vsock, 1026) as connection:
        assert len(read_to_end(connection)) == size
    to_host = time.monotonic() - start
    print(f"32 MiB to the guest in {to_guest:.2f} s, to the host in {to_host:.2f} s")
    assert to_guest < 60 and to_host < 60
