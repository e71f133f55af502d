"""Build DenseNet (Huang et al., arXiv 1608.06993) with bottleneck units and compression 0.5: d121, d161, d169, d201."""

from __future__ import annotations

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.layers import Pair
from insightface_mx.symbols.parts.symbol_utils import get_fc1
from insightface_mx.symbols.parts.variants import DENSENET_BLOCKS, choose, network_builder
from insightface_mx.symbols.stem import stem


@network_builder
def get_symbol(
    num_classes: int, num_layers: int, *, version_input: int = 1, version_output: str = "E", bn_mom: float = 0.9
) -> Symbol:
    """Build a DenseNet whose input is N x 3 x H x W, RGB of 0..255.

    Args:
        num_classes: Length of the embedding.
        num_layers: The depth, one of variants.DENSENET_BLOCKS.
        version_input: The stem, as in `stem.stem`.
        version_output: The output layers, one of symbol_utils.HEADS.
        bn_mom: Momentum of the batch norms.
    """
    growth, blocks = choose("depth", num_layers, DENSENET_BLOCKS)
    channels = 2 * growth  # as in the paper, even if the stem's map has fewer
    body = stem(version_input, channels, bn_mom)
    for stage, units in enumerate(blocks, 1):
        if stage > 1:
            channels //= 2
            body = _transition(body, stage - 1, channels, bn_mom)
        for unit in range(1, units + 1):
            branch = _unit(body, f"DBstage{stage}_unit{unit}", growth, bn_mom)
            body = mx.sym.Concat(body, branch, name=f"DBstage{stage}_concat{unit}")
        channels += units * growth
    return get_fc1(body, num_classes, version_output, bn_mom)


def _unit(data: Symbol, name: str, growth: int, bn_mom: float) -> Symbol:
    body = _bn_act_conv(data, name, 1, 4 * growth, (1, 1), bn_mom)
    return _bn_act_conv(body, name, 2, growth, (3, 3), bn_mom)


def _transition(data: Symbol, stage: int, num_filter: int, bn_mom: float) -> Symbol:
    name = f"TBstage{stage}"
    body = _bn_act_conv(data, name, 1, num_filter, (1, 1), bn_mom)
    attrs = {"kernel": (2, 2), "stride": (2, 2), "pool_type": "avg", "global_pool": False}
    return mx.sym.Pooling(body, name=f"{name}_pool{stage}", **attrs)


def _bn_act_conv(data: Symbol, name: str, i: int, num_filter: int, kernel: Pair, bn_mom: float) -> Symbol:
    body = layers.activation(layers.batch_norm(data, f"{name}_bn{i}", bn_mom), "relu", f"{name}_relu{i}")
    attrs = {"kernel": kernel, "stride": (1, 1), "pad": (kernel[0] // 2, kernel[1] // 2), "workspace": 256}
    body = mx.sym.Convolution(body, num_filter=num_filter, no_bias=True, name=f"{name}_conv{i}", **attrs)
    return mx.sym.Dropout(body, p=0.2, name=f"{name}_dp{i}")
