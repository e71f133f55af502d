"""Build dual path networks (Chen et al., arXiv 1707.01629): p68, p92, p107, p131.

A unit's convolutions give two parts: one is added to the residual path, whose width is fixed in a stage, and the other
is appended to the dense path, which grows by the same number of channels in every unit of a stage.
"""

from __future__ import annotations

from typing import NamedTuple, Tuple

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.layers import Pair
from insightface_mx.symbols.parts.symbol_utils import get_fc1
from insightface_mx.symbols.parts.variants import choose, network_builder
from insightface_mx.symbols.stem import stem

Paths = Tuple[Symbol, Symbol]  # residual and dense


class Depth(NamedTuple):
    """One network's row of the paper's table 1.

    Attributes:
        inner: Width of a unit's convolutions in the first stage; it doubles with every further stage.
        groups: Of the 3x3 convolution.
        units: In each of the four stages.
        growth: Of the dense path in a unit, by stage.
    """

    inner: int
    groups: int
    units: tuple[int, ...]
    growth: tuple[int, ...]


DEPTHS = {
    68: Depth(128, 32, (3, 4, 12, 3), (16, 32, 32, 64)),
    92: Depth(96, 32, (3, 4, 20, 3), (16, 32, 24, 128)),
    107: Depth(200, 50, (4, 8, 20, 3), (20, 64, 64, 128)),
    131: Depth(160, 40, (4, 8, 28, 3), (16, 32, 32, 128)),
}
WIDTHS = (256, 512, 1024, 2048)  # of the residual path, by stage; the paper's p68 has a quarter of them
STEM_FILTERS = 128  # of the 7x7 convolution, for every depth; the paper's p92 has 64 and its p68 10


@network_builder
def get_symbol(
    num_classes: int, num_layers: int, *, version_input: int = 1, version_output: str = "E", bn_mom: float = 0.9
) -> Symbol:
    """Build a dual path network whose input is N x 3 x H x W, RGB of 0..255.

    Args:
        num_classes: Length of the embedding.
        num_layers: The depth, one of DEPTHS.
        version_input: The stem, as in `stem.stem`.
        version_output: The output layers, one of symbol_utils.HEADS; GDC fits no depth.
        bn_mom: Momentum of the batch norms.
    """
    inner, groups, units, growths = choose("depth", num_layers, DEPTHS)
    data = stem(version_input, STEM_FILTERS, bn_mom)
    paths: tuple[Symbol, ...] = ()  # residual and dense, as soon as there are some
    for stage, (width, growth) in enumerate(zip(WIDTHS, growths)):
        for unit in range(units[stage]):
            name, stride = f"conv{stage + 2}_x__{unit + 1}", 2 if stage and not unit else 1
            if paths:
                data = mx.sym.Concat(*paths, name=f"{name}_cat-input")
            if not unit:
                paths = _projection(data, f"{name}_c1x1-w(s/{stride})", width, growth, stride, bn_mom)
            branch = _branch(data, name, inner * 2**stage, groups, width, growth, stride, bn_mom)
            paths = _extend(paths, branch, name)
    return get_fc1(mx.sym.Concat(*paths, name="conv5_x_x_cat-final"), num_classes, version_output, bn_mom)


def _projection(data: Symbol, name: str, width: int, growth: int, stride: int, bn_mom: float) -> Paths:
    """Begin a stage's paths, the dense one with twice the growth."""
    channels = width + 2 * growth
    return _split(_bn_act_conv(data, name, channels, bn_mom, stride=(stride, stride)), name, width, channels)


def _branch(
    data: Symbol, name: str, inner: int, groups: int, width: int, growth: int, stride: int, bn_mom: float
) -> Paths:
    body = _bn_act_conv(data, f"{name}_c1x1-a", inner, bn_mom)
    body = _bn_act_conv(
        body, f"{name}_c3x3-b", inner, bn_mom, kernel=(3, 3), stride=(stride, stride), pad=(1, 1), num_group=groups
    )
    body = _bn_act_conv(body, f"{name}_c1x1-c", width + growth, bn_mom)
    return _split(body, f"{name}_c1x1-c", width, width + growth)


def _extend(paths: tuple[Symbol, ...], branch: Paths, name: str) -> Paths:
    residual = mx.sym.add_n(paths[0], branch[0], name=f"{name}_sum")
    return residual, mx.sym.Concat(paths[1], branch[1], name=f"{name}_cat")


def _split(data: Symbol, name: str, width: int, channels: int) -> Paths:
    """Split the channels: the first `width` for the residual path, the others for the dense one."""
    return (
        mx.sym.slice_axis(data, axis=1, begin=0, end=width, name=f"{name}-split1"),
        mx.sym.slice_axis(data, axis=1, begin=width, end=channels, name=f"{name}-split2"),
    )


def _bn_act_conv(
    data: Symbol,
    name: str,
    num_filter: int,
    bn_mom: float,
    kernel: Pair = (1, 1),
    stride: Pair = (1, 1),
    pad: Pair = (0, 0),
    num_group: int = 1,
) -> Symbol:
    body = mx.sym.BatchNorm(data, fix_gamma=False, momentum=bn_mom, name=f"{name}__bn__bn")  # eps stays at MXNet's 1e-3
    body = layers.activation(body, "relu", f"{name}__ac__relu")
    attrs = {"kernel": kernel, "stride": stride, "pad": pad, "num_group": num_group, "no_bias": True}
    return mx.sym.Convolution(body, num_filter=num_filter, name=f"{name}__conv", **attrs)
