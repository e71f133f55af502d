"""Build MobileNet v1 (Howard et al., arXiv 1704.04861) with PReLU: m1."""

from __future__ import annotations

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.symbol_utils import get_fc1
from insightface_mx.symbols.parts.variants import activation_of, choose, network_builder

BLOCKS = (  # of each depthwise separable convolution: filters as a multiple of the first convolution's, stride
    *((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2)),
    *((16, 1),) * 5,
    *((32, 2), (32, 1)),
)
STEM_STRIDES = {0: (2, 2), 1: (1, 1)}  # by version_input
NORM = {"fix_gamma": True}  # the momentum stays at MXNet's 0.9: the original ignored bn_mom here


@network_builder
def get_symbol(
    num_classes: int,
    *,
    version_input: int = 1,
    version_output: str = "E",
    version_act: str = "prelu",
    version_multiplier: float = 1.0,
    version_family: int = 2018,
) -> Symbol:
    """Build MobileNet v1, whose input is N x 3 x H x W, RGB of 0..255.

    Args:
        num_classes: Length of the embedding.
        version_input: 0 halves the map in the first convolution, 1 does not.
        version_output: The output layers, one of symbol_utils.HEADS.
        version_act: The activation, one of layers.ACTIVATIONS; other than PReLU with version_family 2021 only.
        version_multiplier: Scales the 32 filters of the first convolution and with them all others.
        version_family: 2018 or 2021.
    """
    filters = int(32 * version_multiplier)
    if filters < 1:
        raise ValueError(f"version_multiplier {version_multiplier} leaves no filters: it must be at least 1/32")
    act = activation_of(version_act, version_family)
    stride = choose("version_input", version_input, STEM_STRIDES)
    body = layers.scale_pixels(mx.sym.Variable("data"))
    body = layers.conv_bn_act(body, "conv_1", filters, NORM, act, kernel=(3, 3), stride=stride, pad=(1, 1))
    inner = filters
    for i, (multiple, step) in enumerate(BLOCKS, 2):
        attrs = {"kernel": (3, 3), "stride": (step, step), "pad": (1, 1), "num_group": inner}
        body = layers.conv_bn_act(body, f"conv_{i}_dw", inner, NORM, act, **attrs)
        inner = filters * multiple
        body = layers.conv_bn_act(body, f"conv_{i}", inner, NORM, act)
    return get_fc1(body, num_classes, version_output, act_type=act)
