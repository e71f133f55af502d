"""Build the last layers of a network, from feature map to embedding, by version_output."""

from __future__ import annotations

from typing import Any

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols import layers
from insightface_mx.symbols.variants import choose


def get_fc1(last_conv: Symbol, num_classes: int, fc_type: str, bn_mom: float = 0.9) -> Symbol:
    """Build the output layers `fc_type` on a feature map.

    Args:
        last_conv: The map, N x C x H x W.
        num_classes: Length of the embedding.
        fc_type: The version_output, one of HEADS.
        bn_mom: Momentum of the batch norms.

    Returns:
        The embedding, N x num_classes, whose node is fc1. Three outputs have no fc1: Z returns the map itself, A the
        averages of its C channels, and B the node pre_fc1.

    Raises:
        ValueError: fc_type does not exist, or GDC's groups do not divide the channels.
    """
    body = last_conv
    for step in choose("version_output", fc_type, HEADS):
        body = step(body, num_classes, bn_mom)
    return body


def _bn1(body: Symbol, _: int, bn_mom: float) -> Symbol:
    return layers.batch_norm(body, "bn1", bn_mom)


def _drop_4(body: Symbol, *_: Any) -> Symbol:
    return mx.sym.Dropout(body, p=0.4)


def _drop_2(body: Symbol, *_: Any) -> Symbol:
    return mx.sym.Dropout(body, p=0.2)


def _fc1(body: Symbol, num_classes: int, _: float) -> Symbol:
    return mx.sym.FullyConnected(body, num_hidden=num_classes, name="fc1")


def _pre_fc1(body: Symbol, num_classes: int, _: float) -> Symbol:
    return mx.sym.FullyConnected(body, num_hidden=num_classes, name="pre_fc1")


def _fc1_bn(body: Symbol, _: int, bn_mom: float) -> Symbol:
    return layers.batch_norm(body, "fc1", bn_mom, fix_gamma=True)


def _fc1_relu(body: Symbol, *_: Any) -> Symbol:
    return layers.activation(body, "prelu", "fc1_relu")


def _average(body: Symbol, _: int, bn_mom: float) -> Symbol:
    body = layers.activation(layers.batch_norm(body, "bn1", bn_mom), "prelu", "relu1")
    return mx.sym.Flatten(layers.global_average(body, "pool1"))


def _depthwise(body: Symbol, _: int, bn_mom: float) -> Symbol:
    """Apply the 7x7 global depthwise convolution of MobileFaceNet (arXiv 1804.07573, section 3.1)."""
    groups = 512
    if _channels(body) % groups:
        raise ValueError(
            f"version_output GDC needs a multiple of {groups} channels, this network has {_channels(body)}: "
            "choose another version_output"
        )
    norm = {"fix_gamma": False, "momentum": bn_mom}
    return layers.linear(body, "conv_6dw7_7", groups, norm, kernel=(7, 7), num_group=groups)


def _norm_aware(body: Symbol, num_classes: int, bn_mom: float) -> Symbol:
    """Average the map after scaling the vector at every place to the mean length over the map and the batch."""
    channels = _channels(body)
    if num_classes > channels:
        body = mx.sym.Convolution(
            body, num_filter=num_classes, kernel=(1, 1), stride=(1, 1), pad=(0, 0), no_bias=True, name="convx"
        )
        body = layers.activation(layers.batch_norm(body, "convx_bn", bn_mom), "prelu", "convx_relu")
        channels = num_classes
    body = layers.batch_norm(body, "bn6f", bn_mom, fix_gamma=True)
    length = mx.sym.sqrt(mx.sym.sum(body * body, axis=1, keepdims=True))
    scale = mx.sym.broadcast_div(mx.sym.mean(length), length)
    body = layers.global_average(body * mx.sym.tile(scale, reps=(1, channels, 1, 1)))
    if num_classes == channels:
        return mx.sym.Flatten(body)
    return _pre_fc1(layers.batch_norm(body, "bn6w", bn_mom, fix_gamma=True), num_classes, bn_mom)


def _channels(body: Symbol) -> int:
    """Return the number of channels of a feature map."""
    # images of any size give the same number, but poolings need some size
    _, (shape,), _ = body.infer_shape(data=(1, 3, 512, 512))
    return shape[1]


_EMBEDDING = (_pre_fc1, _fc1_bn)
_AFTER_AVERAGE = {"A": (), "B": (_pre_fc1,), "C": _EMBEDDING, "D": (*_EMBEDDING, _fc1_relu)}

HEADS = {  # version_output: its layers in their order
    "E": (_bn1, _drop_4, *_EMBEDDING),
    "F": (_bn1, _drop_4, _fc1),
    "G": (_bn1, _fc1),
    "H": (_fc1,),
    "I": (_bn1, *_EMBEDDING),
    "J": _EMBEDDING,
    "Z": (_bn1, _drop_4),
    "GAP": (_average, *_EMBEDDING),
    "GNAP": (_norm_aware, _fc1_bn),
    "GDC": (_depthwise, *_EMBEDDING),
    **{letter: (_average, *rest) for letter, rest in _AFTER_AVERAGE.items()},
    **{f"{letter}X": (_average, _drop_2, *rest) for letter, rest in _AFTER_AVERAGE.items()},
}
