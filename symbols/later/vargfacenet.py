"""Build VarGFaceNet (Yan et al., arXiv 1910.04985): convolutions whose groups all have 8 channels."""

from __future__ import annotations

from typing import Any

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.layers import Pair
from insightface_mx.symbols.parts.symbol_utils import get_fc1
from insightface_mx.symbols.parts.variants import choose, network_builder

GROUP = 8  # channels of a group
EXPANSION = 2  # inner channels of a unit as a multiple of its input channels
STEM = 32
STAGES = ((64, 3), (128, 7), (256, 4))  # filters and units of stage 2, 3, 4
LAST = 1024  # channels before the embedding, whatever the multiplier
SQUEEZE = 4  # channels between the two convolutions of squeeze-excite: this part of them
WORKSPACE = 256


@network_builder
def get_symbol(
    num_classes: int,
    *,
    version_se: int = 0,
    version_output: str = "E",
    version_act: str = "prelu",
    version_multiplier: float = 1.0,
    bn_mom: float = 0.9,
) -> Symbol:
    """Build a VarGFaceNet whose input is N x 3 x H x W, RGB of 0..255; published with multiplier 1.25 and output J.

    Args:
        num_classes: Length of the embedding.
        version_se: 1 for squeeze-excite in every unit that keeps the map's size, and in the stem.
        version_output: The output layers, one of symbol_utils.HEADS, on a map of 512 channels.
        version_act: The activation, one of layers.ACTIVATIONS.
        version_multiplier: Scales the channels of stem and stages; STEM times it is a multiple of GROUP.
        bn_mom: Momentum of the batch norms.
    """
    channels = int(STEM * version_multiplier)
    if not channels or channels % GROUP or channels != STEM * version_multiplier:
        raise ValueError(
            f"version_multiplier {version_multiplier} leaves groups of other than {GROUP} channels: "
            f"choose a multiple of {GROUP / STEM}"
        )
    op = _Operators(version_se, version_act, bn_mom)
    body = layers.scale_pixels(mx.sym.identity(mx.sym.Variable("data"), name="id"))
    body = op.conv(body, "vargface_head_conv1", channels, (3, 3), pad=(1, 1), num_group=1)
    body = op.act(op.bn(body, "vargface_head_conv1"), "vargface_head_conv1")
    body = _stem_unit(op, body, "vargface_head_head_pooling", channels)
    for stage, (filters, units) in enumerate(STAGES, 2):
        inner, channels = channels, int(filters * version_multiplier)
        body = _first_unit(op, body, f"vargface_stage_{stage}_unit_1", inner, channels)
        for unit in range(2, units + 1):
            body = _unit(op, body, f"vargface_stage_{stage}_unit_{unit}", channels)
    body = op.act(op.bn(op.conv(body, "embed_convx", LAST), "embed_convx"), "embed_convx")
    body = op.conv(body, "embed_convx_depthwise", LAST, (7, 7), num_group=LAST // GROUP)
    body = op.bn(body, "embed_convx_depthwise")
    body = op.bn(op.conv(body, "embed_convx_pointwise", LAST // 2), "embed_convx_pointwise")
    body = op.act(body, "embed_convx_pointwise")
    return get_fc1(body, num_classes, version_output, bn_mom, act_type=version_act)


def _stem_unit(op: _Operators, data: Symbol, name: str, channels: int) -> Symbol:
    """Halve the map in two separable convolutions, and in one next to them."""
    body = op.separable(data, f"{name}_sep1_data", channels, channels, stride=(2, 2), expansion=1)
    body = op.act(body, f"{name}_sep1_data_conv2d_pointwise")
    body = op.separable(body, f"{name}_sep2_data", channels, channels, expansion=1)
    body = op.excite(body, name, channels)
    shortcut = op.separable(data, f"{name}_shortcut", channels, channels, stride=(2, 2), expansion=1)
    return op.act(body + shortcut, f"{name}_out_data")


def _first_unit(op: _Operators, data: Symbol, name: str, channels: int, filters: int) -> Symbol:
    """Halve the map in two branches, whose sum goes through a third convolution, and in a shortcut."""
    branches = [op.separable(data, f"{name}_sep{i}_data_branch", channels, filters, stride=(2, 2)) for i in (1, 2)]
    body = op.act(branches[0] + branches[1], f"{name}_sep1_data")
    body = op.separable(body, f"{name}_sep2_data", filters, filters)
    shortcut = op.separable(data, f"{name}_shortcut", channels, filters, stride=(2, 2))
    return op.act(body + shortcut, f"{name}_out_data")


def _unit(op: _Operators, data: Symbol, name: str, channels: int) -> Symbol:
    body = op.act(op.separable(data, f"{name}_sep1_data", channels, channels), f"{name}_sep1_data_conv2d_pointwise")
    body = op.excite(op.separable(body, f"{name}_sep2_data", channels, channels), name, channels)
    return op.act(body + data, f"{name}_out_data")


class _Operators:
    """Builds operators in the style of a network."""

    def __init__(self, version_se: int, act_type: str, bn_mom: float) -> None:
        self.se = choose("version_se", version_se, {0: False, 1: True})
        self.act_type, self.bn_mom = act_type, bn_mom

    def conv(self, data: Symbol, name: str, filters: int, kernel: Pair = (1, 1), **attrs: Any) -> Symbol:
        attrs = {"stride": (1, 1), "pad": (0, 0), **attrs}
        return mx.sym.Convolution(
            data, num_filter=filters, kernel=kernel, no_bias=True, workspace=WORKSPACE, name=name, **attrs
        )

    def bn(self, data: Symbol, name: str) -> Symbol:
        attrs = {"fix_gamma": False, "eps": 2e-5, "momentum": self.bn_mom, "use_global_stats": False}
        return mx.sym.BatchNorm(data, name=f"{name}_bn", **attrs)

    def act(self, data: Symbol, name: str) -> Symbol:
        return layers.activation(data, self.act_type, f"{name}_act")

    def separable(
        self, data: Symbol, name: str, channels: int, filters: int, stride: Pair = (1, 1), expansion: int = EXPANSION
    ) -> Symbol:
        """Convolve groups of GROUP of the `channels`, then all of them to `filters`, without an activation behind."""
        depthwise, pointwise = f"{name}_conv2d_depthwise", f"{name}_conv2d_pointwise"
        groups = {"num_group": channels // GROUP, "dilate": (1, 1)}
        body = self.conv(data, depthwise, channels * expansion, (3, 3), stride=stride, pad=(1, 1), **groups)
        body = self.act(self.bn(body, depthwise), depthwise)
        return self.bn(self.conv(body, pointwise, filters, num_group=1), pointwise)

    def excite(self, data: Symbol, name: str, channels: int) -> Symbol:
        """Multiply each channel by a weight computed from all channels' averages, where the network does so."""
        if not self.se:
            return data
        attrs = {"kernel": (1, 1), "stride": (1, 1), "pad": (0, 0)}
        body = mx.sym.Pooling(data, global_pool=True, pool_type="avg", name=f"{name}_se_pool1")
        body = mx.sym.Convolution(body, num_filter=channels // SQUEEZE, name=f"{name}_se_conv1", **attrs)
        body = layers.activation(body, self.act_type, f"{name}_se_act1")
        body = mx.sym.Convolution(body, num_filter=channels, name=f"{name}_se_conv2", **attrs)
        return mx.sym.broadcast_mul(data, layers.activation(body, "sigmoid", f"{name}_se_sigmoid"))
