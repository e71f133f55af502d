"""Build Xception (Chollet, arXiv 1610.02357), half as wide as the paper's after the first two convolutions: x.

A depthwise convolution is one grouped convolution here. The original graph had one convolution for each channel
instead, 11,596 in all; `stack_channels` converts the parameters of such checkpoints.
"""

from __future__ import annotations

import re
from typing import Any

from insightface_mx.base.compat import NDArray, Params, Symbol, mx
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.symbol_utils import get_fc1
from insightface_mx.symbols.parts.variants import network_builder
from insightface_mx.symbols.stem import large_image_stem

BLOCKS = {  # block: filters of its separable convolutions; a block of two halves the map, one of three keeps it
    2: (64, 64),
    3: (128, 128),
    4: (364, 364),
    **dict.fromkeys(range(5, 13), (364, 364, 364)),
    13: (364, 512),
}
LAST_BLOCK = (768, 1024)
CHANNEL = re.compile(r"(?P<layer>.*depthwise.*)_(?P<channel>\d+)_(?P<kind>weight|bias)")


@network_builder
def get_symbol(num_classes: int, *, version_input: int = 1, version_output: str = "E", bn_mom: float = 0.9) -> Symbol:
    """Build Xception, whose input is N x 3 x H x W, RGB of 0..255.

    Args:
        num_classes: Length of the embedding.
        version_input: 0 halves the map in the first convolution, 1 and 2 do not.
        version_output: The output layers, one of symbol_utils.HEADS.
        bn_mom: Momentum of the batch norms.
    """
    stride = (2, 2) if large_image_stem(version_input) else (1, 1)
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


def separable(data: Symbol, name: str, channels: int, num_filter: int, bn_mom: float) -> Symbol:
    """Convolve each of data's `channels` alone, mix them into num_filter channels, and apply batch norm."""
    depthwise = {"num_filter": channels, "num_group": channels, "kernel": (3, 3), "pad": (1, 1)}
    body = mx.sym.Convolution(data, name=f"{name}_depthwise_kernel", **depthwise)
    body = mx.sym.Convolution(body, num_filter=num_filter, kernel=(1, 1), name=f"{name}_pointwise_kernel")
    return layers.batch_norm(body, f"{name}_bn", bn_mom)


def stack_channels(params: Params) -> Params:
    """Convert the parameters of a graph with one convolution a channel into those of the grouped convolutions.

    Args:
        params: Of a graph whose layers have the names of this file. The parameters of one channel match CHANNEL:
            `<layer>_<channel>_weight`, 1 x 1 x 3 x 3, and `<layer>_<channel>_bias`, 1, where the layer's name contains
            `depthwise` and channels count from 0; block2_sepconv1_depthwise_kernel_63_weight, for example.

    Returns:
        `<layer>_weight`, C x 1 x 3 x 3, and `<layer>_bias`, C, in place of the channels' parameters; all other
        parameters as they are.

    Raises:
        ValueError: A channel is missing.
    """
    stacked: Params = {}
    layers_of_channels: dict[str, dict[int, NDArray]] = {}
    for name, value in params.items():
        match = CHANNEL.fullmatch(name)
        if match:
            stacked_name = f"{match['layer']}_{match['kind']}"
            layers_of_channels.setdefault(stacked_name, {})[int(match["channel"])] = value
        else:
            stacked[name] = value
    for name, channels in layers_of_channels.items():
        missing = sorted(set(range(max(channels))) - set(channels))
        if missing:
            raise ValueError(
                f"{name}: the checkpoint has {len(channels)} channels of it and lacks channel {missing[0]}"
            )
        stacked[name] = mx.nd.concat(*(channels[channel] for channel in sorted(channels)), dim=0)
    return stacked


def _block(data: Symbol, name: str, channels: int, filters: tuple[int, ...], bn_mom: float) -> Symbol:
    body = data
    for i, num_filter in enumerate(filters, 1):
        unit = f"{name}_sepconv{i}"
        body = separable(_relu(body, unit), unit, channels, num_filter, bn_mom)
        channels = num_filter
    if len(filters) > 2:
        return body + data
    body = mx.sym.Pooling(body, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max", name=f"{name}_pool")
    return body + _conv_bn(data, f"{name}_shortcut", channels, bn_mom, kernel=(1, 1), stride=(2, 2))


def _conv_bn(data: Symbol, name: str, num_filter: int, bn_mom: float, **attrs: Any) -> Symbol:
    body = mx.sym.Convolution(data, num_filter=num_filter, name=f"{name}_conv2d", **attrs)
    return layers.batch_norm(body, f"{name}_bn", bn_mom)


def _relu(data: Symbol, name: str) -> Symbol:
    return layers.activation(data, "relu", f"{name}_relu")
