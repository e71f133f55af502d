"""Build MobileNet v2 (Sandler et al., arXiv 1801.04381) with ReLU: m2.

Its layers come from Gluon, because checkpoints hold Gluon's names and variable attributes.
"""

from __future__ import annotations

from typing import Any

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.symbol_utils import get_fc1
from insightface_mx.symbols.parts.variants import network_builder

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


@network_builder
def get_symbol(num_classes: int, *, version_output: str = "E") -> Symbol:
    """Build MobileNet v2, whose input is N x 3 x H x W, RGB of 0..255.

    Three things differ from the paper: the first convolution keeps the map's size, all units of a stage are widened as
    its first one is, and a unit of stride 1 with another number of channels has a projected shortcut.

    Args:
        num_classes: Length of the embedding.
        version_output: The output layers, one of symbol_utils.HEADS.
    """
    body = layers.scale_pixels(mx.sym.Variable("data"))
    body = _relu(_conv_bn(body, "", 0, 32, 3), "", 0)
    unit, filters = 0, 32
    for expansion, num_filter, units, stride in STAGES:
        inner = expansion * filters
        for i in range(units):
            step = 1 if i else stride
            body = _unit(body, f"invertedresidual{unit}_", inner, num_filter, step, filters == num_filter)
            unit, filters = unit + 1, num_filter
    name = "mobilenetv20_hybridsequential0_"
    body = _relu(_conv_bn(body, name, 0, 1280, 1), name, 0)
    return get_fc1(body, num_classes, version_output)


def _unit(data: Symbol, name: str, inner: int, num_filter: int, stride: int, dim_match: bool) -> Symbol:
    """Widen to `inner` channels, convolve each of them alone, narrow; a unit of stride 1 adds its input."""
    body = _relu(_conv_bn(data, name, 0, inner, 1), name, 0)
    body = _relu(_conv_bn(body, name, 1, inner, 3, strides=stride, groups=inner), name, 1)
    body = _conv_bn(body, name, 2, num_filter, 1)
    if stride != 1:
        return body
    shortcut = data if dim_match else _relu(_conv_bn(data, name, 3, num_filter, 1), name, 2)
    return mx.sym.elemwise_add(body, shortcut, name=f"{name}elemwise_add0")


def _conv_bn(data: Symbol, name: str, i: int, channels: int, kernel: int, **attrs: Any) -> Symbol:
    conv = nn.Conv2D(channels, kernel, padding=kernel // 2, use_bias=False, prefix=f"{name}conv{i}_", **attrs)
    return nn.BatchNorm(prefix=f"{name}batchnorm{i}_")(conv(data))


def _relu(data: Symbol, name: str, i: int) -> Symbol:
    return nn.Activation("relu", prefix=f"{name}relu{i}_")(data)
