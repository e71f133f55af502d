"""Warn of settings that would waste a day, before the first batch."""

from __future__ import annotations

import logging
from typing import Sequence

from insightface_mx.base.compat import Symbol
from insightface_mx.base.errors import UserError
from insightface_mx.base.limits import MAX_ARRAY
from insightface_mx.cli.fields import changed
from insightface_mx.training.options import DEFAULT_END_EPOCH, NEVER, RunOptions

FEW_CLASSES = 300_000  # MS1MV2's 85,000 lose by sampling, Glint360K's 360,000 do not: arXiv 2010.05222
USUAL_RATE, USUAL_BATCH = 0.1, 512
_FAR = 10


def warn_of_unusual_rate(lr: float, batch_size: int, fine_tuning: bool) -> None:
    """Log a warning if the learning rate is ten times larger or smaller than the usual 0.1 x batch / 512.

    Args:
        lr: The learning rate after the warm-up.
        batch_size: Images a batch, over all devices.
        fine_tuning: The run starts from a checkpoint, where small rates are usual.
    """
    usual = USUAL_RATE * batch_size / USUAL_BATCH
    if lr > _FAR * usual or (lr < usual / _FAR and not fine_tuning):
        logging.warning(
            "--lr %g is far from the usual 0.1 x batch / 512, which is %.2g for batches of %d: if the accuracy does "
            "not rise, try that, and --warmup",
            lr,
            usual,
            batch_size,
        )


def warn_of_one_class(classes: int, path: str) -> None:
    """Log a warning if there is nothing to tell apart.

    Args:
        classes: Number of classes.
        path: The training set.
    """
    if classes == 1:
        logging.warning("%s holds one class: the loss is 0 from the first batch, and the network learns nothing", path)


def warn_of_one_image(embedding: Symbol, images: int) -> None:
    """Log a warning if the batch norms of a network see one image at a time.

    Args:
        embedding: The network's symbol.
        images: Images a batch and device.
    """
    if images == 1 and embedding.list_auxiliary_states():  # the moving averages of batch norms
        logging.warning(
            "--per-batch-size 1: batch norm cannot work on one image a device; the embeddings will grow without bound. "
            "Give at least 8"
        )


def warn_of_idle_options(options: Sequence[str], reason: str) -> None:
    """Log a warning where options that were given act on nothing; reason: why not, 'with --loss-type 4'."""
    if options:
        logging.warning("%s: no effect %s", ", ".join(options), reason)


def warn_of_idle_run_options(options: RunOptions) -> None:
    """Log a warning where options of a run act on nothing."""
    if options.ckpt == NEVER:
        warn_of_idle_options(changed(options, "keep", "save_every"), "with --ckpt 0")
    if not options.resume:
        warn_of_idle_options(changed(options, "override"), "without --resume")


def say_that_nothing_ends_it(options: RunOptions, last_batch: int | None) -> None:
    """Log how to bound a run whose only end is the default of --end-epoch.

    Args:
        options: The options of the run.
        last_batch: The batch at which --max-steps or the schedule ends it, None for neither.
    """
    if unbounded(options, last_batch):
        logging.info(
            "no option ends this run before epoch %d: give --end-epoch, --max-steps or --lr-schedule cosine. Ctrl-C "
            "saves and ends it at any time",
            DEFAULT_END_EPOCH,
        )


def unbounded(options: RunOptions, last_batch: int | None) -> bool:
    """Return whether the default of --end-epoch is a run's only end; last_batch: see `say_that_nothing_ends_it`."""
    return last_batch is None and options.end_epoch >= DEFAULT_END_EPOCH


def check_class_count(classes: int, emb_size: int, shards: int = 0) -> None:
    """Check that one array of MXNet 1.9.1, which has at most 2^31 - 1 elements, holds all class weights.

    Class weights in shards are in many arrays; but a checkpoint has them in one, which the log says.

    Args:
        classes: Number of classes.
        emb_size: Length of the embedding.
        shards: --fc7-shards.

    Raises:
        UserError: It does not, and they are not in shards; the message says how many classes fit.
    """
    if classes * emb_size <= MAX_ARRAY:
        return
    many = f"{classes} classes x {emb_size} (--emb-size) are more than one array of MXNet holds"
    if not shards:
        raise UserError(
            f"{many}: at most {MAX_ARRAY // emb_size} classes. Give --fc7-shards 1 or more, choose a smaller "
            "--emb-size, or leave out identities with few images (insightface-edit-set filter)"
        )
    logging.warning("%s: checkpoints come without class weights; the training state has them", many)


def warn_of_few_classes(classes: int, sample_ratio: float) -> None:
    """Log a warning if classes are sampled where that costs accuracy.

    Args:
        classes: Number of classes.
        sample_ratio: --sample-ratio.
    """
    if sample_ratio < 1 and classes < FEW_CLASSES:
        logging.warning(
            "--sample-ratio %g with %d classes: under %d classes sampling costs accuracy; leave it out",
            sample_ratio,
            classes,
            FEW_CLASSES,
        )
