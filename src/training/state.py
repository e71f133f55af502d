"""What a training run needs to go on later, on disk: PREFIX-state-N.params and its manifest PREFIX-state-N.json.

The .params file holds every array, in MXNet's format; the manifest, which is written last, everything else. N counts
the saves. The two newest are kept, so that at every moment one of them is whole.
"""

import contextlib
import logging
import os
import re
from typing import Dict, NamedTuple

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.formats import atomic, checkpoint, manifest


class State(NamedTuple):
    """A saved state: its number, the manifest's facts, and a dict name -> NDArray at the processor."""

    number: int
    facts: Dict[str, object]
    arrays: Dict[str, mx.nd.NDArray]


def exists(prefix):
    """Whether anything was saved under a prefix, whole or not."""
    return bool(_numbers(prefix))


def newest(prefix):
    """The newest State under a prefix that is whole, None where none was ever saved.

    Damaged ones are passed over with a warning. Raises UserError where all are damaged.
    """
    problems = []
    for number in reversed(_numbers(prefix)):
        state, problem = _load(prefix, number)
        if state:
            return state
        logging.warning("passed over a damaged training state: %s", problem)
        problems.append(problem)
    if problems:
        raise UserError(
            f"--resume: no training state under {prefix} is whole ({'; '.join(problems)}). Start from a checkpoint "
            f"with --pretrained, or remove {prefix}-state-* to start anew"
        )
    return None


def _load(prefix, number):
    """A State and '', or None and what is wrong with it."""
    try:
        facts = manifest.read(_manifest_path(prefix, number))
        return State(number, facts, checkpoint.load_arrays(_arrays_path(prefix, number))), ""
    except (manifest.Damaged, UserError) as error:
        return None, str(error)


def save(prefix, facts, arrays, previous):
    """Save a state and return its number; afterwards only it and state number `previous` (None: it alone) are there.

    Raises UserError, with what was saved before untouched, when the folder cannot be written.
    """
    number = max(_numbers(prefix), default=0) + 1
    path = _arrays_path(prefix, number)
    with atomic.report_write_errors(path):
        checkpoint.save_arrays(path, arrays)
        manifest.write(_manifest_path(prefix, number), [path], facts)
        _remove_others(prefix, {number, previous})
    return number


def remove_leftovers(prefix):
    """Remove the temporary files that a killed run left under a prefix."""
    pattern = re.compile(rf"{re.escape(os.path.basename(prefix))}-(symbol|\d+|state-\d+)\.(json|params)\.tmp\d+")
    with atomic.report_write_errors(prefix):
        _remove(prefix, [name for name in _files(prefix) if pattern.fullmatch(name)])


def _remove_others(prefix, numbers):
    name = os.path.basename(prefix)
    kept = {f"{name}-state-{number}.{kind}" for number in numbers for kind in ("json", "params")}
    pattern = re.compile(rf"{re.escape(name)}-state-\d+\.(json|params)")
    others = [file for file in _files(prefix) if pattern.fullmatch(file) and file not in kept]
    _remove(prefix, sorted(others))  # .json before .params: a manifest without its file would look like damage


def _remove(prefix, names):
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(os.path.dirname(prefix), name))


def _files(prefix):
    folder = os.path.dirname(prefix) or "."
    return os.listdir(folder) if os.path.isdir(folder) else []


def _numbers(prefix):
    return checkpoint.find_ids(prefix, r"-state-(\d+)\.json") if os.path.isdir(os.path.dirname(prefix) or ".") else []


def _arrays_path(prefix, number):
    return f"{prefix}-state-{number}.params"


def _manifest_path(prefix, number):
    return f"{prefix}-state-{number}.json"
