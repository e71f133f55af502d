"""Load a checkpoint as a network from RGB images of 0..255 to embeddings, whatever images its own graph takes.

Where the graph takes grey or scaled images, the first operators of the network here make them from RGB, so nothing
behind this module needs to know.
"""

from __future__ import annotations

import logging
import math
from typing import Any, Iterable, Mapping, NamedTuple

from insightface_mx.base.compat import Params, Symbol, mx
from insightface_mx.base.errors import UserError
from insightface_mx.base.limits import MAX_LAYER_VALUES, MAX_NETWORK_VALUES, MIN_PIXELS
from insightface_mx.cli.types import USUAL_SIZE, Size, size_text
from insightface_mx.engine.half_precision import to_float32
from insightface_mx.engine.network_input import USUAL_INPUT, NetworkInput
from insightface_mx.engine.pixel_operators import DATA, GREY, RGB, from_rgb
from insightface_mx.engine.symbol_graph import Node, Shape, SymbolGraph, infer_shapes
from insightface_mx.formats import checkpoint

MANIFEST_KEY = "network_input"
# of faces in published networks, the usual ones first
SIZES: tuple[Size, ...] = (
    USUAL_SIZE,
    *((112, 96), (96, 96), (96, 112), (100, 100), (128, 128), (160, 160), (224, 224), (144, 144), (64, 64), (32, 32)),
)
EMBEDDING_OPERATORS = ("BatchNorm", "Flatten", "FullyConnected", "L2Normalization")  # that networks often end in
NODES_SHOWN = 4


class FaceNetwork(NamedTuple):
    """A network in float32.

    Attributes:
        symbol: From `data`, RGB images (n, 3, height, width) of 0..255, to the embedding.
        arg_params: Parameters; those behind the embedding may be among them.
        aux_params: Moving averages.
        image_size: Height and width of its images.
        built_in: What the symbol does to the images before the checkpoint's own graph, and the embedding's node.
    """

    symbol: Symbol
    arg_params: Params
    aux_params: Params
    image_size: Size
    built_in: NetworkInput


class EmbeddingPart(NamedTuple):
    """A checkpoint in float32, cut behind its embedding.

    Attributes:
        graph: From its input, which is called `data`, to the embedding.
        arg_params: Parameters; those behind the embedding may be among them.
        aux_params: Moving averages.
        image_size: Height and width as the user or the manifest says; None: unknown.
        input: How the graph takes images.
    """

    graph: Symbol
    arg_params: Params
    aux_params: Params
    image_size: Size | None
    input: NetworkInput

    def shapes(self) -> dict[str, Shape]:
        """Return the shapes of parameters and moving averages."""
        return _shapes(self.arg_params, self.aux_params)


def load(prefix: str, epoch: int, image_size: Size | None = None, given: NetworkInput = USUAL_INPUT) -> FaceNetwork:
    """Load a checkpoint, with or without a training head.

    Args:
        prefix: Path of the checkpoint without '-NNNN.params'.
        epoch: Number NNNN of the checkpoint.
        image_size: Height and width; None: as the manifest says, otherwise the usual size that the parameters fit.
        given: What the user says of the network; the rest is from the manifest.

    Raises:
        UserError: A file is missing, holds no embedding, or does not fit the images; the message names it.
    """
    part = cut(prefix, epoch, image_size, given)
    shapes = part.shapes()
    size = part.image_size or _find_size(part.graph, shapes) or USUAL_SIZE
    misfit = _misfit(part.graph, shapes, (1, RGB, *size))
    channels = GREY if misfit and not _misfit(part.graph, shapes, (1, GREY, *size)) else RGB
    if misfit and channels == RGB:
        path = checkpoint.params_path(prefix, epoch)
        raise UserError(f"{path} does not fit its symbol and --image-size {size_text(size)}: {misfit}")
    symbol = from_rgb(_as_vector(part, (1, channels, *size)), channels, part.input)
    # a file may hold an argument among the auxiliary states, or the reverse
    arrays = {**part.aux_params, **part.arg_params}
    auxiliary = {name: arrays[name] for name in symbol.list_auxiliary_states()}
    arguments = {name: array for name, array in arrays.items() if name not in auxiliary}
    return FaceNetwork(symbol, arguments, auxiliary, size, part.input)


