"""Build Inception-ResNet-v2 (Szegedy et al., arXiv 1602.07261): i2.

No layer of the body has a name of its own. MXNet names them convolution0, convolution1 and so on, so the order of the
calls below is part of every checkpoint. Build the network under a new mx.name.NameManager, as symbols.get_symbol does.
"""

from __future__ import annotations

from typing import Any, Tuple

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.layers import Pair
from insightface_mx.symbols.parts.symbol_utils import get_fc1
from insightface_mx.symbols.parts.variants import network_builder
from insightface_mx.symbols.stem import large_image_stem

# A branch is a chain of convolutions (filters, kernel[, pad[, stride]]). The default pad keeps the map's size.
Branches = Tuple[Tuple[Tuple[Any, ...], ...], ...]
VALID = (0, 0)
SHRINKING = (3, 3), VALID, (2, 2)
MIXED = (
    ((96, (1, 1)),),
    ((48, (1, 1)), (64, (5, 5))),
    ((64, (1, 1)), (96, (3, 3)), (96, (3, 3))),
)
BLOCK_35 = (
    ((32, (1, 1)),),
    ((32, (1, 1)), (32, (3, 3))),
    ((32, (1, 1)), (48, (3, 3)), (64, (3, 3))),
)
REDUCTION_A = (
    ((384, *SHRINKING),),
    ((256, (1, 1)), (256, (3, 3)), (384, *SHRINKING)),
)
BLOCK_17 = (  # checkpoints have these 129 filters and pads, where the paper has 128 and (0, 3), (3, 0)
    ((192, (1, 1)),),
    ((129, (1, 1)), (160, (1, 7), (1, 2)), (192, (7, 1), (2, 1))),
)
REDUCTION_B = (
    ((256, (1, 1)), (384, *SHRINKING)),
    ((256, (1, 1)), (288, *SHRINKING)),
    ((256, (1, 1)), (288, (3, 3)), (320, *SHRINKING)),
)
BLOCK_8 = (
    ((192, (1, 1)),),
    ((192, (1, 1)), (224, (1, 3)), (256, (3, 1))),
)


@network_builder
def get_symbol(num_classes: int, *, version_input: int = 1, version_output: str = "E") -> Symbol:
    """Build Inception-ResNet-v2, whose input is N x 3 x H x W, RGB of 0..255.

    Args:
        num_classes: Length of the embedding.
        version_input: 0 for the paper's stem without its first pooling, 1 or 2 also without its first stride.
        version_output: The output layers, one of symbol_utils.HEADS.
    """
    body = _stem(layers.scale_pixels(mx.sym.Variable("data")), large_image_stem(version_input))
    branches = _branches(body, MIXED)
    average = mx.sym.Pooling(body, kernel=(3, 3), stride=(1, 1), pad=(1, 1), pool_type="avg")
    body = mx.sym.Concat(*branches, _conv(average, 64, (1, 1)))
    for _ in range(10):
        body = _relu(_residual(body, BLOCK_35, 320, 0.17))
    body = mx.sym.Concat(*_branches(body, REDUCTION_A), _max_pool(body))
    for _ in range(20):
        body = _relu(_residual(body, BLOCK_17, 1088, 0.1))
    body = mx.sym.Concat(*_branches(body, REDUCTION_B), _max_pool(body))
    for _ in range(9):
        body = _relu(_residual(body, BLOCK_8, 2080, 0.2))
    body = _conv(_residual(body, BLOCK_8, 2080, 1.0), 1536, (1, 1))
    return get_fc1(body, num_classes, version_output)


def _stem(data: Symbol, large_images: bool) -> Symbol:
    body = _conv(data, 32, (3, 3), VALID, (2, 2) if large_images else (1, 1))
    body = _conv(_conv(body, 32, (3, 3), VALID), 64, (3, 3))
    _max_pool(body)  # the paper's first pooling: not used, but it uses up the name pooling0
    body = _conv(body, 80, (1, 1))
    return _max_pool(_conv(body, 192, (3, 3), VALID))


def _residual(data: Symbol, branches: Branches, num_filter: int, scale: float) -> Symbol:
    return data + scale * _conv_bn(mx.sym.Concat(*_branches(data, branches)), num_filter, (1, 1))


def _branches(data: Symbol, branches: Branches) -> list[Symbol]:
    ends = []
    for branch in branches:
        body = data
        for convolution in branch:
            body = _conv(body, *convolution)
        ends.append(body)
    return ends


def _conv(data: Symbol, num_filter: int, kernel: Pair, pad: Pair | None = None, stride: Pair = (1, 1)) -> Symbol:
    return _relu(_conv_bn(data, num_filter, kernel, pad, stride))


def _conv_bn(data: Symbol, num_filter: int, kernel: Pair, pad: Pair | None = None, stride: Pair = (1, 1)) -> Symbol:
    pad = (kernel[0] // 2, kernel[1] // 2) if pad is None else pad
    return mx.sym.BatchNorm(mx.sym.Convolution(data, num_filter=num_filter, kernel=kernel, stride=stride, pad=pad))


def _relu(data: Symbol) -> Symbol:
    return mx.sym.Activation(data, act_type="relu")


def _max_pool(data: Symbol) -> Symbol:
    return mx.sym.Pooling(data, kernel=(3, 3), stride=(2, 2), pool_type="max")
