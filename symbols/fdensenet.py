"""DenseNet (Huang et al., arXiv 1608.06993), bottleneck and compression 0.5: d121, d161, d169, d201."""

from insightface_mx.base.compat import mx
from insightface_mx.symbols import layers
from insightface_mx.symbols.stem import get_head
from insightface_mx.symbols.symbol_utils import get_fc1
from insightface_mx.symbols.variants import family, pick

BLOCKS = {  # depth: growth rate, and units in each of the four dense blocks
    121: (32, (6, 12, 24, 16)),
    161: (48, (6, 12, 36, 24)),
    169: (32, (6, 12, 32, 32)),
    201: (32, (6, 12, 48, 32)),
}


@family
def get_symbol(num_classes, num_layers, *, version_input=1, version_output="E", bn_mom=0.9):
    """Build a DenseNet of a depth of BLOCKS whose embedding has num_classes numbers.

    Input N x 3 x H x W, RGB of 0..255. version_input: as stem.get_head has it. version_output: a head of
    symbol_utils.HEADS.
    """
    growth, blocks = pick("depth", num_layers, BLOCKS)
    channels = 2 * growth  # the paper's count: it goes on from here even where get_head makes fewer
    body = get_head(version_input, channels, bn_mom)
    for stage, units in enumerate(blocks, 1):
        if stage > 1:
            channels //= 2
            body = _transition(body, stage - 1, channels, bn_mom)
        for unit in range(1, units + 1):
            branch = _unit(body, f"DBstage{stage}_unit{unit}", growth, bn_mom)
            body = mx.sym.Concat(body, branch, name=f"DBstage{stage}_concat{unit}")
        channels += units * growth
    return get_fc1(body, num_classes, version_output, bn_mom)


def _unit(data, name, growth, bn_mom):
    body = _bn_act_conv(data, name, 1, 4 * growth, (1, 1), bn_mom)
    return _bn_act_conv(body, name, 2, growth, (3, 3), bn_mom)


def _transition(data, stage, num_filter, bn_mom):
    name = f"TBstage{stage}"
    body = _bn_act_conv(data, name, 1, num_filter, (1, 1), bn_mom)
    attrs = {"kernel": (2, 2), "stride": (2, 2), "pool_type": "avg", "global_pool": False}
    return mx.sym.Pooling(body, name=f"{name}_pool{stage}", **attrs)


def _bn_act_conv(data, name, i, num_filter, kernel, bn_mom):
    body = layers.activation(layers.batch_norm(data, f"{name}_bn{i}", bn_mom), "relu", f"{name}_relu{i}")
    attrs = {"kernel": kernel, "stride": (1, 1), "pad": (kernel[0] // 2, kernel[1] // 2), "workspace": 256}
    body = mx.sym.Convolution(body, num_filter=num_filter, no_bias=True, name=f"{name}_conv{i}", **attrs)
    return mx.sym.Dropout(body, p=0.2, name=f"{name}_dp{i}")
