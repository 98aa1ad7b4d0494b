"""GDB itself on a guest of our own under hull-vmm, on this machine's KVM."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

BUILD = pathlib.Path(os.environ.get("HULL_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build/release"))

pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not permitted"),
    pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")]

# 32-bit protected mode as PVH enters it. The first processor wakes the second, counts in work, and ends when it is told.
GUEST = """
  .section .note.hull, "a", @note
  .balign 4
  .long 4, 4, 18
  .asciz "Xen"
  .long _start
  .text
  .code32
  .globl _start, work, counted, counter, finished, second, again
_start:
  mov $0x300000, %esp
  mov $second, %esi
  mov $0x8000, %edi
  mov $(second_end - second), %ecx
  cld
  rep movsb
  movl $0x1ff, 0xfee000f0
  movl $0xc4500, 0xfee00300
  movl $0xc4608, 0xfee00300
  movl $0xc4608, 0xfee00300
1: cmpl $0, 0x9000
  je 1b
again:
  call work
  cmpl $0, finished
  je again
  mov $0x600, %dx
  mov $0x34, %al
  out %al, %dx
2: hlt
  jmp 2b
work:
  incl counter
counted:
  mov counter, %eax
  ret
second:
  .code16
  xor %ax, %ax
  mov %ax, %ds
3: lock incl 0x9000
  jmp 3b
second_end:
  .data
  .balign 4
counter: .long 0
finished: .long 0
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guest")
    (folder / "guest.s").write_text(GUEST)
    subprocess.run(["gcc", "-nostdlib", "-static", "-no-pie", "-Wl,-Ttext=0x100000", "-Wl,-Tdata=0x180000",
                    "-Wl,--build-id=none", "-Wl,-z,noseparate-code", "-Wl,-N", "-Wl,--no-warn-rwx-segments", folder / "guest.s", "-o", folder / "guest"],
                   check=True)
    return folder / "guest"


class Vmm:
    def __init__(self, folder, kernel, where):
        config = {"kernel": str(kernel), "vcpus": 2, "memory_bytes": 64 << 20, "rng": False, "balloon": False}
        (folder / "machine.json").write_text(json.dumps(config))
        self.process = subprocess.Popen([BUILD / "bin/hull-vmm", "--config", folder / "machine.json", "--gdb", where],
                                        stderr=subprocess.PIPE, text=True)

    def end(self, timeout=30):
        _, said = self.process.communicate(timeout=timeout)
        return self.process.returncode, said


@pytest.fixture
def vmm(tmp_path, kernel):
    machine = Vmm(tmp_path, kernel, f"unix:{tmp_path}/gdb")
    end = time.monotonic() + 20
    while not (tmp_path / "gdb").exists():
        assert machine.process.poll() is None and time.monotonic() < end, machine.end()
        time.sleep(0.02)
    machine.socket = tmp_path / "gdb"
    yield machine
    if machine.process.poll() is None:
        machine.process.kill()
        machine.process.communicate()


def gdb(kernel, socket, *commands, timeout=90):
    """What GDB says to a batch of commands; each echoes its own place with @number."""
    arguments = ["gdb", "-nx", "-batch", "-ex", "set pagination off", "-ex", f"target remote {socket}"]
    for number, command in enumerate(commands):
        arguments += ["-ex", f"echo @{number}:", "-ex", command]
    done = subprocess.run([*arguments, str(kernel)], capture_output=True, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"})
    return done.stdout + done.stderr


def answers(said):
    return {int(number): text.strip() for number, text in re.findall(r"@(\d+):(.*?)(?=@\d+:|\Z)", said, re.S)}


def test_breakpoints_steps_registers_and_memory(kernel, vmm):
    said = gdb(kernel, vmm.socket,
               "print/x $rip", "print/x *(int*)$rbx", "break *work", "continue", "print *(int*)&counter", "continue",
               "print *(int*)&counter", "delete", "hbreak *counted", "continue", "print/x $rip == (long)&counted",
               "stepi", "print $rax", "delete", "set var *(int*)&counter = 100", "break *counted", "continue",
               "print *(int*)&counter", "info threads", "thread 2", "print/x $cs", "thread 1", "set var $rbp = 0x1234567",
               "print/x $rbp", "x/1xb (char*)&work", "delete", "set var *(int*)&finished = 1", "continue", timeout=120)
    found = answers(said)
    assert 0 in found, said
    assert found[0] == "$1 = 0x100000", said
    assert found[1] == "$2 = 0x336ec578", "what PVH passes in EBX"
    assert found[4] == "$3 = 0", said
    assert found[6] == "$4 = 1", said
    assert found[10] == "$5 = 0x1", said
    assert found[12] == "$6 = 2", "the step loaded the counter"
    assert found[17] == "$7 = 101", said
    assert "Thread 1" in found[18] and "Thread 2" in found[18] and "processor 1" in found[18], said
    assert found[20] == "$8 = 0x800", "the second processor is where SIPI put it"
    assert found[23] == "$9 = 0x1234567", said
    assert "0xff" in found[24], "the debugger sees the guest's own byte where a breakpoint is"
    assert "exited normally" in found[27], said
    assert vmm.end() == (0, "")


def test_a_debugger_that_goes_leaves_a_running_guest(kernel, vmm):
    said = gdb(kernel, vmm.socket, "break *work", "continue", "print *(int*)&counter", "detach")
    assert answers(said)[2] == "$1 = 0", said
    time.sleep(0.3)
    said = gdb(kernel, vmm.socket, "print *(int*)&counter > 1", "kill")
    assert answers(said)[0] == "$1 = 1", said
    assert vmm.end() == (0, "")


def test_a_stopped_machine_says_so_and_interrupts_work(kernel, vmm):
    process = subprocess.Popen(["gdb", "-nx", "-q", "-ex", f"target remote {vmm.socket}", str(kernel)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    process.stdin.write("continue\n")
    process.stdin.flush()
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    said, _ = process.communicate("print *(int*)&counter > 0\nkill\n", timeout=60)
    assert "SIGINT" in said and "$1 = 1" in said, said
    assert vmm.end() == (0, "")


def test_other_addresses_are_refused(tmp_path, kernel):
    for where in ("tcp:0.0.0.0:1234", "1234", "tcp:127.0.0.1:70000", "unix:"):
        code, said = Vmm(tmp_path, kernel, where).end()
        assert code != 0 and "gdb" in said, where


def test_tcp_on_the_loopback(tmp_path, kernel):
    machine = Vmm(tmp_path, kernel, "tcp:127.0.0.1:47113")
    try:
        said = ""
        for _ in range(50):
            said = gdb(kernel, "127.0.0.1:47113", "print/x $rip", "kill")
            if "$1" in said or machine.process.poll() is not None:
                break
            time.sleep(0.1)
        assert "$1 = 0x100000" in said, said
        assert machine.end() == (0, "")
    finally:
        machine.process.kill()
