"""The validation programs of opencontainers/runtime-tools, from the folder that HULL_RUNTIME_TOOLS names."""

import os
import re

import pytest
import runtime_tools

# Assertions that no runtime can pass here without breaking the specification: program, title, how many at the most.
# SPECIFICATION.md says why, and what crun and runc make of the same rows.
KNOWN = [
    (r"linux_cgroups_memory|linux_cgroups_relative_memory", "memory kernel is set correctly", 7),
    (r"process_capabilities", "CAP_SYS_RESOURCE", 5),
    (r"delete_resources|linux_cgroups_pids|linux_cgroups_relative_pids", "pids limit is set correctly", 3),
    (r"linux_cgroups_relative_hugetlb", "", 2),
    (r"linux_cgroups_relative_blkio", "", 1),
    (r"linux_cgroups_relative_network", "", 1),
    (r"process_rlimits", "soft RLIMIT_NOFILE", 1),
    (r"misc_props", "unknown annotation key", 1),
    (r"start", "`process` was not set", 1),
    (r"pidfile", "--pid-file", 1),
    (r"killsig", "`kill` operation MUST send", 3),
]
# Programs that end before their first assertion, because the host or the suite lacks what they ask for.
KNOWN_EARLY = {"linux_cgroups_blkio", "linux_cgroups_hugetlb", "linux_cgroups_network", "linux_process_apparmor_profile",
               "process_capabilities_fail"}


def unexplained(results):
    """What is not ok beyond the table, as lines of text."""
    left = [limit for _, _, limit in KNOWN]
    lines = [f"{name} ended early: {result['early']}" for name, result in results.items()
             if result["early"] and name not in KNOWN_EARLY]
    for name, result in results.items():
        for title, detail in result["failures"]:
            row = next((at for at, (program, words, _) in enumerate(KNOWN)
                        if re.fullmatch(program, name) and words in title), None)
            if row is None or left[row] == 0:
                lines.append(f"{name}: {title} {detail}")
            else:
                left[row] -= 1
    return lines


def test_the_table_explains_only_what_it_names():
    result = {"ok": 1, "skipped": 0, "early": "", "failures": [("memory kernel is set correctly", "")] * 8}
    assert len(unexplained({"linux_cgroups_memory": result})) == 1
    assert len(unexplained({"linux_cgroups_cpus": result})) == 8
    assert len(unexplained({"create": {"ok": 0, "skipped": 0, "early": "status 1", "failures": []}})) == 1


def test_validation_programs(hull_oci):
    folder = os.environ.get("HULL_RUNTIME_TOOLS", "")
    if not folder:
        pytest.skip("HULL_RUNTIME_TOOLS names no built suite")
    results = runtime_tools.run_suite(folder, hull_oci)
    assert sum(result["ok"] for result in results.values()) > 3000
    wrong = unexplained(results)
    assert not wrong, "\n".join(wrong)
