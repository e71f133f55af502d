"""Build MobileFaceNet (Chen et al., arXiv 1804.07573): y1, the deeper y2, and y3, arcface_torch's mbf_large."""

from __future__ import annotations

import math
from typing import Any

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.layers import Pair
from insightface_mx.symbols.parts.symbol_utils import get_fc1
from insightface_mx.symbols.parts.variants import activation_of, choose, network_builder

BLOCKS = {1: (1, 4, 6, 2), 2: (2, 8, 16, 4), 3: (2, 8, 12, 4)}  # depth: blocks in each of the four stages
FIRST_INNER = {1: 64, 2: 64, 3: 128}  # depth: channels inside the blocks of the first stage
STAGES = 4


@network_builder
def get_symbol(
    num_classes: int,
    num_layers: int = 1,
    *,
    version_output: str = "E",
    version_act: str = "prelu",
    version_multiplier: float = 1.0,
    version_blocks: str = "",
    version_family: int = 2018,
    bn_mom: float = 0.9,
) -> Symbol:
    """Build a MobileFaceNet whose input is N x 3 x H x W, RGB of 0..255.

    Args:
        num_classes: Length of the embedding.
        num_layers: The depth, one of BLOCKS.
        version_output: The output layers, one of symbol_utils.HEADS; the paper's are GDC.
        version_multiplier: Scales the channels between blocks, not those inside them; arcface_torch trains y1 with 2
            (mbf) and y3 with 4 (mbf_large).
        version_act: The activation, one of layers.ACTIVATIONS; other than PReLU with version_family 2021 only.
        version_blocks: Blocks in each of the four stages, separated by commas; empty: those of the depth.
        version_family: 2018 or 2021.
        bn_mom: Momentum of the batch norms.
    """
    blocks = _blocks(version_blocks) or choose("depth", num_layers, BLOCKS)
    narrow, wide = int(64 * version_multiplier), int(128 * version_multiplier)
    if narrow < 1:
        raise ValueError(f"version_multiplier {version_multiplier} leaves no filters: it must be at least 1/64")
    norm = {"fix_gamma": False, "momentum": bn_mom}
    act = activation_of(version_act, version_family)
    body = layers.scale_pixels(mx.sym.Variable("data"))
    body = layers.conv_bn_act(body, "conv_1", narrow, norm, act, kernel=(3, 3), stride=(2, 2), pad=(1, 1))
    if blocks[0] == 1:
        groups = math.gcd(narrow, 64)  # two channels a group where version_multiplier is 2
        body = layers.conv_bn_act(body, "conv_2_dw", narrow, norm, act, kernel=(3, 3), pad=(1, 1), num_group=groups)
    else:
        body = _residual(body, "res_2", blocks[0], FIRST_INNER[num_layers], narrow, norm, act)
    body = _bottleneck(body, "dconv_23", 128, narrow, (2, 2), norm, act)
    body = _residual(body, "res_3", blocks[1], 128, narrow, norm, act)
    body = _bottleneck(body, "dconv_34", 256, wide, (2, 2), norm, act)
    body = _residual(body, "res_4", blocks[2], 256, wide, norm, act)
    body = _bottleneck(body, "dconv_45", 512, wide, (2, 2), norm, act)
    body = _residual(body, "res_5", blocks[3], 256, wide, norm, act)
    body = layers.conv_bn_act(body, "conv_6sep", 512, norm, act)
    return get_fc1(body, num_classes, version_output, bn_mom, act_type=act)


def _blocks(version_blocks: str) -> tuple[int, ...]:
    """Return the blocks of the stages, none for ''. Raises ValueError where they are not four numbers above 0."""
    blocks = tuple(int(part) if part.strip().isdecimal() else 0 for part in version_blocks.split(",") if version_blocks)
    if blocks and (len(blocks) != STAGES or min(blocks) < 1):
        raise ValueError(f"version_blocks {version_blocks}: give {STAGES} whole numbers above 0, for example 1,4,6,2")
    return blocks


def _residual(
    data: Symbol, name: str, blocks: int, inner: int, num_filter: int, norm: dict[str, Any], act: str
) -> Symbol:
    for i in range(blocks):
        data = _bottleneck(data, f"{name}_block{i}", inner, num_filter, (1, 1), norm, act) + data
    return data


def _bottleneck(
    data: Symbol, name: str, inner: int, num_filter: int, stride: Pair, norm: dict[str, Any], act: str
) -> Symbol:
    """Widen to `inner` channels, convolve each of them alone, narrow to num_filter without an activation."""
    body = layers.conv_bn_act(data, f"{name}_conv_sep", inner, norm, act)
    body = layers.conv_bn_act(
        body, f"{name}_conv_dw", inner, norm, act, kernel=(3, 3), stride=stride, pad=(1, 1), num_group=inner
    )
    return layers.linear(body, f"{name}_conv_proj", num_filter, norm)
