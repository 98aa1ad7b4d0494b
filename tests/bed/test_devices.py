"""hull-vmm's further devices under a stock Debian kernel, in the bed: the power button, persistent memory, the console,
and memory that goes back to the host."""

import json
import os
import pathlib
import subprocess

import pytest

from .bed import Bed
from .guests import CONSOLE, INITRAMFS, KERNEL, initramfs, machine, run_vmm
from .kernel import cloud_kernel

BUILD = pathlib.Path(os.environ.get("HULL_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build/release"))
API = "/tmp/api"

# What PID 1 does is chosen by task= on the command line; modules that only one task needs are loaded there.
GUEST = """
load() { for module in $(cat /further/$task); do insmod /further/$module.ko || echo "insmod $module failed"; done; }
wait_for() { for i in $(seq 1 600); do [ -e $1 ] && return 0; sleep 0.1; done; echo "REPORT missing=$1"; }
task=$(sed 's/.*task=\\([a-z]*\\).*/\\1/' /proc/cmdline)
case $task in
button)
  load
  for event in /sys/class/input/event*; do
    [ "$(cat $event/device/name)" = "Power Button" ] && device=/dev/input/$(basename $event)
  done
  echo "REPORT waits=$device"
  head -c 24 $device > /tmp/event
  echo "REPORT pressed=$(hexdump -s 18 -n 2 -e '1/2 "%d"' /tmp/event)"
  sync;;
pmem)
  load
  wait_for /dev/pmem0
  mount -t erofs -o ro,dax /dev/pmem0 /mnt && echo "REPORT mounted=$(grep -c ' /mnt erofs.*dax' /proc/mounts)"
  echo "REPORT sum=$(cat /mnt/folder/file | md5sum | cut -d' ' -f1)"
  echo "REPORT cached=$(awk '/^Cached/ {print $2}' /proc/meminfo)"
  umount /mnt;;
sharedmemory|owndisk)
  before=$(cut -d ' ' -f1 /proc/uptime)
  load
  case $task in
  sharedmemory) wait_for /dev/pmem0; mount -t erofs -o ro,dax /dev/pmem0 /mnt;;
  *) wait_for /dev/vda; mount -t erofs -o ro /dev/vda /mnt;;
  esac
  echo "REPORT mounted=$before:$(cut -d ' ' -f1 /proc/uptime):$(awk '/^MemFree/ {print $2}' /proc/meminfo)"
  echo "REPORT sum=$(cat /mnt/folder/file | md5sum | cut -d' ' -f1)"
  sleep 5
  echo "REPORT quiet=yes"
  sleep 600;;
plug)
  load
  echo "REPORT waits=yes"
  wait_for /dev/vda
  echo "REPORT disk=$(cat /sys/block/vda/size):$(cat /sys/block/vda/ro):$(cat /sys/block/vda/serial):$(md5sum < /dev/vda | cut -d' ' -f1)"
  wait_for /sys/class/net/eth0
  ip link set eth0 up
  echo "REPORT card=$(cat /sys/class/net/eth0/address):$(cat /sys/class/net/eth0/carrier)"
  becomes() { for i in $(seq 1 300); do [ "$(cat $1)" = "$2" ] && return; sleep 0.1; done; }
  becomes /sys/block/vda/size 0
  head -c 512 /dev/vda | wc -c > /tmp/left 2>/dev/null
  becomes /sys/class/net/eth0/carrier 0
  echo "REPORT gone=$(cat /sys/block/vda/size):$(cat /tmp/left):$(cat /sys/class/net/eth0/carrier)"
  becomes /sys/block/vda/size 4096
  becomes /sys/class/net/eth0/carrier 1
  echo "REPORT back=$(cat /sys/block/vda/serial):$(md5sum < /dev/vda | cut -d' ' -f1):$(cat /sys/class/net/eth0/carrier)";;
wait)
  echo "REPORT waits=yes"
  sleep 8;;
console)
  load
  wait_for /dev/hvc0
  exec 5<>/dev/hvc0
  stty raw -echo <&5
  echo "what is your name" >&5
  read -r name <&5
  echo "good day $name" >&5
  sleep 0.3;;
balloon)
  load
  mkdir -p /big && mount -t tmpfs -o size=200m tmpfs /big
  dd if=/dev/zero of=/big/file bs=1M count=160 2>/dev/null
  echo "REPORT filled=yes"
  sleep 3
  rm /big/file
  echo "REPORT freed=yes"
  sleep 600;;
esac
poweroff -f
"""
TASKS = {"button": ("button", "evdev"), "pmem": ("virtio_pmem", "nd_pmem", "erofs"), "console": ("virtio_console",),
         "balloon": ("virtio_balloon",), "plug": ("virtio_blk", "virtio_net"),
         "sharedmemory": ("virtio_balloon", "virtio_pmem", "nd_pmem", "erofs"),
         "owndisk": ("virtio_balloon", "virtio_blk", "erofs")}


