"""Dual path networks (Chen et al., arXiv 1707.01629): p68, p92, p107, p131.

Every unit's branch of convolutions adds to a residual path, of a stage's fixed width, and extends a dense path by the
stage's growth.
"""

from typing import NamedTuple

from insightface_mx.base.compat import mx
from insightface_mx.symbols import layers
from insightface_mx.symbols.stem import get_head
from insightface_mx.symbols.symbol_utils import get_fc1
from insightface_mx.symbols.variants import family, pick


class Depth(NamedTuple):
    """The table of one network; units and growth are by stage."""

    inner: int  # width of a branch in the first stage; it doubles with every further one
    groups: int
    units: tuple
    growth: tuple


DEPTHS = {
    68: Depth(128, 32, (3, 4, 12, 3), (16, 32, 32, 64)),
    92: Depth(96, 32, (3, 4, 20, 3), (16, 32, 24, 128)),
    107: Depth(200, 50, (4, 8, 20, 3), (20, 64, 64, 128)),
    131: Depth(160, 40, (4, 8, 28, 3), (16, 32, 32, 128)),
}
WIDTHS = (256, 512, 1024, 2048)  # of the residual path, by stage: p68's too, which its authors made a quarter as wide
HEAD_FILTERS = 128  # of the 7x7 convolution: for every depth, where the authors have 64 for p92 and 10 for p68


@family
def get_symbol(num_classes, num_layers, *, version_input=1, version_output="E", bn_mom=0.9):
    """Build a dual path network of a depth of DEPTHS whose embedding has num_classes numbers.

    Input N x 3 x H x W, RGB of 0..255. version_input: as stem.get_head has it. version_output: a head of
    symbol_utils.HEADS; GDC's groups divide the channels of none.
    """
    inner, groups, units, growths = pick("depth", num_layers, DEPTHS)
    data, paths = get_head(version_input, HEAD_FILTERS, bn_mom), ()
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


def _projection(data, name, width, growth, stride, bn_mom):
    """Begin a stage's paths, the dense one with twice the growth."""
    channels = width + 2 * growth
    return _split(_bn_act_conv(data, name, channels, bn_mom, stride=(stride, stride)), name, width, channels)


def _branch(data, name, inner, groups, width, growth, stride, bn_mom):
    body = _bn_act_conv(data, f"{name}_c1x1-a", inner, bn_mom)
    attrs = {"kernel": (3, 3), "stride": (stride, stride), "pad": (1, 1), "num_group": groups}
    body = _bn_act_conv(body, f"{name}_c3x3-b", inner, bn_mom, **attrs)
    body = _bn_act_conv(body, f"{name}_c1x1-c", width + growth, bn_mom)
    return _split(body, f"{name}_c1x1-c", width, width + growth)


def _extend(paths, branch, name):
    residual = mx.sym.add_n(paths[0], branch[0], name=f"{name}_sum")
    return residual, mx.sym.Concat(paths[1], branch[1], name=f"{name}_cat")


def _split(data, name, width, channels):
    """Part the channels: `width` for the residual path, the others for the dense one."""
    return (
        mx.sym.slice_axis(data, axis=1, begin=0, end=width, name=f"{name}-split1"),
        mx.sym.slice_axis(data, axis=1, begin=width, end=channels, name=f"{name}-split2"),
    )


def _bn_act_conv(data, name, num_filter, bn_mom, kernel=(1, 1), stride=(1, 1), pad=(0, 0), num_group=1):
    body = mx.sym.BatchNorm(data, fix_gamma=False, momentum=bn_mom, name=f"{name}__bn__bn")  # eps stays at MXNet's 1e-3
    body = layers.activation(body, "relu", f"{name}__ac__relu")
    attrs = {"kernel": kernel, "stride": stride, "pad": pad, "num_group": num_group, "no_bias": True}
    return mx.sym.Convolution(body, num_filter=num_filter, name=f"{name}__conv", **attrs)
