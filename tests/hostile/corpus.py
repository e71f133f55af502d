"""All groups of cases, and the part of them that every test run takes."""

from __future__ import annotations

import re
from collections import Counter
from typing import Sequence

from hostile import (
    caches,
    calibration,
    checkpoints,
    chunks,
    evaluation_files,
    images,
    lists,
    onnx_files,
    options,
    reports,
    states,
    training_sets,
    verification,
    weights,
)
from hostile.rule import Case, Group

GROUPS: list[Group] = [
    group
    for module in (
        images,
        verification,
        training_sets,
        lists,
        checkpoints,
        states,
        calibration,
        chunks,
        caches,
        onnx_files,
        options,
        reports,
        weights,
        evaluation_files,
    )
    for group in module.GROUPS
]
LEAST_CASES = 7000  # the number in SECURITY.md
EVERY = 40  # in `make test`: every 40th case, and some of each number
OF_A_NUMBER = 3

# Known failures of earlier versions have numbers; h01, h02 ... begin the names of their cases. Those of processes,
# outputs and streams are tested elsewhere: number -> file and test.
ELSEWHERE: dict[int, tuple[str, str]] = {
    5: ("files/test_lock.py", "test_a_second_process_is_told_who_writes"),
    6: ("files/test_lock.py", "test_a_second_process_is_told_who_writes"),
    8: ("cli/test_output.py", "test_standard_output_that_cannot_be_written"),
    9: ("training/test_progress.py", "test_tensorboard_on_a_full_disk_ends_with_one_warning"),
    21: ("files/test_atomic.py", "test_a_link_in_the_place_of_the_temporary_file_is_not_followed"),
    24: ("files/test_atomic.py", "test_what_a_killed_process_left_is_removed_and_what_another_one_writes_is_not"),
    33: ("cli/test_signals.py", "test_one_line_and_the_status_of_a_shell"),
}


def number_of(case: str) -> int | None:
    """Return the number of a known failure that a case's name begins with."""
    match = re.match(r"h(\d\d) ", case)
    return int(match[1]) if match else None


def chosen(cases: Sequence[Case], every: int) -> list[Case]:
    """Return every N-th case, and the first ones of each number."""
    if every == 1:
        return list(cases)
    seen: Counter[int | None] = Counter()
    result = []
    for index, case in enumerate(cases):
        number = number_of(case.name)
        seen[number] += 1
        if index % every == 0 or (number is not None and seen[number] <= OF_A_NUMBER):
            result.append(case)
    return result
