"""Residual networks for faces: ResNet (arXiv 1512.03385, 1603.05027) and the IR unit of ArcFace (arXiv 1801.07698).

Every stage begins with a unit of stride 2, the first stage too, so that a 112x112 image ends as a 7x7 map.
"""

from insightface_mx.base.compat import mx
from insightface_mx.symbols import layers
from insightface_mx.symbols.symbol_utils import get_fc1
from insightface_mx.symbols.variants import family, pick

UNITS = {  # depth: residual units in each of the four stages
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    49: (3, 4, 14, 3),
    50: (3, 4, 14, 3),
    74: (3, 6, 24, 3),
    90: (3, 8, 30, 3),
    100: (3, 13, 30, 3),
    101: (3, 4, 23, 3),
    124: (3, 13, 40, 5),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    269: (3, 30, 48, 8),
}
FIRST_BOTTLENECK = 101
BASIC_FILTERS = (64, 128, 256, 512)
BOTTLENECK_FILTERS = (256, 512, 1024, 2048)
STEMS = {0: (7, (2, 2)), 1: (3, (1, 1)), 2: (3, (1, 1))}  # version_input: kernel and stride of conv0


@family
def get_symbol(
    num_classes,
    num_layers,
    *,
    version_se=0,
    version_input=1,
    version_output="E",
    version_unit=3,
    version_act="prelu",
    bn_mom=0.9,
    workspace=256,
):
    """Build a ResNet of a depth of UNITS whose embedding has num_classes numbers.

    Input N x 3 x H x W, RGB of 0..255. version_se: 1 for squeeze-excite in every unit. version_input: 0 for a 7x7/2
    first convolution, 1 for 3x3/1, 2 for 3x3/1 on batch-normed pixels. version_output: a head of symbol_utils.HEADS.
    version_unit: 1, 2, 3, 4, or 5 for v3_x. workspace: MB for a convolution. ValueError where one does not exist.
    """
    units = pick("depth", num_layers, UNITS)
    bottle_neck = num_layers >= FIRST_BOTTLENECK
    residual_unit = _unit_of_version(version_unit, version_input)
    options = {"version_se": version_se, "version_act": version_act, "bn_mom": bn_mom, "workspace": workspace}
    body = _stem(version_input, _Operators("", **options))
    for stage, num_filter in enumerate(BOTTLENECK_FILTERS if bottle_neck else BASIC_FILTERS):
        for unit in range(units[stage]):
            stride, name = (1, 1) if unit else (2, 2), f"stage{stage + 1}_unit{unit + 1}"
            body = residual_unit(body, num_filter, stride, unit > 0, name, bottle_neck, **options)
    return get_fc1(body, num_classes, version_output, bn_mom)


def residual_unit_v1(data, num_filter, stride, dim_match, name, bottle_neck, **options):
    """conv-bn-act with the last activation after the sum; the first convolution has the stride."""
    return _v1(data, num_filter, stride, dim_match, name, bottle_neck, 0, options)


def residual_unit_v1_L(data, num_filter, stride, dim_match, name, bottle_neck, **options):
    """v1 with the stride in the last convolution."""
    return _v1(data, num_filter, stride, dim_match, name, bottle_neck, -1, options)


def residual_unit_v2(data, num_filter, stride, dim_match, name, bottle_neck, **options):
    """bn-act-conv (arXiv 1603.05027); the first 3x3 has the stride, the shortcut starts at the first activation."""
    op = _Operators(f"{name}_", **options)
    body = first = op.act(op.bn(data, "bn1"), "relu1")
    for i, attrs in enumerate(_convolutions(num_filter, stride, bottle_neck, 1 if bottle_neck else 0), 1):
        if i > 1:
            body = op.act(op.bn(body, f"bn{i}"), f"relu{i}")
        body = op.conv(body, f"conv{i}", **attrs)
    body = op.excite(body, num_filter)
    return body + (data if dim_match else op.projection(first, "sc", num_filter, stride))


def residual_unit_v3(data, num_filter, stride, dim_match, name, bottle_neck, **options):
    """The IR unit: bn-conv-bn-act-conv-bn, stride in the last convolution, no activation after the sum."""
    op = _Operators(f"{name}_", **options)
    body = _v3_branch(op, data, num_filter, _convolutions(num_filter, stride, bottle_neck, -1))
    return body + op.shortcut(data, num_filter, stride, dim_match)


def residual_unit_v4(data, num_filter, stride, dim_match, name, bottle_neck, **options):
    """v3 whose dimension-changing unit is its residual branch alone."""
    op = _Operators(f"{name}_", **options)
    body = _v3_branch(op, data, num_filter, _convolutions(num_filter, stride, bottle_neck, -1))
    return body + data if dim_match else body


