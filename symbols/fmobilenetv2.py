"""MobileNet v2 (Sandler et al., arXiv 1801.04381) with ReLU: m2.

Its layers come from Gluon, for the names and the attributes of the variables that checkpoints hold.
"""

from insightface_mx.base.compat import mx
from insightface_mx.symbols import layers
from insightface_mx.symbols.symbol_utils import get_fc1
from insightface_mx.symbols.variants import family

nn = mx.gluon.nn
STAGES = (  # expansion of the previous stage's filters, filters, units, stride of the first unit
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 1),
    (6, 96, 3, 2),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@family
def get_symbol(num_classes, *, version_output="E"):
    """Build MobileNet v2 whose embedding has num_classes numbers.

    Input N x 3 x H x W, RGB of 0..255. version_output: a head of symbol_utils.HEADS. Unlike the paper's network this
    one keeps the map's size in the first convolution, widens all units of a stage as its first, and adds a projected
    shortcut where a unit of stride 1 changes the number of channels.
    """
    body = layers.scale_pixels(mx.sym.Variable("data"))
    body = _relu(_conv_bn(body, "", 0, 32, 3), "", 0)
    unit, filters = 0, 32
    for expansion, num_filter, units, stride in STAGES:
        inner = expansion * filters
        for step in (stride, *[1] * (units - 1)):
            body = _unit(body, f"invertedresidual{unit}_", inner, num_filter, step, filters == num_filter)
            unit, filters = unit + 1, num_filter
    name = "mobilenetv20_hybridsequential0_"
    body = _relu(_conv_bn(body, name, 0, 1280, 1), name, 0)
    return get_fc1(body, num_classes, version_output)


def _unit(data, name, inner, num_filter, stride, dim_match):
    """Widen to `inner` channels, convolve each by itself, narrow; a unit of stride 1 adds its input."""
    body = _relu(_conv_bn(data, name, 0, inner, 1), name, 0)
    body = _relu(_conv_bn(body, name, 1, inner, 3, strides=stride, groups=inner), name, 1)
    body = _conv_bn(body, name, 2, num_filter, 1)
    if stride != 1:
        return body
    shortcut = data if dim_match else _relu(_conv_bn(data, name, 3, num_filter, 1), name, 2)
    return mx.sym.elemwise_add(body, shortcut, name=f"{name}elemwise_add0")


def _conv_bn(data, name, number, channels, kernel, **attrs):
    conv = nn.Conv2D(channels, kernel, padding=kernel // 2, use_bias=False, prefix=f"{name}conv{number}_", **attrs)
    return nn.BatchNorm(prefix=f"{name}batchnorm{number}_")(conv(data))


def _relu(data, name, number):
    return nn.Activation("relu", prefix=f"{name}relu{number}_")(data)
