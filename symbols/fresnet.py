"""Build residual networks: ResNet (arXiv 1512.03385, 1603.05027) and the IR unit of ArcFace (arXiv 1801.07698).

Every stage, the first one too, begins with a unit of stride 2, so a 112x112 image becomes a 7x7 map.
"""

from __future__ import annotations

from typing import Any, Callable, Dict

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.layers import Pair
from insightface_mx.symbols.parts.symbol_utils import get_fc1
from insightface_mx.symbols.parts.variants import choose, is_later, network_builder

Attributes = Dict[str, Any]  # of a convolution

UNITS = {  # depth: residual units in each of the four stages
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    49: (3, 4, 14, 3),
    50: (3, 4, 14, 3),
    74: (3, 6, 24, 3),
    90: (3, 8, 30, 3),
    98: (3, 4, 38, 3),
    99: (3, 8, 35, 3),
    100: (3, 13, 30, 3),
    101: (3, 4, 23, 3),
    124: (3, 13, 40, 5),
    134: (3, 10, 50, 3),
    136: (3, 13, 48, 3),
    140: (3, 15, 48, 3),
    152: (3, 8, 36, 3),
    160: (3, 24, 49, 3),
    200: (3, 24, 36, 3),
    269: (3, 30, 48, 8),
}
BOTTLENECK = (101, 124, 152, 200, 269)  # depths with bottleneck units in 2018; in 2021 all have basic units
LATER = (98, 99, 134, 136, 140, 160)  # depths that the code of 2018 does not have
BASIC_FILTERS = (64, 128, 256, 512)
BOTTLENECK_FILTERS = (256, 512, 1024, 2048)
STEMS = {0: (7, (2, 2)), 1: (3, (1, 1)), 2: (3, (1, 1))}  # version_input: kernel and stride of conv0


@network_builder
def get_symbol(
    num_classes: int,
    num_layers: int,
    *,
    version_se: int = 0,
    version_input: int = 1,
    version_output: str = "E",
    version_unit: int = 3,
    version_act: str = "prelu",
    version_family: int = 2018,
    bn_mom: float = 0.9,
    workspace: int = 256,
) -> Symbol:
    """Build a residual network whose input is N x 3 x H x W, RGB of 0..255.

    Args:
        num_classes: Length of the embedding.
        num_layers: The depth, one of UNITS.
        version_se: 1 for squeeze-excite in every unit.
        version_input: The first convolution: 0 for 7x7/2, 1 for 3x3/1, 2 for 3x3/1 on batch-normalized pixels.
        version_output: The output layers, one of symbol_utils.HEADS.
        version_unit: The residual unit: 1, 2, 3, 4, or 5 for v3_x.
        version_act: The activation of stem and units, one of layers.ACTIVATIONS.
        version_family: 2018 for bottleneck units in the depths of BOTTLENECK, and PReLU in the output layers; 2021 for
            basic units in all depths, and version_act in the output layers.
        bn_mom: Momentum of the batch norms.
        workspace: MB for a convolution.
    """
    units = choose("depth", num_layers, UNITS)
    later = is_later(version_family)
    bottle_neck = num_layers in BOTTLENECK and not later
    residual_unit = _unit_of_version(version_unit, version_input)
    options: dict[str, Any] = {
        "version_se": version_se,
        "version_act": version_act,
        "bn_mom": bn_mom,
        "workspace": workspace,
    }
    body = _stem(version_input, _Operators("", **options))
    for stage, num_filter in enumerate(BOTTLENECK_FILTERS if bottle_neck else BASIC_FILTERS):
        for unit in range(units[stage]):
            stride, name = (1, 1) if unit else (2, 2), f"stage{stage + 1}_unit{unit + 1}"
            body = residual_unit(body, num_filter, stride, unit > 0, name, bottle_neck, **options)
    return get_fc1(body, num_classes, version_output, bn_mom, act_type=version_act if later else "prelu")


def count_layers(num_layers: int, *, version_unit: int = 3, version_se: int = 0, version_family: int = 2018) -> int:
    """Count the convolutions and the dense layer of output E without building the network; 0 where there is none."""
    units = sum(choose("depth", num_layers, UNITS))
    bottle_neck = num_layers in BOTTLENECK and not is_later(version_family)
    if version_unit == 5 and not bottle_neck:
        return 0
    in_a_unit = (3 if bottle_neck else 2) + (2 if version_se else 0)
    projections = 0 if version_unit == 4 else len(BASIC_FILTERS)
    return 2 + units * in_a_unit + projections


