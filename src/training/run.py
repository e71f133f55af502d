"""A training run from its first batch to its last, across interruptions: what it counts, saves and restores."""

import copy
import logging

import numpy as np

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.engine import module_state
from insightface_mx.training import schedule
from insightface_mx.training import state as training_state
from insightface_mx.training.evaluate_and_save import NEVER
from insightface_mx.training.interrupt import Interruption
from insightface_mx.training.nan_guard import REWIND


def find_saved(args):
    """The state that --resume goes on from, its seed taken over where none is given; None to start from scratch."""
    training_state.remove_leftovers(args.prefix)
    if not args.resume:
        if training_state.exists(args.prefix):
            logging.warning(
                "%s-state-*: an earlier run's, which this run's first save replaces (see --resume)", args.prefix
            )
        return None
    saved = training_state.newest(args.prefix)
    if saved is None:
        logging.info("--resume: no training state under %s yet, starting from scratch", args.prefix)
    elif args.seed is None:
        args.seed = saved.facts["seed"]
    return saved


class Run:
    """Counts a run's batches and keeps its state on disk.

    args: the command's options. facts: those of `agreed_facts`. module, optimizer: what is trained. source: where the
    batches come from, an `Epochs` or the like. tester: the TestAndSave. saved: the State to go on from, or None.
    Attributes: step, batches so far; saved_step, those that the newest saved state has seen, or None; signal, what
    ended the run early, or None.

    The learning rate and SphereFace's beta follow from the step, and so do all random numbers, from the seed, the step
    and how often the run was rewound: MXNet's own random state cannot be read.
    """

    def __init__(self, args, facts, module, optimizer, source, tester, saved=None):
        self.step, self.saved_step, self.signal = 0, None, None
        self._args, self._facts = args, facts
        self._module, self._optimizer, self._source, self._tester = module, optimizer, source, tester
        self._schedule = copy.deepcopy(optimizer.lr_scheduler)  # it changes as it is used
        self._rewinds, self._number = 0, None
        if saved:
            self._restore(saved)
            source.start(*self._position(saved.facts), saved.arrays, self._seed())
            logging.info("going on after batch %d, epoch %d, from %s-state", self.step, source.epoch, args.prefix)
        elif args.on_nan == REWIND:
            self.save()  # there must be something to go back to

        in_source = source.batches_left
        steps = schedule.lr_steps(args.lr_steps, facts["batch_size"], schedule.default_steps(args.loss_type))
        ends = [
            None if in_source is None else self.step + in_source,
            schedule.last_batch(args, args.max_steps, steps),
        ]
        self._last = min((end for end in ends if end is not None), default=None)

    @property
    def batches_left(self):
        """Batches until the run's end; None where it has none that could be told."""
        return None if self._last is None else max(0, self._last - self.step)

    @property
    def way_back(self):
        """Where the run can be taken up again, in words."""
        return "nothing is saved yet" if self.saved_step is None else f"--resume goes on after batch {self.saved_step}"

    def batches(self):
        """Batches until the run's end, or until none are left or a signal came; then saves.

        The state is also saved when --save-every says so, once the loop's body is done with a batch, and where images
        can no longer be read, which raises UserError.
        """
        with Interruption() as interruption:
            while self.batches_left != 0 and not interruption.signal:
                batch = self._next_batch()
                if batch is None:
                    break
                self.step += 1
                self._seed_batch()
                yield batch
                if self._args.save_every and self.step % self._args.save_every == 0:
                    self.save()
            self.signal = interruption.signal
            self._tester.finish(self.step, self._source.epoch)
            self.save()

    def save(self):
        """Save the state, unless it is saved or --ckpt 0 forbids it; then remove the checkpoints --keep leaves out."""
        if self._args.ckpt == NEVER or self.saved_step == self.step:
            return
        arrays = {**module_state.read(self._module), **self._source.arrays()}
        facts = {
            **self._facts,
            "step": self.step,
            "epoch": self._source.epoch,
            "batch": self._source.batch,
            "rewinds": self._rewinds,
            "updates": self._optimizer.num_update,
            "learning_rate": self._optimizer.learning_rate,
            "tests": self._tester.state(),
        }
        self._number = training_state.save(self._args.prefix, facts, arrays, self._number)
        self.saved_step = self.step
        logging.info("training state saved after batch %d", self.step)
        self._tester.prune(self._args.keep)

    def rewind(self):
        """Go back to the newest saved state, and from there on with other batches and random numbers."""
        saved = training_state.newest(self._args.prefix)
        if saved is None:
            raise UserError(f"--on-nan rewind: {self._args.prefix}-state-* was removed while the run went on")
        self._restore(saved)
        self._rewinds += 1
        self._source.divert(*self._position(saved.facts), self._seed())
        logging.warning("back to batch %d, to go on with other batches", self.step)

    def _restore(self, saved):
        facts = saved.facts
        optimizer = self._optimizer
        optimizer.lr_scheduler = copy.deepcopy(self._schedule)
        module_state.set_update_count(optimizer, facts["updates"])
        module_state.restore(self._module, optimizer, saved.arrays)
        self._tester.restore(facts["tests"])
        self.step = self.saved_step = facts["step"]
        self._rewinds, self._number = facts["rewinds"], saved.number

    def _position(self, facts):
        """Epoch and batch to go on from; with --override the batch may have another size, and so another number."""
        return facts["epoch"], facts["batch"] * facts["batch_size"] // self._facts["batch_size"]

    def _next_batch(self):
        try:
            return self._source.next()
        except UserError:
            self.save()
            raise
        except OSError as error:
            self.save()
            raise UserError(
                f"cannot read the images any more ({error.strerror}): make {self._args.data_dir} accessible again; "
                f"{self.way_back}"
            ) from error

    def _seed_batch(self):
        mx.random.seed(int(np.random.SeedSequence([self._seed(), self.step]).generate_state(1)[0] >> 1))

    def _seed(self):
        if not self._rewinds:
            return self._args.seed
        return int(np.random.SeedSequence([self._args.seed, self._rewinds]).generate_state(1)[0])


class Batches:
    """Where a run is in the batches of its FaceImageIter `data`."""

    def __init__(self, data):
        self._data = data

    @property
    def epoch(self):
        return self._data.epoch

    @property
    def batch(self):
        """Number of batches that were taken from the epoch."""
        return self._data.batch


class Epochs(Batches):
    """Batches of a FaceImageIter, epoch after epoch.

    epochs: after how many the run ends.
    """

    def __init__(self, data, epochs):
        super().__init__(data)
        self._epochs = epochs

    @property
    def batches_left(self):
        """Batches until the last epoch is done."""
        return (self._epochs - self.epoch) * self._data.batches_per_epoch - self.batch

    def next(self):
        """The next batch, of the next epoch where this one has ended."""
        try:
            return self._data.next()
        except StopIteration:
            self._data.reset()
            return self._data.next()

    def arrays(self):
        """What of the position has to be saved as arrays: nothing, it follows from the seed, epoch and batch."""
        return {}

    def start(self, epoch, batch, arrays, seed):
        """Go on behind `batch` batches of an epoch."""
        self._data.seed = seed
        self._data.start(epoch, batch)

    def divert(self, epoch, batch, seed):
        """Go on there in another order: some of the epoch's images come twice, others not at all."""
        self.start(epoch, batch, {}, seed)
