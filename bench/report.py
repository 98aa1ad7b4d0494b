"""Tables of what was measured, against the goals that the project set itself."""

import os
import pathlib
import platform

# section -> work -> (our case, [(other case, at least so many times faster)], note)
GOALS = {
    "oci": {
        "run": ("hull-oci", [("crun", 2.0), ("runc", 6.0)], "floor", 1.3),
        "exec": ("hull-oci", [("crun", 2.0)], "floor", 1.3),
    },
    "engine": {
        "run, no network": ("hull", [("podman", 10.0), ("docker", 10.0)], None, None),
        "run, bridge": ("hull", [("podman", 15.0), ("docker", 15.0)], None, None),
        "exec": ("hull", [("docker", 15.0)], None, None),
    },
    "vm": {
        "first instruction, KVM": ("hull-vmm", [("qemu", 3.0)], None, None),
        "run --vm, emulated": ("hull", [], "qemu, bare", 1.4),
    },
    "bed": {"boot to PID 1, KVM": ("hull-vmm", [], "qemu", 0.7)},
    "compose": {"up until healthy": ("hull compose", [("docker-compose", 3.0)], None, None),
                "down": ("hull compose", [("docker-compose", 3.0)], None, None)},
    "api": {"docker run": ("hulld", [("dockerd", 6.0)], None, None)},
    "pull": {"pull": ("hull", [("docker", 8.0), ("podman", 8.0)], "igzip", 1.8)},
}


def machine():
    return {"kernel": platform.release(), "cores": os.cpu_count(),
            "memory_mib": int(pathlib.Path("/proc/meminfo").read_text().split()[1]) // 1024}


def number(value):
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def timing_rows(section, work, cases):
    lines = [f"  {work}"]
    goal = GOALS.get(section, {}).get(work)
    ours = cases.get(goal[0], {}).get("median") if goal else None
    for name, result in cases.items():
        if "error" in result:
            lines.append(f"    {name:<22} FAILED: {result['error'][:300]}")
            continue
        ratio = f"{result['median'] / ours:6.2f} x ours" if ours and name != goal[0] else " " * 13
        lines.append(f"    {name:<22} median {number(result['median']):>8} ms   min {number(result['min']):>8}   "
                     f"p90 {number(result['p90']):>8}   cpu {number(result['cpu']):>7}   {ratio}   n={result['runs']}")
    if ours:
        for peer, factor in goal[1]:
            matching = [name for name in cases if name.split(" ")[0] == peer and "median" in cases[name]]
            if matching:
                best = min(cases[name]["median"] for name in matching)
                verdict = "reached" if best / ours >= factor else "NOT reached"
                lines.append(f"    goal: {factor:g} times faster than {peer}: {best / ours:.2f} ({verdict})")
        if goal[2] and "median" in cases.get(goal[2], {}):
            floor = cases[goal[2]]["median"]
            verdict = "reached" if ours / floor <= goal[3] else "NOT reached"
            lines.append(f"    goal: within {goal[3]:g} times {goal[2]}: {ours / floor:.2f} ({verdict})")
    return lines


def table(section, result):
    """The text of one section's results."""
    lines = [section]
    if "error" in result:
        return f"{section}\n  FAILED: {result['error']}"
    for work, cases in result.items():
        if isinstance(cases, dict) and all(isinstance(case, dict) for case in cases.values()):
            lines += timing_rows(section, work, cases)
        elif isinstance(cases, dict):
            lines.append(f"  {work}")
            lines += [f"    {name:<40} {value}" for name, value in cases.items()]
        else:
            lines.append(f"  {work:<42} {cases}")
    return "\n".join(lines) + "\n"
