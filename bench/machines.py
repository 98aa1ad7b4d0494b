"""The section "vm": hull-vmm and `hull run --vm` beside QEMU's microvm machine, on this machine's KVM and under emulation."""

import gzip
import json
import pathlib
import select
import stat
import statistics
import struct
import subprocess
import sys
import time

from measure import Case, measure

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
from bed import cpio  # noqa: E402

QEMU = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-M",
        "microvm,acpi=on,pit=on,pic=on,rtc=off,isa-serial=on,pcie=off,usb=off"]
GUEST_MIB = 128
PATIENCE = 60  # seconds; an emulated machine on a busy host takes its time
# What PID 1 of the bare boot is: a shell that says so. The machine is killed then.
INIT = "#!/bin/busybox sh\necho PID1 > /dev/ttyS0\nexec /bin/busybox sleep 1000\n"
KERNEL_OPTIONS = ("console=ttyS0 reboot=t panic=-1 quiet no_timer_check i8042.noaux i8042.nomux i8042.dumbkbd i8042.nopnp "
                  "8250.nr_uarts=1 cryptomgr.notests rcupdate.rcu_expedited=1 random.trust_cpu=on mitigations=off")


def tiny_kernel(path):
    """An ELF file with a PVH entry (Xen's note 18) whose first instructions print one line on COM1, and halt."""
    load, entry = 0x100000, 0x100000
    code = b"\xba\xf8\x03\x00\x00\xb0!\xee\xb0\n\xee" + b"\xfa\xf4\xeb\xfd"
    note = struct.pack("<III4sQ", 4, 8, 18, b"Xen\0", entry)
    offset = 0x1000
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01" + bytes(9), 2, 62, 1, entry, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    segments = struct.pack("<IIQQQQQQ", 1, 5, offset, load, load, len(code) + 64, len(code) + 64, 0x1000)
    segments += struct.pack("<IIQQQQQQ", 4, 4, offset + 64, load + 64, load + 64, len(note), len(note), 4)
    path.write_bytes((header + segments).ljust(offset, b"\0") + code.ljust(64, b"\0") + note)


