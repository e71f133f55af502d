"""Build the residual networks of InsightFace_TF (L_Resnet_E_IR): t50 to t152.

Their units differ from fresnet's IR units in two ways: a shortcut is projected only if the number of channels changes,
and with squeeze-excite a ReLU follows the sum. The embedding flattens the map in TensorFlow's order: row, column,
channel.
"""

from __future__ import annotations

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.variants import choose, network_builder

UNITS = {  # depth: residual units in each of the four stages
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    101: (3, 13, 30, 3),
    152: (3, 8, 36, 3),
}
STEM_FILTERS = 64
INNER_FILTERS = (64, 128, 256, 512)
WIDTHS = {1.0: 1, 4.0: 4}  # by version_multiplier; the first, larger model of InsightFace_TF has 4


@network_builder
def get_symbol(
    num_classes: int, num_layers: int, *, version_se: int = 0, version_multiplier: float = 1.0, bn_mom: float = 0.9
) -> Symbol:
    """Build a network of InsightFace_TF, whose input is N x 3 x H x W, RGB of 0..255.

    Args:
        num_classes: Length of the embedding.
        num_layers: The depth, one of UNITS.
        version_se: 1 for squeeze-excite in every unit.
        version_multiplier: 1.0, or 4.0 for units four times as wide as their inner convolution.
        bn_mom: Momentum of the batch norms.
    """
    units, width = choose("depth", num_layers, UNITS), choose("version_multiplier", version_multiplier, WIDTHS)
    excite = choose("version_se", version_se, {0: False, 1: True})
    body = _conv(layers.scale_pixels(mx.sym.Variable("data")), "conv0", STEM_FILTERS, 3)
    body = layers.activation(layers.batch_norm(body, "bn0", bn_mom), "prelu", "relu0")
    channels = STEM_FILTERS
    for stage, inner in enumerate(INNER_FILTERS):
        num_filter = inner * width
        for unit in range(units[stage]):
            stride, name = 1 if unit else 2, f"stage{stage + 1}_unit{unit + 1}"
            shortcut = _shortcut(body, name, channels, num_filter, stride, bn_mom)
            branch = _branch(body, name, inner, num_filter, stride, bn_mom)
            body = _excited_sum(branch, shortcut, name, num_filter) if excite else branch + shortcut
            channels = num_filter
    return _embedding(body, num_classes, bn_mom)


def _shortcut(data: Symbol, name: str, channels: int, num_filter: int, stride: int, bn_mom: float) -> Symbol:
    if channels != num_filter:
        return layers.batch_norm(_conv(data, f"{name}_conv1sc", num_filter, 1, stride), f"{name}_sc", bn_mom)
    if stride == 1:
        return data
    return mx.sym.Pooling(data, kernel=(1, 1), stride=(stride, stride), pool_type="max", name=f"{name}_pool1sc")


def _branch(data: Symbol, name: str, inner: int, num_filter: int, stride: int, bn_mom: float) -> Symbol:
    body = layers.batch_norm(data, f"{name}_bn1", bn_mom)
    body = layers.batch_norm(_conv(body, f"{name}_conv1", inner, 3), f"{name}_bn2", bn_mom)
    body = layers.activation(body, "prelu", f"{name}_relu1")
    return layers.batch_norm(_conv(body, f"{name}_conv2", num_filter, 3, stride), f"{name}_bn3", bn_mom)


def _excited_sum(branch: Symbol, shortcut: Symbol, name: str, num_filter: int) -> Symbol:
    excited = layers.squeeze_excite(branch, num_filter, "relu", name, workspace=256)
    return layers.activation(excited + shortcut, "relu", f"{name}_relu2")


def _embedding(body: Symbol, num_classes: int, bn_mom: float) -> Symbol:
    body = mx.sym.Dropout(layers.batch_norm(body, "bn1", bn_mom), p=0.4)
    body = mx.sym.transpose(body, axes=(0, 2, 3, 1), name="nhwc")
    dense = mx.sym.FullyConnected(body, num_hidden=num_classes, name="pre_fc1")
    return layers.batch_norm(dense, "fc1", bn_mom)


def _conv(data: Symbol, name: str, num_filter: int, kernel: int, stride: int = 1) -> Symbol:
    attrs = {"kernel": (kernel, kernel), "stride": (stride, stride), "pad": (kernel // 2, kernel // 2)}
    return mx.sym.Convolution(data, num_filter=num_filter, no_bias=True, workspace=256, name=name, **attrs)
