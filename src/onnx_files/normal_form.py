"""The normal form of an ONNX graph: one way to write what exporters write in several.

In the normal form nothing is left that does nothing in inference; a map becomes a vector by Flatten; a dense layer is a
Gemm with weight outputs x inputs, with its bias inside; a sum of two is an Add.
"""

from __future__ import annotations

from collections import Counter
from typing import Callable, Tuple

import numpy as np

from insightface_mx.onnx_files.graph import Constants, Graph, Node

DOES_NOTHING = ("Identity", "Dropout")  # in inference

Rewritten = Tuple[Node, Constants]  # a node in its normal form, and the constants that it needs in addition


def normalise(graph: Graph) -> Graph:
    """Return the normal form of a graph."""
    graph = _without_identities(graph)
    graph = _rewritten(graph)
    graph = _with_bias_inside(graph)
    return _without_dead_ends(graph)


def _without_identities(graph: Graph) -> Graph:
    nodes: list[Node] = []
    same_as: dict[str, str] = {}
    for node in (node.renamed(same_as) for node in graph.nodes):
        if node.op in DOES_NOTHING:
            same_as[node.output] = node.inputs[0]
        else:
            nodes.append(node)
    return graph._replace(nodes=nodes, outputs=[same_as.get(name, name) for name in graph.outputs])


def _rewritten(graph: Graph) -> Graph:
    """Apply the rule of each node's operator."""
    results = [RULES[node.op](node, graph.constants) if node.op in RULES else (node, {}) for node in graph.nodes]
    added = {name: array for _, constants in results for name, array in constants.items()}
    return graph._replace(nodes=[node for node, _ in results], constants={**graph.constants, **added})


def _flatten(node: Node, _: Constants) -> Rewritten:
    """Only flattening is left of Reshape and Squeeze: their sizes are those of the batch."""
    return node._replace(op="Flatten", inputs=node.inputs[:1], attrs={"axis": 1}), {}


def _sum(node: Node, _: Constants) -> Rewritten:
    return node._replace(op="Add") if len(node.inputs) == 2 else node, {}


def _dense(node: Node, constants: Constants) -> Rewritten:
    """Give a Gemm, or a MatMul with a constant, a weight outputs x inputs that includes the factor alpha."""
    if node.inputs[1] not in constants:
        return node, {}
    weight = constants[node.inputs[1]] * np.float32(node.attrs.get("alpha", 1))
    name = f"{node.output}_weight"
    inputs = (node.inputs[0], name, *node.inputs[2:])
    return node._replace(op="Gemm", inputs=inputs, attrs={"transB": 1}), {
        name: weight if node.attrs.get("transB") else weight.T
    }


RULES: dict[str, Callable[[Node, Constants], Rewritten]] = {
    "Flatten": _flatten,
    "Gemm": _dense,
    "MatMul": _dense,
    "Reshape": _flatten,
    "Squeeze": _flatten,
    "Sum": _sum,
}


def _with_bias_inside(graph: Graph) -> Graph:
    """Move an Add of a constant right behind a Gemm into the Gemm."""
    uses = Counter([*(name for node in graph.nodes for name in node.inputs), *graph.outputs])
    without_bias = {
        node.output: node
        for node in graph.nodes
        if node.op == "Gemm" and len(node.inputs) == 2 and uses[node.output] == 1
    }
    biases = {
        node.inputs[0]: node
        for node in graph.nodes
        if node.op == "Add" and node.inputs[0] in without_bias and node.inputs[1] in graph.constants
    }
    nodes = []
    for node in graph.nodes:
        if node.op == "Add" and biases.get(node.inputs[0]) is node:
            gemm = without_bias[node.inputs[0]]
            nodes.append(gemm._replace(inputs=(*gemm.inputs, node.inputs[1]), output=node.output))
        elif node.output not in biases:
            nodes.append(node)
    return graph._replace(nodes=nodes)


def _without_dead_ends(graph: Graph) -> Graph:
    """Remove the nodes that no output depends on."""
    needed, nodes = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if node.output in needed:
            nodes.append(node)
            needed.update(node.inputs)
    return graph._replace(nodes=nodes[::-1])
