"""The networks: `get_symbol("r50", 512)` and the table of what there is."""

from typing import Callable, NamedTuple

from insightface_mx.base.compat import mx
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
from insightface_mx.symbols.variants import pick

GAUSSIAN_OUT = {"rnd_type": "gaussian", "factor_type": "out"}
GAUSSIAN_IN = {"rnd_type": "gaussian", "factor_type": "in"}
UNIFORM_IN = {"rnd_type": "uniform", "factor_type": "in"}


class Family(NamedTuple):
    """How to build and how to initialise the networks of one file."""

    builder: Callable  # builder(emb_size, depth, **options), or builder(emb_size, **options) where depths is empty
    depths: tuple  # what follows the key of NETWORKS in a name; empty: the key is the whole name
    initializer: dict  # arguments of mx.init.Xavier, besides its magnitude of 2


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
NAMES = {  # every name there is: its family and the depth as the builder's argument, if it takes one
    **{key: (family, ()) for key, family in NETWORKS.items() if not family.depths},
    **{f"{key}{depth}": (family, (depth,)) for key, family in NETWORKS.items() for depth in family.depths},
}


def get_symbol(network, emb_size, *, image_size=(112, 112), **options):
    """Build the network called `network`, one of NAMES, with an embedding of emb_size numbers.

    options: those of variants.DEFAULTS. Input `data`, N x 3 x height x width, RGB of 0..255; image_size is height and
    width. The embedding, N x emb_size, is node fc1 (heads Z, A and B have none: see symbol_utils.get_fc1). The names
    that MXNet makes up are the same for every call. ValueError: an unknown network or value, an option that the
    network has no use for, or images of a size that it cannot take.
    """
    family, depth = pick("network", network, NAMES)
    with mx.name.NameManager():
        embedding = family.builder(emb_size, *depth, **options)
    _check_image_size(embedding, network, image_size)
    return embedding


def get_initializer(network):
    """Make the initialiser that `network`, one of NAMES, is trained from."""
    family, _ = pick("network", network, NAMES)
    return mx.init.Xavier(magnitude=2, **family.initializer)


def _check_image_size(embedding, network, image_size):
    height, width = image_size
    try:
        embedding.infer_shape_partial(data=(1, 3, height, width))  # infer_shape would print before it raises
    except mx.MXNetError as error:
        raise ValueError(
            f"network {network} in these versions cannot take {height}x{width} images: choose larger images or other "
            f"versions (version_output GDC needs a map of at least 7x7). {error}"
        ) from error
