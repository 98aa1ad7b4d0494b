#!/usr/bin/env python3
"""Runs in the bed, started by nested.py: hull-vmm and QEMU's microvm machine on the same KVM, with the same stock kernel,
initramfs and command line, in turns. Prints one line "RESULT <JSON>".

usage: nested_inside.py --bin FOLDER --runs N --machines N
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import machines as machines_outside  # noqa: E402
from machines import GUEST_MIB, UntilSaid, private_kib  # noqa: E402
from measure import measure  # noqa: E402

KERNEL, INITRAMFS, LOAD = "/guest/vmlinux", "/guest/initramfs", "/guest/guest_load"
DISK = pathlib.Path("/tmp/disk")
DISK_MIB = 32
TAP_FD, ADDRESS, PORT, SENT_KIB = 9, "10.9.0.1", 5001, 16 << 10
COMMAND_LINE = ("console=ttyS0 quiet panic=-1 reboot=t cryptomgr.notests rcupdate.rcu_expedited=1 mitigations=off "
                "8250.nr_uarts=1")
# The machine as `hull run --vm --hypervisor qemu` makes it on a host with KVM; microvm has no clock then by default.
QEMU = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-accel", "kvm", "-cpu", "host",
        "-smp", "1", "-m", GUEST_MIB, "-kernel", KERNEL, "-initrd", INITRAMFS, "-global", "virtio-mmio.force-legacy=false",
        "-serial", "stdio"]
COUNTED = ("exits", "io_exits", "mmio_exits", "halt_exits", "irq_exits", "irq_injections", "insn_emulation", "pf_taken")
STATISTICS = pathlib.Path("/sys/kernel/debug/kvm")


def counters():
    """What KVM counted for the machines that exist now."""
    return {name: int((STATISTICS / name).read_text()) for name in COUNTED if (STATISTICS / name).exists()}


class Machine(UntilSaid):
    """A machine until it has said a word; what KVM counted until then, and its memory besides the guest's."""

    def __init__(self, command, word):
        super().__init__(command, word)
        self.counted, self.kib = [], []

    def after(self):
        if self.process.poll() is None:
            self.counted.append(counters())
            self.kib.append(private_kib(self.process.pid))
        super().after()


def hull_vmm(options, number, load=False, devices=False):
    config = {"kernel": KERNEL, "initramfs": INITRAMFS, "memory_bytes": GUEST_MIB << 20, "vcpus": 1, "console_log": "-",
              "command_line": COMMAND_LINE + (" load=yes" if load else ""), "rng": False, "balloon": False}
    if load or devices:
        config["disks"] = [{"extents": [str(DISK)], "read_only": True}]
        config["nets"] = [{"tap_fd": TAP_FD, "mac": "02:42:0a:09:00:02"}]
    file = pathlib.Path(f"/tmp/machine{number}.json")
    file.write_text(json.dumps(config))
    return [*with_tap(options, load or devices), options.bin / "hull-vmm", "--config", file]


def qemu(options, clock, load=False, devices=False):
    command = [*QEMU, "-M", f"microvm,acpi=on,pit=on,pic=on,rtc={clock},isa-serial=on,pcie=off,usb=off",
               "-append", COMMAND_LINE + (" load=yes" if load else "")]
    if load or devices:
        command += ["-blockdev", f"driver=raw,node-name=disk,read-only=on,file.driver=file,file.filename={DISK}",
                    "-device", "virtio-blk-device,drive=disk", "-netdev", f"tap,id=net,fd={TAP_FD},vhost=off",
                    "-device", "virtio-net-device,netdev=net,mac=02:42:0a:09:00:02"]
    return [*with_tap(options, load or devices), *command]


def with_tap(options, wanted):
    return [options.bin.parent / "tests/with_tap", "tap0", TAP_FD] if wanted else []


