"""The suites of tests/privileged once more, inside the bed: containers on a host with nothing but control groups v2, AppArmor
and Linux 6.1, whose image layers need loop devices; machines under hull-vmm on real KVM, and under QEMU with KVM.

What runs here is a core, within minutes under emulation; each suite runs whole outside. The limits on time of a workload's
start hold on an idle machine only: scripts/test --all runs this, alone, by setting HULL_TEST_WHOLE."""

import os
import re
import subprocess
import tempfile

import pytest
from support import instance as instances

from .bed import Bed
from .host import HostFolder
from .kernel import cloud_kernel

MODULES = ("loop", "tun", "fuse", "erofs", "veth", "bridge", "nf_tables", "nft_chain_nat", "nft_nat", "nft_masq", "nft_ct",
           "nft_fib_inet", "nft_fib_ipv4", "nft_fib_ipv6", "nf_conntrack_netlink")
pytestmark = pytest.mark.skipif(not os.environ.get("HULL_TEST_WHOLE"), reason="runs with scripts/test --all")
PRIVILEGED = instances.SOURCE / "tests/privileged"


@pytest.fixture(scope="module")
def bed():
    """A bed with the build, the tests, and a guest kernel that is installed already; not under /tmp, which is the bed's."""
    kernel = cloud_kernel()
    with tempfile.TemporaryDirectory(prefix="bed-kernels.", dir=instances.BUILD) as folder:
        subprocess.run([instances.BIN / "hull-kernel", "install", "--root", folder, f"{kernel.folder}.deb"], check=True,
                       capture_output=True, timeout=300)
        folders = {instances.SOURCE, instances.BUILD}
        with HostFolder([one for one in folders if not folders & set(one.parents)]) as host:
            with Bed(host=host, modules=MODULES, memory_mib=3072, kernel=kernel) as running:
                running.kernels = folder
                yield running


def run_tests(bed, file, names, timeout, hypervisor=""):
    """Runs the named tests of a file in the bed: each has to pass, none may be skipped."""
    environment = {"HULL_BUILD": instances.BUILD, "HULL_BIN": instances.BIN, "HULL_TEST_KERNELS": bed.kernels,
                   "HULL_TEST_HYPERVISOR": hypervisor, "PYTHONDONTWRITEBYTECODE": "1"}
    words = " ".join(f"'{file}::{name}'" for name in names)
    assigned = " ".join(f"{name}='{value}'" for name, value in environment.items())
    code, output = bed.run(
        f"cd {PRIVILEGED} && env {assigned} timeout -s INT {timeout - 20} /usr/bin/python3 -m pytest -q -ra --tb=short "
        f"--durations=5 -p no:cacheprovider -c {PRIVILEGED.parent}/pytest.ini {words}", timeout=timeout)
    passed = re.search(r"(\d+) passed", output)
    assert code == 0 and passed and int(passed.group(1)) >= len(names) and "skipped" not in output, output[-12000:]


# In the file's order: the last one ends the workload that the others look at.
CORE = ["test_environment_and_working_folder", "test_volumes_both_ways", "test_exec", "test_logs", "test_pause_and_unpause",
        "test_killed_and_removed_leaves_nothing"]


def test_machines_under_hull_vmm(bed):
    names = [*CORE[:-1], "test_stop_and_start_keep_files", CORE[-1]]
    run_tests(bed, "test_parity.py", [f"{name}[vm]" for name in names], timeout=300)


def test_machines_under_qemu_with_kvm(bed):
    run_tests(bed, "test_parity.py", [f"{name}[vm]" for name in CORE], timeout=300, hypervisor="qemu")


def test_containers_on_pure_control_groups_v2(bed):
    assert bed.run("grep -c cgroup /proc/mounts; cat /sys/fs/cgroup/cgroup.controllers")[1].split()[:2] == ["1", "cpuset"]
    run_tests(bed, "test_parity.py", [f"{name}[container]" for name in CORE], timeout=300)


def test_limits_of_an_ordinary_user_on_pure_control_groups_v2(bed):
    """Controllers of version 2 that an administrator handed to the user; outside there is none of them."""
    run_tests(bed, "test_rootless.py", [
        "test_pause_stats_and_exec_in_a_delegated_group[own]",
        "test_limits_hold_where_their_controller_was_given[own-memory-limit0-changed0-memory]",
        "test_limits_hold_where_their_controller_was_given[own-cpu-limit1-changed1-cpu]",
        "test_limits_hold_where_their_controller_was_given[own-pids-limit2-changed2-pids]"], timeout=300)
