"""Sample classes for a batch: Partial FC, arXiv 2010.05222 and 2203.15565.

The batch's own classes are always among them. The others are drawn in each block for itself, from seed, batch and
block: the sample does not depend on the number of shards, and a resumed run draws the same.
"""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np


def sample(own: np.ndarray, size: int, ratio: float, seed: Sequence[int]) -> np.ndarray:
    """Return the sampled classes of a block, in rising order, each as its place in the block.

    Args:
        own: Places of the batch's own classes, without repeats; if they are more than the sample, it grows.
        size: Classes of the block.
        ratio: Fraction of the classes to take.
        seed: What the sample follows from: the run's seed, the batch's number, and the block's index.
    """
    further = max(0, math.ceil(ratio * size) - len(own))
    others = np.setdiff1d(np.arange(size), own, assume_unique=True)
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    return np.sort(np.concatenate([own, generator.choice(others, further, replace=False, shuffle=False)]))
