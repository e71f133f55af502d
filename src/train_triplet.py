"""Fine-tune a face recognition network on triplets: two images of one person and one of another.

    python train_triplet.py --network r50 --pretrained ../model/r50,1 --lr 0.005 --data-dir ../data --prefix ../model/t

An epoch is a bag: images of some identities, the triplets that the network as it stands finds hard among them, and
batches of these, per-batch-size / 3 (rounded down) a device. Ctrl-C saves and says where; --resume goes on from there.
"""

import logging

import numpy as np

from insightface_mx import options, triplets
from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.engine import network as verify
from insightface_mx.engine.denormals import flush_in_threads
from insightface_mx.engine.devices import get_contexts
from insightface_mx.engine.module_state import current_params
from insightface_mx.eval import roc
from insightface_mx.formats.training_set import identity_images
from insightface_mx.training.build import (
    build_model,
    build_network,
    build_test,
    init_optimizer,
    open_data,
    run_command,
    set_seed,
)
from insightface_mx.training.evaluate_and_save import TestAndSave
from insightface_mx.training.metrics import LossValueMetric, TrainingStatistics
from insightface_mx.training.nan_guard import NanGuard
from insightface_mx.training.progress import Progress
from insightface_mx.training.resume_check import agreed_facts
from insightface_mx.training.run import Batches, Run, find_saved

_BAGS = 20  # that may be searched for the triplets of one batch


def train(args):
    """Train as the options say; returns the signal that ended the run early, or None."""
    check_options(args)
    contexts = get_contexts(args.ctx)
    flush_in_threads(contexts)
    batch_size = 3 * triplets_per_device(args) * len(contexts)
    saved = find_saved(args)
    set_seed(args)

    embedding = build_network(args)
    data = open_data(args, batch_size)
    facts = agreed_facts(args, "train_triplet", data, contexts, saved)
    saved_symbol = triplets.training_symbol(embedding, args.loss_type, args.triplet_alpha)
    model = build_model(saved_symbol, args, contexts, data, saved)
    optimizer = init_optimizer(model, args, batch_size, contexts)

    metric = LossValueMetric()
    figures = TrainingStatistics(model, angle=False)
    tester = TestAndSave(model, saved_symbol, args, build_test(args, embedding, contexts[0]), figures, facts)
    bags = Bags(data, build_embed(model, embedding, data, contexts), args)
    run = Run(args, facts, model, optimizer, bags, tester, saved)
    guard = NanGuard(model, run, args.on_nan)
    with Progress(data, run.batches_left, args.tensorboard) as progress:
        for batch in run.batches():
            guard.forward_backward(batch)
            if guard.rejects(batch):
                continue
            figures.update(batch)
            model.update()
            metric.update(batch.label, model.get_outputs())
            progress.batch(run.step, metric, optimizer.learning_rate)
            if data.batch == data.batches_per_epoch:
                metric.reset()
            progress.scalars(run.step, tester.batch(run.step, data.epoch))
    return run.signal


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
        inference.set_params(*current_params(model))
        return roc.normalize(verify.embed(data.read(numbers), inference, data.batch_size)).astype(np.float32)

    return embed


class Bags(Batches):
    """Batches of triplets, bag after bag, until --end-epoch or until bags hold no triplets any more; see `Run`.

    data: the FaceImageIter to read them with. embed: function from record numbers to unit embeddings. An
    epoch is a bag.
    """

    batches_left = None  # the last bag shows itself only when it is searched

    def __init__(self, data, embed, args):
        super().__init__(data)
        self._embed, self._args = embed, args
        self._groups = identities(data.records, args.images_filter, data.skip_bad)
        self._seed, self._triplets = args.seed, None

    def next(self):
        """The next batch, of the next bag where this one has ended; None at the end of the run.

        Raises UserError where there were no triplets to begin with.
        """
        if self._triplets is None:
            return self._data.next() if self._begin(0) else None
        try:
            return self._data.next()
        except StopIteration:
            return self._data.next() if self._begin(self.epoch + 1) else None

    def arrays(self):
        """The bag's triplets, which cannot be found again: the network has changed since."""
        return {} if self._triplets is None else {"triplets": mx.nd.array(self._triplets, dtype=np.int64)}

    def start(self, epoch, batch, arrays, seed):
        """Go on behind `batch` batches of a bag, whose triplets are in the saved arrays."""
        self._data.seed = self._seed = seed
        if "triplets" in arrays:
            self._triplets = arrays["triplets"].asnumpy()
            self._serve(epoch, batch)

    def divert(self, epoch, batch, seed):
        """Go on with the next bag, drawn otherwise."""
        self._data.seed = self._seed = seed
        self._serve(epoch, 3 * len(self._triplets) // self._data.batch_size)

    def _begin(self, bag):
        """Find a bag's triplets; false where there is no further bag."""
        if bag >= self._args.end_epoch:
            return False
        # a stream of random numbers that `data` does not use
        rng = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(0, bag)))
        wanted = self._data.batch_size // 3
        found = find_triplets(self._groups, self._embed, self._args, rng, wanted)
        if found is None and bag == 0:
            raise UserError(
                f"{_BAGS} bags do not hold the {wanted} triplets of a batch: start from a better network "
                "(--pretrained), or raise --triplet-alpha or --triplet-bag-size, or lower --per-batch-size"
            )
        if found is None:
            logging.info("the end: %d bags do not hold the triplets of a batch any more", _BAGS)
            return False
        self._triplets = found
        self._serve(bag, 0)
        return True

    def _serve(self, bag, batch):
        self._data.start(bag, batch, triplets.in_thirds(self._triplets, triplets_per_device(self._args)))


def find_triplets(groups, embed, args, rng, wanted):
    """Record numbers of at least `wanted` triplets, (n, 3), shuffled; None where _BAGS bags hold fewer."""
    found = np.empty((0, 3), np.int64)
    for _ in range(_BAGS):
        numbers, identity = triplets.draw_bag(groups, args.triplet_bag_size, args.images_per_identity, rng)
        places = triplets.mine(embed(numbers), identity, args.triplet_alpha, rng, args.triplet_max_ap)
        logging.info("bag of %d images: %d triplets", len(numbers), len(places))
        found = np.concatenate([found, numbers[places]])
        if len(found) >= wanted:
            return rng.permutation(found)
    return None


def identities(records, images_filter, skip_bad=False):
    """Return the images of every identity that has at least `images_filter`, as `identity_images` does."""
    groups = [group for group in identity_images(records, skip_bad) if len(group) >= images_filter]
    if len(groups) < 2 or max(map(len, groups)) < 2:
        raise UserError(f"{records.path}: triplets need two identities, and two images of one; see --images-filter")
    return groups


def main(argv=None):
    parser = options.parser(
        options.TripletTrainingOptions, __doc__, "python train_triplet.py --network r50 --data-dir ../data"
    )
    run_command(train, parser, argv)


if __name__ == "__main__":
    main()