def image_size_of(prefix: str, epoch: int, given: NetworkInput = USUAL_INPUT) -> Size:
    """Return the height and width that `load` takes where none are given, without reading parameters' values.

    Raises:
        UserError: A file is missing or damaged, or holds no embedding.
    """
    metadata = checkpoint.saved_metadata(prefix, epoch)
    saved = checkpoint.image_size_in(metadata)
    if saved:
        return saved
    symbol, shapes = checkpoint.load_shapes(prefix, epoch)
    graph = embedding_of(symbol, prefix, given.or_else(saved_input(metadata)).node, shapes)
    return _find_size(_with_input_named_data(graph, shapes), shapes) or USUAL_SIZE


def cut(prefix: str, epoch: int, image_size: Size | None = None, given: NetworkInput = USUAL_INPUT) -> EmbeddingPart:
    """Read a checkpoint, and cut its graph behind the embedding.

    Args:
        prefix: Path of the checkpoint without '-NNNN.params'.
        epoch: Number NNNN of the checkpoint.
        image_size: Height and width; None: as the manifest says.
        given: What the user says of the network; the rest is from the manifest.

    Raises:
        UserError: A file is missing or damaged, or holds no embedding.
    """
    metadata = checkpoint.saved_metadata(prefix, epoch)
    given = given.or_else(saved_input(metadata))
    size = image_size or checkpoint.image_size_in(metadata)
    symbol, arg_params, aux_params = checkpoint.load(prefix, epoch)
    shapes = _shapes(arg_params, aux_params)
    embedding = embedding_of(symbol, prefix, given.node, shapes, size)
    path = checkpoint.params_path(prefix, epoch)
    graph, (arg_params, aux_params) = to_float32(path, embedding, arg_params, aux_params)
    return EmbeddingPart(_with_input_named_data(graph, shapes), arg_params, aux_params, size, given)


def _shapes(*params: Params) -> dict[str, Shape]:
    return {name: array.shape for arrays in params for name, array in arrays.items()}


def _as_vector(part: EmbeddingPart, data_shape: Shape) -> Symbol:
    """Return a graph whose output is a vector for each image: a map of 1x1 is flattened.

    Raises:
        UserError: The output is larger.
    """
    _, (shape,), _ = part.graph.infer_shape_partial(data=data_shape)
    if len(shape) == 2:
        return part.graph
    if len(shape) == 4 and shape[2:] == (1, 1):
        graph = SymbolGraph(part.graph)
        graph.nodes.append(Node("Flatten", f"{part.input.node}_vector", graph.heads))
        graph.heads = [graph.nodes[-1].output]
        return graph.to_symbol()
    raise UserError(
        f"the output of node {part.input.node} is {shape} for one image, not a vector: choose another --embedding-node"
    )


def saved_input(metadata: Mapping[str, Any]) -> NetworkInput:
    """Return what a checkpoint's manifest says of its input."""
    saved = metadata.get(MANIFEST_KEY)
    values = saved if isinstance(saved, dict) else {}
    try:
        return NetworkInput(**{name: values.get(name) for name in ("embedding_node", "pixel_mean", "pixel_scale")})
    except UserError as error:
        raise UserError(f"{MANIFEST_KEY} in the checkpoint's manifest: {error}") from error


def input_metadata(part: EmbeddingPart) -> dict[str, Any]:
    """Return what a manifest stores of a network's input; `cut` reads it."""
    size = {"options": {"image_size": size_text(part.image_size)}} if part.image_size else {}
    given = part.input.given()
    return {**size, **({MANIFEST_KEY: given} if given else {})}


def embedding_of(
    symbol: Symbol, prefix: str, node: str, shapes: Mapping[str, Shape] | None = None, image_size: Size | None = None
) -> Symbol:
    """Return the part of a checkpoint's symbol up to the embedding.

    Args:
        symbol: The symbol.
        prefix: Of the checkpoint.
        node: The embedding's node.
        shapes: Of the parameters, for the message.
        image_size: Height and width, for the message; None: unknown.

    Raises:
        UserError: There is no such node, or it needs a label; the message names the file under `prefix`, and the likely
            ones.
    """
    output = f"{node}_output"
    internals = symbol.get_internals()
    found = internals.list_outputs().count(output)
    part = internals[output] if found == 1 else symbol
    labels = [name for name in part.list_arguments() if name.endswith("label") and name not in (shapes or {})]
    if found == 1 and not labels:
        return part
    if found > 1:
        raise UserError(f"{checkpoint.symbol_path(prefix)} has {found} outputs {output}: name another --embedding-node")
    likely = _likely_nodes(symbol, shapes or {}, image_size)
    hint = f"; the last nodes that may be it: {', '.join(likely)}" if likely else ""
    problem = f"has no node {output}: it is not a face recognition network of the kind here"
    if found:
        problem = f"has in node {node} a loss of {labels[0]}, not the embedding"
    raise UserError(
        f"{checkpoint.symbol_path(prefix)} {problem}. Say with --embedding-node which node the embedding is{hint}"
    )


