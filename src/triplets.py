"""Triplets: their loss, the search for triplets worth training on, and the batches made of them.

A triplet is two images of one identity, the anchor and the positive, and an image of another, the negative. They are
found bag by bag: a bag is a random choice of images, which the network of the moment embeds.
"""

from __future__ import annotations

import logging
from typing import Callable, Sequence

import numpy as np

from insightface_mx.base.compat import Params, Symbol, mx
from insightface_mx.base.errors import UserError
from insightface_mx.formats.face_records import MAX_BAD_FRACTION, FaceRecords
from insightface_mx.losses import angle
from insightface_mx.options import TripletOptions
from insightface_mx.training.batches import BatchSource, DataBatch, ImageIterator

Embed = Callable[[np.ndarray], np.ndarray]  # record ids -> unit embeddings, (n, d) float32

_BAGS = 20  # bags that may be searched for the triplets of one batch
_PAIRS_AT_ONCE = 1024  # rows of the matrix of distances that is held at a time; it has a column for each image of a bag


# The loss.


def training_symbol(embedding: Symbol, loss_type: int, alpha: float) -> Symbol:
    """Make the graph to train and to save.

    The loss is the mean over triplets of max(0, d(a, p) - d(a, n) + alpha), where d is one of DISTANCES between unit
    embeddings.

    Args:
        embedding: Samples x emb_size; the first third are anchors, then come positives, then negatives.
        loss_type: A key of DISTANCES.
        alpha: The margin, in the unit of the distance.

    Returns:
        A Group of the embedding (without gradient) and `triplet_loss`, a scalar.
    """
    unit = mx.sym.L2Normalization(embedding, mode="instance", name="fc1n")
    anchor, positive, negative = mx.sym.split(unit, num_outputs=3, axis=0)
    distance = DISTANCES[loss_type]
    violation = mx.sym.relu(distance(anchor, positive) - distance(anchor, negative) + alpha)
    return mx.sym.Group([mx.sym.BlockGrad(embedding), mx.sym.MakeLoss(mx.sym.mean(violation), name="triplet_loss")])


def squared_distance(a: Symbol, b: Symbol) -> Symbol:
    """Return |a - b|^2 row by row: FaceNet, arXiv 1503.03832, equation 1."""
    return mx.sym.sum(mx.sym.square(a - b), axis=1)


def angular_distance(a: Symbol, b: Symbol) -> Symbol:
    """Return arccos(a.b) row by row, in radians: ArcFace, arXiv 1801.07698, where it compares triplet losses."""
    return angle(mx.sym.sum(a * b, axis=1))


DISTANCES = {1: squared_distance, 2: angular_distance}  # by --loss-type


# The search, in numpy.


