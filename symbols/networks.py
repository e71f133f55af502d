"""List all networks in one table, build one of them, and choose its initializer."""

from __future__ import annotations

import functools
import logging
from typing import Any, Callable, Mapping, NamedTuple

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
from insightface_mx.symbols.later import config as later_config
from insightface_mx.symbols.later import fdensenet as later_densenet
from insightface_mx.symbols.later import fmnasnet, vargfacenet
from insightface_mx.symbols.parts.variants import DENSENET_BLOCKS, choose, is_later

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
        later: The builder for version_family 2021; None: the code of 2021 does not have the family.
    """

    builder: Callable[..., Symbol]
    depths: tuple[int, ...]
    initializer: dict[str, str]
    later: Callable[..., Symbol] | None = None


def _of_2021(builder: Callable[..., Symbol]) -> Callable[..., Symbol]:
    """Return a builder of a file that has the networks of both codes, set to that of 2021."""
    return functools.partial(builder, version_family=2021)


NETWORKS = {
    "d": Family(fdensenet.get_symbol, tuple(DENSENET_BLOCKS), UNIFORM_IN, later_densenet.get_symbol),
    "i2": Family(finception_resnet_v2.get_symbol, (), GAUSSIAN_IN),
    "m1": Family(fmobilenet.get_symbol, (), UNIFORM_IN, _of_2021(fmobilenet.get_symbol)),
    "m2": Family(fmobilenetv2.get_symbol, (), UNIFORM_IN),
    "mnas": Family(fmnasnet.get_symbol, (), UNIFORM_IN, fmnasnet.get_symbol),
    "n": Family(fnasnet.get_symbol, (), UNIFORM_IN),
    "p": Family(fdpn.get_symbol, tuple(fdpn.DEPTHS), UNIFORM_IN),
    "r": Family(fresnet.get_symbol, tuple(fresnet.UNITS), GAUSSIAN_OUT, _of_2021(fresnet.get_symbol)),
    "s": Family(spherenet.get_symbol, tuple(spherenet.UNITS), UNIFORM_IN),
    "t": Family(tf_resnet.get_symbol, tuple(tf_resnet.UNITS), UNIFORM_IN),
    "vargfacenet": Family(vargfacenet.get_symbol, (), UNIFORM_IN, vargfacenet.get_symbol),
    "x": Family(fxception.get_symbol, (), GAUSSIAN_IN),
    "y": Family(
        fmobilefacenet.get_symbol,
        tuple(fmobilefacenet.BLOCKS),
        GAUSSIAN_OUT,
        _of_2021(fmobilefacenet.get_symbol),
    ),
}
NAMES: dict[str, tuple[Family, tuple[int, ...]]] = {  # every network's family, and its depth if the builder takes one
    **{key: (family, ()) for key, family in NETWORKS.items() if not family.depths},
    **{f"{key}{depth}": (family, (depth,)) for key, family in NETWORKS.items() for depth in family.depths},
}
# networks whose graphs differ between the two codes with all other options at their defaults
DIFFERING = (*(f"d{depth}" for depth in DENSENET_BLOCKS), *(f"r{depth}" for depth in fresnet.BOTTLENECK))
LATER = ("mnas", "vargfacenet", *(f"r{depth}" for depth in fresnet.LATER))  # networks that only the code of 2021 has


def get_symbol(
    network: str,
    emb_size: int,
    *,
    image_size: tuple[int, int] = (112, 112),
    version_family: int = 2018,
    **options: Any,
) -> Symbol:
    """Build a network from image to embedding.

    The names that MXNet generates are the same for every call.

    Args:
        network: One of NAMES.
        emb_size: Length of the embedding.
        image_size: Height and width of the images, which the network is checked against.
        version_family: 2018 or 2021: which code's network it is, where both have one of this name that differ. Those
            of LATER are of 2021, with both values.
        options: The others of variants.DEFAULTS.

    Returns:
        The embedding, N x emb_size, of the input `data`: RGB images, N x 3 x height x width, values 0..255. Its node is
        fc1 (version_output Z, A and B have no such node: see symbol_utils.get_fc1).

    Raises:
        ValueError: The network or an option's value does not exist, the network does not use an option, it is the same
            in version_family 2018 and 2021 and 2021 is given, or it cannot take images of this size.
    """
    embedding = _of_family(network, emb_size, version_family, options)
    height, width = image_size
    try:
        embedding.infer_shape_partial(data=(1, 3, height, width))  # infer_shape would print before it raises
    except mx.MXNetError as error:
        raise ValueError(
            f"network {network} in these versions cannot take {height}x{width} images: choose larger images or other "
            f"versions (version_output GDC needs a map of at least 7x7). {error}"
        ) from error
    return embedding


def from_config(config: Mapping[str, Any], *, image_size: tuple[int, int] = (112, 112)) -> Symbol:
    """Build the network of a configuration of InsightFace's MXNet code of 2019 to 2021.

    Keys that the network does not use have no effect, as in that code; the log names them.

    Args:
        config: The configuration, with net_name, num_layers, net_output and so on: see later.config.DEFAULTS.
        image_size: Height and width of the images, which the network is checked against.

    Returns:
        The embedding, as get_symbol returns it.

    Raises:
        ValueError: A key is unknown, the network or a value does not exist, or it takes no images of this size.
    """
    meaning = later_config.read(config)
    if meaning.idle:
        logging.warning("%s has no effect on %s, as in the original", ", ".join(meaning.idle), meaning.network)
    family = family_of(meaning.network, meaning.emb_size, meaning.versions)
    versions = {**meaning.versions, "version_family": family}
    return get_symbol(meaning.network, meaning.emb_size, image_size=image_size, **versions)


def family_of(network: str, emb_size: int, versions: Mapping[str, Any]) -> int:
    """Return the version_family with which get_symbol builds a network of 2021: 2018 where that code has the same.

    Raises:
        ValueError: The network or a value does not exist.
    """
    family, depth = choose("network", network, NAMES)
    if network in LATER:
        return 2018
    later = _build_later(network, family, emb_size, *depth, **versions)
    return 2018 if later is None else 2021


def _of_family(network: str, emb_size: int, version_family: int, options: Mapping[str, Any]) -> Symbol:
    """Build the network of a version_family. Raises ValueError as get_symbol, but for the size of the images."""
    family, depth = choose("network", network, NAMES)
    if network in LATER and family.later:
        return _build(family.later, emb_size, *depth, **options)
    if not is_later(version_family):
        return _build(family.builder, emb_size, *depth, **options)
    embedding = _build_later(network, family, emb_size, *depth, **options)
    if embedding is None:
        raise ValueError(
            f"{network} is the same network in 2018 and 2021 with these options: leave version_family at 2018"
        )
    return embedding


def _build(builder: Callable[..., Symbol], *args: int, **options: Any) -> Symbol:
    """Call a builder so that the names that MXNet generates begin anew."""
    with mx.name.NameManager():
        return builder(*args, **options)


def _build_later(network: str, family: Family, *args: int, **options: Any) -> Symbol | None:
    """Build the network of 2021 that has the name of one of 2018; None where it is the same.

    Raises:
        ValueError: There is none.
    """
    if family.later is None:
        raise ValueError(f"the code of 2021 has no network {network}: leave version_family at 2018")
    embedding = _build(family.later, *args, **options)
    try:
        earlier = _build(family.builder, *args, **options)
    except ValueError:  # with an option that only the code of 2021 has
        return embedding
    return None if earlier.tojson() == embedding.tojson() else embedding


def get_initializer(network: str) -> Initializer:
    """Return the initializer for training `network`, one of NAMES, from random parameters."""
    family, _ = choose("network", network, NAMES)
    return mx.init.Xavier(magnitude=2, **family.initializer)