@pytest.fixture(scope="module")
def blob(tmp_path_factory):
    """An EROFS image of 64 MiB, and the checksum of its one file."""
    folder = tmp_path_factory.mktemp("blob")
    (folder / "tree/folder").mkdir(parents=True)
    content = os.urandom(64 << 20)
    (folder / "tree/folder/file").write_bytes(content)
    subprocess.run(["mkfs.erofs", folder / "blob", folder / "tree"], check=True, capture_output=True)
    return folder / "blob", subprocess.run(["md5sum"], input=content, capture_output=True, check=True).stdout.decode()[:32]


@pytest.fixture(scope="module")
def bed(blob):
    kernel = cloud_kernel()
    loaded = kernel.with_dependencies(("virtio_mmio",))
    further = {}
    for task, modules in TASKS.items():
        order = [name for name in kernel.with_dependencies(modules) if name not in loaded]
        further[f"further/{task}"] = "\n".join(order)
        further.update({f"further/{name}.ko": kernel.module(name) for name in order})
    guest = initramfs(kernel, GUEST, modules=("virtio_mmio",), files=further)
    files = {"bin/hull-vmm": BUILD / "bin/hull-vmm", "bin/control": BUILD / "tests/control",
             "bin/with_tap": BUILD / "tests/with_tap", KERNEL: kernel.vmlinux,
             INITRAMFS: guest, "blob": blob[0]}
    with Bed(files, modules=("tun",)) as running:
        yield running


def reports(console):
    return dict(line.strip().removeprefix("REPORT ").split("=", 1) for line in console.splitlines() if "REPORT " in line)


def begin(bed, description, redirect=""):
    """Starts a machine in the background; its exit code comes to /tmp/code."""
    bed.run(f"rm -f {CONSOLE} /tmp/code {API}; cat > /tmp/machine.json <<'END'\n{description}\nEND\n"
            f"sh -c 'hull-vmm --config /tmp/machine.json {redirect} 2>/tmp/said; echo $? > /tmp/code' >/dev/null 2>&1 &",
            check=True)


def until(bed, condition, timeout=90):
    """Waits in the bed until the shell condition holds."""
    code, said = bed.run(f"for i in $(seq 1 {timeout * 10}); do {condition} && exit 0; sleep 0.1; done; exit 1", timeout + 30)
    assert code == 0, f"{condition}\n{said}\n{bed.run('cat /tmp/console.log /tmp/said')[1]}"


def test_the_power_button_reaches_the_guest_and_it_shuts_down(bed):
    begin(bed, machine(command_line="quiet task=button", api_socket=API))
    until(bed, f"grep -q REPORT.waits= {CONSOLE}")
    assert bed.run(f"control {API} PUT /shutdown")[1].startswith("204")
    until(bed, "[ -s /tmp/code ]")
    console = bed.run(f"cat {CONSOLE}")[1]
    assert (bed.run("cat /tmp/code")[1], bed.run("cat /tmp/said")[1]) == ("0\n", ""), console
    found = reports(console)
    assert found["waits"].startswith("/dev/input/event"), console
    assert found["pressed"] == "116", "KEY_POWER was expected"


def test_persistent_memory_is_mounted_with_dax(bed, blob):
    code, console, said = run_vmm(bed, machine(pmem=["/blob"], command_line="quiet task=pmem", memory_bytes=96 << 20))
    assert (code, said) == (0, ""), said + console
    found = reports(console)
    assert found.get("mounted") == "1", console
    assert found["sum"] == blob[1]
    # 64 MiB were read, and none of them lies in the guest's page cache besides the initramfs.
    guest_files_kib = int(bed.run(f"gunzip -t {INITRAMFS} 2>/dev/null; stat -c %s {INITRAMFS}")[1]) >> 10
    assert int(found["cached"]) < guest_files_kib + (8 << 10), console


def test_the_virtio_console_is_standard_input_and_output(bed):
    bed.run("rm -f /tmp/in /tmp/out; mkfifo /tmp/in", check=True)
    begin(bed, machine(virtio_console=True, command_line="quiet task=console"), "< /tmp/in > /tmp/out")
    bed.run("(exec 4> /tmp/in; for i in $(seq 1 600); do grep -q 'your name' /tmp/out && break; sleep 0.1; done; "
            "echo Ada >&4; for i in $(seq 1 600); do [ -s /tmp/code ] && break; sleep 0.1; done) >/dev/null 2>&1 &")
    until(bed, "[ -s /tmp/code ]")
    assert bed.run("cat /tmp/out")[1].replace("\r", "").split("\n")[:2] == ["what is your name", "good day Ada"], (
        bed.run(f"cat {CONSOLE} /tmp/said")[1])
    assert bed.run("cat /tmp/code")[1] == "0\n"


