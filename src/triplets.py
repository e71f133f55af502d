"""Finding triplets worth training on: bags of images, and semi-hard negatives within a bag. Numpy alone.

A triplet is two images of one person, the anchor and the positive, and an image of another, the negative.
"""

import numpy as np

from insightface_mx.base.compat import mx
from insightface_mx.losses import angle

_PAIRS_AT_ONCE = 1024  # a matrix of so many rows and a column an image of the bag is held at a time


def draw_bag(groups, bag_size, images_per_identity, rng):
    """Draw a bag: two int64 arrays of at most bag_size numbers, the images and the group each comes from.

    groups: a list with an array of image numbers for every identity. Identities are drawn, none twice, until the bag
    is full or all are in it, each with images_per_identity images or as many as it has. rng: a numpy Generator.
    """
    order = rng.permutation(len(groups))
    sizes = np.array([len(groups[identity]) for identity in order])
    full = np.searchsorted(np.cumsum(np.minimum(sizes, images_per_identity)), bag_size)
    drawn = [rng.permutation(groups[identity])[:images_per_identity] for identity in order[: full + 1]]
    identities = np.repeat(order[: full + 1], [len(images) for images in drawn])
    return np.concatenate(drawn)[:bag_size], identities[:bag_size]


def mine(embeddings, identities, alpha, rng, max_ap=0.0):
    """Semi-hard triplets of a bag: (n, 3) int64, the places of anchor, positive and negative in it.

    embeddings: (images, d), unit length. identities: (images,), equal for one person. Every two images of a person,
    the first of them as the anchor, get one negative drawn from those with d(a, p) < d(a, n) < d(a, p) + alpha, d being
    the squared distance, or are left out where there is none, or where d(a, p) > max_ap (0: no limit).
    Source: FaceNet, arXiv 1503.03832, section 3.2.
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


def in_thirds(triplets, per_device):
    """The images of (n, 3) triplets as one array: for every per_device triplets their anchors, positives, negatives.

    A batch is split over devices in equal parts, so that each then has whole triplets. The rest that is too few for a
    part is left out.
    """
    whole = len(triplets) // per_device * per_device
    return triplets[:whole].reshape(-1, per_device, 3).transpose(0, 2, 1).reshape(-1)


def _draw_true(matrix, rng):
    """The rows of a boolean matrix that hold something true, and for each the column of one such entry, drawn."""
    _, columns = np.nonzero(matrix)
    counts = np.count_nonzero(matrix, axis=1)
    first = np.cumsum(counts) - counts
    rows = np.flatnonzero(counts)
    return rows, columns[first[rows] + rng.integers(counts[rows])]


def squared_distance(a, b):
    """|a - b|^2 row by row: FaceNet, arXiv 1503.03832, equation 1."""
    return mx.sym.sum(mx.sym.square(a - b), axis=1)


def angular_distance(a, b):
    """arccos(a.b) row by row, in radians: ArcFace, arXiv 1801.07698, the triplet loss among the losses it compares."""
    return angle(mx.sym.sum(a * b, axis=1))


DISTANCES = {1: squared_distance, 2: angular_distance}  # by --loss-type


def training_symbol(embedding, loss_type, alpha):
    """The graph to train and to save: a Group of the embedding (no gradient) and `triplet_loss`, one number.

    embedding: symbol, samples x emb_size; the samples are as many anchors, positives and negatives, in this order. The
    loss is the mean over triplets of max(0, d(a, p) - d(a, n) + alpha), d being one of DISTANCES of unit embeddings.
    """
    unit = mx.sym.L2Normalization(embedding, mode="instance", name="fc1n")
    anchor, positive, negative = mx.sym.split(unit, num_outputs=3, axis=0)
    distance = DISTANCES[loss_type]
    violation = mx.sym.relu(distance(anchor, positive) - distance(anchor, negative) + alpha)
    return mx.sym.Group([mx.sym.BlockGrad(embedding), mx.sym.MakeLoss(mx.sym.mean(violation), name="triplet_loss")])