def residual_unit_v1(
    data: Symbol, num_filter: int, stride: Pair, dim_match: bool, name: str, bottle_neck: bool, **options: Any
) -> Symbol:
    """Build conv-bn-act with the last activation after the sum; the first convolution has the stride.

    The arguments are those of residual_unit_v3.
    """
    return _v1(data, num_filter, stride, dim_match, name, bottle_neck, 0, options)


def residual_unit_v1_L(
    data: Symbol, num_filter: int, stride: Pair, dim_match: bool, name: str, bottle_neck: bool, **options: Any
) -> Symbol:
    """Build v1 with the stride in the last convolution. The arguments are those of residual_unit_v3."""
    return _v1(data, num_filter, stride, dim_match, name, bottle_neck, -1, options)


def residual_unit_v2(
    data: Symbol, num_filter: int, stride: Pair, dim_match: bool, name: str, bottle_neck: bool, **options: Any
) -> Symbol:
    """Build bn-act-conv (arXiv 1603.05027).

    The first 3x3 convolution has the stride, and the shortcut starts at the first activation. The arguments are those
    of residual_unit_v3.
    """
    op = _Operators(f"{name}_", **options)
    body = first = op.act(op.bn(data, "bn1"), "relu1")
    for i, attrs in enumerate(_convolutions(num_filter, stride, bottle_neck, 1 if bottle_neck else 0), 1):
        if i > 1:
            body = op.act(op.bn(body, f"bn{i}"), f"relu{i}")
        body = op.conv(body, f"conv{i}", **attrs)
    body = op.excite(body, num_filter)
    shortcut = data if dim_match else op.projection(first, "sc", num_filter, stride)
    return body + shortcut


def residual_unit_v3(
    data: Symbol, num_filter: int, stride: Pair, dim_match: bool, name: str, bottle_neck: bool, **options: Any
) -> Symbol:
    """Build ArcFace's IR unit: bn-conv-bn-act-conv-bn, stride in the last convolution, no activation after the sum.

    Args:
        data: The map, N x C x H x W.
        num_filter: Channels of the result.
        stride: Of the unit, vertical and horizontal.
        dim_match: Whether the shortcut is `data` itself, which needs stride 1 and C = num_filter; otherwise a 1x1
            convolution projects it.
        name: Prefix of the operators' names.
        bottle_neck: Whether the unit has three convolutions, 1x1, 3x3 and 1x1, in place of two of 3x3.
        options: version_se, version_act, bn_mom and workspace, as in get_symbol.
    """
    op = _Operators(f"{name}_", **options)
    body = _v3_branch(op, data, num_filter, _convolutions(num_filter, stride, bottle_neck, -1))
    return body + op.shortcut(data, num_filter, stride, dim_match)


def residual_unit_v4(
    data: Symbol, num_filter: int, stride: Pair, dim_match: bool, name: str, bottle_neck: bool, **options: Any
) -> Symbol:
    """Build v3, but without any shortcut if the dimensions change. The arguments are those of residual_unit_v3."""
    op = _Operators(f"{name}_", **options)
    body = _v3_branch(op, data, num_filter, _convolutions(num_filter, stride, bottle_neck, -1))
    if dim_match:
        body = body + data
    return body


def residual_unit_v3_x(
    data: Symbol, num_filter: int, stride: Pair, dim_match: bool, name: str, bottle_neck: bool, **options: Any
) -> Symbol:
    """Build the bottleneck v3 in 32 groups with twice the inner width, after ResNeXt (arXiv 1611.05431).

    Unlike the paper's unit it groups the first 1x1 convolution, too. The arguments are those of residual_unit_v3.

    Raises:
        ValueError: bottle_neck is False.
    """
    if not bottle_neck:
        raise ValueError(
            f"version_unit 5 (v3_x) is a bottleneck unit: only r{', r'.join(map(str, BOTTLENECK))} of 2018 have them"
        )
    op = _Operators(f"{name}_", **options)
    inner = num_filter // 2
    grouped = [_square(inner, 1, num_group=32), _square(inner, 3, num_group=32)]
    body = _v3_branch(op, data, num_filter, [*grouped, _square(num_filter, 1, stride)])
    return body + op.shortcut(data, num_filter, stride, dim_match)


