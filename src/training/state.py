"""Training states on disk: PREFIX-state-N.params and its manifest PREFIX-state-N.json, all that a run needs to resume.

The .params file holds every array in MXNet's format; the manifest, which is written last, holds everything else. N
counts the saves. The two newest states are kept, so that one of them is complete at every moment.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
from typing import Any, Collection, Dict, Iterable, NamedTuple

from insightface_mx.base.compat import Params
from insightface_mx.base.errors import UserError, shorten
from insightface_mx.base.limits import MAX_COUNT
from insightface_mx.files import atomic, manifest
from insightface_mx.formats import checkpoint

Metadata = Dict[str, Any]  # of a run, in JSON's types

# whole numbers in the metadata
_COUNTS = (
    *("seed", "batch_size", "images", "bytes", "contexts"),
    *("step", "epoch", "batch", "rewinds", "updates"),
)
_TESTS = {"count", "best", "best_number", "saved", "saved_step"}  # what EvaluateAndSave.state returns


class State(NamedTuple):
    """A saved state: N, the manifest's metadata, and the arrays in CPU memory; see `newest` for those by rows."""

    number: int
    metadata: Metadata
    arrays: Params


def exists(prefix: str) -> bool:
    """Return whether anything was saved under a prefix, complete or not."""
    return bool(_numbers(prefix))


def newest(prefix: str, by_rows: Collection[str] = ()) -> State | None:
    """Return the newest complete state under a prefix, None if none was ever saved.

    A damaged state is skipped with a warning.

    Args:
        prefix: Of the run.
        by_rows: Names of arrays that stay in the file, as memory maps of numpy.

    Raises:
        UserError: All states are damaged.
    """
    problems = []
    for number in reversed(_numbers(prefix)):
        state, problem = _load(prefix, number, by_rows)
        if state:
            return state
        logging.warning("skipped a damaged training state: %s", problem)
        problems.append(problem)
    if problems:
        raise UserError(
            f"--resume: no training state under {prefix} is complete ({'; '.join(problems)}). Start from a checkpoint "
            f"with --pretrained, or remove {prefix}-state-* to start from scratch"
        )
    return None


def _load(prefix: str, number: int, by_rows: Collection[str]) -> tuple[State | None, str]:
    """Return a state and '', or None and what is wrong with it."""
    try:
        metadata = manifest.read(_manifest_path(prefix, number))
        problem = _problem(metadata)
        if problem:
            return None, f"{_manifest_path(prefix, number)}: {problem}"
        path = _arrays_path(prefix, number)
        arrays = checkpoint.load_small_arrays(path, by_rows) if by_rows else checkpoint.load_arrays(path)
        return State(number, metadata, arrays), ""
    except (manifest.Damaged, UserError) as error:
        return None, str(error)


def _problem(metadata: Metadata) -> str:
    """Return what is wrong with the metadata of a state, '' if nothing is."""
    tests = metadata.get("tests")
    if not isinstance(tests, dict) or set(tests) != _TESTS or not isinstance(tests["saved"], list):
        return "it does not say which tests there were"
    counts = {name: metadata.get(name) for name in _COUNTS}
    counts.update({"count": tests["count"]}, **{f"saved {i}": number for i, number in enumerate(tests["saved"])})
    counts.update((name, tests[name]) for name in ("best_number", "saved_step") if tests[name] is not None)
    if metadata.get("classes", 0) is not None:  # triplets have none
        counts["classes"] = metadata.get("classes")
    for name, value in counts.items():
        if type(value) is not int or not 0 <= value <= MAX_COUNT:
            return f"'{name}' is {shorten(value)}, not a whole number of 0 or more"
    if not metadata["batch_size"] or not isinstance(metadata.get("command"), str):
        return "it does not say which command saved it, with which batches"
    if not isinstance(metadata.get("options"), dict):
        return "it does not say which options the run had"
    best = tests["best"]
    if not isinstance(best, list) or len(best) != 2 or not all(map(_is_finite, best)):
        return f"the best accuracies are {shorten(best)}, not two numbers"
    return ""


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def save(prefix: str, metadata: Metadata, arrays: Params, previous: int | None) -> int:
    """Save a state; afterwards only it and state number `previous` (None: it alone) are there.

    Returns:
        The number of the state.

    Raises:
        UserError: The folder cannot be written; earlier states are untouched.
    """
    number = max(_numbers(prefix), default=0) + 1
    path = _arrays_path(prefix, number)
    with atomic.report_write_errors(path):
        checkpoint.save_arrays(path, arrays)
        manifest.write(_manifest_path(prefix, number), [path], metadata)
        _remove_others(prefix, {number, previous})
    return number


def remove_leftovers(prefix: str) -> None:
    """Remove the temporary files that a killed run left under a prefix."""
    outputs = rf"{re.escape(os.path.basename(prefix))}-(symbol|config|\d+|state-\d+)\.(json|params)"
    with atomic.report_write_errors(prefix):
        atomic.remove_leftovers(os.path.dirname(prefix) or ".", outputs)


def _remove_others(prefix: str, numbers: Iterable[int | None]) -> None:
    """Remove all states but those with these numbers."""
    name = os.path.basename(prefix)
    kept = {f"{name}-state-{number}.{kind}" for number in numbers for kind in ("json", "params")}
    pattern = re.compile(rf"{re.escape(name)}-state-\d+\.(json|params)")
    others = [file for file in _files(prefix) if pattern.fullmatch(file) and file not in kept]
    _remove(prefix, sorted(others))  # .json before .params: a manifest without its file would look like damage


def _remove(prefix: str, names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(os.path.dirname(prefix), name))


def _files(prefix: str) -> list[str]:
    folder = os.path.dirname(prefix) or "."
    return os.listdir(folder) if os.path.isdir(folder) else []


def _numbers(prefix: str) -> list[int]:
    return checkpoint.find_ids(prefix, r"-state-(\d+)\.json") if os.path.isdir(os.path.dirname(prefix) or ".") else []


def _arrays_path(prefix: str, number: int) -> str:
    return f"{prefix}-state-{number}.params"


def _manifest_path(prefix: str, number: int) -> str:
    return f"{prefix}-state-{number}.json"
