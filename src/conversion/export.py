"""Write a checkpoint as an ONNX file, and prove that it computes the same."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from insightface_mx.base.compat import L2_EPSILON, Symbol, mx
from insightface_mx.base.errors import UserError
from insightface_mx.cli.types import Size
from insightface_mx.conversion.fold_norms import fold_norms as folded
from insightface_mx.conversion.operators import from_symbol
from insightface_mx.conversion.proof import Difference, check_equal, onnx_runner
from insightface_mx.engine import denormals, face_network
from insightface_mx.engine.network_input import USUAL_INPUT, NetworkInput
from insightface_mx.files.atomic import atomic_path, report_write_errors
from insightface_mx.formats import checkpoint
from insightface_mx.onnx_files import file
from insightface_mx.onnx_files.graph import Constants
from insightface_mx.onnx_files.runtime import own_model

CLASS_WEIGHTS = "fc7_weight"


class Network(NamedTuple):
    """A network to export.

    Attributes:
        symbol: From `data`, RGB images of 0..255, to the embedding.
        params: Name -> float32 array, auxiliary states included.
        image_size: Height and width.
        built_in: What the symbol does to the images before the checkpoint's own graph.
    """

    symbol: Symbol
    params: Constants
    image_size: Size
    built_in: NetworkInput = USUAL_INPUT


def load_network(
    model: str,
    image_size: Size | None = None,
    with_cosines: bool = False,
    network_input: NetworkInput = USUAL_INPUT,
) -> Network:
    """Read a checkpoint without its denormal numbers.

    Args:
        model: 'PREFIX,EPOCH'.
        image_size: Height and width of the images; None: see `face_network.load`.
        with_cosines: Add a second output, `cosine`: the cosines between embedding and class weights.
        network_input: How the checkpoint's graph takes images; the network that is returned takes RGB of 0..255.

    Raises:
        UserError: A file that is missing, damaged, of no face recognition network or does not fit the images, or one
            without class weights.
    """
    prefix, epoch = checkpoint.parse(model)
    path = checkpoint.params_path(prefix, epoch)
    loaded = face_network.load(prefix, epoch, image_size, network_input)
    arrays = {**loaded.arg_params, **loaded.aux_params}
    denormals.flush(arrays)
    params = {name: array.asnumpy().astype(np.float32) for name, array in arrays.items()}
    network = Network(loaded.symbol, params, loaded.image_size, loaded.built_in)
    if not with_cosines:
        return network
    if CLASS_WEIGHTS not in params:
        raise UserError(f"{path} holds no class weights {CLASS_WEIGHTS}: export it without --head")
    return _with_cosines(network)


def _with_cosines(network: Network) -> Network:
    weight = network.params[CLASS_WEIGHTS]
    unit = weight / np.maximum(np.linalg.norm(weight, axis=1, keepdims=True), L2_EPSILON)
    embedding = mx.sym.L2Normalization(network.symbol, mode="instance", name="fc1n")
    weights = mx.sym.Variable(CLASS_WEIGHTS)
    cosine = mx.sym.FullyConnected(embedding, weights, no_bias=True, num_hidden=len(unit), name="cosine")
    both = mx.sym.Group([network.symbol, cosine])
    return network._replace(symbol=both, params={**network.params, CLASS_WEIGHTS: unit})


def export(network: Network, output: str, images: np.ndarray, fold_norms: bool = False) -> Difference:
    """Write a network as an ONNX file if it computes the same in ONNX Runtime.

    Args:
        network: What `load_network` returned.
        output: The file.
        images: For the proof, as proof.make_images returns them.
        fold_norms: Fold the batch norms into the layers next to them.

    Raises:
        UserError: An operator without an ONNX form, results that differ, or a package that is not installed.
    """
    file.require_onnx()
    data_shape = (1, 3, *network.image_size)
    graph = from_symbol(network.symbol, network.params, data_shape)
    if fold_norms:
        graph = folded(graph)
    _, shapes, _ = network.symbol.infer_shape(data=data_shape)
    with report_write_errors(output), atomic_path(output) as temporary:
        file.save(graph, temporary, network.image_size, [shape[1:] for shape in shapes], network.built_in.given())
        run = onnx_runner(own_model(temporary, network.image_size))
        return check_equal(output, run, network.symbol, network.params, images)
