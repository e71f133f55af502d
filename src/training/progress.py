"""Show how a run goes: a progress bar on a terminal, lines elsewhere, a log file, and TensorBoard."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import sys
import time
from typing import Any, Iterator, Mapping, Sequence

from tqdm import tqdm

from insightface_mx.base.compat import MXNet, mx
from insightface_mx.base.errors import UserError
from insightface_mx.cli import output
from insightface_mx.training.report_page import ReportPage

FREQUENT = 20  # batches between two lines
_NEVER = logging.CRITICAL + 1  # a level that no message has
_RATE_CHANGE = 0.49  # of the learning rate that is shown: of less, as in a warm-up, no line


class _LogFile(logging.FileHandler):
    """A log file that ends, with one warning elsewhere, when it cannot be written any more: on a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:
        problem = sys.exc_info()[1]
        if not isinstance(problem, OSError):
            super().handleError(record)
            return
        self.setLevel(_NEVER)  # removed while a message is handed round, it would keep it from the next handler
        with contextlib.suppress(OSError):  # what it still holds cannot be written either
            self.close()
        logging.warning("%s ends here: it cannot be written any more (%s)", self.baseFilename, problem)


def start_logging(prefix: str) -> None:
    """Send log messages to standard output and, with the time, to PREFIX.log.

    Raises:
        UserError: The log file cannot be written.
    """
    path = f"{prefix}.log"
    try:
        os.makedirs(os.path.dirname(prefix) or ".", exist_ok=True)
        file = _LogFile(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another --prefix") from error
    file.setFormatter(output.LogFormatter("%(asctime)s %(message)s"))
    output.start_logging(file)


class _EventFile:
    """TensorBoard's event file, which ends with one warning when it cannot be written.

    The writer of tensorboardX has a thread, which dies on a full disk, and then waits for it for ever: this one has
    none.
    """

    def __init__(self, folder: str) -> None:
        from tensorboardX.record_writer import RecordWriter  # takes a second to import

        self._folder = folder
        self._file: Any = None
        with self._end_on_errors():
            os.makedirs(folder, exist_ok=True)
            name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
            self._file = RecordWriter(os.path.join(folder, name))
        self._write([{"file_version": "brain.Event:2"}])

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write named values."""
        from tensorboardX.summary import scalar

        self._write([{"step": step, "summary": scalar(name, value)} for name, value in values.items()])

    def close(self) -> None:
        """Close the file."""
        with self._end_on_errors():
            if self._file:
                self._file.close()

    def _write(self, events: Sequence[Mapping[str, Any]]) -> None:
        from tensorboardX.proto.event_pb2 import Event

        with self._end_on_errors():
            if self._file:
                for event in events:
                    self._file.write(Event(wall_time=time.time(), **event).SerializeToString())
                self._file.flush()

    @contextlib.contextmanager
    def _end_on_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            logging.warning("--tensorboard: %s ends here: it cannot be written (%s)", self._folder, error.strerror)
            with contextlib.suppress(OSError):  # what it still holds cannot be written either
                if self._file:
                    self._file.close()
            self._file = None


class Progress:
    """Shows every batch: the bar, a line every 20 batches, one line an epoch, TensorBoard scalars, and the page.

    Use it in a `with` block, which closes the bar, the event file and the page.
    """

    def __init__(
        self, data: MXNet, total: int | None, tensorboard: str = "", report_page: ReportPage | None = None
    ) -> None:
        """Open the bar and the event file.

        Args:
            data: Where the run is: epoch, batch, batches_per_epoch and batch_size, as FaceImageIter has them.
            total: Batches until the end of the run, None if unknown.
            tensorboard: Folder for event files, '' for none.
            report_page: The page of the run, None for none.
        """
        self._data, self._page = data, report_page
        self._speedometer = mx.callback.Speedometer(data.batch_size, FREQUENT)
        self._bar = tqdm(total=total, unit="img", unit_scale=data.batch_size, disable=not sys.stderr.isatty())
        self._events = _EventFile(tensorboard) if tensorboard else None
        self._shown_lr = self._lr = math.nan  # the last one that was logged, and that of the last batch
        self._newest: dict[str, float] = {}

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._events:
            self._events.close()
        if self._page:
            self._page.close()

    def batch(self, step: int, metric: MXNet, lr: float) -> None:
        """Show batch `step`, counted from 1, with the metric so far and the learning rate `lr`.

        The metric's local values start again with every line; the caller resets it at the end of an epoch.
        """
        epoch, nbatch = self._data.epoch, self._data.batch
        values = self._newest = dict(metric.get_name_value())
        self._bar.set_postfix(epoch=epoch, **{name: f"{value:.3f}" for name, value in values.items()}, refresh=False)
        self._bar.update()
        self._show_rate(step, lr)
        if step % FREQUENT == 0:
            self._write_events(step, {"lr": lr, **values})
            if self._page:
                self._page.line(values)
        self._speedometer(mx.model.BatchEndParam(epoch=epoch, nbatch=nbatch, eval_metric=metric, locals=None))
        if nbatch == self._data.batches_per_epoch:
            for name, value in metric.get_global_name_value():
                logging.info("Epoch[%d] Train-%s=%f", epoch, name, value)
        if self._page:
            self._page.trained()

    def _show_rate(self, step: int, lr: float) -> None:
        """Log the learning rate where it changes by about half or more, and where it stays after a rise or fall."""
        stays, changed = lr == self._lr, not abs(lr - self._shown_lr) < _RATE_CHANGE * self._shown_lr
        self._lr = lr
        if changed or (stays and lr != self._shown_lr):
            logging.info("batch %d: learning rate %g", step, lr)
            self._shown_lr = lr

    def tested(self, step: int, values: Mapping[str, float]) -> None:
        """Show the metrics of a test by name, in TensorBoard and on the page; none: there was no test."""
        self._write_events(step, values)
        if self._page and values:
            self._page.tested(step, self._newest, self._lr, values)

    def _write_events(self, step: int, values: Mapping[str, float]) -> None:
        if self._events:
            self._events.write(step, values)
