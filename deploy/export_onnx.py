"""Write a checkpoint of any network here as an ONNX file, and prove that it computes the same.

python export_onnx.py --model ../model/r50,1 --output r50.onnx
python export_onnx.py --model ../model/r50,1 --output r50.onnx --fold-norms --images ../demo/data/orl.bin
python export_onnx.py --model ../model/r50,1 --torch r50.pth

The file takes RGB images of 0..255, N x 3 x height x width, under the name "data" and gives the embedding, not scaled
to unit length; insightface's ArcFaceONNX recognises it as such. Before it gets its name the file is run in ONNX
Runtime, beside MXNet, on noise, drawn faces and, with --images, real ones, one by one and three at a time. Where the
largest difference exceeds 1e-4 of the largest value, or a cosine falls under 0.99999, no file is left.

--torch writes the state dict of arcface_torch's iresnet instead (r18, r34, r50 or r100 with the default versions).
"""

import argparse
import contextlib
import logging
import os
from typing import Dict, NamedTuple

import numpy as np
from tqdm import tqdm

from insightface_mx import checkpoint, denormals, options
from insightface_mx.compat import mx
from insightface_mx.deploy import iresnet, onnx_check, onnx_file, onnx_layers
from insightface_mx.deploy.onnx_graph import from_symbol
from insightface_mx.errors import UserError, exit_on_user_error
from insightface_mx.eval.embedding import check_fit, embedding_of

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
        with checkpoint.replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def run(args):
    """Export as the options say, and tell what the comparison found."""
    image_size = options.image_size(args)
    network = load_network(args.model, image_size, args.head)
    images = onnx_check.make_images(image_size, args.images)
    if args.output:
        difference = export(network, args.output, image_size, images, args.fold_norms)
        tqdm.write(f"{args.output}: {len(images)} images one by one and in threes, beside MXNet: {difference}")
    if args.torch:
        with writing(args.torch) as temporary:
            difference = iresnet.export(*network, temporary, images)
        tqdm.write(f"{args.torch}: {len(images)} images in PyTorch, beside MXNet: {difference}")


def parser():
    """The command's options."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("--model", required=True, metavar="PREFIX,EPOCH", help="the checkpoint, for example ../model/r50,1")
    add("--output", metavar="FILE.onnx", help="the ONNX file to write")
    add("--image-size", default="112,112", metavar="H,W", help="the network's input, pixels (default: %(default)s)")
    add("--fold-norms", action="store_true", help="let layers take in the batch norms beside them, for speed")
    add("--head", action="store_true", help="a second output: cosines with the class weights (not for ArcFaceONNX)")
    add("--images", metavar="FOLDER|FILE.bin", help="up to 30 real faces to compare on, beside the made ones")
    add("--torch", metavar="FILE.pth", help="also write arcface_torch's state dict (needs PyTorch)")
    return result


def main(argv=None):
    """Run the command; exit status 2 with a message for what the user can mend."""
    command = parser()
    args = command.parse_args(argv)
    if not (args.output or args.torch):
        command.error("say what to write: --output FILE.onnx or --torch FILE.pth")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with exit_on_user_error():
        run(args)


if __name__ == "__main__":
    main()
