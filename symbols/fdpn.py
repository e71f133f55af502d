"""Dual path networks (Chen et al., arXiv 1707.01629): p68, p92, p107, p131.

A residual path of fixed width and a dense path that grows by `growth` channels a unit share one branch of convolutions.
"""

from typing import NamedTuple

from insightface_mx.compat import mx
from insightface_mx.symbols import layers
from insightface_mx.symbols.stem import get_head
from insightface_mx.symbols.symbol_utils import get_fc1
from insightface_mx.symbols.variants import family, pick


class Depth(NamedTuple):
    """One network; inner is the width of the branch in the first stage, and doubles with every further stage."""

    inner: int
    groups: int
    units: tuple
    growth: tuple


DEPTHS = {
    68: Depth(128, 32, (3, 4, 12, 3), (16, 32, 32, 64)),
    92: Depth(96, 32, (3, 4, 20, 3), (16, 32, 24, 128)),
    107: Depth(200, 50, (4, 8, 20, 3), (20, 64, 64, 128)),
    131: Depth(160, 40, (4, 8, 28, 3), (16, 32, 32, 128)),
}
HEAD_FILTERS = 128
WIDTHS = (256, 512, 1024, 2048)  # of the residual path, by stage; p68's too, unlike its authors' own, a quarter as wide


@family
def get_symbol(num_classes, num_layers, *, version_input=1, version_output="E", bn_mom=0.9):
    """Build a dual path network of a depth of DEPTHS whose embedding has num_classes numbers.

    Input N x 3 x H x W, RGB of 0..255. version_input: as stem.get_head has it. version_output: a head of
    symbol_utils.HEADS; the channels of the last map do not suit GDC.
    """
    depth = pick("depth", num_layers, DEPTHS)
    paths = (get_head(version_input, HEAD_FILTERS, bn_mom),)
    for stage, (units, growth, width) in enumerate(zip(depth.units, depth.growth, WIDTHS)):
        for unit in range(1, units + 1):
            op = _Operators(f"conv{stage + 2}_x__{unit}", bn_mom)
            stride = None if unit > 1 else 2 if stage else 1
            paths = _unit(op, paths, depth.inner * 2**stage, depth.groups, width, growth, stride)
    return get_fc1(mx.sym.Concat(*paths, name="conv5_x_x_cat-final"), num_classes, version_output, bn_mom)


def _unit(op, paths, inner, groups, width, growth, stride):
    """Lead (residual, dense) through one unit; a stride, of the first unit of a stage, makes new paths of them."""
    data = paths[0] if len(paths) == 1 else op.concat(paths, "cat-input")
    if stride:
        paths = op.split(op.bn_act_conv(data, f"c1x1-w(s/{stride})", width + 2 * growth, stride=stride), width)
    body = op.bn_act_conv(data, "c1x1-a", inner)
    body = op.bn_act_conv(body, "c3x3-b", inner, kernel=3, stride=stride or 1, num_group=groups)
    branch = op.split(op.bn_act_conv(body, "c1x1-c", width + growth), width)