def boots(options, results):
    """Until PID 1 speaks; with a disk and a card, since a machine without devices is of no use."""
    cases = {"hull-vmm": Machine(hull_vmm(options, 0, devices=True), b"PID1"),
             "qemu": Machine(qemu(options, "off", devices=True), b"PID1"),
             "qemu with a clock": Machine(qemu(options, "on", devices=True), b"PID1")}
    results["boot to PID 1, KVM"] = measure([one.case(name) for name, one in cases.items()], options.runs, min(1, options.runs - 1))
    for name, one in cases.items():
        if one.counted:
            results[f"exits until then, {name}"] = {
                what: statistics.median(counted[what] for counted in one.counted) for what in one.counted[0]}
    results["memory besides the guest's"] = {name: f"{statistics.median(one.kib) / 1024:.1f} MiB"
                                             for name, one in cases.items() if one.kib}


def loads(options, results):
    """What a guest reads from a disk and moves through a card, by its own clock."""
    rates, counted = {}, {}
    machines = {"hull-vmm": hull_vmm(options, 1, load=True), "qemu": qemu(options, "off", load=True)}
    for number in range(options.runs):
        for name, command in list(machines.items())[:: -1 if number % 2 else 1]:
            server = subprocess.Popen([LOAD, "serve", str(PORT), str(SENT_KIB)])
            machine = Machine(command, b"LOADED")
            try:
                machine()
            finally:
                server.kill()
                server.wait()
            machine.after()
            for line in machine.said.decode(errors="replace").splitlines():
                words = line.split()
                if len(words) == 3 and words[0] == "RATE":
                    rates.setdefault(words[1], {}).setdefault(name, []).append(float(words[2]))
            counted.setdefault(name, []).append(machine.counted[-1])
    for what, by_name in rates.items():
        medians = {name: statistics.median(values) for name, values in by_name.items()}
        results[f"{what}, MB/s"] = {**{name: f"{value:.2f}" for name, value in medians.items()},
                                    "hull-vmm / qemu (goal: at least 1)": f"{medians['hull-vmm'] / medians['qemu']:.2f}"}
    for name, list_of in counted.items():
        results[f"exits with the loads, {name}"] = {what: statistics.median(one[what] for one in list_of) for what in list_of[0]}


def many(options, results):
    """Machines one after another, all kept: does the last one boot as fast as the first?"""
    kept, seconds = [], []
    try:
        for number in range(options.machines):
            machine = Machine(hull_vmm(options, 100 + number), b"PID1")
            begin = time.perf_counter()
            machine()
            seconds.append(time.perf_counter() - begin)
            kept.append(machine)
        kib = sum(private_kib(machine.process.pid) for machine in kept)
        results[f"{options.machines} machines with a stock kernel, one after another"] = {
            "first, last": f"{seconds[0]:.2f} s, {seconds[-1]:.2f} s", "all": " ".join(f"{one:.1f}" for one in seconds),
            "memory besides the guests', each": f"{kib / 1024 / len(kept):.1f} MiB"}
    finally:
        for machine in kept:
            machine.after()


def prepare():
    subprocess.run(["mount", "-t", "debugfs", "debugfs", "/sys/kernel/debug"], check=True)
    with open(DISK, "wb") as disk:
        for _ in range(DISK_MIB):
            disk.write(os.urandom(1 << 20))
    os.makedirs("/dev/net", exist_ok=True)
    for command in (["ip", "tuntap", "add", "dev", "tap0", "mode", "tap", "vnet_hdr"],
                    ["ip", "address", "add", f"{ADDRESS}/24", "dev", "tap0"], ["ip", "link", "set", "tap0", "up"]):
        subprocess.run(command, check=True)


def main():
    machines_outside.PATIENCE = 300  # an emulated machine's guest
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--machines", type=int, default=8)
    parser.add_argument("--only", choices=("boots", "loads", "many"))
    options = parser.parse_args()
    prepare()
    results = {}
    for name, work in (("boots", boots), ("loads", loads), ("many", many)):
        if options.only in (None, name):
            work(options, results)
    print("RESULT " + json.dumps(results))


if __name__ == "__main__":
    main()
