"""Train a face recognition network with a softmax or margin loss (ArcFace, CosFace, SphereFace ...).

Ctrl-C saves and says where; --resume continues from there, or from where a killed run last saved.

Where to find what:
  the margins, the scale, the class weights    losses.py
  class weights in shards over the contexts    split_loss.py, shards/plan.py
  the network and its IR unit                  symbols/fresnet.py
  the images and their augmentation            image_iter.py, augment.py
  the loop: one step after another             training/loop.py
  the learning rate                            training/schedule.py
  the test: mirrored images, ten folds         eval/pairs.py, eval/roc.py
  what is saved, and when                      training/evaluate_and_save.py, training/state.py
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.train()

import argparse
import signal
from typing import TYPE_CHECKING, Any, Sequence

from insightface_mx.base.errors import UserError
from insightface_mx.cli.fields import changed
from insightface_mx.cli.main import run_command
from insightface_mx.options import LossOptions, ShardingOptions, SoftmaxOptions, parser, read

if TYPE_CHECKING:  # MXNet loads when training starts: --help does without it
    from insightface_mx.base.compat import Symbol
    from insightface_mx.recipe import BuildNetwork
    from insightface_mx.shards.plan import Shards
    from insightface_mx.training.batches import ImageIterator, Observer
    from insightface_mx.training.evaluate_and_save import Test
    from insightface_mx.training.memory_report import TrainingStep

EXAMPLE = """\
insightface-train --network r50 --loss-type 4 --data-dir data --prefix model/r50 --lr-batch 512 --end-epoch 16
insightface-train --config arcface-r50 --data-dir data --prefix model/r50 --end-epoch 16
python src/train_softmax.py --network r50 --loss-type 4 --data-dir data --prefix model/r50    # the script of a clone"""


def train(
    options: SoftmaxOptions,
    *,
    network: BuildNetwork | None = None,
    test: Test | None = None,
    observers: Sequence[Observer] = (),
) -> signal.Signals | None:
    """Train as the options say.

    Args:
        options: All options of the command.
        network: Makes the network, in place of `recipe.build_network`.
        test: Tests the network, in place of the verification sets of --target.
        observers: Called at every batch.

    Returns:
        The signal that ended the run early, or None.

    Raises:
        UserError: An option, the data or a saved file cannot be used; the message says what to do.
    """
    from insightface_mx import losses, recipe
    from insightface_mx.base import limits
    from insightface_mx.engine.module_state import state_names
    from insightface_mx.formats.training_set import read_property
    from insightface_mx.shards.plan import BIAS, WEIGHT
    from insightface_mx.training import advice, build, dry_run, memory_report, metrics, schedule
    from insightface_mx.training.batches import EpochSource
    from insightface_mx.training.loop import fit
    from insightface_mx.training.run import begin

    data, loss, emb_size = options.data, options.loss, options.network.emb_size
    sharding = options.sharding
    check_loss(loss)
    check_sharding(sharding)
    start = begin(options.run, state_names([WEIGHT, BIAS]) if sharding.fc7_shards else ())  # before operations of MXNet
    classes = read_property(data.data_dir).num_classes
    advice.check_class_count(classes, emb_size, sharding.fc7_shards)
    embedding = (network or recipe.build_network)(options.network, data.image_size)
    images = recipe.open_images(data, data.batch_per_device * len(start.contexts), start.seed, classes)
    with_classes = classes * emb_size <= limits.MAX_ARRAY
    saved_symbol = losses.checkpoint_symbol(embedding, classes, loss, emb_size) if with_classes else embedding
    shards = make_shards(options, embedding, classes, start.seed)
    metadata = recipe.agree_with_saved(start, "train_softmax", options, images, saved_symbol)
    recipe.write_config(options, start.seed)
    advise(options, embedding, images, classes)
    if options.report.memory_report:
        memory_report.report(memory_step(options, embedding), data.batch_per_device, classes, start.contexts)

    model = build.build_model(
        losses.training_symbol(embedding, classes, loss, emb_size),
        options.run,
        start,
        network=options.network.network,
        data=images.provide_data,
        labels=images.provide_label,
        state_names=losses.state_names(loss),
        strict_classes=loss.pretrained_fc7 == "strict",
        shards=shards,
    )
    run = build.build_run(
        model,
        saved_symbol,
        EpochSource(images, options.run.end_epoch),
        options.run,
        options.optimiser,
        start,
        metadata,
        default_steps=schedule.default_steps(loss.loss_type),
        test=test or recipe.build_test(options, embedding, start.contexts[0]),
        has_classes=loss.loss_type != 0,
    )
    observers = [*own_observers(options, classes), *observers]
    if options.run.dry_run:
        targets = recipe.test_paths(data)
        dry_run.report(run, options.network.network, embedding, images, classes, targets, observers)
        return None
    metric = metrics.sharded_metrics(loss.ce_loss) if shards else metrics.softmax_metrics(loss.ce_loss)
    return fit(run, metric, observers)


