"""Inception-ResNet-v2 (Szegedy et al., arXiv 1602.07261): i2.

No layer of the body has a name of its own: MXNet numbers each kind, so that the order in which this file builds them is
part of every checkpoint. Build it under a fresh mx.name.NameManager, as symbols.get_symbol does.
"""

import functools

from insightface_mx.base.compat import mx
from insightface_mx.symbols import layers
from insightface_mx.symbols.stem import for_imagenet
from insightface_mx.symbols.symbol_utils import get_fc1
from insightface_mx.symbols.variants import family

# A convolution is (filters, kernel[, pad[, stride]]), a branch a chain of them; the pad keeps the map's size by default
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


@family
def get_symbol(num_classes, *, version_input=1, version_output="E"):
    """Build Inception-ResNet-v2 whose embedding has num_classes numbers.

    Input N x 3 x H x W, RGB of 0..255. version_input: 0 for the paper's stem, 1 or 2 for one without its first stride
    and first pooling. version_output: a head of symbol_utils.HEADS.
    """
    body = _stem(layers.scale_pixels(mx.sym.Variable("data")), for_imagenet(version_input))
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


def _stem(data, imagenet):
    body = _conv(data, 32, (3, 3), VALID, (2, 2) if imagenet else (1, 1))
    body = _conv(_conv(body, 32, (3, 3), VALID), 64, (3, 3))
    pooled = _max_pool(body)  # built in either case: it takes the name pooling0
    body = _conv(pooled if imagenet else body, 80, (1, 1))
    return _max_pool(_conv(body, 192, (3, 3), VALID))


def _residual(data, branches, num_filter, scale):
    return data + scale * _conv_bn(mx.sym.Concat(*_branches(data, branches)), num_filter, (1, 1))


def _branches(data, branches):
    return [functools.reduce(lambda body, step: _conv(body, *step), branch, data) for branch in branches]


def _conv(data, *step):
    return _relu(_conv_bn(data, *step))


def _conv_bn(data, num_filter, kernel, pad=None, stride=(1, 1)):
    pad = (kernel[0] // 2, kernel[1] // 2) if pad is None else pad
    return mx.sym.BatchNorm(mx.sym.Convolution(data, num_filter=num_filter, kernel=kernel, stride=stride, pad=pad))


def _relu(data):
    return mx.sym.Activation(data, act_type="relu")


def _max_pool(data):
    return mx.sym.Pooling(data, kernel=(3, 3), stride=(2, 2), pool_type="max")
