"""ONNX graphs in memory: nodes and arrays that go by name, without the package onnx.

Module `operators` makes them from MXNet symbols, `file` reads and writes them.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple

import numpy as np

Constants = Dict[str, np.ndarray]

DATA = "data"  # the name of the input in the files that are written here


class Node(NamedTuple):
    """One operator of an ONNX graph; tensors go by name, and each node has one output that matters."""

    op: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attrs: dict[str, Any]

    def renamed(self, names: Mapping[str, str]) -> Node:
        """Return the node with other inputs; names: old name -> new name, for those that change."""
        return self._replace(inputs=tuple(names.get(name, name) for name in self.inputs))


class Graph(NamedTuple):
    """An ONNX graph: nodes in an order of computation, and the constants (name -> array) that they use."""

    input: str
    outputs: list[str]
    nodes: list[Node]
    constants: Constants
