"""Write a checkpoint as ONNX, and prove that it computes the same."""

import contextlib
import os
from typing import Dict, NamedTuple

import numpy as np

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.conversion import file as onnx_file
from insightface_mx.conversion import fold_norms as onnx_layers
from insightface_mx.conversion import proof as onnx_check
from insightface_mx.conversion.graph import from_symbol
from insightface_mx.engine import denormals
from insightface_mx.engine.network import check_fit, embedding_of
from insightface_mx.formats import atomic, checkpoint

COSINE = "cosine"  # the output of --head


class Network(NamedTuple):
    """An embedding symbol and its parameters, name -> float32 array, arguments and auxiliary states."""

    symbol: mx.sym.Symbol
    params: Dict[str, np.ndarray]


def load_network(model, image_size, head=False):
    """Read checkpoint 'PREFIX,EPOCH' without its denormal numbers; with `head`, the cosines are a second output.

    UserError: a file that is missing, damaged, of no face recognition network or does not fit images of image_size
    (height, width), or one without class weights.
    """
    prefix, epoch = checkpoint.parse(model)
    symbol, arg_params, aux_params = checkpoint.load(prefix, epoch)
    embedding = embedding_of(symbol, prefix)
    arrays = {**arg_params, **aux_params}
    check_fit(embedding, arrays, image_size, checkpoint.params_path(prefix, epoch))
    denormals.flush(arrays)
    params = {name: array.asnumpy().astype(np.float32) for name, array in arrays.items()}
    network = Network(embedding, params)
    return _with_head(network, checkpoint.params_path(prefix, epoch)) if head else network


def _with_head(network, path):
    """The cosines between embedding and class weights as a second output."""
    weight = network.params.get("fc7_weight")
    if weight is None:
        raise UserError(f"{path} holds no class weights fc7_weight: export it without --head")
    unit = weight / np.maximum(np.linalg.norm(weight, axis=1, keepdims=True), 1e-10)
    embedding = mx.sym.L2Normalization(network.symbol, mode="instance", name="fc1n")
    weights = mx.sym.Variable("fc7_weight")
    cosine = mx.sym.FullyConnected(embedding, weights, no_bias=True, num_hidden=len(unit), name=COSINE)
    return Network(mx.sym.Group([network.symbol, cosine]), {**network.params, "fc7_weight": unit})


def export(network, output, image_size, images, fold_norms=False):
    """Write the network as `output` if that computes the same in ONNX Runtime; returns the onnx_check.Difference.

    images: as onnx_check.make_images gives them, of image_size (height, width). fold_norms: let layers take in the
    batch norms where that changes nothing. UserError: an operator without an ONNX form, or results that differ.
    """
    graph = from_symbol(network.symbol, network.params, (1, 3, *image_size))
    graph = onnx_layers.fold(graph) if fold_norms else graph
    _, shapes, _ = network.symbol.infer_shape(data=(1, 3, *image_size))
    with writing(output) as temporary:
        onnx_file.save(graph, temporary, image_size, [shape[1:] for shape in shapes])
        return onnx_check.check(output, onnx_check.onnx_runner(temporary), *network, images)


@contextlib.contextmanager
def writing(path):
    """A temporary name that becomes `path` when the block ends well; UserError where it cannot be written."""
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with atomic.atomic_path(path) as temporary:
            yield temporary
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