def residual_unit_v3_x(data, num_filter, stride, dim_match, name, bottle_neck, **options):
    """The bottleneck v3 in 32 groups with twice the inner width, after ResNeXt (arXiv 1611.05431); no basic form.

    Unlike the paper's unit it groups the first 1x1 convolution too.
    """
    if not bottle_neck:
        raise ValueError(f"version_unit 5 (v3_x) is a bottleneck unit: it needs a depth of {FIRST_BOTTLENECK} or more")
    op = _Operators(f"{name}_", **options)
    inner = num_filter // 2
    grouped = [_square(inner, 1, num_group=32), _square(inner, 3, num_group=32)]
    body = _v3_branch(op, data, num_filter, [*grouped, _square(num_filter, 1, stride)])
    return body + op.shortcut(data, num_filter, stride, dim_match)


def _unit_of_version(version_unit, version_input):
    versions = {
        1: residual_unit_v1_L if version_input else residual_unit_v1,
        2: residual_unit_v2,
        3: residual_unit_v3,
        4: residual_unit_v4,
        5: residual_unit_v3_x,
    }
    return pick("version_unit", version_unit, versions)


def _stem(version_input, op):
    kernel, stride = pick("version_input", version_input, STEMS)
    data = mx.sym.Variable("data")
    if version_input == 2:
        data = op.bn(data, "bn_data", fix_gamma=True)
    else:
        data = layers.scale_pixels(mx.sym.identity(data, name="id"))
    return op.act(op.bn(op.conv(data, "conv0", **_square(64, kernel, stride)), "bn0"), "relu0")


def _convolutions(num_filter, stride, bottle_neck, strided):
    """Attributes of a unit's convolutions; number `strided` of the list has the unit's stride."""
    inner = num_filter // 4
    shapes = [(inner, 1), (inner, 3), (num_filter, 1)] if bottle_neck else [(num_filter, 3), (num_filter, 3)]
    strides = [(1, 1)] * len(shapes)
    strides[strided] = stride
    return [_square(*shape, step) for shape, step in zip(shapes, strides)]


def _square(num_filter, kernel, stride=(1, 1), **groups):
    pad = kernel // 2
    return {"num_filter": num_filter, "kernel": (kernel, kernel), "stride": stride, "pad": (pad, pad), **groups}


def _v1(data, num_filter, stride, dim_match, name, bottle_neck, strided, options):
    op = _Operators(f"{name}_", **options)
    body = data
    for i, attrs in enumerate(_convolutions(num_filter, stride, bottle_neck, strided), 1):
        if i > 1:
            body = op.act(body, f"relu{i - 1}")
        body = op.bn(op.conv(body, f"conv{i}", **attrs), f"bn{i}")
    body = op.excite(body, num_filter)
    return op.act(body + op.shortcut(data, num_filter, stride, dim_match), "relu3")


def _v3_branch(op, data, num_filter, convolutions):
    body = op.bn(data, "bn1")
    for i, attrs in enumerate(convolutions, 1):
        if i > 1:
            body = op.act(body, f"relu{i - 1}")
        body = op.bn(op.conv(body, f"conv{i}", **attrs), f"bn{i + 1}")
    return op.excite(body, num_filter)


class _Operators:
    """The operators of one unit, named `prefix` + name."""

    def __init__(self, prefix, *, version_se=0, version_act="prelu", bn_mom=0.9, workspace=256):
        self.prefix, self.act_type, self.bn_mom, self.workspace = prefix, version_act, bn_mom, workspace
        self.se = pick("version_se", version_se, {0: False, 1: True})

    def conv(self, data, name, **attrs):
        return mx.sym.Convolution(data, no_bias=True, workspace=self.workspace, name=self.prefix + name, **attrs)

    def bn(self, data, name, **attrs):
        return layers.batch_norm(data, self.prefix + name, self.bn_mom, **attrs)

    def act(self, data, name):
        return layers.activation(data, self.act_type, self.prefix + name)

    def excite(self, data, num_filter):
        if not self.se:
            return data
        return layers.squeeze_excite(data, num_filter, self.act_type, self.prefix[:-1], self.workspace)

    def projection(self, data, name, num_filter, stride):
        return self.conv(data, name, num_filter=num_filter, kernel=(1, 1), stride=stride)

    def shortcut(self, data, num_filter, stride, dim_match):
        if dim_match:
            return data
        return self.bn(self.projection(data, "conv1sc", num_filter, stride), "sc")
