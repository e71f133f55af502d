"""Say what a run would do, after five of its batches, and write nothing: --dry-run."""

from __future__ import annotations

import copy
import datetime
import itertools
import math
import os
import time
from typing import Callable, Sequence

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.base.machine import resident_bytes
from insightface_mx.cli.output import say
from insightface_mx.training.batches import ImageIterator, Observer
from insightface_mx.training.run import Run

MIB = 2**20
BATCHES = 5  # that are measured, after one more
COLUMNS, ROWS = 60, 8  # of the plot
RANGE = 1000.0  # of the plot: smaller rates are drawn in its last row
CLASS_WEIGHTS = "fc7"  # begins their names
LINE = "{:<9} {}"


def report(
    run: Run,
    network: str,
    embedding: Symbol,
    images: ImageIterator,
    classes: int | None,
    targets: str,
    observers: Sequence[Observer] = (),
) -> None:
    """Print what a run would do; its parameters in memory are trained by a few batches, files are not touched.

    Args:
        run: The run, which was started and has done nothing yet.
        network: The network's name.
        embedding: Its symbol.
        images: The images of the run.
        classes: Their number; None where the loss knows none.
        targets: Paths of the verification sets, separated by commas.
        observers: Those of the run, called at every batch.
    """
    source, first = run.source, run.step
    for line in (*_network_lines(run, network, embedding), *_data_lines(images, classes, source.batches_per_epoch)):
        say(line)
    last = None if run.batches_expected is None else first + run.batches_expected
    rate = copy.deepcopy(run.optimizer.lr_scheduler)
    end = last if last is not None else max(first + 1, int(1.2 * _last_step(rate)))
    say(LINE.format("rate", f"over batches {first + 1} to {end}:"))
    for line in plot(rate, first + 1, end):
        say(line)
    say(LINE.format("tests", _tests(targets, run.options.verbose)))
    seconds, measured = _seconds_per_batch(run, observers)
    epoch = seconds * source.batches_per_epoch
    say(LINE.format("time", f"{seconds:.3g} s a batch ({measured} measured), {_clock(epoch)} an epoch, without tests"))
    say(LINE.format("memory", f"{resident_bytes() / MIB:.0f} MiB taken by this process after these batches"))
    if last is None:
        say(LINE.format("end", "nothing ends the run: give --end-epoch or --max-steps, or stop it with Ctrl-C"))
    else:
        say(LINE.format("end", f"after batch {last}, in about {_clock(seconds * (last - first))}"))
    say("this was --dry-run: nothing was written")


def _network_lines(run: Run, network: str, embedding: Symbol) -> list[str]:
    parameters, _ = run.model.get_params()
    of_classes = sum(array.size for name, array in parameters.items() if name.startswith(CLASS_WEIGHTS))
    others = sum(array.size for array in parameters.values()) - of_classes
    _, ((_, *length),), _ = embedding.infer_shape(data=run.model.data_shapes[0].shape)
    more = f", {of_classes:,} class weights" if of_classes else ""
    return [
        LINE.format("network", f"{network}: {others:,} parameters, embeddings of {math.prod(length)} numbers{more}")
    ]


def _data_lines(images: ImageIterator, classes: int | None, batches: int) -> list[str]:
    of_classes = "" if classes is None else f"{classes:,} classes, "
    return [
        LINE.format("images", f"{images.records.path}: {of_classes}{len(images.images):,} images"),
        LINE.format("batches", f"{images.batch_size} images a batch, {batches:,} batches an epoch"),
    ]


def _last_step(rate: Callable[[int], float]) -> int:
    """Return the last batch at which a schedule changes the rate."""
    steps = getattr(rate, "step", None)
    return int(steps[-1]) if steps else int(rate.max_update)  # type: ignore[attr-defined]


def _tests(targets: str, every: int) -> str:
    paths = [path for path in targets.split(",") if path]
    found = [path for path in paths if os.path.exists(path)]
    missing = [path for path in paths if path not in found]
    skipped = f"; no such file: {', '.join(missing)}" if missing else ""
    return (f"{', '.join(found)}, every {every} batches" if found else "none") + skipped


def _seconds_per_batch(run: Run, observers: Sequence[Observer]) -> tuple[float, int]:
    """Train one batch, then measure the next ones; return their mean time and how many there were."""
    begin, done = time.perf_counter(), 0
    for batch in itertools.islice(run.batches(), BATCHES + 1):
        for observer in observers:
            observer.before_batch(run.step, batch, run.model)
        run.model.forward_backward(batch)
        run.model.update()
        mx.nd.waitall()
        done += 1
        if done == 1:
            first, begin = time.perf_counter() - begin, time.perf_counter()
    if done < 2:
        return (first if done else 0.0), done
    return (time.perf_counter() - begin) / (done - 1), done - 1


def _clock(seconds: float) -> str:
    """Return a time as 3:25:07, with days where there are some; below a minute as 12.3 s."""
    return f"{seconds:.1f} s" if seconds < 60 else str(datetime.timedelta(seconds=round(seconds)))


def plot(rate: Callable[[int], float], first: int, last: int) -> list[str]:
    """Draw the learning rate over the batches, its logarithm upwards.

    Args:
        rate: Function from batch to learning rate, called for rising batches.
        first: The first batch.
        last: The last batch.
    """
    columns = min(COLUMNS, last - first + 1)
    batches = [first + (last - first) * column // max(1, columns - 1) for column in range(columns)]
    rates = [rate(batch) for batch in batches]
    top = max(rates)
    if top <= 0:
        return [f"{0:>9g} | {'*' * columns}"]
    bottom = max(min(rates), top / RANGE)
    span = math.log(top / bottom) or 1.0
    rows = [round(math.log(top / max(value, bottom)) / span * (ROWS - 1)) for value in rates]
    lines = []
    for row in range(max(rows) + 1):
        label = top * math.exp(-span * row / (ROWS - 1))
        drawn = "".join("*" if row == at else " " for at in rows)
        lines.append(f"{label:>9.3g} | {drawn}".rstrip())
    return lines
