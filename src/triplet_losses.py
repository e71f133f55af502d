"""Triplet losses, on the embeddings of a batch in thirds: anchors, positives, negatives.

Values and gradients are finite for any finite embedding, identical or opposite ones included.
"""

from insightface_mx.compat import mx
from insightface_mx.losses import angle


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
