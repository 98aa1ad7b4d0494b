#!/usr/bin/env python3
"""Sums up what scripts/test ran: 'N passed, N failed, N skipped' on the last line, and why each skip was skipped.

usage: count_tests.py --skips FILE RESULTS

RESULTS/<preset>.ctest.xml is ctest's JUnit file of one build; RESULTS/<preset>/*.xml are the files that its GoogleTest
programs and pytest runs wrote themselves, with each test case in them. A ctest entry with no such file counts as one
test. FILE names the skips that are expected: '<regular expression of the test's name>  # reason'. A skip that no line
matches is a failure: a test must not stop running without anybody noticing.

RESULTS/<preset>.again.xml, where there is one, has the tests that failed and were run once more: their second outcome
counts, and what failed only the first time (RESULTS/<preset>.first) is named and counted as flaky.
"""

import argparse
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree


def read_cases(path):
    """The test cases of one JUnit-like file: (name, 'passed' | 'failed' | 'skipped', reason)."""
    cases = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname', '')}.{case.get('name', '')}".strip(".")
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None or case.get("status") == "fail":
            cases.append((name, "failed", ""))
        elif skipped is not None or case.get("result") == "skipped" or case.get("status") in ("notrun", "disabled"):
            reason = skipped.get("message", "") if skipped is not None else ""
            cases.append((name, "skipped", reason.strip().splitlines()[-1] if reason.strip() else ""))
        else:
            cases.append((name, "passed", ""))
    return cases


def read_restarts(path):
    """(test, why) for each time the emulated machine died under a test, which was then tried again (tests/bed/conftest.py)."""
    try:
        cases = ElementTree.parse(path).getroot().iter("testcase")
    except ElementTree.ParseError:
        return []
    return [(case.get("name", ""), note.get("value", "")) for case in cases for note in case.iter("property")
            if note.get("name") == "bed_restarted"]


def read_entries(path):
    """The tests of one of ctest's files: {name: (outcome, reason)}."""
    if not path.exists():
        return {}
    return {re.sub(r"^(.+)\.\1$", r"\1", name): (outcome, reason) for name, outcome, reason in read_cases(path)}


def read_preset(preset, entries, folder):
    """The test cases of one build's entries: (name, outcome, reason). folder: where their programs' own files are."""
    cases = []
    for entry, (outcome, reason) in entries.items():
        own = folder / f"{entry}.xml"
        try:
            inner = read_cases(own) if own.exists() else []
        except ElementTree.ParseError:
            inner = []
        if not inner:
            cases.append((entry, outcome, reason))
            continue
        cases.extend((f"{entry}:{inner_name}", inner_outcome, why) for inner_name, inner_outcome, why in inner)
        if outcome == "failed" and not any(inner_outcome == "failed" for _, inner_outcome, _ in inner):
            cases.append((entry, "failed", ""))  # it died after its last test case
    return [(f"{preset}:{name}", outcome, reason) for name, outcome, reason in cases]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--skips", type=pathlib.Path, required=True)
    parser.add_argument("results", type=pathlib.Path)
    arguments = parser.parse_args()
    allowed = []
    for line in arguments.skips.read_text().splitlines():
        pattern = line.split("#")[0].strip()
        if pattern:
            allowed.append(re.compile(pattern))

    cases, flaky = [], []
    for path in sorted(arguments.results.glob("*.ctest.xml")):
        preset = path.name.removesuffix(".ctest.xml")
        first, again = read_entries(path), read_entries(arguments.results / f"{preset}.again.xml")
        cases.extend(read_preset(preset, {**first, **again}, arguments.results / preset))
        run_twice = {name: first[name] for name in again if name in first}
        flaky.extend(read_preset(preset, run_twice, arguments.results / f"{preset}.first"))
    failed = [name for name, outcome, _ in cases if outcome == "failed"]
    skipped = [(name, reason) for name, outcome, reason in cases if outcome == "skipped"]
    unexpected = [name for name, _ in skipped if not any(pattern.search(name) for pattern in allowed)]

    flaky = [name for name, outcome, _ in flaky if outcome == "failed" and name not in failed]
    restarts = [restart for path in sorted(arguments.results.glob("*/*.xml")) for restart in read_restarts(path)]
    for name, why in restarts:
        print(f"the bed was started anew in {name}: {why}")
    for name, reason in skipped:
        print(f"skipped {name}: {reason or 'no reason given'}")
    for name in unexpected:
        print(f"FAILED {name}: skipped, and tests/skips.txt does not expect that")
    for name in failed:
        print(f"FAILED {name}")
    for name in flaky:
        print(f"FLAKY {name}: failed, and passed when it was run once more")
    if flaky:
        print(f"{len(flaky)} flaky: each is a fault to be found")
    passed = len(cases) - len(failed) - len(skipped)
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    sys.exit(1 if failed or unexpected or not cases else 0)


if __name__ == "__main__":
    main()