def draw_bag(
    groups: Sequence[np.ndarray], bag_size: int, images_per_identity: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the images of a bag.

    Identities are drawn, none twice, until the bag is full or all are in it, each with images_per_identity images or
    as many as it has.

    Args:
        groups: The record ids of every identity's images.
        bag_size: Largest number of images.
        images_per_identity: Largest number of images of one identity.
        rng: Draws them.

    Returns:
        The record ids, and for each the index of its identity in `groups`; both int64.
    """
    order = rng.permutation(len(groups))
    sizes = np.array([len(groups[identity]) for identity in order])
    full = np.searchsorted(np.cumsum(np.minimum(sizes, images_per_identity)), bag_size)
    drawn = [rng.permutation(groups[identity])[:images_per_identity] for identity in order[: full + 1]]
    identities = np.repeat(order[: full + 1], [len(images) for images in drawn])
    return np.concatenate(drawn)[:bag_size], identities[:bag_size]


def mine(
    embeddings: np.ndarray, identities: np.ndarray, alpha: float, rng: np.random.Generator, max_ap: float = 0.0
) -> np.ndarray:
    """Find the semi-hard triplets of a bag: FaceNet, arXiv 1503.03832, section 3.2.

    Every two images of an identity, the first of them as the anchor, get one negative. It is drawn from those with
    d(a, p) < d(a, n) < d(a, p) + alpha, where d is the squared distance. Pairs without such a negative are left out.

    Args:
        embeddings: (images, d), unit length.
        identities: (images,), equal for images of one identity.
        alpha: The margin.
        rng: Draws the negatives.
        max_ap: Leave out pairs with d(a, p) > max_ap (0: no limit).

    Returns:
        (n, 3) int64, the indices of anchor, positive and negative in the bag.
    """
    distances = 2 - 2 * embeddings @ embeddings.T
    same = identities[:, np.newaxis] == identities
    pairs = np.argwhere(np.triu(same, 1))
    between = distances[pairs[:, 0], pairs[:, 1]]
    allowed = between <= (max_ap or np.inf)
    pairs, between = pairs[allowed], between[allowed, np.newaxis]
    distances[same] = np.inf
    triplets = [np.empty((0, 3), np.int64)]
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        to_negatives = distances[pairs[part, 0]]
        semi_hard = (to_negatives > between[part]) & (to_negatives < between[part] + alpha)
        with_one, negatives = _draw_true(semi_hard, rng)
        triplets.append(np.column_stack([pairs[part][with_one], negatives]))
    return np.concatenate(triplets)


def _draw_true(matrix: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a boolean matrix with a true entry, and for each the column of one such entry, drawn."""
    _, columns = np.nonzero(matrix)
    counts = np.count_nonzero(matrix, axis=1)
    first = np.cumsum(counts) - counts
    rows = np.flatnonzero(counts)
    return rows, columns[first[rows] + rng.integers(counts[rows])]


def find_triplets(
    groups: Sequence[np.ndarray], embed: Embed, options: TripletOptions, rng: np.random.Generator, wanted: int
) -> np.ndarray | None:
    """Search bag after bag until there are enough triplets.

    Args:
        groups: The record ids of every identity's images.
        embed: Embeds the images of a bag.
        options: Size and margin.
        rng: Draws images and negatives.
        wanted: Least number of triplets.

    Returns:
        Record ids, (n, 3), shuffled; None if _BAGS bags hold fewer than wanted.
    """
    found = np.empty((0, 3), np.int64)
    for _ in range(_BAGS):
        records, identities = draw_bag(groups, options.triplet_bag_size, options.images_per_identity, rng)
        indices = mine(embed(records), identities, options.triplet_alpha, rng, options.triplet_max_ap)
        logging.info("bag of %d images: %d triplets", len(records), len(indices))
        found = np.concatenate([found, records[indices]])
        if len(found) >= wanted:
            return rng.permutation(found)
    return None


# The batches.


def group_by_device(triplets: np.ndarray, per_device: int) -> np.ndarray:
    """Order the images of triplets so that each device gets complete ones.

    A batch is split over devices in equal parts. For every `per_device` triplets come their anchors, their positives
    and their negatives. Remaining triplets, fewer than `per_device`, are left out.

    Args:
        triplets: (n, 3).
        per_device: Triplets in a device's part of the batch.

    Returns:
        The images, one-dimensional.
    """
    complete = len(triplets) // per_device * per_device
    return triplets[:complete].reshape(-1, per_device, 3).transpose(0, 2, 1).reshape(-1)


class TripletSource(BatchSource):
    """Batches of triplets, until --end-epoch or until bags hold no more triplets. An epoch is a bag."""

    def __init__(
        self,
        images: ImageIterator,
        groups: Sequence[np.ndarray],
        embed: Embed,
        options: TripletOptions,
        per_device: int,
        epochs: int,
    ) -> None:
        """Start before the first bag.

        Args:
            images: Reads the images.
            groups: The record ids of every identity's images.
            embed: Embeds the images of a bag.
            options: Size and margin.
            per_device: Triplets in a device's part of the batch.
            epochs: Largest number of bags.
        """
        super().__init__(images)
        self._groups, self._embed, self._options = groups, embed, options
        self._per_device, self._epochs = per_device, epochs
        self._seed = images.seed
        self._triplets: np.ndarray | None = None

    @property
    def batches_left(self) -> None:
        """None: only the search for triplets shows which bag is the last one."""
        return

    def next_batch(self) -> DataBatch | None:
        """Return the next batch, from the next bag if this one has ended; None at the end of the run.

        Raises:
            UserError: The first bags hold too few triplets.
        """
        if self._triplets is None:
            return self._images.next() if self._begin(0) else None
        try:
            return self._images.next()
        except StopIteration:
            return self._images.next() if self._begin(self.epoch + 1) else None

    def arrays(self) -> Params:
        """Return the bag's triplets, which cannot be found again: the network has changed since."""
        return {} if self._triplets is None else {"triplets": mx.nd.array(self._triplets, dtype=np.int64)}

    def start(self, epoch: int, batch: int, arrays: Params, seed: int) -> None:
        """Continue after `batch` batches of a bag, whose triplets are in the saved arrays."""
        self._images.seed = self._seed = seed
        if "triplets" in arrays:
            self._triplets = arrays["triplets"].asnumpy()
            self._serve(epoch, batch)

    def restart_reshuffled(self, epoch: int, _batch: int, seed: int) -> None:
        """Continue with the next bag, which follows from a new seed."""
        self._images.seed = self._seed = seed
        if self._triplets is not None:
            self._serve(epoch, 3 * len(self._triplets) // self.batch_size)

    def _begin(self, bag: int) -> bool:
        """Find the triplets of a bag; false if there are no further bags."""
        if bag >= self._epochs:
            return False
        # a stream of random numbers that the images do not use
        rng = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(0, bag)))
        wanted = self.batch_size // 3
        found = find_triplets(self._groups, self._embed, self._options, rng, wanted)
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

    def _serve(self, bag: int, batch: int) -> None:
        """Continue with a batch of the bag whose triplets are there."""
        assert self._triplets is not None
        self._images.start(bag, batch, group_by_device(self._triplets, self._per_device))


def identities(records: FaceRecords, images_filter: int, skip_bad: bool = False) -> list[np.ndarray]:
    """Return the record ids of the images of each identity with at least `images_filter` images.

    Args:
        records: The .rec file.
        images_filter: Least number of images.
        skip_bad: Leave out records that are nobody's image, up to 1 % of all.

    Raises:
        UserError: There are not two identities, or none has two images, or too many records are nobody's image.
    """
    _, images, unusable = records.identities
    if len(unusable) > (MAX_BAD_FRACTION if skip_bad else 0) * len(records):
        raise UserError(
            f"{records.problem(int(unusable[0]))} ({len(unusable)} of {len(records)} records cannot be used): repair "
            "the set (insightface-check-set --repair)"
        )
    groups = [group for group in images if len(group) >= images_filter]
    if len(groups) < 2 or max(map(len, groups)) < 2:
        raise UserError(f"{records.path}: triplets need two identities, and two images of one; see --images-filter")
    return groups