def _likely_nodes(symbol: Symbol, shapes: Mapping[str, Shape], image_size: Size | None) -> list[str]:
    """Return the last nodes that embeddings often come from, each with the length of its output, the last one first."""
    graph = SymbolGraph(symbol)
    classifiers = {output.node for node in graph.nodes if "softmax" in node.op.lower() for output in node.inputs}
    nodes = [node for node in graph.nodes_of(*EMBEDDING_OPERATORS) if node not in classifiers]
    for shape in _input_shapes(symbol, image_size):
        try:
            found = infer_shapes(graph, {**_of_symbol(symbol, shapes), DATA: shape})
        except mx.base.MXNetError:
            continue
        lengths = [(node.name, found.get(node.output.name, ())) for node in nodes]
        vectors = [f"{name} ({shape[1]} numbers)" for name, shape in lengths if len(shape) == 2 and shape[1]]
        if vectors:
            return vectors[: -NODES_SHOWN - 1 : -1]
    return [node.name for node in nodes[: -NODES_SHOWN - 1 : -1]]


def _of_symbol(symbol: Symbol, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    return {name: shapes[name] for name in symbol.list_arguments() if name in shapes}


def _input_shapes(symbol: Symbol, image_size: Size | None) -> Iterable[Shape]:
    """Yield the shapes that a network's images may have, the likely ones first."""
    declared = symbol.attr_dict().get(DATA, {}).get("__shape__", "")
    sides = [int(side) for side in declared.strip("()[] ").split(",") if side.strip().isdecimal()]
    if image_size is None and len(sides) == 4 and all(sides[1:]):
        yield (1, *sides[1:])
    for channels in (RGB, GREY):
        for size in SIZES if image_size is None else (image_size,):
            yield (1, channels, *size)


def _with_input_named_data(graph: Symbol, shapes: Mapping[str, Shape]) -> Symbol:
    """Return a graph whose input is called `data`; the graph itself where more than its input has no parameter."""
    inputs = [name for name in graph.list_arguments() if name not in shapes]
    if len(inputs) != 1 or inputs == [DATA]:
        return graph
    renamed = SymbolGraph(graph)
    renamed.find(inputs[0]).name = DATA
    return renamed.to_symbol()


def _find_size(graph: Symbol, shapes: Mapping[str, Shape]) -> Size | None:
    """Return the first of the usual sizes whose images give the parameters their shapes; None where there is none."""
    for shape in _input_shapes(graph, None):
        if not _misfit(graph, shapes, shape):
            *_, height, width = shape
            if (height, width) != USUAL_SIZE:
                logging.info("images of %s pixels, as the shapes of the parameters say", size_text((height, width)))
            return height, width
    return None


def _misfit(graph: Symbol, shapes: Mapping[str, Shape], data_shape: Shape) -> str:
    """Return in words what does not fit images of a shape; '' where all fits."""
    layers = graph.get_internals()
    try:
        arguments, outputs, auxiliary = layers.infer_shape_partial(
            data=data_shape
        )  # infer_shape would print, then raise
    except mx.base.MXNetError:
        return "the symbol takes no such images"
    if any(not shape or min(shape) < 1 for shape in outputs):
        return "the shapes of its layers do not follow from the images"
    names = layers.list_arguments() + layers.list_auxiliary_states()
    for name, shape in zip(names, arguments + auxiliary):
        found = shapes.get(name, "missing")
        if name != DATA and found != shape:
            return f"{name} is {found}, not {shape}"
    sizes, pixels = [math.prod(shape) for shape in outputs], max(math.prod(data_shape[2:]), MIN_PIXELS)
    if max(sizes) > MAX_LAYER_VALUES * pixels or sum(sizes) > MAX_NETWORK_VALUES * pixels:
        return f"its layers take {4 * sum(sizes) / 1e9:.1f} GB for an image, which is more than is allowed"
    return ""
