#!/usr/bin/env python3
"""usage: run_pytest.py NAME FILE: one pytest file as one ctest entry; its results also go to $HULL_TEST_RESULTS."""

import os
import pathlib
import sys

name, file = sys.argv[1:3]
tests = pathlib.Path(__file__).resolve().parent
arguments = ["-q", "-ra", "--tb=short", "-p", "no:cacheprovider", "-c", str(tests / "pytest.ini")]
results = os.environ.get("HULL_TEST_RESULTS")
if results:
    arguments += ["--junitxml", os.path.join(results, f"{name}.xml")]
os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments, *sys.argv[3:], file])