def _unit_of_version(version_unit: int, version_input: int) -> Callable[..., Symbol]:
    versions = {
        1: residual_unit_v1_L if version_input else residual_unit_v1,
        2: residual_unit_v2,
        3: residual_unit_v3,
        4: residual_unit_v4,
        5: residual_unit_v3_x,
    }
    return choose("version_unit", version_unit, versions)


def _stem(version_input: int, op: _Operators) -> Symbol:
    kernel, stride = choose("version_input", version_input, STEMS)
    data = mx.sym.Variable("data")
    if version_input == 2:
        data = op.bn(data, "bn_data", fix_gamma=True)
    else:
        data = layers.scale_pixels(mx.sym.identity(data, name="id"))
    return op.act(op.bn(op.conv(data, "conv0", **_square(64, kernel, stride)), "bn0"), "relu0")


def _convolutions(num_filter: int, stride: Pair, bottle_neck: bool, strided: int) -> list[Attributes]:
    """Return the attributes of a unit's convolutions; `strided` is the index of the one with the unit's stride."""
    inner = num_filter // 4
    shapes = [(inner, 1), (inner, 3), (num_filter, 1)] if bottle_neck else [(num_filter, 3), (num_filter, 3)]
    strides = [(1, 1)] * len(shapes)
    strides[strided] = stride
    return [_square(*shape, step) for shape, step in zip(shapes, strides)]


def _square(num_filter: int, kernel: int, stride: Pair = (1, 1), **groups: int) -> Attributes:
    pad = kernel // 2
    return {"num_filter": num_filter, "kernel": (kernel, kernel), "stride": stride, "pad": (pad, pad), **groups}


def _v1(
    data: Symbol,
    num_filter: int,
    stride: Pair,
    dim_match: bool,
    name: str,
    bottle_neck: bool,
    strided: int,
    options: dict[str, Any],
) -> Symbol:
    op = _Operators(f"{name}_", **options)
    body = data
    for i, attrs in enumerate(_convolutions(num_filter, stride, bottle_neck, strided), 1):
        if i > 1:
            body = op.act(body, f"relu{i - 1}")
        body = op.bn(op.conv(body, f"conv{i}", **attrs), f"bn{i}")
    body = op.excite(body, num_filter)
    return op.act(body + op.shortcut(data, num_filter, stride, dim_match), "relu3")


def _v3_branch(op: _Operators, data: Symbol, num_filter: int, convolutions: list[Attributes]) -> Symbol:
    body = op.bn(data, "bn1")
    for i, attrs in enumerate(convolutions, 1):
        if i > 1:
            body = op.act(body, f"relu{i - 1}")
        body = op.bn(op.conv(body, f"conv{i}", **attrs), f"bn{i + 1}")
    return op.excite(body, num_filter)


class _Operators:
    """Builds the operators of one unit; their names begin with `prefix`."""

    def __init__(
        self,
        prefix: str,
        *,
        version_se: int = 0,
        version_act: str = "prelu",
        bn_mom: float = 0.9,
        workspace: int = 256,
    ) -> None:
        self.prefix, self.act_type, self.bn_mom, self.workspace = prefix, version_act, bn_mom, workspace
        self.se = choose("version_se", version_se, {0: False, 1: True})

    def conv(self, data: Symbol, name: str, **attrs: Any) -> Symbol:
        return mx.sym.Convolution(data, no_bias=True, workspace=self.workspace, name=self.prefix + name, **attrs)

    def bn(self, data: Symbol, name: str, **attrs: bool) -> Symbol:
        return layers.batch_norm(data, self.prefix + name, self.bn_mom, **attrs)

    def act(self, data: Symbol, name: str) -> Symbol:
        return layers.activation(data, self.act_type, self.prefix + name)

    def excite(self, data: Symbol, num_filter: int) -> Symbol:
        if not self.se:
            return data
        return layers.squeeze_excite(data, num_filter, self.act_type, self.prefix[:-1], self.workspace)

    def projection(self, data: Symbol, name: str, num_filter: int, stride: Pair) -> Symbol:
        return self.conv(data, name, num_filter=num_filter, kernel=(1, 1), stride=stride)

    def shortcut(self, data: Symbol, num_filter: int, stride: Pair, dim_match: bool) -> Symbol:
        if dim_match:
            return data
        return self.bn(self.projection(data, "conv1sc", num_filter, stride), "sc")
