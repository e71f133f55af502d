"""List all networks in one table, build one of them, and choose its initializer."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols import (
    fdensenet,
    fdpn,
    finception_resnet_v2,
    fmobilefacenet,
    fmobilenet,
    fmobilenetv2,
    fnasnet,
    fresnet,
    fxception,
    spherenet,
    tf_resnet,
)
from insightface_mx.symbols.variants import choose

GAUSSIAN_OUT = {"rnd_type": "gaussian", "factor_type": "out"}
GAUSSIAN_IN = {"rnd_type": "gaussian", "factor_type": "in"}
UNIFORM_IN = {"rnd_type": "uniform", "factor_type": "in"}
Initializer = Any  # of MXNet


class Family(NamedTuple):
    """The networks of one file: how to build and to initialise them.

    Attributes:
        builder: Takes (emb_size, depth, **options); (emb_size, **options) where `depths` is empty.
        depths: What follows the family's key in a network's name; empty: the key is the whole name.
        initializer: Arguments of mx.init.Xavier, to which get_initializer adds a magnitude of 2.
    """

    builder: Callable[..., Symbol]
    depths: tuple[int, ...]
    initializer: dict[str, str]


NETWORKS = {
    "d": Family(fdensenet.get_symbol, tuple(fdensenet.BLOCKS), UNIFORM_IN),
    "i2": Family(finception_resnet_v2.get_symbol, (), GAUSSIAN_IN),
    "m1": Family(fmobilenet.get_symbol, (), UNIFORM_IN),
    "m2": Family(fmobilenetv2.get_symbol, (), UNIFORM_IN),
    "n": Family(fnasnet.get_symbol, (), UNIFORM_IN),
    "p": Family(fdpn.get_symbol, tuple(fdpn.DEPTHS), UNIFORM_IN),
    "r": Family(fresnet.get_symbol, tuple(fresnet.UNITS), GAUSSIAN_OUT),
    "s": Family(spherenet.get_symbol, tuple(spherenet.UNITS), UNIFORM_IN),
    "t": Family(tf_resnet.get_symbol, tuple(tf_resnet.UNITS), UNIFORM_IN),
    "x": Family(fxception.get_symbol, (), GAUSSIAN_IN),
    "y": Family(fmobilefacenet.get_symbol, tuple(fmobilefacenet.BLOCKS), GAUSSIAN_OUT),
}
NAMES: dict[str, tuple[Family, tuple[int, ...]]] = {  # every network's family, and its depth if the builder takes one
    **{key: (family, ()) for key, family in NETWORKS.items() if not family.depths},
    **{f"{key}{depth}": (family, (depth,)) for key, family in NETWORKS.items() for depth in family.depths},
}


def get_symbol(network: str, emb_size: int, *, image_size: tuple[int, int] = (112, 112), **options: Any) -> Symbol:
    """Build a network from image to embedding.

    The names that MXNet generates are the same for every call.

    Args:
        network: One of NAMES.
        emb_size: Length of the embedding.
        image_size: Height and width of the images, which the network is checked against.
        options: Those of variants.DEFAULTS.

    Returns:
        The embedding, N x emb_size, of the input `data`: RGB images, N x 3 x height x width, values 0..255. Its node is
        fc1 (version_output Z, A and B have no such node: see symbol_utils.get_fc1).

    Raises:
        ValueError: The network or an option's value does not exist, the network does not use an option, or it cannot
            take images of this size.
    """
    family, depth = choose("network", network, NAMES)
    with mx.name.NameManager():
        embedding = family.builder(emb_size, *depth, **options)
    height, width = image_size
    try:
        embedding.infer_shape_partial(data=(1, 3, height, width))  # infer_shape would print before it raises
    except mx.MXNetError as error:
        raise ValueError(
            f"network {network} in these versions cannot take {height}x{width} images: choose larger images or other "
            f"versions (version_output GDC needs a map of at least 7x7). {error}"
        ) from error
    return embedding


def get_initializer(network: str) -> Initializer:
    """Return the initializer for training `network`, one of NAMES, from random parameters."""
    family, _ = choose("network", network, NAMES)
    return mx.init.Xavier(magnitude=2, **family.initializer)
