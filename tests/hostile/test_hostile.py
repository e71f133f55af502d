"""The corpus of hostile and broken files: every case holds. `make test` takes a part of it, `make test-hostile` all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hostile.corpus import ELSEWHERE, EVERY, GROUPS, LEAST_CASES, number_of

TESTS = Path(__file__).parents[1]


def run_corpus(*words: object) -> dict[str, Any]:
    """Run `python -m hostile` with these words: in a process that has used neither MXNet nor threads, as it forks."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "hostile", *map(str, words)]
    done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def assert_all_hold(group: str, every: int) -> None:
    result = run_corpus(group, "--every", every)
    assert result["cases"][group] > 0
    lines = [f"{name}: {'; '.join(problems)}" for name, problems in result["failed"].items()]
    assert not lines, f"{len(lines)} cases do not hold:\n" + "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("group", [group.name for group in GROUPS])
def test_a_part_holds(group):
    assert_all_hold(group, EVERY)


@pytest.mark.slow
@pytest.mark.hostile
@pytest.mark.parametrize("group", [group.name for group in GROUPS])
def test_all_hold(group):
    assert_all_hold(group, 1)


@pytest.fixture(scope="module")
def names():
    """Names of all cases, by group."""
    return run_corpus("--list")


@pytest.mark.slow
@pytest.mark.hostile
def test_the_corpus_is_as_large_as_the_security_page_says(names):
    assert sum(map(len, names.values())) >= LEAST_CASES >= 1500
    assert f"makes more than {LEAST_CASES:,} hostile" in (TESTS.parent / "SECURITY.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.hostile
def test_every_known_failure_has_a_case_or_a_test(names):
    numbers = {number_of(case) for cases in names.values() for case in cases} - {None}
    assert numbers | set(ELSEWHERE) == set(range(1, 35))
    assert not numbers & set(ELSEWHERE)


@pytest.mark.parametrize(("path", "test"), ELSEWHERE.values())
def test_the_tests_elsewhere_exist(path, test):
    assert f"def {test}(" in (TESTS / path).read_text(encoding="utf-8")
