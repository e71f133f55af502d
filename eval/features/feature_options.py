"""Declare the options of commands that compute and store the outputs of a network."""

import dataclasses

from insightface_mx.cli.fields import option
from insightface_mx.cli.types import AT_LEAST_ONE
from insightface_mx.engine import BATCH_SIZE


@dataclasses.dataclass(frozen=True)
class FeatureOptions:
    """Where a network's outputs are stored, and how many images go through it at a time."""

    features: str = option(
        "features",
        "folder that keeps what the network says of the images, for the next call with the same network and images",
        metavar="DIR",
    )
    batch_size: int = option(BATCH_SIZE, "images at a time", allowed=AT_LEAST_ONE, metavar="N")
