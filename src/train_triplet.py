"""Fine-tune a face recognition network on triplets: two images of one identity and one of another.

An epoch is a bag: images of some identities, the triplets that the network of the moment finds hard among them, and
batches of these, per-batch-size / 3 (rounded down) triplets a device. Ctrl-C saves and says where; --resume continues
from there.

Where to find what:
  the loss, the search, the batches       triplets.py
  the loop: one step after another        training/loop.py
  all else                                see train_softmax.py
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.train_triplet()

import argparse
import signal
from typing import TYPE_CHECKING, Any, Callable, Sequence

from insightface_mx.base.errors import UserError
from insightface_mx.cli.main import run_command
from insightface_mx.options import DataOptions, TripletOptions, TripletTrainingOptions, parser, read

if TYPE_CHECKING:  # MXNet loads when training starts: --help does without it
    import numpy as np

    from insightface_mx.base.compat import Context, Module, Symbol
    from insightface_mx.recipe import BuildNetwork
    from insightface_mx.training.batches import ImageIterator, Observer
    from insightface_mx.training.evaluate_and_save import Test
    from insightface_mx.triplets import Embed

    MakeEmbed = Callable[[Module, Symbol, ImageIterator, "list[Context]"], Embed]

EXAMPLE = (
    "insightface-train-triplet --network r50 --pretrained model/r50,1 --lr 0.005 --max-steps 20000 --data-dir data "
    "--prefix model/triplets"
)


def train(
    options: TripletTrainingOptions,
    *,
    network: BuildNetwork | None = None,
    test: Test | None = None,
    embed: MakeEmbed | None = None,
    observers: Sequence[Observer] = (),
) -> signal.Signals | None:
    """Train as the options say.

    Args:
        options: All options of the command.
        network: Makes the network, in place of `recipe.build_network`.
        test: Tests the network, in place of the verification sets of --target.
        embed: Makes the function that embeds a bag, in place of `make_embed`.
        observers: Called at every batch.

    Returns:
        The signal that ended the run early, or None.

    Raises:
        UserError: An option, the data or a saved file cannot be used; the message says what to do.
    """
    from insightface_mx import recipe, triplets
    from insightface_mx.training import advice, build, dry_run, metrics, schedule
    from insightface_mx.training.loop import fit
    from insightface_mx.training.run import begin

    data, loss = options.data, options.loss
    check_options(data, loss)
    per_device = triplets_per_device(data)
    start = begin(options.run)  # before any operation of MXNet
    embedding = (network or recipe.build_network)(options.network, data.image_size)
    images = recipe.open_images(data, 3 * per_device * len(start.contexts), start.seed)
    symbol = triplets.training_symbol(embedding, loss.loss_type, loss.triplet_alpha)
    metadata = recipe.agree_with_saved(start, "train_triplet", options, images, symbol)
    advice.warn_of_idle_run_options(options.run)
    recipe.write_config(options, start.seed)

    model = build.build_model(symbol, options.run, start, network=options.network.network, data=images.provide_data)
    groups = triplets.identities(images.records, data.images_filter, images.skip_bad)
    embed_bag = (embed or make_embed)(model, embedding, images, start.contexts)
    run = build.build_run(
        model,
        symbol,
        triplets.TripletSource(images, groups, embed_bag, loss, per_device, options.run.end_epoch),
        options.run,
        options.optimiser,
        start,
        metadata,
        default_steps=schedule.MARGIN_STEPS,
        test=test or recipe.build_test(options, embedding, start.contexts[0]),
        has_classes=False,
    )
    if options.run.dry_run:
        targets = recipe.test_paths(data)
        dry_run.report(run, options.network.network, embedding, images, None, targets, observers)
        return None
    return fit(run, metrics.LossValueMetric(), observers)


def check_options(data: DataOptions, options: TripletOptions) -> None:
    """Check values with which no triplet could be found. Raises UserError."""
    if options.triplet_bag_size <= options.images_per_identity:
        raise UserError(
            f"--triplet-bag-size {options.triplet_bag_size}: a bag of one identity holds no negative; give more than "
            f"--images-per-identity, {options.images_per_identity}"
        )
    if triplets_per_device(data) < 1:
        raise UserError(f"--per-batch-size {data.per_batch_size}: a triplet is 3 images; give a multiple of 3")


def triplets_per_device(data: DataOptions) -> int:
    """Return the number of complete triplets in a device's part of the batch."""
    return data.batch_per_device // 3


def make_embed(model: Module, embedding: Symbol, images: ImageIterator, contexts: list[Context]) -> Embed:
    """Make the function that embeds the images of a bag, with the parameters that `model` has when it is called.

    Args:
        model: The bound Module in training.
        embedding: The network's symbol.
        images: Reads the images.
        contexts: Where to compute.
    """
    from insightface_mx.embedding.vectors import normalize
    from insightface_mx.engine import module_state, network

    inference = network.bind(embedding, contexts, images.batch_size, (images.data_shape[1], images.data_shape[2]))

    def embed(records: np.ndarray) -> np.ndarray:
        inference.set_params(*module_state.current_params(model))
        return normalize(network.embed(images.read(records), inference, images.batch_size)).astype("float32")

    return embed


def run(args: argparse.Namespace, argv: Sequence[str] | None = None, **replacements: Any) -> int:
    """Train as the command line says, and return the exit status; argv: see `main`; replacements: see `train`."""
    from insightface_mx import recipe

    options = read(args, TripletTrainingOptions)
    with recipe.prepared_prefix(options.run):
        return recipe.exit_status(train(options, **replacements), options.run, __file__, argv)


def main(argv: Sequence[str] | None = None, **replacements: Any) -> None:
    """Run the command; replacements: a network, a test or observers of a caller's own, see `train`."""
    run_command(lambda args: run(args, argv, **replacements), parser(TripletTrainingOptions, __doc__, EXAMPLE), argv)