def test_disks_and_cards_come_and_go_while_the_guest_runs(bed):
    bed.run("mkdir -p /dev/net; [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200; "
            "head -c 1048576 /dev/urandom > /tmp/late; head -c 2097152 /dev/urandom > /tmp/later", check=True)
    begin(bed, machine(command_line="quiet task=plug", api_socket=API))
    until(bed, f"grep -q REPORT.waits= {CONSOLE}")
    refused = bed.run(f"""control {API} PUT /disks '{{"read_only":false}}'""")[1]
    assert refused.startswith("400"), refused
    assert bed.run(f"control {API} GET /devices")[1].strip() == "200 []"
    added = bed.run(f"""control {API} PUT /disks '{{"read_only":true,"serial":"late"}}' /tmp/late""")[1]
    assert added.strip() == '200 {"device":0}', added
    until(bed, f"grep -q REPORT.disk= {CONSOLE}")
    added = bed.run(f"""with_tap tap7 9 control {API} PUT /nets '{{"mac":"02:42:0a:09:00:07"}}' fd:9""")[1]
    assert added.strip() == '200 {"device":1}', added
    until(bed, f"grep -q REPORT.card= {CONSOLE}")
    devices = json.loads(bed.run(f"control {API} GET /devices")[1].removeprefix("200 "))
    assert devices == [{"device": 0, "kind": "block", "driven": True, "removed": False},
                       {"device": 1, "kind": "net", "driven": True, "removed": False}]
    for device, code in ((0, "204"), (1, "204"), (7, "404")):
        assert bed.run(f"control {API} DELETE /devices/{device}")[1].startswith(code)
    open_files = bed.run("ls -l /proc/$(pidof hull-vmm)/fd | grep -c -e /tmp/late -e /dev/net/tun")[1].strip()
    assert open_files == "0", "what was removed is closed"
    until(bed, f"grep -q REPORT.gone= {CONSOLE}")
    added = bed.run(f"""control {API} PUT /disks '{{"read_only":true,"serial":"later"}}' /tmp/later""")[1]
    assert added.strip() == '200 {"device":0}', "the removed one's place"
    added = bed.run(f"""with_tap tap8 9 control {API} PUT /nets '{{"mac":"02:42:0a:09:00:07"}}' fd:9""")[1]
    assert added.strip() == '200 {"device":1}', added
    until(bed, "[ -s /tmp/code ]")
    console = bed.run(f"cat {CONSOLE}")[1]
    assert (bed.run("cat /tmp/code")[1], bed.run("cat /tmp/said")[1]) == ("0\n", ""), console
    found = reports(console)
    assert found["disk"] == f"2048:1:late:{bed.run('md5sum < /tmp/late')[1].split()[0]}", console
    assert found["card"] == "02:42:0a:09:00:07:1", console
    assert found["gone"] == "0:0:0", console
    assert found["back"] == f"later:{bed.run('md5sum < /tmp/later')[1].split()[0]}:1", console


def two_readers(bed, task, **members):
    """Two machines that have read the whole blob, and given back what they do not use: the proportional memory of both
    together in KiB, and their reports."""
    for number in (1, 2):
        description = machine(command_line=f"quiet task={task}", console_log=f"/tmp/console{number}",
                              memory_bytes=192 << 20, balloon=True, **members)
        bed.run(f"rm -f /tmp/console{number}; cat > /tmp/machine{number}.json <<'END'\n{description}\nEND\n"
                f"(hull-vmm --config /tmp/machine{number}.json >/tmp/said{number} 2>&1 & echo $! > /tmp/pid{number})", check=True)
    try:
        until(bed, "[ $(cat /tmp/console1 /tmp/console2 2>/dev/null | grep -c REPORT.quiet=) = 2 ]")
        pss = bed.run("cat /proc/$(cat /tmp/pid1)/smaps_rollup /proc/$(cat /tmp/pid2)/smaps_rollup | "
                      "awk '/^Pss:/ {sum += $2} END {print sum}'", check=True)[1]
        return int(pss), [reports(bed.run(f"cat /tmp/console{number}")[1]) for number in (1, 2)]
    finally:
        bed.run("kill -KILL $(cat /tmp/pid1) $(cat /tmp/pid2)")


def test_machines_share_what_they_read_from_persistent_memory(bed, blob):
    shared, of_shared = two_readers(bed, "sharedmemory", pmem=["/blob"])
    own, of_own = two_readers(bed, "owndisk", disks=[{"extents": ["/blob"], "read_only": True}])
    assert [found["sum"] for found in of_shared + of_own] == [blob[1]] * 4
    print(f"two machines that read the same 64 MiB: {shared} KiB from persistent memory, {own} KiB from disks; "
          f"mounted (begun, ready, KiB free): {[found['mounted'] for found in of_shared + of_own]}")
    assert shared < own - (16 << 10)


