"""The section "services": what 100 workloads with restart policies and health checks cost while nothing happens, what a
health check costs, and how soon a workload that ended runs again."""

import json
import os
import pathlib
import statistics
import time

TICK = os.sysconf("SC_CLK_TCK")


def ticks(pids):
    """Processor time of these processes and of the children that they have waited for, in clock ticks."""
    total = 0
    for pid in pids:
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(value) for value in fields[11:15])
    return total


def switches(pids):
    """How often these processes were given a processor."""
    total = 0
    for pid in pids:
        try:
            text = pathlib.Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if "ctxt_switches" in line)
    return total


def private_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


def monitors(run_folder):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            mine = (entry / "comm").read_text() == "hull-monitor\n" and os.readlink(entry / "cwd").startswith(str(run_folder))
        except OSError:
            continue
        if mine:
            found.append(int(entry.name))
    return found


def services(setting):
    if not setting.has_hull():
        return {"error": "hull is not built"}
    count, seconds = (5, 2) if setting.smoke else (100, 60)
    setting.hull("load", "-i", setting.archive())
    flags = ["-d", "--network", "none", "--restart", "always", "--health-cmd", "true", "--health-interval", "1h"]
    for _ in range(count):
        setting.hull("run", *flags, "busybox", "sleep", "100000")
    run_folder = setting.folder / "hull/run"
    mine = monitors(run_folder)
    time.sleep(0 if setting.smoke else 2)
    ticks_before, switches_before = ticks(mine), switches(mine)
    time.sleep(seconds)
    used, woken = ticks(mine) - ticks_before, switches(mine) - switches_before
    private = statistics.median(private_kib(pid) for pid in mine)
    results = {f"{len(mine)} monitors, idle for {seconds} s": {
        "processor time": f"{1000 * used / TICK:.0f} ms (goal: none measurable, 0)",
        "times that one was woken": f"{woken}",
        "private memory of one, median": f"{private:.0f} KiB (goal: at most 1024)"}}
    setting.hull("rm", "-f", *setting.hull("ps", "-aq").stdout.split())

    checks = 3 if setting.smoke else 100
    name = setting.hull("run", "-d", "--network", "none", "--health-cmd", "true", "--health-interval", "50ms", "busybox",
                        "sleep", "100000").stdout.strip()
    [pid] = monitors(run_folder)
    before, begin = ticks([pid]), time.monotonic()
    time.sleep(0.05 * checks + 1)
    passed = time.monotonic() - begin
    log = json.loads(setting.hull("inspect", name).stdout)[0]["State"]["Health"]["Log"]
    spent = 1000 * (ticks([pid]) - before) / TICK
    rate = passed / 0.05
    results["one health check (`true`)"] = {
        "monitor and runtime, processor time": f"at most {spent / max(1, rate):.2f} ms", "results kept": len(log)}
    setting.hull("rm", "-f", name)

    waits = []
    for _ in range(1 if setting.smoke else 20):
        name = setting.hull("run", "-d", "--network", "none", "--restart", "on-failure:1", "busybox", "false").stdout.strip()
        for _ in range(500):
            state = json.loads(setting.hull("inspect", name).stdout)[0]
            if state["RestartCount"] == 1 and state["State"]["Status"] == "exited":
                break
            time.sleep(0.01)
        record = [json.loads(line) for line in setting.hull(
            "events", "--since", "1970-01-01", "--until", "0s", "--format", "json", "--filter", f"container={name}").stdout.splitlines()]
        first, second = (event["timeNano"] for event in record if event["Action"] == "start")
        waits.append((second - first) / 1e6)
        setting.hull("rm", "-f", name)
    results["from one start to the next, of `false` (100 ms of it are the pause)"] = {
        "median": f"{statistics.median(waits):.1f} ms"}
    return results
