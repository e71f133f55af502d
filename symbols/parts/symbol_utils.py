"""Build the last layers of a network, from feature map to embedding, by version_output."""

from __future__ import annotations

from typing import NamedTuple

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.variants import choose

USUAL_GROUPS = 512


class Output(NamedTuple):
    """What the output layers of a network have in common.

    Attributes:
        length: Of the embedding.
        bn_mom: Momentum of the batch norms.
        act_type: The activation, one of layers.ACTIVATIONS.
        groups: Of the depthwise convolutions.
    """

    length: int
    bn_mom: float
    act_type: str
    groups: int


def get_fc1(
    last_conv: Symbol,
    num_classes: int,
    fc_type: str,
    bn_mom: float = 0.9,
    act_type: str = "prelu",
    groups: int = USUAL_GROUPS,
) -> Symbol:
    """Build the output layers `fc_type` on a feature map.

    Args:
        last_conv: The map, N x C x H x W.
        num_classes: Length of the embedding.
        fc_type: The version_output, one of HEADS.
        bn_mom: Momentum of the batch norms.
        act_type: The activation, one of layers.ACTIVATIONS: PReLU in the code of 2018, whatever the body has.
        groups: Of the depthwise convolutions of GDC and SFC, and their filters.

    Returns:
        The embedding, N x num_classes, whose node is fc1. Three outputs have no fc1: Z returns the map itself, A the
        averages of its C channels, and B the node pre_fc1.

    Raises:
        ValueError: fc_type does not exist, or the groups do not divide the channels.
    """
    body, output = last_conv, Output(num_classes, bn_mom, act_type, groups)
    for step in choose("version_output", fc_type, HEADS):
        body = step(body, output)
    return body


def _bn1(body: Symbol, output: Output) -> Symbol:
    return layers.batch_norm(body, "bn1", output.bn_mom)


def _drop_4(body: Symbol, _: Output) -> Symbol:
    return mx.sym.Dropout(body, p=0.4)


def _drop_2(body: Symbol, _: Output) -> Symbol:
    return mx.sym.Dropout(body, p=0.2)


def _fc1(body: Symbol, output: Output) -> Symbol:
    return mx.sym.FullyConnected(body, num_hidden=output.length, name="fc1")


def _pre_fc1(body: Symbol, output: Output) -> Symbol:
    return mx.sym.FullyConnected(body, num_hidden=output.length, name="pre_fc1")


def _fc1_bn(body: Symbol, output: Output) -> Symbol:
    return layers.batch_norm(body, "fc1", output.bn_mom, fix_gamma=True)


def _fc1_relu(body: Symbol, output: Output) -> Symbol:
    return layers.activation(body, output.act_type, "fc1_relu")


def _average(body: Symbol, output: Output) -> Symbol:
    body = layers.activation(layers.batch_norm(body, "bn1", output.bn_mom), output.act_type, "relu1")
    return mx.sym.Flatten(layers.global_average(body, "pool1"))


def _depthwise(body: Symbol, output: Output) -> Symbol:
    """Apply the 7x7 global depthwise convolution of MobileFaceNet (arXiv 1804.07573, section 3.1)."""
    _check_groups(body, "GDC", output)
    norm = {"fix_gamma": False, "momentum": output.bn_mom}
    return layers.linear(body, "conv_6dw7_7", output.groups, norm, kernel=(7, 7), num_group=output.groups)


def _separable(body: Symbol, output: Output) -> Symbol:
    """Halve the map in a depthwise convolution, then mix the channels."""
    _check_groups(body, "SFC", output)
    attrs = {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1), "num_group": output.groups, "no_bias": True}
    body = mx.sym.Convolution(body, num_filter=output.groups, name="convf", **attrs)
    body = layers.activation(layers.batch_norm(body, "bnf", output.bn_mom), output.act_type, "reluf")
    attrs = {"kernel": (1, 1), "stride": (1, 1), "pad": (0, 0)}
    body = mx.sym.Convolution(body, num_filter=output.groups, name="convf2", **attrs)
    return layers.activation(layers.batch_norm(body, "bnf2", output.bn_mom), output.act_type, "reluf2")


def _check_groups(body: Symbol, fc_type: str, output: Output) -> None:
    """Raise ValueError where the groups of a depthwise convolution do not divide the channels."""
    if _channels(body) % output.groups:
        raise ValueError(
            f"version_output {fc_type} needs a multiple of {output.groups} channels, this network has "
            f"{_channels(body)}: choose another version_output"
        )


def _norm_aware(body: Symbol, output: Output) -> Symbol:
    """Average the map after scaling the vector at every place to the mean length over the map and the batch."""
    channels = _channels(body)
    if output.length > channels:
        body = mx.sym.Convolution(
            body, num_filter=output.length, kernel=(1, 1), stride=(1, 1), pad=(0, 0), no_bias=True, name="convx"
        )
        body = layers.activation(layers.batch_norm(body, "convx_bn", output.bn_mom), output.act_type, "convx_relu")
        channels = output.length
    body = layers.batch_norm(body, "bn6f", output.bn_mom, fix_gamma=True)
    length = mx.sym.sqrt(mx.sym.sum(body * body, axis=1, keepdims=True))
    scale = mx.sym.broadcast_div(mx.sym.mean(length), length)
    body = layers.global_average(body * mx.sym.tile(scale, reps=(1, channels, 1, 1)))
    if output.length == channels:
        return mx.sym.Flatten(body)
    return _pre_fc1(layers.batch_norm(body, "bn6w", output.bn_mom, fix_gamma=True), output)


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
    "FC": (_bn1, *_EMBEDDING),
    "SFC": (_bn1, _separable, *_EMBEDDING),
    "Z": (_bn1, _drop_4),
    "GAP": (_average, *_EMBEDDING),
    "GNAP": (_norm_aware, _fc1_bn),
    "GDC": (_depthwise, *_EMBEDDING),
    **{letter: (_average, *rest) for letter, rest in _AFTER_AVERAGE.items()},
    **{f"{letter}X": (_average, _drop_2, *rest) for letter, rest in _AFTER_AVERAGE.items()},
}
