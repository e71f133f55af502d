"""The corpus of hostile and broken files: every case holds. `make test` takes a part of it, `make test-hostile` all."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hostile.corpus import ELSEWHERE, EVERY, GROUPS, LEAST_CASES

TESTS = Path(__file__).parents[1]


def run_group(name: str, every: int) -> tuple[int, dict[str, list[str]]]:
    """Hold a group against the rule in a process of its own; returns the count of cases, and those that failed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "hostile", name, "--every", str(every)]
    done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    return result["cases"][name], result["failed"]


def assert_all_hold(failed: dict[str, list[str]]) -> None:
    lines = [f"{name}: {'; '.join(problems)}" for name, problems in failed.items()]
    assert not lines, f"{len(lines)} cases do not hold:\n" + "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("name", [group.name for group in GROUPS])
def test_a_part_holds(name):
    count, failed = run_group(name, EVERY)
    assert count > 0
    assert_all_hold(failed)


@pytest.mark.slow
@pytest.mark.hostile
@pytest.mark.parametrize("name", [group.name for group in GROUPS])
def test_all_hold(name):
    _, failed = run_group(name, 1)
    assert_all_hold(failed)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Names of all cases, by group."""
    command = [sys.executable, "-m", "hostile", "--list"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
    done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_corpus_is_large_and_has_every_known_failure(names):
    assert sum(map(len, names.values())) >= LEAST_CASES >= 1500
    known = {
        int(match[1]) for cases in names.values() for case in cases for match in [re.match(r"h(\d\d) ", case)] if match
    }
    assert known | set(ELSEWHERE) == set(range(1, 35))
    assert not known & set(ELSEWHERE)
