r"""Rewrite the Concats that oneDNN cannot train on a CPU; the graph is for binding only, never saved.

oneDNN stores channels in blocks of 16 or 8. If the concatenated channels fill such blocks but those of an input do
not, oneDNN fails to split the gradient again, at worst by a division by zero. MXNet concatenates maps with a fifth axis
without oneDNN:

    x1      x2                      x1            x2           N x C x H x W
      \    /                         |             |
      Concat           becomes   expand_dims   expand_dims     N x C x H x W x 1
        |                              \         /
        y                                 Concat
                                            |
                                         squeeze               N x C x H x W
                                            |
                                            y
"""

from __future__ import annotations

import math

from insightface_mx.engine.symbol_graph import Node, Replacement, Shapes, SymbolGraph

BLOCK = 16  # the largest number of channels that oneDNN keeps together


class FiveAxesConcat(Replacement):
    """A Concat of maps that have a fifth axis."""

    def build(self) -> list[Node]:
        """Return the nodes that concatenate maps with a fifth axis."""
        node, name = self.node, self.node.name
        maps = [
            node.part("expand_dims", f"{name}_cpu_map{i}", [source], axis="4") for i, source in enumerate(node.inputs)
        ]
        sources = [one.output for one in maps]
        joined = node.part("Concat", f"{name}_cpu_joined", sources, dim="1", num_args=str(len(maps)))
        return [*maps, joined, node.part("squeeze", name, [joined.output], axis="4")]


def plan_concats(graph: SymbolGraph, shapes: Shapes) -> list[FiveAxesConcat]:
    """Return replacements for the Concats of maps (4 axes of known shape) that oneDNN cannot train.

    Args:
        graph: The graph as it is.
        shapes: Its shapes, as `infer_shapes` returns them.
    """
    plan = []
    for node in graph.nodes_of("Concat"):
        maps = [shapes[source.name] for source in node.inputs]
        if node.attrs.get("dim", "1") == "1" and all(len(shape) == 4 for shape in maps):
            channels = [shape[1] for shape in maps]
            block = math.gcd(sum(channels), BLOCK)
            if any(count % block for count in channels):
                plan.append(FiveAxesConcat(node))
    return plan
