"""Measure several functions in turn in one run, and print a table with the ratios of their times."""

from __future__ import annotations

import platform
import re
import statistics
import time
from pathlib import Path
from typing import Callable, Dict, List, Sequence

import numpy as np

from insightface_mx.base.compat import mx
from insightface_mx.base.machine import cpu_count

Subjects = Dict[str, Callable[[], object]]  # name in the table -> what is measured
Seconds = Dict[str, List[float]]  # name in the table -> seconds of each round

HEADINGS = ("ms, median (least-most)", "images/s", "times as fast as the first, median (least-most)")
WARM_UP = 2  # rounds that are not counted: MXNet reserves memory and chooses layouts in them


def measure(subjects: Subjects, repeats: int) -> Seconds:
    """Return the seconds of every subject in `repeats` rounds, after two rounds to warm up."""
    seconds: Seconds = {name: [] for name in subjects}
    for _ in range(repeats + WARM_UP):
        for name, run in subjects.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: values[WARM_UP:] for name, values in seconds.items()}


def print_headings(*names: str, headings: Sequence[str] = HEADINGS) -> None:
    """Print the head of a table whose first columns are `names`."""
    print("|", " | ".join((*names, *headings)), "|")
    print("|" + "---|" * len(names) + "--:|" * len(headings))


def print_rows(names: Sequence[str], seconds: Seconds, images: int | None = None) -> None:
    """Print a row for every subject.

    Args:
        names: Text of the first columns, the same in all rows.
        seconds: What `measure` returned.
        images: Images in one call of a subject; None: no column of images/s.

    The ratios are of times of the same round, so that a disturbance of a whole round does not count.
    """
    first = next(iter(seconds.values()))
    for name, values in seconds.items():
        ratios = [base / value for base, value in zip(first, values)]
        rate = [] if images is None else [f"{images / statistics.median(values):.1f}"]
        print("|", " | ".join((*names, name, _range(values, 1000, 1), *rate, _range(ratios, 1, 2))), "|", flush=True)


def print_machine(*more: str) -> None:
    """Print one line with the CPUs and versions; more: further 'name version'."""
    try:
        model = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        model = None
    cpu = model.group(1) if model else platform.processor() or platform.machine()
    versions = f"Python {platform.python_version()}", f"mxnet {mx.__version__}", f"numpy {np.__version__}", *more
    print(f"\n{cpu_count()} x {cpu}; {', '.join(versions)}")


def _range(values: list[float], factor: float, digits: int) -> str:
    least, middle, most = factor * min(values), factor * statistics.median(values), factor * max(values)
    return f"{middle:.{digits}f} ({least:.{digits}f}-{most:.{digits}f})"
