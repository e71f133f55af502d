"""Declare how a network that is not from here takes images, and where its embedding is."""

import argparse
import dataclasses
import math
from typing import Any, Dict, Optional, Tuple

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.cli.fields import option

Numbers = Tuple[float, ...]

INPUT_GROUP = "input of a network that is not from here"  # title of these options in --help
EMBEDDING = "fc1"  # the node of the embedding, in every network here
CHANNELS = (1, 3)  # grey or RGB
_OUTPUT = "_output"


def numbers(text: str) -> Numbers:
    """Parse one number, or three separated by commas."""
    values = tuple(float(part) for part in text.split(","))
    if len(values) not in CHANNELS or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"'{text}' is not one number, or three separated by commas")
    return values


def _as_numbers(name: str, value: Any) -> Optional[Numbers]:
    """Return one number, or several, as a tuple; None stays None."""
    values = (value,) if isinstance(value, (int, float)) else value
    if values is None:
        return None
    is_list = isinstance(values, (list, tuple)) and len(values) in CHANNELS
    if not is_list or not all(isinstance(x, (int, float)) and math.isfinite(x) for x in values):
        raise UserError(f"{name} is one finite number, or three of them, not {value!r}")
    return tuple(map(float, values))


@dataclasses.dataclass(frozen=True)
class NetworkInput:
    """How a network takes images, and its embedding's node; None: as the checkpoint's manifest says.

    The networks here need none of it: their embedding is fc1, and they take pixels of 0..255. A network whose first
    layers take one channel gets grey images.

    Attributes:
        embedding_node: The name of the node.
        pixel_mean: What is subtracted from pixels of 0..255, for all channels or for each.
        pixel_scale: What the pixels are multiplied with after that.
    """

    embedding_node: Optional[str] = option(
        None,
        "the node of the checkpoint's graph whose output is the embedding (default: from the manifest, otherwise fc1)",
        parse=str,
        metavar="NAME",
    )
    pixel_mean: Optional[Numbers] = option(
        None,
        "what the network's user subtracts from pixels of 0..255: one number, or three for R, G and B (default: from "
        "the manifest, otherwise 0)",
        parse=numbers,
        metavar="X[,X,X]",
    )
    pixel_scale: Optional[Numbers] = option(
        None,
        "what the pixels are multiplied with after that (default: from the manifest, otherwise 1)",
        parse=numbers,
        metavar="X[,X,X]",
    )

    def __post_init__(self) -> None:
        """Take numbers and lists for tuples, and check the values."""
        for name in ("pixel_mean", "pixel_scale"):
            object.__setattr__(self, name, _as_numbers(name, getattr(self, name)))
        if self.pixel_scale and not all(self.pixel_scale):
            raise UserError("pixel_scale must not be 0: the network would see nothing")
        if self.embedding_node is not None and not isinstance(self.embedding_node, str):
            raise UserError(f"embedding_node is the name of a node, not {self.embedding_node!r}")

    @property
    def node(self) -> str:
        """The node of the embedding, without MXNet's ending for outputs."""
        name = self.embedding_node or EMBEDDING
        return name[: -len(_OUTPUT)] if name.endswith(_OUTPUT) else name

    def or_else(self, other: "NetworkInput") -> "NetworkInput":
        """Return these values, with those of `other` in place of None."""
        return NetworkInput(**{**other.given(), **self.given()})

    def scaled(self, images: np.ndarray) -> np.ndarray:
        """Return RGB images of 0..255, (n, 3, height, width) float32, as the network takes them."""
        if self.pixel_mean:
            images = images - np.array(self.pixel_mean, np.float32).reshape(-1, 1, 1)
        if self.pixel_scale:
            images = images * np.array(self.pixel_scale, np.float32).reshape(-1, 1, 1)
        return images

    def given(self) -> Dict[str, Any]:
        """Return the values that are not None, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


USUAL_INPUT = NetworkInput()