def advise(options: SoftmaxOptions, embedding: Symbol, images: ImageIterator, classes: int) -> None:
    """Warn of a setting that is unusual, and of one that has no effect.

    Args:
        options: All options of the command.
        embedding: The network's symbol.
        images: What is trained on.
        classes: Number of classes.
    """
    from insightface_mx import losses
    from insightface_mx.training import advice, schedule

    loss = options.loss
    lr = schedule.learning_rate(options.optimiser, images.batch_size)
    advice.warn_of_unusual_rate(lr, images.batch_size, bool(options.run.pretrained))
    advice.warn_of_one_class(classes, images.records.path)
    advice.warn_of_one_image(embedding, options.data.batch_per_device)
    advice.warn_of_idle_options(losses.idle_options(loss), f"with --loss-type {loss.loss_type}")
    advice.warn_of_idle_options(changed(loss, "scale"), "as in the original")
    if not options.run.pretrained:
        advice.warn_of_idle_options(changed(loss, "pretrained_fc7"), "without --pretrained")
    advice.warn_of_idle_run_options(options.run)
    advice.warn_of_few_classes(classes, options.sharding.sample_ratio)


def own_observers(options: SoftmaxOptions, classes: int) -> list[Observer]:
    """Return the observers that the loss needs: of shards, and of SphereFace's lambda."""
    from insightface_mx import losses, recipe

    found: list[Observer] = [recipe.SampledClasses()] if options.sharding.fc7_shards else []
    if options.loss.loss_type == losses.SPHEREFACE:
        found.append(losses.SphereFaceBeta(options.loss, classes))
    return found


def make_shards(options: SoftmaxOptions, embedding: Symbol, classes: int, seed: int) -> Shards | None:
    """Return what trains with class weights in shards, None without --fc7-shards.

    Args:
        options: All options of the command.
        embedding: The network's symbol.
        classes: Number of classes.
        seed: The sampled classes follow from it.

    Raises:
        UserError: So few classes cannot be cut into so many shards.
    """
    from insightface_mx.shards.plan import Shards, check_count
    from insightface_mx.split_loss import split_loss

    if not options.sharding.fc7_shards:
        return None
    check_count(options.sharding.fc7_shards, classes)
    loss = split_loss(embedding, classes, options.loss, options.network.emb_size)
    return Shards(loss, options.sharding.fc7_shards, options.sharding.sample_ratio, seed)


def memory_step(options: SoftmaxOptions, embedding: Symbol) -> TrainingStep:
    """Return the training step that --memory-report estimates; embedding: the network's symbol."""
    from insightface_mx import losses
    from insightface_mx.training.memory_report import TrainingStep

    return TrainingStep(
        embedding,
        lambda embedding, classes: losses.training_symbol(embedding, classes, options.loss, options.network.emb_size),
        options.data.image_size,
        losses.state_names(options.loss),
        options.run.freeze,
        momentum=bool(options.optimiser.mom),
        cpu_rewrite=not options.run.no_cpu_rewrite,
        shards=options.sharding.fc7_shards,
        sample_ratio=options.sharding.sample_ratio,
    )


def check_sharding(options: ShardingOptions) -> None:
    """Check that the options of class weights in shards do not exclude each other. Raises UserError."""
    if options.sample_ratio < 1 and not options.fc7_shards:
        raise UserError(f"--sample-ratio {options.sample_ratio} needs --fc7-shards: give the number of contexts, or 1")


def check_loss(options: LossOptions) -> None:
    """Check the loss and its margin before anything is read. Raises UserError."""
    from insightface_mx import losses

    try:
        losses.check_options(options)
    except ValueError as error:
        raise UserError(error) from error


def run(args: argparse.Namespace, argv: Sequence[str] | None = None, **replacements: Any) -> int:
    """Train as the command line says, and return the exit status; argv: see `main`; replacements: see `train`."""
    from insightface_mx import recipe

    options = read(args, SoftmaxOptions)
    with recipe.prepared_prefix(options.run):
        return recipe.exit_status(train(options, **replacements), options.run, __file__, argv)


def main(argv: Sequence[str] | None = None, **replacements: Any) -> None:
    """Run the command; replacements: a network, a test or observers of a caller's own, see `train`."""
    run_command(lambda args: run(args, argv, **replacements), parser(SoftmaxOptions, __doc__, EXAMPLE), argv)
