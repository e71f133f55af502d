"""Put operators before a graph that make its images from RGB images of 0..255."""

from __future__ import annotations

from insightface_mx.base.compat import Symbol
from insightface_mx.base.errors import UserError
from insightface_mx.engine.network_input import NetworkInput, Numbers
from insightface_mx.engine.symbol_graph import Node, SymbolGraph

DATA = "data"
RGB, GREY = 3, 1  # channels
GREY_WEIGHTS = (9798, 19235, 3735)  # of R, G and B in OpenCV's grey, in units of 1/32768
GREY_UNIT = 1 / 32768


def from_rgb(symbol: Symbol, channels: int, given: NetworkInput) -> Symbol:
    """Return a graph that takes RGB images of 0..255.

    Args:
        symbol: The graph; its input is `data`.
        channels: Of the images that it takes, RGB or GREY.
        given: How it takes them.

    Raises:
        UserError: A mean or scale for three channels, and the network takes grey images.
    """
    if channels == RGB and not given.pixel_mean and not given.pixel_scale:
        return symbol
    for name, values in (("pixel_mean", given.pixel_mean), ("pixel_scale", given.pixel_scale)):
        if values and len(values) not in (1, channels):
            raise UserError(f"{name} has {len(values)} numbers, but the network takes grey images: give one number")
    graph = SymbolGraph(symbol)
    data = graph.find(DATA)
    data.attrs.clear()  # what they say of its shape and type need not hold any more
    nodes = _grey(data) if channels == GREY else [data]
    nodes += _by_channel(nodes[-1], "_minus", given.pixel_mean or (0.0,))
    nodes += _by_channel(nodes[-1], "_mul", given.pixel_scale or (1.0,))
    for node in graph.nodes:
        node.inputs = [nodes[-1].output if output.node is data else output for output in node.inputs]
    place = graph.nodes.index(data)
    graph.nodes[place : place + 1] = nodes
    return graph.to_symbol()


def _grey(data: Node) -> list[Node]:
    """Return data and the nodes that make grey images of RGB as OpenCV does, rounded to whole numbers."""
    nodes, terms = [data], []
    for index, weight in enumerate(GREY_WEIGHTS):
        part = _channel(data, index, f"pixels_{'rgb'[index]}")
        terms.append(_scalar(part, "_mul", weight, f"{part.name}_part"))
        nodes += [part, terms[-1]]
    for name, term in zip(("pixels_rg", "pixels_rgb"), terms[1:]):
        terms[0] = Node("elemwise_add", name, [terms[0].output, term.output])
        nodes.append(terms[0])
    half = _scalar(nodes[-1], "_plus", 0.5 / GREY_UNIT, "pixels_half")
    grey = _scalar(half, "_mul", GREY_UNIT, "pixels_unrounded")
    return [*nodes, half, grey, Node("floor", "pixels_grey", [grey.output])]


def _by_channel(images: Node, operator: str, values: Numbers) -> list[Node]:
    """Return the nodes that apply an operator with one number, or with one for each channel."""
    name = f"{operator}_pixels"  # insightface's ArcFaceONNX looks for nodes called _minus and _mul
    if len(values) == 1:
        return [_scalar(images, operator, values[0], name)]
    parts = [_channel(images, index, f"{name}{index}_in") for index in range(len(values))]
    results = [_scalar(part, operator, value, f"{part.name}_out") for part, value in zip(parts, values)]
    joined = Node("Concat", name, [node.output for node in results], {"dim": "1", "num_args": str(len(results))})
    return [*parts, *results, joined]


def _channel(images: Node, index: int, name: str) -> Node:
    attrs = {"axis": "1", "begin": str(index), "end": str(index + 1)}
    return Node("slice_axis", name, [images.output], attrs)


def _scalar(images: Node, operator: str, value: float, name: str) -> Node:
    return Node(f"{operator}_scalar", name, [images.output], {"scalar": repr(float(value))})
