#!/usr/bin/env python3
"""Benchmarks of Hull beside its peers, in one run: prints a table with medians and ratios, and keeps the numbers as JSON.

usage: bench/run.py [--bin FOLDER] [--runs N] [--section NAME]... [--crun PATH]... [--smoke] [--json FILE]

Sections: oci (runtimes under the config.json that Docker generates), engine (run and exec, with and without network),
memory, pull, many (1,000 containers), programs, compose, api (hulld beside dockerd), vm and bed (beside QEMU, here and in the
emulated machine), throughput (bridge and published port). --crun names more crun programs to measure, for
example the newest one, unpacked from Debian's sid. --smoke does everything once and small, and only shows that the harness works. Needs root;
the peers are Debian's and are started in folders, mount and network namespaces of their own.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import report  # noqa: E402
import sections  # noqa: E402


def prepare_namespaces(section):
    """The command that gives a section's process namespaces of its own. crun refuses hybrid hosts, so all the runtimes
    are measured with the unified hierarchy hidden: on the same layout."""
    script = "ip link set lo up; mount -t tmpfs tmpfs /run; mkdir -p /var/lib/cni; mount -t tmpfs tmpfs /var/lib/cni; "
    if section == "oci":
        script += "umount /sys/fs/cgroup/unified 2>/dev/null; "
    return ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", script + 'exec "$@"', "sh"]


def main():
    parser = argparse.ArgumentParser()
    build = HERE.parent / "build/release/bin"
    parser.add_argument("--bin", type=pathlib.Path, default=build, help="where the programs are")
    parser.add_argument("--runs", type=int, default=0, help="rounds of each section (0: the section's own number)")
    parser.add_argument("--section", action="append", choices=list(sections.ALL))
    parser.add_argument("--crun", action="append", default=[])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", type=pathlib.Path, default=HERE.parent / "build/bench/results.json")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench/run.py: needs root")

    if arguments.inside:
        with tempfile.TemporaryDirectory(prefix="hull-bench-", dir="/tmp", ignore_cleanup_errors=True) as folder:
            setting = sections.Setting(arguments, pathlib.Path(folder))
            try:
                result = sections.ALL[arguments.inside](setting)
            finally:
                setting.close()
        print("RESULT " + json.dumps(result))
        return

    results = {}
    for section in arguments.section or sections.ALL:
        command = [*prepare_namespaces(section), sys.executable, str(HERE / "run.py"), "--inside", section,
                   "--bin", str(arguments.bin.resolve()), "--runs", str(arguments.runs)]
        command += [part for path in arguments.crun for part in ("--crun", path)]
        command += ["--smoke"] if arguments.smoke else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if done.returncode != 0 or not lines:
            results[section] = {"error": f"the section ended with status {done.returncode}"}
        else:
            results[section] = json.loads(lines[-1].removeprefix("RESULT "))
        print(report.table(section, results[section]), flush=True)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"machine": report.machine(), "results": results}, indent=1))
    failed = [section for section, result in results.items() if "error" in json.dumps(result)]
    if failed:
        sys.exit(f"not everything could be measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
