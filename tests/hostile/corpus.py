"""All groups of cases, and the part of them that every test run takes."""

from __future__ import annotations

import re
from typing import Sequence

from hostile import (
    caches,
    calibration,
    checkpoints,
    chunks,
    images,
    lists,
    onnx_files,
    options,
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
        calibration,
        chunks,
        caches,
        onnx_files,
        options,
        weights,
    )
    for group in module.GROUPS
]
LEAST_CASES = 1500
EVERY = 10  # in `make test`: every tenth case, and those with an h number

# Known failures of earlier versions have numbers; h01, h02 ... begin the names of their cases. Those of processes
# are tested where the processes are: number -> the test.
ELSEWHERE: dict[int, str] = {}


def chosen(cases: Sequence[Case], every: int) -> list[Case]:
    """Return every N-th case, and all whose names begin with an h number: known failures of earlier versions."""
    return [case for index, case in enumerate(cases) if index % every == 0 or re.match(r"h\d\d ", case.name)]
