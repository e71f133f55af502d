"""Cut the classes of a run into fixed blocks, and deal the blocks out to shards and contexts."""

from __future__ import annotations

import dataclasses
from typing import Dict, NamedTuple, Sequence, TypeVar

from insightface_mx.base.compat import Symbol
from insightface_mx.base.errors import UserError
from insightface_mx.formats.params_file import Shape

Shapes = Dict[str, Shape]  # parameter name -> shape
Attributes = Dict[str, Dict[str, str]]  # parameter name -> MXNet's attributes

WEIGHT, BIAS = "fc7_weight", "fc7_bias"
_BLOCK = 4096  # classes of a block; a block's gradient stays in the CPU's cache
_BLOCKS = 32  # of a set with few classes, at least, so that it can be sharded, too

Context = TypeVar("Context")


class SplitLoss(NamedTuple):
    """A training graph in two parts, between which the logits are computed shard by shard.

    Attributes:
        body: From the image to a Group: the embedding without gradient; what is multiplied with the class weights;
            and, where the target takes it, `scale`.
        target: From the variable `target`, one logit or, in margin losses, one scaled cosine a sample, to a Group: the
            logit that takes its place, and an extra loss. It may take `scale`, `fc7_beta`, and the mean class weights
            `mean_of_samples` and `mean_of_classes`.
        unit_weights: Whether the class weights are brought to length 1.
        shapes: fc7_weight and maybe fc7_bias -> shape.
        attributes: The same names -> MXNet's attributes, multipliers among them.
    """

    body: Symbol
    target: Symbol
    unit_weights: bool
    shapes: Shapes
    attributes: Attributes


@dataclasses.dataclass(frozen=True)
class Shards:
    """What trains with class weights in shards.

    Attributes:
        loss: The training graph.
        count: Number of shards.
        sample_ratio: Fraction of the classes that a batch is held against.
        seed: The sampled classes follow from it, from the batch's number and from the block.
    """

    loss: SplitLoss
    count: int
    sample_ratio: float
    seed: int


def block_size(classes: int) -> int:
    """Return the classes of a block; it follows from the number of classes alone, so it is the same for all shards."""
    return min(_BLOCK, -(-classes // _BLOCKS))


def blocks_of(classes: int) -> list[range]:
    """Return the classes of each block."""
    size = block_size(classes)
    return [range(first, min(first + size, classes)) for first in range(0, classes, size)]


def check_count(shards: int, classes: int) -> None:
    """Raise UserError if there are more shards than blocks."""
    blocks = len(blocks_of(classes))
    if shards > blocks:
        raise UserError(
            f"--fc7-shards {shards}: {classes} classes can be cut into {blocks} shards at most; the number of contexts "
            "is the usual value"
        )


def place_blocks(classes: int, shards: int, contexts: Sequence[Context]) -> list[Context]:
    """Return the context of each block: shards are runs of blocks of about equal length, dealt out to the contexts.

    Args:
        classes: Number of classes.
        shards: Number of shards.
        contexts: The contexts of the run.
    """
    blocks = len(blocks_of(classes))
    return [contexts[block * shards // blocks % len(contexts)] for block in range(blocks)]