RESIDENT = "awk '/^VmRSS/ {print $2}' /proc/$(pidof hull-vmm)/status"


def test_memory_that_the_guest_frees_goes_back_within_seconds(bed):
    begin(bed, machine(balloon=True, command_line="quiet task=balloon", memory_bytes=256 << 20))
    until(bed, f"grep -q REPORT.filled= {CONSOLE}")
    filled = int(bed.run(RESIDENT)[1])
    until(bed, f"grep -q REPORT.freed= {CONSOLE}")
    # Each tenth of a second: how much is resident; until two thirds of what was freed are back.
    code, seen = bed.run(f"for i in $(seq 1 150); do now=$({RESIDENT}); "
                         f"[ $now -lt {filled - (160 << 10) * 2 // 3} ] && echo $i $now && exit 0; sleep 0.1; done; echo $now; exit 1", 90)
    bed.run("killall -KILL hull-vmm")
    assert code == 0, f"{filled} KiB were resident, now {seen}"
    tenths, now = seen.split()
    print(f"filled: {filled} KiB resident; {int(tenths) / 10:.1f} s after the guest freed 160 MiB: {now} KiB")
    assert filled > 160 << 10 and int(tenths) <= 100


class Debugger:
    """GDB's remote protocol spoken by hand, since the bed has no room for GDB: one question, one answer."""

    def __init__(self, bed, port):
        self.bed, self.seen = bed, 0
        bed.run("rm -f /tmp/gin /tmp/gout; mkfifo /tmp/gin; (sleep 100000 > /tmp/gin &) >/dev/null 2>&1; "
                f"(while ! nc 127.0.0.1 {port} < /tmp/gin > /tmp/gout; do sleep 0.2; done) >/dev/null 2>&1 &", check=True)
        self.ask("QStartNoAckMode")
        self.ask("qSupported:swbreak+;hwbreak+")

    def ask(self, payload):
        return self.send(payload, f"${payload}#{sum(payload.encode()) & 255:02x}")

    def tell(self, payload):
        """What is answered later, or never."""
        self.bed.run(f"printf '%s' '${payload}#{sum(payload.encode()) & 255:02x}' > /tmp/gin", check=True)

    def interrupt(self):
        return self.send("an interrupt", "\x03")

    def send(self, payload, packet):
        new = f"tail -c +{self.seen + 1} /tmp/gout"
        _, said = self.bed.run(f"printf '%s' '{packet}' > /tmp/gin; for i in $(seq 1 600); do {new} 2>/dev/null | "
                               f"grep -q '#..' && break; sleep 0.1; done; {new}", 90)
        assert "#" in said, f"no answer to {payload}: {said}"
        self.seen += len(said)
        return said.lstrip("+").split("$", 1)[1].rsplit("#", 1)[0]

    def instruction(self):
        return int.from_bytes(bytes.fromhex(self.ask("p10")), "little")


def test_a_debugger_stops_a_stock_kernel(bed):
    """An interrupt, memory by virtual address, and a step. Breakpoints are no use here: QEMU's emulation of SVM neither
    looks at debug registers nor intercepts int3; tests/privileged/test_gdb.py has them."""
    def address(name):
        return int(bed.run(f"awk '$3 == \"{name}\" {{print $1; exit}}' /proc/kallsyms", check=True)[1], 16)

    bed.run("ip link set lo up")
    begin(bed, machine(command_line="quiet nokaslr task=wait", gdb="tcp:127.0.0.1:1234", vcpus=2))
    debugger = Debugger(bed, 1234)
    assert bytes.fromhex(debugger.ask(f"m{address('linux_banner') - 0xffffffff80000000:x},d")) == b"Linux version"
    assert debugger.ask("Hc0") == "OK"
    debugger.tell("c")
    until(bed, f"grep -q REPORT.waits= {CONSOLE}")
    assert debugger.interrupt().startswith("T02thread:1")
    assert debugger.ask("qfThreadInfo") == "m1,2"
    assert bytes.fromhex(debugger.ask(f"m{address('linux_banner'):x},d")) == b"Linux version", "through the page tables"
    before = debugger.instruction()
    assert debugger.ask("vCont;s:1").startswith("T05thread:1")
    assert debugger.instruction() != before
    assert debugger.ask("D") == "OK"
    until(bed, "[ -s /tmp/code ]")
    assert (bed.run("cat /tmp/code")[1], bed.run("cat /tmp/said")[1]) == ("0\n", "")
