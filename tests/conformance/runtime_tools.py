#!/usr/bin/env python3
"""Runs the validation programs of opencontainers/runtime-tools against an OCI runtime and counts TAP assertions.

usage: runtime_tools.py --programs DIR [--runtime PATH] [--only WORD] [--show] [--json FILE]

DIR is a folder of the suite's that is already built: runtimetest, rootfs-<arch>.tar.gz and validation/*/*.t. Hull
neither ships nor builds that suite; without DIR (or HULL_RUNTIME_TOOLS) there is nothing to run.
Prints one line for each program that is not all ok, and the sums. The exit status is 0 when no more assertions are
not ok than --allow says.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

TAP_LINE = re.compile(r"^\s*(not ok|ok)\b\s*\d*\s*-?\s*(.*)$")


# Some programs leave mounts when the runtime fails under them; in a mount namespace of its own nothing outlives a run.
# With cgroup "v1" the unified hierarchy of a hybrid host is hidden, for runtimes that refuse hybrid hosts.
ALONE = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
LAYOUT = {"host": 'exec "$@"', "v1": 'umount /sys/fs/cgroup/unified && exec "$@"'}


def run_program(program, folder, runtime, timeout_s, cgroup):
    """Runs one validation program; returns (ok, skipped, list of failures, how it ended where it ended early)."""
    with tempfile.TemporaryDirectory(prefix="hull-rt-", ignore_cleanup_errors=True) as temporary:
        environment = dict(os.environ, RUNTIME=runtime, TMPDIR=temporary)
        try:
            done = subprocess.run(
                [*ALONE, LAYOUT[cgroup], "sh", program], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                errors="replace", timeout=timeout_s,
            )
            output, errors, status = done.stdout, done.stderr, done.returncode
        except subprocess.TimeoutExpired as expired:
            output = (expired.stdout or b"").decode(errors="replace")
            errors, status = f"no end after {timeout_s} s", -1
    ok = skipped = 0
    failures = []
    lines = output.splitlines()
    for number, line in enumerate(lines):
        match = TAP_LINE.match(line)
        if not match:
            continue
        if re.search(r"#\s*skip", line, re.IGNORECASE):
            skipped += 1
        elif match.group(1) == "ok":
            ok += 1
        else:
            detail = []
            for following in lines[number + 1 : number + 12]:
                if TAP_LINE.match(following) or following.strip() == "...":
                    break
                detail.append(following.strip())
            failures.append((match.group(2), " ".join(part for part in detail if part != "---")))
    early = f"status {status}: {errors.strip()[-400:]}" if status != 0 and not failures else ""
    return ok, skipped, failures, early


def run_suite(folder, runtime, only="", timeout_s=60, cgroup="host"):
    """Runs every program of the folder; returns {name: {"ok", "skipped", "failures", "early"}}. A program ends early
    when it could not even make its container, for example because the host lacks a controller."""
    folder = pathlib.Path(folder).resolve()
    results = {}
    for program in sorted(folder.glob("validation/**/*.t")):
        name = program.stem
        if only and only not in name:
            continue
        ok, skipped, failures, early = run_program(str(program), str(folder), runtime, timeout_s, cgroup)
        results[name] = {"ok": ok, "skipped": skipped, "failures": failures, "early": early}
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", default=os.environ.get("HULL_RUNTIME_TOOLS", ""))
    parser.add_argument("--runtime", default=os.environ.get("RUNTIME", "hull-oci"))
    parser.add_argument("--only", default="")
    parser.add_argument("--cgroup", choices=LAYOUT, default="host", help="the cgroup layout that the runtime sees")
    parser.add_argument("--allow", type=int, default=0, help="so many assertions may be not ok")
    parser.add_argument("--show", action="store_true", help="print every assertion that is not ok")
    parser.add_argument("--json", help="write the results into this file")
    arguments = parser.parse_args()
    if not arguments.programs:
        sys.exit("runtime_tools.py: name the folder of the built suite with --programs or HULL_RUNTIME_TOOLS")
    results = run_suite(arguments.programs, arguments.runtime, arguments.only, cgroup=arguments.cgroup)
    for name, result in results.items():
        if result["failures"]:
            print(f"{name}: {result['ok']} ok, {len(result['failures'])} not ok")
        if result["early"]:
            print(f"{name}: ended early, {result['early'] if arguments.show else result['early'].splitlines()[0]}")
            if arguments.show:
                for title, detail in result["failures"]:
                    print(f"    {title}\n        {detail}")
    ok = sum(result["ok"] for result in results.values())
    not_ok = sum(len(result["failures"]) for result in results.values())
    skipped = sum(result["skipped"] for result in results.values())
    early = sum(bool(result["early"]) for result in results.values())
    print(f"{len(results)} programs: {ok} ok, {not_ok} not ok, {skipped} skipped, {early} programs ended early "
          f"({arguments.runtime})")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1))
    sys.exit(0 if not_ok <= arguments.allow else 1)


if __name__ == "__main__":
    main()
