"""Steps that both training recipes share: the network and the images from their options, and how a command ends."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shlex
import signal
import sys
from typing import Callable, Iterator, Sequence

from insightface_mx import symbols
from insightface_mx.base.compat import Context, Module, Symbol
from insightface_mx.base.errors import UserError
from insightface_mx.cli.config import config_text
from insightface_mx.cli.signals import describe, status_of
from insightface_mx.cli.types import Size
from insightface_mx.files.atomic import report_write_errors, save_text
from insightface_mx.files.lock import lock_file
from insightface_mx.formats import overwrite
from insightface_mx.image_iter import FaceImageIter
from insightface_mx.options import DataOptions, NetworkOptions, SoftmaxOptions, TripletTrainingOptions
from insightface_mx.symbols.parts.variants import DEFAULTS
from insightface_mx.training import build, resume_check
from insightface_mx.training import state as training_state
from insightface_mx.training.batches import DataBatch, Observer
from insightface_mx.training.evaluate_and_save import Test
from insightface_mx.training.options import NEVER, RunOptions, check_run_options
from insightface_mx.training.progress import start_logging
from insightface_mx.training.run import Start
from insightface_mx.training.state import Metadata

BuildNetwork = Callable[[NetworkOptions, Size], Symbol]


class SampledClasses(Observer):
    """Tells class weights in shards which batch they sample classes for."""

    def before_batch(self, step: int, _batch: DataBatch, model: Module) -> None:
        """Set the batch's number."""
        model.head.step = step


def build_network(options: NetworkOptions, image_size: Size) -> Symbol:
    """Return the symbol of a network, from images to embeddings.

    Args:
        options: The network.
        image_size: (height, width) of its input.

    Raises:
        UserError: There is no such network, or it does not take images of this size.
    """
    if options.use_deformable:
        logging.warning("--use-deformable has no effect, as in the original")
    variants = {name: value for name, value in dataclasses.asdict(options).items() if name in DEFAULTS}
    try:
        return symbols.get_symbol(options.network, options.emb_size, image_size=image_size, **variants)
    except ValueError as error:
        raise UserError(error) from error


def build_test(options: SoftmaxOptions | TripletTrainingOptions, embedding: Symbol, context: Context) -> Test:
    """Make the test of a run on its verification sets; with --dry-run one that is never called, without sets.

    Args:
        options: All options of the command.
        embedding: The network's symbol.
        context: Where to test.
    """
    if options.run.dry_run:
        return lambda *_: {}
    data = options.data
    return build.build_test(embedding, context, data.data_dir, data.target, data.image_size)


def test_paths(options: DataOptions) -> str:
    """Return the paths of the verification sets, separated by commas; some may not exist."""
    return ",".join(os.path.join(options.data_dir, f"{name}.bin") for name in options.target.split(",") if name)


def open_images(options: DataOptions, batch_size: int, seed: int, num_classes: int | None = None) -> FaceImageIter:
    """Open the images of train.rec, shuffled and augmented as the options say.

    Args:
        options: The images and their augmentation.
        batch_size: Images a batch, over all devices.
        seed: Order and augmentation follow from it.
        num_classes: Refuse labels from there on; None: any label will do.
    """
    return FaceImageIter(
        batch_size=batch_size,
        data_shape=(3, *options.image_size),
        path_imgrec=os.path.join(options.data_dir, "train.rec"),
        shuffle=True,
        rand_mirror=bool(options.rand_mirror),
        cutoff=options.cutoff,
        color_jittering=options.color,
        images_filter=options.images_filter,
        on_bad_record=options.on_bad_record,
        num_classes=num_classes,
        seed=seed,
        workers=options.workers,
    )


def agree_with_saved(
    start: Start,
    command: str,
    options: SoftmaxOptions | TripletTrainingOptions,
    images: FaceImageIter,
    symbol: Symbol,
) -> Metadata:
    """Return the metadata of a run, after a check that it agrees with what is saved under its prefix.

    Args:
        start: The start of the run.
        command: The name of the command.
        options: All options of the command.
        images: The images.
        symbol: The graph of the run's checkpoints.

    Raises:
        UserError: The saved run had other options or data, and --override is not given; or, without one, there is a
            checkpoint from elsewhere that needs another graph.
    """
    metadata = resume_check.run_metadata(command, options, start.seed, images, len(start.contexts))
    if start.saved:
        defaults = resume_check.fixed_options(type(options)())
        resume_check.check_resume(start.saved.metadata, metadata, defaults, options.run.override)
        resume_check.log_environment(start.saved.metadata, metadata)
    elif options.run.ckpt != NEVER:
        overwrite.refuse_foreign_graph(options.run.prefix, symbol)
    return metadata


def write_config(options: SoftmaxOptions | TripletTrainingOptions, seed: int) -> None:
    """Write PREFIX-config.json: `--config PREFIX-config.json` repeats the run.

    With --ckpt 0 or --dry-run nothing is written.

    Args:
        options: All options of the command; those of one start, --resume, --override and --dry-run, are left
            out.
        seed: The seed that is really used.

    Raises:
        UserError: The folder cannot be written.
    """
    if options.run.ckpt == NEVER or options.run.dry_run:
        return
    used = dataclasses.replace(options, run=dataclasses.replace(options.run, seed=seed))
    path = f"{options.run.prefix}-config.json"
    with report_write_errors(path):
        save_text(path, config_text(used, leave_out=("resume", "override", "dry_run")))


@contextlib.contextmanager
def prepared_prefix(options: RunOptions) -> Iterator[None]:
    """Let no other run save under the prefix in the block.

    Check the options of the run first, start its log PREFIX.log, and remove what a killed run left half written. With
    --dry-run only the options are checked.
    """
    check_run_options(options)
    if options.dry_run:
        yield
        return
    with lock_file(options.prefix):
        start_logging(options.prefix)
        training_state.remove_leftovers(options.prefix)
        yield


def exit_status(ended_by: signal.Signals | None, options: RunOptions, file: str, argv: Sequence[str] | None) -> int:
    """Return the exit status of a run, and log the command that resumes it where a signal ended it.

    Args:
        ended_by: The signal, or None.
        options: The options of the run.
        file: The command's file.
        argv: Words of the command line; None: those of this process.
    """
    if not ended_by:
        return 0
    if options.ckpt != NEVER:
        installed = argv is None and not sys.argv[0].endswith(".py")
        program = [sys.argv[0]] if installed else [sys.executable, os.path.abspath(file)]
        words = list(sys.argv[1:] if argv is None else argv)
        words += [] if options.resume else ["--resume"]
        logging.info("stopped by %s; to go on: %s", describe(ended_by), shlex.join([*program, *words]))
    return status_of(ended_by)
