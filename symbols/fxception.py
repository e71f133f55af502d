"""Xception (Chollet, arXiv 1610.02357), half as wide as the paper's after the first two convolutions: x.

The depthwise convolutions are grouped ones. The 2018 graph had an operator and a weight for every channel instead,
11,596 convolutions in all; `stack_channels` reads the checkpoints of such graphs.
"""

import re

from insightface_mx.base.compat import mx
from insightface_mx.symbols import layers
from insightface_mx.symbols.stem import for_imagenet
from insightface_mx.symbols.symbol_utils import get_fc1
from insightface_mx.symbols.variants import family

BLOCKS = {  # block: filters of its separable convolutions; a block of two halves the map, one of three keeps it
    2: (64, 64),
    3: (128, 128),
    4: (364, 364),
    **dict.fromkeys(range(5, 13), (364, 364, 364)),
    13: (364, 512),
}
LAST_BLOCK = (768, 1024)
CHANNEL = re.compile(r"(?P<layer>.*depthwise.*)_(?P<channel>\d+)_(?P<kind>weight|bias)")


@family
def get_symbol(num_classes, *, version_input=1, version_output="E", bn_mom=0.9):
    """Build Xception whose embedding has num_classes numbers.

    Input N x 3 x H x W, RGB of 0..255. version_input: 0 halves the map in the first convolution, 1 and 2 do not.
    version_output: a head of symbol_utils.HEADS.
    """
    stride = (2, 2) if for_imagenet(version_input) else (1, 1)
    body = layers.scale_pixels(mx.sym.Variable("data"))
    body = _relu(_conv_bn(body, "block1_conv1", 32, bn_mom, kernel=(3, 3), stride=stride, pad=(1, 1)), "block1_conv1")
    body = _relu(_conv_bn(body, "block1_conv2", 64, bn_mom, kernel=(3, 3), pad=(1, 1)), "block1_conv2")
    channels = 64
    for block, filters in BLOCKS.items():
        body = _block(body, f"block{block}", channels, filters, bn_mom)
        channels = filters[-1]
    for i, num_filter in enumerate(LAST_BLOCK, 1):
        name = f"block14_sepconv{i}"
        body = _relu(separable(body, name, channels, num_filter, bn_mom), name)
        channels = num_filter
    return get_fc1(body, num_classes, version_output, bn_mom)


def separable(data, name, channels, num_filter, bn_mom):
    """Convolve each of data's `channels` by itself, mix them into num_filter, and batch-norm."""
    depthwise = {"num_filter": channels, "num_group": channels, "kernel": (3, 3), "pad": (1, 1)}
    body = mx.sym.Convolution(data, name=f"{name}_depthwise_kernel", **depthwise)
    body = mx.sym.Convolution(body, num_filter=num_filter, kernel=(1, 1), name=f"{name}_pointwise_kernel")
    return layers.batch_norm(body, f"{name}_bn", bn_mom)


def stack_channels(params):
    """Turn the parameters of a graph with one convolution a channel into those of the grouped convolutions.

    params: dict of name to NDArray, of a graph whose layers have the names that this file gives them. A name of the
    pattern CHANNEL, `<layer>_<channel>_weight` (1 x 1 x 3 x 3) or `<layer>_<channel>_bias` (1) with `depthwise` in the
    layer and channels counted from 0, such as block2_sepconv1_depthwise_kernel_63_weight, goes into `<layer>_weight`
    (C x 1 x 3 x 3) or `<layer>_bias` (C). All else is returned as it is. ValueError: a channel is missing.
    """
    stacked, channels = {}, {}
    for name, value in params.items():
        match = CHANNEL.fullmatch(name)
        if match:
            channels.setdefault(f"{match['layer']}_{match['kind']}", {})[int(match["channel"])] = value
        else:
            stacked[name] = value
    stacked.update((name, _stack(name, values)) for name, values in channels.items())
    return stacked


def _stack(name, values):
    missing = sorted(set(range(max(values))) - set(values))
    if missing:
        raise ValueError(f"{name}: the checkpoint has {len(values)} channels of it and lacks channel {missing[0]}")
    return mx.nd.concat(*(values[channel] for channel in sorted(values)), dim=0)


def _block(data, name, channels, filters, bn_mom):
    body = data
    for i, num_filter in enumerate(filters, 1):
        unit = f"{name}_sepconv{i}"
        body = separable(_relu(body, unit), unit, channels, num_filter, bn_mom)
        channels = num_filter
    if len(filters) > 2:
        return body + data
    body = mx.sym.Pooling(body, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max", name=f"{name}_pool")
    return body + _conv_bn(data, f"{name}_shortcut", channels, bn_mom, kernel=(1, 1), stride=(2, 2))


def _conv_bn(data, name, num_filter, bn_mom, **attrs):
    body = mx.sym.Convolution(data, num_filter=num_filter, name=f"{name}_conv2d", **attrs)
    return layers.batch_norm(body, f"{name}_bn", bn_mom)


def _relu(data, name):
    return layers.activation(data, "relu", f"{name}_relu")
