"""Build the DenseNet (Huang et al., arXiv 1608.06993) of 2020: Gluon's, with PReLU and a first convolution of 3x3/1.

The names are Gluon's (densenet0_stage1_conv0_weight); those of the DenseNet of 2018 begin with DBstage and TBstage.
"""

from __future__ import annotations

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.gluon_layers import Block, nn
from insightface_mx.symbols.parts.symbol_utils import get_fc1
from insightface_mx.symbols.parts.variants import DENSENET_BLOCKS, choose, network_builder

WIDENING = 4  # of a unit's 1x1 convolution, in growth rates


@network_builder
def get_symbol(
    num_classes: int,
    num_layers: int,
    *,
    version_output: str = "E",
    version_act: str = "prelu",
    densenet_dropout: float = 0.0,
    bn_mom: float = 0.9,
) -> Symbol:
    """Build a DenseNet whose input is N x 3 x H x W, RGB of 0..255.

    Args:
        num_classes: Length of the embedding.
        num_layers: The depth, one of variants.DENSENET_BLOCKS.
        version_output: The output layers, one of symbol_utils.HEADS.
        version_act: The activation within the blocks, one of layers.ACTIVATIONS; the first and the last are ReLU.
        densenet_dropout: Fraction that is dropped behind each unit; 0: no such layer.
        bn_mom: Momentum of the batch norms in the output layers; the others have Gluon's 0.9.
    """
    growth, blocks = choose("depth", num_layers, DENSENET_BLOCKS)
    net = Block("densenet0_")
    body = layers.scale_pixels(mx.sym.Variable("data"))
    channels = 2 * growth
    body = net.conv_norm_act(body, channels, 3, "relu")
    body = nn.MaxPool2D(3, 2, 1, prefix=f"{net.name('pool')}_")(body)
    for stage, units in enumerate(blocks, 1):
        if stage > 1:
            channels //= 2
            body = net.conv(net.act(net.norm(body), version_act), channels, 1)
            body = nn.AvgPool2D(2, 2, prefix=f"{net.name('pool')}_")(body)
        block = Block(f"densenet0_stage{stage}_")
        for _ in range(units):
            branch = _unit(body, block, growth, version_act, densenet_dropout)
            body = mx.sym.Concat(body, branch, dim=1, name=block.name("concat"))
        channels += units * growth
    body = net.act(net.norm(body), "relu")
    return get_fc1(body, num_classes, version_output, bn_mom, act_type=version_act)


def _unit(data: Symbol, block: Block, growth: int, act_type: str, dropout: float) -> Symbol:
    """Apply a 1x1 and a 3x3 convolution, each behind a batch norm and an activation."""
    body = block.conv(block.act(block.norm(data), act_type), WIDENING * growth, 1)
    body = block.conv(block.act(block.norm(body), act_type), growth, 3)
    return nn.Dropout(dropout, prefix=f"{block.name('dropout')}_")(body) if dropout else body
