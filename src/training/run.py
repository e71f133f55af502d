"""A training run from its first batch to its last, across interruptions: its counters, state and random numbers.

`begin` chooses the devices, finds the state to resume from, and sets the seed, in this order.
"""

from __future__ import annotations

import copy
import logging
import random
import secrets
from typing import Collection, Iterator, NamedTuple

import numpy as np

from insightface_mx.base.compat import Context, Module, MXNet, mx
from insightface_mx.base.errors import UserError
from insightface_mx.engine import module_state
from insightface_mx.engine.denormals import flush_in_threads
from insightface_mx.engine.devices import get_contexts
from insightface_mx.training import state as training_state
from insightface_mx.training.advice import unbounded
from insightface_mx.training.batches import BatchSource, DataBatch
from insightface_mx.training.evaluate_and_save import EvaluateAndSave
from insightface_mx.training.options import NEVER, REWIND, RunOptions
from insightface_mx.training.state import Metadata, State


class Start(NamedTuple):
    """What a run starts with.

    Attributes:
        contexts: Its devices.
        saved: The state that it continues from, or None.
        seed: The seed that is really used.
    """

    contexts: list[Context]
    saved: State | None
    seed: int


def begin(options: RunOptions, by_rows: Collection[str] = ()) -> Start:
    """Choose the devices of a run, find the state to resume from, and set the seed.

    The devices come first: MXNet's threads on a CPU keep the floating-point mode that they are started with. The saved
    state comes before the seed, because the seed may be stored in it.

    Args:
        options: The options of the run.
        by_rows: Arrays of the state that stay in its file: see `state.newest`.
    """
    contexts = get_contexts(options.ctx)
    flush_in_threads(contexts)
    saved = find_saved(options.prefix, bool(options.resume), by_rows)
    seed = choose_seed(options.seed, saved)
    set_seed(seed)
    return Start(contexts, saved, seed)


def find_saved(prefix: str, resume: bool, by_rows: Collection[str] = ()) -> State | None:
    """Return the state that --resume continues from, None to start from scratch.

    Without --resume, warn of the states of an earlier run, which the first save will replace.

    Args:
        prefix: Of the run.
        resume: Whether --resume is given.
        by_rows: See `begin`.
    """
    if resume:
        saved = training_state.newest(prefix, by_rows)
        if saved is None:
            logging.info("--resume: no training state under %s yet, starting from scratch", prefix)
        return saved
    if training_state.exists(prefix):
        logging.warning(
            "%s-state-*: states of an earlier run, which this run's first save replaces (see --resume)", prefix
        )
    return None


def choose_seed(seed: int | None, saved: State | None) -> int:
    """Return the seed of --seed, otherwise that of the saved run, otherwise a random one; log it."""
    if seed is None:
        seed = saved.metadata["seed"] if saved else secrets.randbelow(2**31)
    logging.info("seed %d", seed)
    return seed


def set_seed(seed: int) -> None:
    """Make every random number that is drawn from now on follow from a seed."""
    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)


