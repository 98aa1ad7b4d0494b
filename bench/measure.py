"""Timing of commands, interleaved: every round runs each case once, in turning order, so that a slow minute of the
machine touches all of them alike."""

import os
import shutil
import statistics
import time


class Case:
    """One command to time. before and after run around it, untimed; expect is the exit status it must end with."""

    def __init__(self, name, command, before=None, after=None, environment=None, expect=0, timed=None):
        self.name, self.before, self.after, self.expect = name, before, after, expect
        self.command = [str(part) for part in command] if command else None
        self.environment = environment or dict(os.environ)
        self.timed = timed  # a function to time instead of a command
        self.seconds, self.cpu_seconds = [], []

    def run_once(self, record):
        if self.before:
            self.before()
        if self.timed:
            begin = time.perf_counter()
            self.timed()
            took, cpu = time.perf_counter() - begin, 0.0
        else:
            took, cpu = run_command(self.command, self.environment, self.expect)
        if self.after:
            self.after()
        if record:
            self.seconds.append(took)
            self.cpu_seconds.append(cpu)


def run_command(command, environment, expect=0):
    """Seconds from the spawn of a command to its end, and the processor seconds of it and of all that it waited for
    (nearly free of what else the machine does). What it says on standard error is kept for the message of a failure."""
    program = shutil.which(command[0], path=environment.get("PATH", os.defpath) + ":/usr/sbin:/sbin") or command[0]
    null = os.open(os.devnull, os.O_RDWR)
    log = os.memfd_create("stderr")
    actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
    begin = time.perf_counter()
    pid = os.posix_spawn(program, command, environment, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    took = time.perf_counter() - begin
    said = os.pread(log, 4000, 0).decode(errors="replace")
    os.close(null)
    os.close(log)
    if os.waitstatus_to_exitcode(status) != expect:
        raise RuntimeError(f"{' '.join(command)}: ended with {os.waitstatus_to_exitcode(status)}: {said.strip()}")
    return took, usage.ru_utime + usage.ru_stime


def measure(cases, runs, warmup=2, progress=None):
    """Times the cases; returns {name: {"median", "mean", "min", "p90", "cpu", "runs"}} in milliseconds. A case that fails is
    reported as {"error": ...} and left out of later rounds."""
    errors = {}
    for number in range(warmup + runs):
        turn = number % len(cases)
        for case in cases[turn:] + cases[:turn]:
            if case.name in errors:
                continue
            try:
                case.run_once(number >= warmup)
            except (RuntimeError, OSError, AssertionError) as error:
                errors[case.name] = str(error)
        if progress:
            progress(number + 1, warmup + runs)
    results = {}
    for case in cases:
        if case.name in errors:
            results[case.name] = {"error": errors[case.name]}
            continue
        times = sorted(1000 * seconds for seconds in case.seconds)
        results[case.name] = {
            "median": statistics.median(times), "mean": statistics.fmean(times), "min": times[0],
            "p90": times[min(len(times) - 1, int(len(times) * 0.9))], "runs": len(times),
            "cpu": 1000 * statistics.median(case.cpu_seconds),
        }
    return results


def private_memory(pid):
    """Private memory of a process in KiB (Private_Clean + Private_Dirty)."""
    total = 0
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith(("Private_Clean:", "Private_Dirty:")):
                total += int(line.split()[1])
    return total


def processes_named(*names):
    """{pid: name} of processes whose program file has one of these names."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                name = os.path.basename(os.readlink(f"/proc/{entry}/exe").removesuffix(" (deleted)"))
            except OSError:
                continue
            if name in names:
                found[int(entry)] = name
    return found


def memory_available():
    """MemAvailable in KiB."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
