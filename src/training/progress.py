"""What a run shows: a progress bar on a terminal, plain lines elsewhere, a log file, TensorBoard."""

import contextlib
import logging
import os
import sys

import tensorboardX
from tqdm import tqdm

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError

FREQUENT = 20  # batches between two lines


class _Console(logging.Handler):
    """Writes messages to standard output without tearing a progress bar."""

    def emit(self, record):
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


class _File(logging.FileHandler):
    """A log file that is given up, with one warning elsewhere, when it cannot be written any more: a full disk."""

    def handleError(self, record):
        problem = sys.exc_info()[1]
        if not isinstance(problem, OSError):
            super().handleError(record)
            return
        logging.getLogger().removeHandler(self)
        with contextlib.suppress(OSError):  # what it still holds cannot be written either
            self.close()
        logging.warning("%s ends here: it cannot be written any more (%s)", self.baseFilename, problem)


def start_logging(prefix):
    """Send log messages to standard output and, with the time, to PREFIX.log."""
    path = f"{prefix}.log"
    try:
        os.makedirs(os.path.dirname(prefix) or ".", exist_ok=True)
        file = _File(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another --prefix") from error
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    console = _Console()
    console.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[console, file], force=True)


class Progress:
    """Called after every batch: the bar, a line every 20 batches, one an epoch, and TensorBoard scalars.

    data: the FaceImageIter. total: batches of the whole run. tensorboard: folder for event files, or ''.
    """

    def __init__(self, data, total, tensorboard=""):
        self._data = data
        self._speedometer = mx.callback.Speedometer(data.batch_size, FREQUENT)
        self._bar = tqdm(total=total, unit="img", unit_scale=data.batch_size, disable=not sys.stderr.isatty())
        self._writer = tensorboardX.SummaryWriter(tensorboard) if tensorboard else None
        self._lr = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()
        if self._writer:
            self._writer.close()

    def batch(self, step, metric, lr):
        """Show batch `step`, counted from 1, at learning rate `lr`."""
        epoch, nbatch = self._data.epoch, self._data.batch
        values = dict(metric.get_name_value())
        self._bar.set_postfix(epoch=epoch, **{name: f"{value:.3f}" for name, value in values.items()}, refresh=False)
        self._bar.update()
        if lr != self._lr:
            logging.info("batch %d: learning rate %g", step, lr)
            self._lr = lr
        if step % FREQUENT == 0:
            self.scalars(step, {"lr": lr, **values})
        self._speedometer(mx.model.BatchEndParam(epoch=epoch, nbatch=nbatch, eval_metric=metric, locals=None))
        if nbatch == self._data.batches_per_epoch:
            for name, value in metric.get_global_name_value():
                logging.info("Epoch[%d] Train-%s=%f", epoch, name, value)
            metric.reset()

    def scalars(self, step, values):
        """Write named numbers to TensorBoard, if that is asked for."""
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