class Run:
    """Counts a run's batches and keeps its state on disk; `training.loop.fit` drives it.

    The learning rate and SphereFace's beta follow from the step. All random numbers follow from the seed, the step and
    the number of rewinds, because MXNet's own random state cannot be read.

    Attributes:
        step: Batches so far.
        options: The options of the run.
        model: The bound Module.
        optimizer: Its optimizer.
        source: Where the batches come from.
        evaluator: What tests and saves checkpoints.
    """

    def __init__(
        self,
        options: RunOptions,
        metadata: Metadata,
        model: Module,
        optimizer: MXNet,
        source: BatchSource,
        evaluator: EvaluateAndSave,
        last_batch: int | None,
    ) -> None:
        """Prepare a run; `start` begins it.

        Args:
            options: The options of the run.
            metadata: As `resume_check.run_metadata` returns it.
            model: The bound Module in training.
            optimizer: Its optimizer.
            source: Where the batches come from.
            evaluator: What tests and saves checkpoints.
            last_batch: The batch at which --max-steps or the schedule ends the run, None for neither.
        """
        self.step = 0
        self.model, self.optimizer, self.source, self.evaluator = model, optimizer, source, evaluator
        self.options, self._metadata, self._last_batch = options, metadata, last_batch
        self._unbounded = unbounded(options, last_batch)
        self._schedule = copy.deepcopy(optimizer.lr_scheduler)  # it changes while it is used
        self._rewinds = 0
        self._saved_step: int | None = None  # batches that the newest saved state has seen
        self._saved_number: int | None = None

    def start(self, saved: State | None) -> None:
        """Continue from a saved state; without one, save at once if --on-nan rewind needs a state to return to."""
        if saved:
            self._restore(saved)
            self.source.start(*self._position(saved.metadata), saved.arrays, self._seed())
            logging.info(
                "going on after batch %d, epoch %d, from %s-state", self.step, self.source.epoch, self.options.prefix
            )
        elif self.options.on_nan == REWIND:
            self.save()
        left = self.source.batches_left
        if left is not None:
            end = self.step + left
            self._last_batch = end if self._last_batch is None else min(end, self._last_batch)

    @property
    def batches_left(self) -> int | None:
        """Batches until the run's end; None if unknown."""
        return None if self._last_batch is None else max(0, self._last_batch - self.step)

    @property
    def batches_expected(self) -> int | None:
        """Batches until an option ends the run; None if unknown, or if only the default of --end-epoch does."""
        return None if self._unbounded else self.batches_left

    @property
    def resume_hint(self) -> str:
        """Where the run can be resumed, in words."""
        step = self._saved_step
        return "nothing is saved yet" if step is None else f"--resume goes on after batch {step}"

    def batches(self) -> Iterator[DataBatch]:
        """Yield batches until the run's end, each with `step` counted up and MXNet's random numbers set.

        Raises:
            UserError: Images can no longer be read; the state is saved before.
        """
        while self.batches_left != 0:
            batch = self._next_batch()
            if batch is None:
                return
            self.step += 1
            mx.random.seed(_mixed(self._seed(), self.step) >> 1)
            yield batch

    def save_if_due(self) -> None:
        """Save the state if --save-every asks for it after this batch."""
        if self.options.save_every and self.step % self.options.save_every == 0:
            self.save()

    def save(self) -> None:
        """Save the state, unless it is saved, or --ckpt 0 or --dry-run forbids it; then remove old ones, by --keep."""
        if self.options.ckpt == NEVER or self.options.dry_run or self._saved_step == self.step:
            return
        arrays = {**module_state.read(self.model), **self.source.arrays()}
        metadata = {
            **self._metadata,
            "step": self.step,
            "epoch": self.source.epoch,
            "batch": self.source.batch,
            "rewinds": self._rewinds,
            "updates": self.optimizer.num_update,
            "learning_rate": self.optimizer.learning_rate,
            "tests": self.evaluator.state(),
        }
        self._saved_number = training_state.save(self.options.prefix, metadata, arrays, self._saved_number)
        self._saved_step = self.step
        logging.info("training state saved after batch %d", self.step)
        self.evaluator.remove_old()

    def rewind(self) -> None:
        """Return to the newest saved state, and continue with other batches and random numbers."""
        saved = training_state.newest(self.options.prefix, module_state.names_by_rows(self.model))
        if saved is None:
            raise UserError(f"--on-nan rewind: {self.options.prefix}-state-* was removed while the run went on")
        self._restore(saved)
        self._rewinds += 1
        self.source.restart_reshuffled(*self._position(saved.metadata), self._seed())
        logging.warning("back to batch %d, to go on with other batches", self.step)

    def finish(self) -> None:
        """Save the last checkpoint and the last state."""
        self.evaluator.after_training(self.step, self.source.epoch)
        self.save()

    def _restore(self, saved: State) -> None:
        """Set model, optimizer, evaluator and counters to a saved state; the source is the caller's task."""
        metadata = saved.metadata
        self.optimizer.lr_scheduler = copy.deepcopy(self._schedule)
        module_state.set_update_count(self.optimizer, metadata["updates"])
        module_state.restore(self.model, self.optimizer, saved.arrays)
        self.evaluator.restore(metadata["tests"])
        self.step = self._saved_step = metadata["step"]
        self._rewinds, self._saved_number = metadata["rewinds"], saved.number

    def _position(self, metadata: Metadata) -> tuple[int, int]:
        """Return epoch and batch to continue from; with --override the batch may have another size."""
        return metadata["epoch"], metadata["batch"] * metadata["batch_size"] // self._metadata["batch_size"]

    def _next_batch(self) -> DataBatch | None:
        try:
            return self.source.next_batch()
        except UserError:
            self.save()
            raise
        except OSError as error:
            self.save()
            raise UserError(
                f"cannot read the images any more ({error.strerror}): make {self.source.path} accessible again; "
                f"{self.resume_hint}"
            ) from error

    def _seed(self) -> int:
        """Return the seed of this run, another one after every rewind."""
        seed = self._metadata["seed"]
        return _mixed(seed, self._rewinds) if self._rewinds else seed


def _mixed(seed: int, counter: int) -> int:
    """Return a 32-bit random number that follows from a seed and a counter."""
    return int(np.random.SeedSequence([seed, counter]).generate_state(1)[0])
