"""Read a network from an ONNX file or a PyTorch state dict, and prove that it computes the same."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from insightface_mx.base.compat import Params, Symbol, mx
from insightface_mx.cli.types import USUAL_SIZE, Size
from insightface_mx.conversion import iresnet
from insightface_mx.conversion.fingerprint import take_fingerprint
from insightface_mx.conversion.proof import Difference, check_equal, make_images, onnx_runner
from insightface_mx.conversion.read_params import read_params
from insightface_mx.conversion.recognise import recognise
from insightface_mx.engine import denormals
from insightface_mx.onnx_files import file
from insightface_mx.onnx_files.graph import Constants, Graph, Node
from insightface_mx.onnx_files.runtime import open_model

NAMED_NODES = 8  # insightface looks for the arithmetic of MXNet's networks in the names of the first nodes


class Scaling(NamedTuple):
    """What a file's user does to pixels x of 0..255: (x - mean) / std."""

    mean: float
    std: float


NO_SCALING, TO_UNIT_RANGE = Scaling(0.0, 1.0), Scaling(127.5, 127.5)


class Imported(NamedTuple):
    """A network with its name and versions in words, its difference from the file, and its images' height and width."""

    name: str
    symbol: Symbol
    params: Params
    difference: Difference
    image_size: Size


def import_onnx(path: str, images: str | None = None, scaling: Scaling | None = None) -> Imported:
    """Read the network of an ONNX file.

    Args:
        path: The file.
        images: Source of real images for the proof, as proof.make_images takes it.
        scaling: What the file's user does to pixels; None: as insightface's ArcFaceONNX takes the file.

    Raises:
        UserError: No ONNX file, a network that is none of those here, or results that differ.
    """
    graph, image_size = file.load(path)
    image_size = image_size or USUAL_SIZE
    scaling = scaling or find_scaling(graph)
    fingerprint = take_fingerprint(_with_scaling(graph, scaling))
    match = recognise(fingerprint, image_size, path)
    params = _without_denormals(read_params(match, fingerprint))
    run = onnx_runner(open_model(path, image_size), scaling.mean, scaling.std)
    difference = check_equal(path, run, match.symbol, params, make_images(image_size, images))
    return Imported(match.name, match.symbol, params, difference, image_size)


def import_torch(path: str, images: str | None = None) -> Imported:
    """Read the network of a .pth file with the state dict of arcface_torch's iresnet; images as in `import_onnx`.

    Raises:
        UserError: No such state dict, results that differ, or PyTorch is not installed.
    """
    state = iresnet.load(path)
    name, symbol, arrays = iresnet.from_state(state)
    params = _without_denormals(arrays)
    run = iresnet.TorchNetwork(state)
    difference = check_equal(path, run, symbol, params, make_images(USUAL_SIZE, images))
    return Imported(name, symbol, params, difference, USUAL_SIZE)


def find_scaling(graph: Graph) -> Scaling:
    """Return the scaling by the rule of insightface's ArcFaceONNX, which looks at the names of the first nodes."""
    names = [node.name for node in graph.nodes[:NAMED_NODES]]
    has_subtraction = any(name.startswith(("Sub", "_minus")) for name in names)
    has_multiplication = any(name.startswith(("Mul", "_mul")) for name in names)
    return NO_SCALING if has_subtraction and has_multiplication else TO_UNIT_RANGE


def _with_scaling(graph: Graph, scaling: Scaling) -> Graph:
    """Return the graph for pixels of 0..255, with the scaling as its first nodes."""
    constants = {"pixel mean": np.array(scaling.mean, np.float32), "pixel std": np.array(scaling.std, np.float32)}
    nodes = [
        Node("Sub", "pixel mean", ("pixels", "pixel mean"), "centred pixels", {}),
        Node("Div", "pixel std", ("centred pixels", "pixel std"), graph.input, {}),
    ]
    return Graph("pixels", graph.outputs, [*nodes, *graph.nodes], {**graph.constants, **constants})


def _without_denormals(arrays: Constants) -> Params:
    params = {name: mx.nd.array(value) for name, value in arrays.items()}
    denormals.flush(params)
    return params
