"""Batch norms around the convolutions and dense layers of an ONNX graph, and how these take them in.

A norm in inference is a factor and a shift a channel, so a layer that comes right before it, or right after it and
without padding, can do its work. (With padding it cannot: the zeros around the map are put there after the norm.)
"""

from collections import Counter
from typing import List, NamedTuple

import numpy as np

from insightface_mx.conversion.file import Node

LINEAR = ("Conv", "Gemm")
NORM = "BatchNormalization"


class Layer(NamedTuple):
    """A convolution or dense layer with the norms that it could take in, in the order of computation."""

    node: Node
    before: List[Node]
    after: List[Node]

    @property
    def input(self):
        return self.before[0].inputs[0] if self.before else self.node.inputs[0]

    @property
    def output(self):
        return self.after[-1].output if self.after else self.node.output

    @property
    def bias(self):
        return self.node.inputs[2] if len(self.node.inputs) > 2 else None


def find_layers(graph):
    """Every layer of the graph with its norms: dict output of the convolution or dense layer -> Layer."""
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    uses.update(graph.outputs)
    users = {node.inputs[0]: node for node in graph.nodes}
    makers = {node.output: node for node in graph.nodes}
    linear = [node for node in graph.nodes if node.op in LINEAR and node.inputs[1] in graph.constants]
    after = {node.output: _norms_after(node, uses, users) for node in linear}
    taken = {norm.output for norms in after.values() for norm in norms}
    before = {node.output: _norms_before(node, uses, makers, taken) for node in linear}
    return {node.output: Layer(node, before[node.output], after[node.output]) for node in linear}


def collapse(layer, constants):
    """Weight and bias, float64, of the one layer that does what `layer` and its norms do."""
    weight = constants[layer.node.inputs[1]].astype(np.float64)
    bias = constants[layer.bias].astype(np.float64) if layer.bias else np.zeros(len(weight))
    for norm in reversed(layer.before):
        factor, shift = factor_and_shift(norm, constants)
        bias = bias + (weight * _inputs(shift, layer.node, weight)).reshape(len(weight), -1).sum(axis=1)
        weight = weight * _inputs(factor, layer.node, weight)
    for norm in layer.after:
        factor, shift = factor_and_shift(norm, constants)
        weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        bias = bias * factor + shift
    return weight, bias


def factor_and_shift(norm, constants):
    """What a norm multiplies each channel by, and what it adds then."""
    gamma, beta, mean, variance = (constants[name].astype(np.float64) for name in norm.inputs[1:])
    factor = gamma / np.sqrt(variance + norm.attrs.get("epsilon", 1e-5))
    return factor, beta - mean * factor


def with_eps(gamma, variance, old, new, fix_gamma):
    """Gamma and variance of the norm that does with the eps `new` what one of eps `old` does.

    gamma, variance: float64 arrays. fix_gamma: gamma stays; the variance may then end under 0 by new - old.
    """
    if old == new or fix_gamma:
        return gamma, variance + (old - new)
    return gamma * np.sqrt((variance + new) / (variance + old)), variance


def fold(graph):
    """The graph with every norm that a layer can take in gone."""
    constants, alias, replaced, gone = dict(graph.constants), {}, {}, set()
    for output, layer in find_layers(graph).items():
        if not layer.before and not layer.after:
            continue
        weight, bias = collapse(layer, graph.constants)
        names = layer.node.inputs[1], layer.bias or f"{layer.node.name}_bias"
        constants.update(zip(names, (weight.astype(np.float32), bias.astype(np.float32))))
        replaced[output] = layer.node._replace(inputs=(layer.node.inputs[0], *names), output=layer.output)
        alias.update((norm.output, layer.input) for norm in layer.before)
        gone.update(norm.output for norm in (*layer.before, *layer.after))
    nodes = [replaced.get(node.output, node) for node in graph.nodes if node.output not in gone]
    nodes = [node._replace(inputs=tuple(alias.get(name, name) for name in node.inputs)) for node in nodes]
    used = {name for node in nodes for name in node.inputs}
    return graph._replace(nodes=nodes, constants={name: constants[name] for name in constants if name in used})


def _norms_after(node, uses, users):
    norms = []
    while uses[node.output] == 1 and node.output in users and users[node.output].op == NORM:
        node = users[node.output]
        norms.append(node)
    return norms


def _norms_before(node, uses, makers, taken):
    norms, maker = [], makers.get(node.inputs[0])
    if any(node.attrs.get("pads", ())):
        return norms
    while maker and uses[maker.output] == 1 and (maker.op == "Flatten" or maker.op == NORM):
        if maker.output in taken:
            break
        norms = [maker, *norms] if maker.op == NORM else norms
        maker = makers.get(maker.inputs[0])
    return norms


def _inputs(values, node, weight):
    """Values of the input's channels, in the places of the weight that meet them."""
    if node.op == "Gemm":  # the channels of a map, flattened: each a run of columns
        return np.repeat(values, weight.shape[1] // len(values))
    groups = node.attrs.get("group", 1)
    per_filter = np.repeat(values.reshape(groups, -1), len(weight) // groups, axis=0)
    return per_filter.reshape(*weight.shape[:2], 1, 1)
