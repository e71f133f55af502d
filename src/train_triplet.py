"""Fine-tune a face recognition network on triplets: two images of one person and one of another.

    python train_triplet.py --network r50 --pretrained ../model/r50,1 --lr 0.005 --data-dir ../data --prefix ../model/t

An epoch is a bag: images of some identities, the triplets that the network as it stands finds hard among them, and
batches of these, per-batch-size / 3 (rounded down) a device. Ctrl-C saves the parameters and says where.
"""

import itertools
import logging

import numpy as np

from insightface_mx import options, triplet, triplet_losses
from insightface_mx.callback import TestAndSave
from insightface_mx.checkpoint import module_params
from insightface_mx.dataset import identity_ranges
from insightface_mx.devices import get_contexts
from insightface_mx.errors import UserError
from insightface_mx.eval import embedding as verify
from insightface_mx.eval import roc
from insightface_mx.interrupt import Interruption
from insightface_mx.metric import LossValueMetric
from insightface_mx.progress import Progress
from insightface_mx.training import (
    build_model,
    build_network,
    build_test,
    init_optimizer,
    open_data,
    run_command,
    set_seed,
)

_BAGS = 20  # that may be searched for the triplets of one batch


def train(args):
    """Train as the options say; returns the signal that ended the run early, or None."""
    check_options(args)
    contexts = get_contexts(args.ctx)
    batch_size = 3 * triplets_per_device(args) * len(contexts)
    set_seed(args)

    embedding = build_network(args)
    data = open_data(args, batch_size)
    saved_symbol = triplet_losses.training_symbol(embedding, args.loss_type, args.triplet_alpha)
    model = build_model(saved_symbol, args, contexts, data)
    optimizer = init_optimizer(model, args, batch_size, len(contexts))

    metric = LossValueMetric()
    tester = TestAndSave(model, saved_symbol, args, build_test(args, embedding, contexts[0]))
    batches = triplet_batches(data, build_embed(model, embedding, data, contexts), args)
    step = 0
    with Interruption() as interruption, Progress(data, args.max_steps or None, args.tensorboard) as progress:
        for step, batch in enumerate(itertools.islice(batches, args.max_steps or None), 1):
            model.forward_backward(batch)
            model.update()
            metric.update(batch.label, model.get_outputs())
            progress.batch(step, metric, optimizer.learning_rate)
            progress.scalars(step, tester.batch(step))
            if interruption.signal:
                break
        tester.finish(step)
    return interruption.signal


def check_options(args):
    """Refuse values with which no triplet could be found."""
    lowest = {
        "images_per_identity": 2,
        "triplet_bag_size": args.images_per_identity + 1,  # else a bag holds one identity, and so no negative
        "triplet_max_ap": 0,
    }
    for name, least in lowest.items():
        value = getattr(args, name)
        if value < least:
            raise UserError(f"--{name.replace('_', '-')} {value}: it must be at least {least}")
    if not args.triplet_alpha > 0:
        raise UserError(f"--triplet-alpha {args.triplet_alpha}: it must be more than 0")
    if triplets_per_device(args) < 1:
        raise UserError(f"--per-batch-size {args.per_batch_size}: a triplet is 3 images; give a multiple of 3")


def triplets_per_device(args):
    """Whole triplets in a device's part of the batch."""
    return (args.per_batch_size or 128) // 3


def build_embed(model, embedding, data, contexts):
    """A function from record numbers to float32 unit embeddings, by the parameters that `model` has when it is called.

    embedding: the symbol. data: the FaceImageIter. contexts: where to compute.
    """
    inference = verify.bind(embedding, contexts, data.batch_size, data.data_shape[1:])

    def embed(numbers):
        inference.set_params(*module_params(model), allow_extra=True)
        return roc.normalize(verify.embed(data.read(numbers), inference, data.batch_size)).astype(np.float32)

    return embed


def triplet_batches(data, embed, args):
    """Batches for training, bag after bag, until --end-epoch or until bags hold no triplets any more.

    data: the FaceImageIter to read them with. embed: function from record numbers to unit embeddings. UserError: there
    were no triplets to begin with.
    """
    groups = identities(data.records, args.images_filter)
    rng = np.random.default_rng(np.random.SeedSequence(args.seed, spawn_key=(0,)))  # a stream that `data` does not use
    for bag in range(args.end_epoch):
        triplets = find_triplets(groups, embed, args, rng, data.batch_size // 3)
        if triplets is None and bag == 0:
            raise UserError(
                f"{_BAGS} bags do not hold the {data.batch_size // 3} triplets of a batch: start from a better network "
                "(--pretrained), or raise --triplet-alpha or --triplet-bag-size, or lower --per-batch-size"
            )
        if triplets is None:
            logging.info("the end: %d bags do not hold the triplets of a batch any more", _BAGS)
            return
        data.start(bag, 0, triplet.in_thirds(triplets, triplets_per_device(args)))
        yield from data


def find_triplets(groups, embed, args, rng, wanted):
    """Record numbers of at least `wanted` triplets, (n, 3), shuffled; None where _BAGS bags hold fewer."""
    found = np.empty((0, 3), np.int64)
    for _ in range(_BAGS):
        numbers, identity = triplet.draw_bag(groups, args.triplet_bag_size, args.images_per_identity, rng)
        places = triplet.mine(embed(numbers), identity, args.triplet_alpha, rng, args.triplet_max_ap)
        logging.info("bag of %d images: %d triplets", len(numbers), len(places))
        found = np.concatenate([found, numbers[places]])
        if len(found) >= wanted:
            return rng.permutation(found)
    return None


def identities(records, images_filter):
    """A list with an array of record numbers for every identity of at least `images_filter` images.

    A file that is a plain list of images names no identities: there, equal labels make one.
    """
    if records.has_label_array(0):
        groups = [np.arange(first, last) for first, last in identity_ranges(records)]
    else:
        numbers = np.array(records.keys())
        labels = np.array([records.read(number)[0][0] for number in numbers.tolist()])
        order = np.argsort(labels, kind="stable")
        groups = np.split(numbers[order], np.flatnonzero(np.diff(labels[order])) + 1)
    groups = [group for group in groups if len(group) >= images_filter]
    if len(groups) < 2 or max(map(len, groups)) < 2:
        raise UserError(f"{records.path}: triplets need two identities, and two images of one; see --images-filter")
    return groups


def main(argv=None):
    parser = options.parser(__doc__)
    options.add_triplet_loss(parser)
    run_command(train, parser, argv)


if __name__ == "__main__":
    main()
