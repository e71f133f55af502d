"""Build the stem (the first layers) of DenseNet and DPN, and read version_input for networks other than `fresnet`."""

from __future__ import annotations

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols import fresnet
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.variants import choose

MAX_FILTERS = 64  # on a map as large as the image


def large_image_stem(version_input: int) -> bool:
    """Return whether the stem reduces the map as for large images: yes for version_input 0, no for 1 and 2.

    Raises:
        ValueError: Another version_input.
    """
    return choose("version_input", version_input, {0: True, 1: False, 2: False})


def stem(version_input: int, num_filter: int, bn_mom: float) -> Symbol:
    """Build the first layers, from the input `data` to a feature map.

    Args:
        version_input: 0 for a 7x7/2 convolution and a pooling, to a quarter of the image's sides; 1 or 2 for a 3x3
            convolution and an IR unit, to half of them.
        num_filter: Channels of the map; with version_input 1 or 2 at most MAX_FILTERS.
        bn_mom: Momentum of the batch norms.

    Raises:
        ValueError: Another version_input.
    """
    if large_image_stem(version_input):
        body = _conv_bn_act(num_filter, kernel=(7, 7), stride=(2, 2), pad=(3, 3), bn_mom=bn_mom)
        return mx.sym.Pooling(body, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max")
    num_filter = min(num_filter, MAX_FILTERS)
    body = _conv_bn_act(num_filter, kernel=(3, 3), stride=(1, 1), pad=(1, 1), bn_mom=bn_mom)
    return fresnet.residual_unit_v3(body, num_filter, (2, 2), False, "head", False, bn_mom=bn_mom)


def _conv_bn_act(num_filter: int, *, bn_mom: float, **attrs: layers.Pair) -> Symbol:
    data = layers.scale_pixels(mx.sym.Variable("data"))
    body = mx.sym.Convolution(data, num_filter=num_filter, no_bias=True, workspace=256, name="conv0", **attrs)
    return layers.activation(layers.batch_norm(body, "bn0", bn_mom), "prelu", "relu0")
