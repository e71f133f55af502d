"""What the benchmarks share: subjects measured in turn in one run, and a table of ratios of what was measured."""

import platform
import re
import statistics
import time
from pathlib import Path

import numpy as np

from insightface_mx.base.compat import cpu_count, mx

HEADINGS = ("ms, median (least-most)", "images/s", "times as fast as the first, median (least-most)")
WARM_UP = 2  # rounds that are not counted: memory is set aside and layouts are chosen in them


def measure(subjects, repeats):
    """Seconds of every subject, a dict name -> function without arguments, in `repeats` rounds after two to warm up."""
    seconds = {name: [] for name in subjects}
    for _ in range(repeats + WARM_UP):
        for name, run in subjects.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: values[WARM_UP:] for name, values in seconds.items()}


def print_headings(*names, headings=HEADINGS):
    """The head of a table whose first columns are `names`."""
    print("|", " | ".join((*names, *headings)), "|")
    print("|" + "---|" * len(names) + "--:|" * len(headings))


def print_rows(names, seconds, images=None):
    """A row for every subject of `seconds`, as `measure` returns them.

    names: what the first columns say, alike in all rows. images: how many one call of a subject takes; None: no column
    of images/s. The ratio is that of the times of one round, so that what slows a whole round down does not count.
    """
    first = next(iter(seconds.values()))
    for name, values in seconds.items():
        ratios = [base / value for base, value in zip(first, values)]
        rate = [] if images is None else [f"{images / statistics.median(values):.1f}"]
        print("|", " | ".join((*names, name, _range(values, 1000, 1), *rate, _range(ratios, 1, 2))), "|", flush=True)


def print_machine(*more):
    """One line: processors and versions; more: further 'name version's."""
    try:
        model = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        model = None
    processor = model.group(1) if model else platform.processor() or platform.machine()
    versions = f"Python {platform.python_version()}", f"mxnet {mx.__version__}", f"numpy {np.__version__}", *more
    print(f"\n{cpu_count()} x {processor}; {', '.join(versions)}")


def _range(values, factor, digits):
    least, middle, most = (factor * of(values) for of in (min, statistics.median, max))
    return f"{middle:.{digits}f} ({least:.{digits}f}-{most:.{digits}f})"
