"""Build the networks of SphereFace (Liu et al., arXiv 1704.08063): residual, without batch norm; s20 to s104."""

from __future__ import annotations

from typing import Any

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.layers import Pair
from insightface_mx.symbols.parts.variants import choose, network_builder

UNITS = {  # depth: residual units in each of the four stages
    20: (1, 2, 4, 1),
    36: (2, 4, 8, 2),
    60: (3, 8, 14, 3),
    64: (3, 8, 16, 3),
    104: (3, 8, 36, 3),
}
FILTERS = (64, 128, 256, 512)


@network_builder
def get_symbol(num_classes: int, num_layers: int) -> Symbol:
    """Build a SphereFace network, whose input is N x 3 x H x W, RGB of 0..255.

    Args:
        num_classes: Length of the embedding, the output of a dense layer.
        num_layers: The depth, one of UNITS.
    """
    units = choose("depth", num_layers, UNITS)
    body = layers.scale_pixels(mx.sym.Variable("data"))
    for stage, num_filter in enumerate(FILTERS, 1):
        bias = _bias(f"conv{stage}_1", init=mx.init.Constant(0.0))
        body = _conv_act(body, f"{stage}_1", num_filter, (2, 2), bias=bias)
        for first in range(2, 2 * units[stage - 1] + 2, 2):
            branch = _conv_act(body, f"{stage}_{first}", num_filter, (1, 1), no_bias=True)
            body = body + _conv_act(branch, f"{stage}_{first + 1}", num_filter, (1, 1), no_bias=True)
    weight = mx.sym.Variable("fc1_weight", lr_mult=1.0)
    return mx.sym.FullyConnected(body, weight=weight, bias=_bias("fc1"), num_hidden=num_classes, name="fc1")


def _conv_act(data: Symbol, name: str, num_filter: int, stride: Pair, **bias: Any) -> Symbol:
    weight = mx.sym.Variable(f"conv{name}_weight", init=mx.init.Normal(0.01))
    attrs = {"kernel": (3, 3), "stride": stride, "pad": (1, 1), "workspace": 256}
    conv = mx.sym.Convolution(data, weight=weight, num_filter=num_filter, name=f"conv{name}", **attrs, **bias)
    return layers.activation(conv, "prelu", f"relu{name}")


def _bias(name: str, **attrs: Any) -> Symbol:
    return mx.sym.Variable(f"{name}_bias", lr_mult=2.0, wd_mult=0.0, **attrs)
