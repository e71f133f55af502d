"""Build MNasNet (Tan et al., arXiv 1807.11626) with PReLU: mnas. Its layers come from Gluon."""

from __future__ import annotations

from typing import NamedTuple

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.gluon_layers import Block
from insightface_mx.symbols.parts.symbol_utils import get_fc1
from insightface_mx.symbols.parts.variants import network_builder

PREFIX = "mnasnet0_stage"
STEM, FIRST, LAST = 32, 16, 1024  # filters of the first two layers and of the last convolution


class Stage(NamedTuple):
    """A stage of units.

    Attributes:
        name: As in the names of its layers.
        expansion: Inner channels as a multiple of a unit's input channels.
        filters: Channels of the result.
        units: How many.
        kernel: Of the first unit's depthwise convolution; the others have 3x3.
        stride: Of the first unit.
    """

    name: str
    expansion: int
    filters: int
    units: int
    kernel: int
    stride: int


STAGES = (
    Stage("2", 3, 24, 3, 3, 2),
    Stage("3", 3, 40, 3, 5, 2),
    Stage("4_1", 6, 80, 3, 5, 2),
    Stage("4_2", 6, 96, 2, 3, 1),
    Stage("5_1", 6, 192, 4, 5, 2),
    Stage("5_2", 6, 320, 1, 3, 1),
)


@network_builder
def get_symbol(
    num_classes: int,
    *,
    version_output: str = "E",
    version_act: str = "prelu",
    version_multiplier: float = 1.0,
    bn_mom: float = 0.9,
) -> Symbol:
    """Build an MNasNet whose input is N x 3 x H x W, RGB of 0..255.

    Args:
        num_classes: Length of the embedding.
        version_output: The output layers, one of symbol_utils.HEADS.
        version_act: The activation, one of layers.ACTIVATIONS.
        version_multiplier: Scales the channels of every layer.
        bn_mom: Momentum of the batch norms in the output layers; the others have Gluon's 0.9.
    """
    if FIRST * version_multiplier < 1:
        raise ValueError(f"version_multiplier {version_multiplier} leaves no filters: it must be at least 1/{FIRST}")
    body = layers.scale_pixels(mx.sym.Variable("data"))
    channels = int(STEM * version_multiplier)
    body = Block(f"{PREFIX}1_conv0_").conv_norm_act(body, channels, 3, version_act)
    first = Block(f"{PREFIX}1_sepconv0_")
    body = first.conv_norm_act(body, channels, 3, version_act, groups=channels, in_channels=channels)
    inner, channels = channels, int(FIRST * version_multiplier)
    body = first.conv_norm_act(body, channels, 1, version_act, in_channels=inner)
    for stage in STAGES:
        filters = int(stage.filters * version_multiplier)
        for unit in range(stage.units):
            name = f"{PREFIX}{stage.name}_expandedconv{unit}_"
            kernel, stride = (3, 1) if unit else (stage.kernel, stage.stride)
            branch = _unit(body, name, stage.expansion * channels, filters, kernel, stride, version_act)
            body = mx.sym.elemwise_add(branch, body, name=f"{name}elemwise_add0") if unit else branch
            channels = filters
    last = int(LAST * version_multiplier)
    body = Block(f"{PREFIX}5_3_").conv_norm_act(body, last, 1, version_act)
    return get_fc1(body, num_classes, version_output, bn_mom, act_type=version_act, groups=last)


def _unit(data: Symbol, name: str, inner: int, filters: int, kernel: int, stride: int, act_type: str) -> Symbol:
    """Widen to `inner` channels, convolve each of them alone, narrow without an activation."""
    body = Block(f"{name}expand_").conv_norm_act(data, inner, 1, act_type)
    body = Block(f"{name}dwise_").conv_norm_act(body, inner, kernel, act_type, strides=stride, groups=inner)
    linear = Block(f"{name}linear_")
    return linear.norm(linear.conv(body, filters, 1))