class UntilSaid:
    """Starts a command and waits until it has said `word`; after() ends it."""

    def __init__(self, command, word):
        self.command, self.word, self.process = [str(part) for part in command], word, None
        self.said = b""

    def __call__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)
        self.said = b""
        end = time.monotonic() + PATIENCE
        while self.word not in self.said:
            ready = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]
            if not ready:
                self.after()
                raise RuntimeError(f"{self.command[0]} said only {self.said[-200:]} in {PATIENCE} s")
            piece = self.process.stdout.read1(4096)
            if not piece:
                raise RuntimeError(f"{self.command[0]} ended with {self.process.wait()} and said {self.said[-200:]}")
            self.said += piece

    def after(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def case(self, name):
        return Case(name, None, timed=self, after=self.after)


def private_kib(pid):
    """Proportional set size of a process without the guest's memory: the one mapping of at least its size, or a memfd."""
    total, counted = 0, False
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            begin, end = (int(word, 16) for word in line.split(" ")[0].split("-"))
            guest = end - begin == GUEST_MIB << 20 and " rw-p " in line
            counted = not guest and "memfd:" not in line
        elif counted and line.startswith("Pss:"):
            total += int(line.split()[1])
    return total


def first_instruction(setting, results):
    kernel, config = setting.folder / "tiny", setting.folder / "machine.json"
    tiny_kernel(kernel)
    config.write_text(json.dumps({"memory_bytes": GUEST_MIB << 20, "vcpus": 1, "kernel": str(kernel), "console_log": "-"}))
    ours = UntilSaid([setting.bin / "hull-vmm", "--config", config], b"!")
    qemu = UntilSaid([*QEMU, "-accel", "kvm", "-m", GUEST_MIB, "-kernel", kernel, "-serial", "stdio"], b"!")
    results["first instruction, KVM"] = measure([ours.case("hull-vmm"), qemu.case("qemu")], setting.runs(30),
                                                setting.warmup(3))
    memory = {}
    for name, machine in (("hull-vmm", ours), ("qemu", qemu)):
        machine()
        memory[name] = f"{private_kib(machine.process.pid) / 1024:.1f} MiB"
        machine.after()
    results["memory besides the guest's"] = memory


def nth_machine(setting, results):
    """Fifty machines one after another, all kept: does the last one start as fast as the first?"""
    config = setting.folder / "machine.json"  # first_instruction() has written it
    count, kept, seconds = 3 if setting.smoke else 50, [], []
    try:
        for _ in range(count):
            kept.append(UntilSaid([setting.bin / "hull-vmm", "--config", config], b"!"))
            begin = time.perf_counter()
            kept[-1]()
            seconds.append(time.perf_counter() - begin)
        edge = max(1, count // 5)
        first, last = (1000 * statistics.median(part) for part in (seconds[:edge], seconds[-edge:]))
        kib = [private_kib(one.process.pid) for one in kept]
        results[f"{count} machines, one after another, KVM"] = {
            f"first {edge}, median": f"{first:.1f} ms", f"last {edge}, median": f"{last:.1f} ms",
            "last / first": f"{last / first:.2f}",
            "memory besides the guests', each": f"{sum(kib) / len(kib) / 1024:.1f} MiB"}
    finally:
        for one in kept:
            if one.process:
                one.after()


def boots(setting, results):
    """`hull run --vm` of true, and the same kernel in a bare microvm until PID 1 speaks; both emulated."""
    package = setting.cache.parent / "cache/linux-image.deb"
    if not package.exists():
        results["boot"] = f"not measured: {package} is missing (scripts/setup fetches it)"
        return
    environment = setting.hull_environment("hull-vm")
    name = setting.hull("vm", "kernel", "install", package, environment=environment).stdout.strip()
    folder = pathlib.Path(environment["HULL_ROOT"]) / "vm/kernels" / name
    setting.hull("load", "-i", setting.archive(), environment=environment)
    archive = cpio.Archive()
    cpio.console_node(archive)
    archive.node("dev/ttyS0", stat.S_IFCHR, 4, 64)
    archive.file("bin/busybox", pathlib.Path("/bin/busybox"))
    archive.file("init", INIT, 0o755)
    initramfs = setting.folder / "bare.cpio.gz"
    initramfs.write_bytes(gzip.compress(archive.bytes(), 6))
    bare = UntilSaid([*QEMU, "-accel", "tcg,thread=multi", "-cpu", "max", "-m", 256, "-kernel", folder / "vmlinux",
                      "-initrd", initramfs, "-append", KERNEL_OPTIONS + " tsc=reliable tsc_early_khz=1000000", "-serial",
                      "stdio"], b"PID1")
    ours = Case("hull", [setting.bin / "hull", "run", "--vm", "--hypervisor", "qemu", "-q", "--rm", "--network", "none",
                         "-m", "128m", "busybox", "true"], environment=environment)
    results["run --vm, emulated"] = measure([ours, bare.case("qemu, bare")], setting.runs(7), setting.warmup(1))
    found = sorted(folder.glob("initramfs-*"))
    if found:
        packed = len(gzip.compress(found[0].read_bytes(), 9))
        results["initramfs"] = f"{found[0].stat().st_size / 1024:.0f} KiB, {packed / 1024:.0f} KiB compressed (goal: 4096)"


def vm(setting):
    """Machines: until the first instruction, memory, and a whole run under emulation."""
    results = {}
    if pathlib.Path("/dev/kvm").exists():
        first_instruction(setting, results)
        nth_machine(setting, results)
    else:
        results["first instruction, KVM"] = "not measured: no /dev/kvm"
    boots(setting, results)
    return results
