"""Fold the batch norms of an ONNX graph into the convolutions and dense layers next to them.

In inference a norm multiplies each channel by a factor and adds a shift. A layer can do that itself if it comes right
before the norm, or right after it and without padding. (With padding it cannot: the border of zeros comes after the
norm, so the norm's shift does not reach it.)
"""

from __future__ import annotations

from collections import Counter
from typing import Container, Mapping, NamedTuple

import numpy as np

from insightface_mx.onnx_files.graph import Constants, Graph, Node

LINEAR = ("Conv", "Gemm")
NORM = "BatchNormalization"


class Layer(NamedTuple):
    """A convolution or dense layer with the norms that can be folded into it, in the order of computation."""

    node: Node
    before: list[Node]
    after: list[Node]

    @property
    def norms(self) -> list[Node]:
        """The norms before and after the layer."""
        return [*self.before, *self.after]

    @property
    def input(self) -> str:
        """The tensor that enters the first norm, or the layer where there is no norm before it."""
        return self.before[0].inputs[0] if self.before else self.node.inputs[0]

    @property
    def output(self) -> str:
        """The tensor that leaves the last norm, or the layer where there is no norm after it."""
        return self.after[-1].output if self.after else self.node.output

    @property
    def bias(self) -> str | None:
        """The name of the layer's bias."""
        return self.node.inputs[2] if len(self.node.inputs) > 2 else None


def find_layers(graph: Graph) -> dict[str, Layer]:
    """Return every layer of the graph with its norms, by the output of the convolution or dense layer."""
    uses = Counter([*(name for node in graph.nodes for name in node.inputs), *graph.outputs])
    users = {node.inputs[0]: node for node in graph.nodes}
    makers = {node.output: node for node in graph.nodes}
    linear = [node for node in graph.nodes if node.op in LINEAR and node.inputs[1] in graph.constants]
    after = {node.output: _norms_after(node, uses, users) for node in linear}
    taken = {norm.output for norms in after.values() for norm in norms}
    before = {node.output: _norms_before(node, uses, makers, taken) for node in linear}
    return {node.output: Layer(node, before[node.output], after[node.output]) for node in linear}


def _norms_after(node: Node, uses: Mapping[str, int], users: Mapping[str, Node]) -> list[Node]:
    norms = []
    while uses[node.output] == 1 and node.output in users and users[node.output].op == NORM:
        node = users[node.output]
        norms.append(node)
    return norms


def _norms_before(node: Node, uses: Mapping[str, int], makers: Mapping[str, Node], taken: Container[str]) -> list[Node]:
    """Return the norms right before a layer; taken: outputs of norms that go into the layers before them."""
    if any(node.attrs.get("pads", ())):
        return []
    norms: list[Node] = []
    maker = makers.get(node.inputs[0])
    while maker and maker.op in ("Flatten", NORM) and uses[maker.output] == 1 and maker.output not in taken:
        if maker.op == NORM:
            norms.insert(0, maker)
        maker = makers.get(maker.inputs[0])
    return norms


def fold_norms(graph: Graph) -> Graph:
    """Return the graph without the norms that a layer can do."""
    constants, same_as = dict(graph.constants), {}
    folded: dict[str, Node] = {}
    gone: set[str] = set()
    for output, layer in find_layers(graph).items():
        if not layer.norms:
            continue
        weight, bias = fold_layer(layer, graph.constants)
        weight_name, bias_name = layer.node.inputs[1], layer.bias or f"{layer.node.name}_bias"
        constants[weight_name], constants[bias_name] = weight.astype(np.float32), bias.astype(np.float32)
        inputs = (layer.node.inputs[0], weight_name, bias_name)
        folded[output] = layer.node._replace(inputs=inputs, output=layer.output)
        same_as.update({norm.output: layer.input for norm in layer.before})
        gone.update(norm.output for norm in layer.norms)
    nodes = [folded.get(node.output, node).renamed(same_as) for node in graph.nodes if node.output not in gone]
    used = {name for node in nodes for name in node.inputs}
    return graph._replace(nodes=nodes, constants={name: constants[name] for name in constants if name in used})


def fold_layer(layer: Layer, constants: Constants) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and bias, float64, of the one layer that computes the same as `layer` with its norms."""
    weight = constants[layer.node.inputs[1]].astype(np.float64)
    bias = constants[layer.bias].astype(np.float64) if layer.bias else np.zeros(len(weight))
    for norm in reversed(layer.before):
        factor, shift = factor_and_shift(norm, constants)
        bias = bias + (weight * _per_input_channel(shift, layer.node, weight)).reshape(len(weight), -1).sum(axis=1)
        weight = weight * _per_input_channel(factor, layer.node, weight)
    for norm in layer.after:
        factor, shift = factor_and_shift(norm, constants)
        weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        bias = bias * factor + shift
    return weight, bias


def _per_input_channel(values: np.ndarray, node: Node, weight: np.ndarray) -> np.ndarray:
    """Broadcast one value for each input channel to the shape of the layer's weight."""
    if node.op == "Gemm":  # a flattened map has its channels one after the other: equal runs of columns
        return np.repeat(values, weight.shape[1] // len(values))
    groups = node.attrs.get("group", 1)
    per_filter = np.repeat(values.reshape(groups, -1), len(weight) // groups, axis=0)
    return per_filter.reshape(*weight.shape[:2], 1, 1)


def factor_and_shift(norm: Node, constants: Constants) -> tuple[np.ndarray, np.ndarray]:
    """Return the factor and the shift of every channel, float64: a norm computes x * factor + shift."""
    gamma, beta, mean, variance = (constants[name].astype(np.float64) for name in norm.inputs[1:])
    factor = gamma / np.sqrt(variance + norm.attrs.get("epsilon", 1e-5))
    return factor, beta - mean * factor


def change_epsilon(
    gamma: np.ndarray, variance: np.ndarray, old: float, new: float, fix_gamma: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return gamma and variance with which a norm of epsilon `new` computes the same as before with epsilon `old`.

    Args:
        gamma: (channels,) float64.
        variance: (channels,) float64.
        old: The epsilon that gamma and variance belong to.
        new: The epsilon of the other norm.
        fix_gamma: Keep gamma and change the variance, which may fall below 0 by up to new - old.
    """
    if old == new or fix_gamma:
        return gamma, variance + (old - new)
    return gamma * np.sqrt((variance + new) / (variance + old)), variance
