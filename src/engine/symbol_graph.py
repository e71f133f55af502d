"""View an MXNet symbol as a typed graph: look nodes up, replace them, and make a symbol again.

    graph = SymbolGraph(symbol)
    for norm in graph.nodes_of("BatchNorm"):
        data, gamma, *_ = norm.inputs
        print(norm.name, "<-", data.node.name, "with", gamma.node.name)

A symbol's JSON says the same with indices: a node's "inputs" are [node index, output index, version].
"""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Dict, Iterable, Mapping, Tuple

from insightface_mx.base.compat import Symbol, mx

Shape = Tuple[int, ...]
Shapes = Dict[str, Shape]  # name of an input or output -> shape
VARIABLE = "null"  # the operator of a node that is an argument or auxiliary state


@dataclass(eq=False)
class Node:
    """A node of a symbol.

    Attributes:
        op: MXNet's name of the operator; VARIABLE for an argument or auxiliary state.
        name: The node's name. In a SymbolGraph it is unique among operators and among variables.
        inputs: What it computes from, parameters included, in MXNet's order.
        attrs: The operator's parameters and, with names between underscores, MXNet's own attributes, all as text.
    """

    op: str
    name: str
    inputs: list[Output] = field(default_factory=list)
    attrs: dict[str, str] = field(default_factory=dict)

    @property
    def output(self) -> Output:
        """The node's first output."""
        return Output(self)

    def part(self, op: str, name: str, inputs: list[Output], **attrs: str) -> Node:
        """Return a new node that does a part of this node's work; it keeps MXNet's own attributes."""
        kept = {key: value for key, value in self.attrs.items() if key.startswith("__")}
        return Node(op, name, inputs, {**kept, **attrs})


@dataclass(frozen=True)
class Output:
    """One output of a node; `version` is MXNet's counter of changes to an auxiliary state."""

    node: Node
    index: int = 0
    version: int = 0

    @property
    def name(self) -> str:
        """The name of this output in `Symbol.list_outputs`; a variable's output has the variable's own name."""
        if self.node.op == VARIABLE:
            return self.node.name
        several = int(self.node.attrs.get("num_outputs", 1)) > 1
        return f"{self.node.name}_output{self.index if several else ''}"


@dataclass(eq=False)
class Replacement(ABC):
    """New nodes for one node of a graph."""

    node: Node

    @abstractmethod
    def build(self) -> list[Node]:
        """Return the new nodes, each after those that it computes from; the last one takes the old node's place."""

    def apply(self, graph: SymbolGraph) -> None:
        """Replace the node in its graph."""
        graph.replace(self.node, self.build())


class SymbolGraph:
    """The nodes of a symbol, each after those that it computes from; `heads` are the symbol's outputs."""

    def __init__(self, symbol: Symbol) -> None:
        """Read a symbol, which stays as it is.

        MXNet lets several operators have one name, as when it names an operator of the loss as a layer of the network
        is named ("relu1"). Here the first one keeps it, and the others get a name that is free.
        """
        content = json.loads(symbol.tojson())
        self.nodes: list[Node] = []
        operators = {entry["name"] for entry in content["nodes"] if entry["op"] != VARIABLE}
        seen: set[str] = set()
        for entry in content["nodes"]:
            name = entry["name"]
            if entry["op"] != VARIABLE:
                if name in seen:
                    name = next(new for new in (f"{name}_{i}" for i in itertools.count(2)) if new not in operators)
                    operators.add(name)
                seen.add(name)
            self.nodes.append(Node(entry["op"], name, self._outputs(entry["inputs"]), dict(entry.get("attrs", {}))))
        self.heads = self._outputs(content["heads"])
        self._attrs: dict[str, list] = content["attrs"]  # MXNet's version

    def nodes_of(self, *ops: str) -> list[Node]:
        """Return the nodes with one of these operators."""
        return [node for node in self.nodes if node.op in ops]

    def find(self, name: str) -> Node:
        """Return the operator or variable called `name`.

        Raises:
            KeyError: There is none.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def replace(self, node: Node, new_nodes: list[Node]) -> None:
        """Replace a node by others.

        Args:
            node: A node of this graph. The object stays and becomes the last new node, so that what refers to it
                need not be changed.
            new_nodes: Each after those that it computes from.
        """
        *before, last = new_nodes
        index = self.nodes.index(node)
        self.nodes[index:index] = before
        node.op, node.name, node.inputs, node.attrs = last.op, last.name, last.inputs, last.attrs

    def to_symbol(self) -> Symbol:
        """Return the graph as a symbol."""
        indices = {node: index for index, node in enumerate(self.nodes)}

        def references(outputs: Iterable[Output]) -> list[list[int]]:
            return [[indices[output.node], output.index, output.version] for output in outputs]

        content = {
            "nodes": [
                {"op": node.op, "name": node.name, "attrs": node.attrs, "inputs": references(node.inputs)}
                for node in self.nodes
            ],
            "arg_nodes": [index for node, index in indices.items() if node.op == VARIABLE],
            "heads": references(self.heads),
            "attrs": self._attrs,
        }
        return mx.sym.load_json(json.dumps(content))

    def _outputs(self, references: list[list[int]]) -> list[Output]:
        return [Output(self.nodes[node], *rest) for node, *rest in references]


def pair_variables(one: Symbol, other: Symbol) -> dict[str, str]:
    """Pair the variables that have the same place in two graphs, whatever their names are.

    Args:
        one: A symbol with one output.
        other: Another one.

    Returns:
        Name in `one` -> name in `other`. Where operators differ, what they compute from is left out.
    """
    (one_head,), (other_head,) = SymbolGraph(one).heads, SymbolGraph(other).heads
    pairs: dict[Node, Node] = {}
    waiting = [(one_head.node, other_head.node)]
    while waiting:
        node, match = waiting.pop()
        if node not in pairs and node.op == match.op and len(node.inputs) == len(match.inputs):
            pairs[node] = match
            waiting += [(mine.node, theirs.node) for mine, theirs in zip(node.inputs, match.inputs)]
    return {node.name: match.name for node, match in pairs.items() if node.op == VARIABLE}


def infer_shapes(graph: SymbolGraph, inputs: Mapping[str, Shape]) -> Shapes:
    """Return the shapes of all outputs and variables of a graph, by `Output.name`.

    Args:
        graph: The graph.
        inputs: Shapes of some inputs; a shape that does not follow from them is ().
    """
    internals = graph.to_symbol().get_internals()  # in which each output has a name of its own
    return dict(zip(internals.list_outputs(), internals.infer_shape_partial(**inputs)[1]))
