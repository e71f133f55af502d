"""Read a face recognition network from an ONNX file as a checkpoint of the network here that it is.

python import_onnx.py r50.onnx --output ../model/r50
python import_onnx.py fr_feature.onnx --mean 127.5 --std 128 --output ../model/y1
python import_onnx.py --torch backbone.pth --output ../model/r50

Writes PREFIX-symbol.json and PREFIX-0000.params, with the names of symbols/, so that training goes on from it with
train_softmax.py --pretrained PREFIX,0. It takes the files of export_onnx.py, exports of insightface's networks and
others of the same operators, with or without folded batch norms; a folded norm comes back as one that only adds a bias.
The checkpoint is written only if it gives the embeddings that the file gives in ONNX Runtime: the largest difference at
most 1e-4 of the largest value, no cosine under 0.99999.

--torch reads the state dict of arcface_torch's iresnet (18, 34, 50 or 100), and compares with PyTorch.
"""

import argparse
import logging

import numpy as np
from tqdm import tqdm

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import exit_on_user_error
from insightface_mx.conversion import file as onnx_file
from insightface_mx.conversion import fingerprint as onnx_form
from insightface_mx.conversion import iresnet
from insightface_mx.conversion import proof as onnx_check
from insightface_mx.conversion import recognise as onnx_match
from insightface_mx.conversion.file import Node
from insightface_mx.conversion.read_params import read_params
from insightface_mx.engine import denormals
from insightface_mx.formats import checkpoint

IMAGE_SIZE = (112, 112)  # where a file leaves it open
EPOCH = 0
FIRST_NODES = 8  # in which insightface looks for the arithmetic of MXNet's networks
RAW, NORMALISED = (0.0, 1.0), (127.5, 127.5)  # mean and standard deviation


def import_onnx(path, images, scaling=None):
    """The network of an ONNX file: what it is called, its symbol and params, and its onnx_check.Difference.

    scaling: mean and standard deviation of the pixels that the file expects; None: as insightface's ArcFaceONNX takes
    them. images: source of real images, as onnx_check.make_images has it.
    """
    graph, image_size = onnx_file.load(path)
    image_size = image_size or IMAGE_SIZE
    mean, std = scaling or find_scaling(graph)
    form = onnx_form.find_form(_scaled(graph, mean, std))
    match = onnx_match.find_network(form, image_size, path)
    params = without_denormals(read_params(match, form))
    run = onnx_check.onnx_runner(path, mean, std)
    images = onnx_check.make_images(image_size, images)
    return match.name, match.symbol, params, onnx_check.check(path, run, match.symbol, params, images)


def import_torch(path, images):
    """As import_onnx, of the state dict of an iresnet."""
    state = iresnet.load(path)
    name, symbol, params = iresnet.from_state(state)
    params, images = without_denormals(params), onnx_check.make_images(IMAGE_SIZE, images)
    return name, symbol, params, onnx_check.check(path, iresnet.runner(state), symbol, params, images)


def find_scaling(graph):
    """Mean and standard deviation of a file's pixels by ArcFaceONNX's rule, which goes by the first nodes' names."""
    names = [node.name for node in graph.nodes[:FIRST_NODES]]
    marks = ("Sub", "_minus"), ("Mul", "_mul")
    return RAW if all(any(name.startswith(mark) for name in names) for mark in marks) else NORMALISED


def without_denormals(params):
    """Parameters as NDArrays, with 0 for what is too near to it."""
    params = {name: mx.nd.array(value) for name, value in params.items()}
    denormals.flush(params)
    return params


def _scaled(graph, mean, std):
    """The graph for pixels of 0..255 of one that takes (x - mean) / std."""
    constants = {**graph.constants, "pixel mean": np.float32(mean), "pixel std": np.float32(std)}
    nodes = [
        Node("Sub", "pixel mean", ("pixels", "pixel mean"), "centred pixels", {}),
        Node("Div", "pixel std", ("centred pixels", "pixel std"), graph.input, {}),
    ]
    return graph._replace(input="pixels", nodes=[*nodes, *graph.nodes], constants=constants)


def run(args):
    """Import as the options say, and tell what was found."""
    if args.torch:
        name, symbol, params, difference = import_torch(args.torch, args.images)
    else:
        scaling = None if args.mean is None else (args.mean, args.std)
        name, symbol, params, difference = import_onnx(args.file, args.images, scaling)
    auxiliary = {key: params.pop(key) for key in symbol.list_auxiliary_states()}
    checkpoint.save(args.output, EPOCH, symbol, params, auxiliary)
    tqdm.write(f"{args.torch or args.file} is {name}; the checkpoint gives its embeddings: {difference}")
    tqdm.write(f"{checkpoint.params_path(args.output, EPOCH)}: fine-tune with --pretrained {args.output},{EPOCH}")


def parser():
    """The command's options."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("file", nargs="?", metavar="FILE.onnx", help="the network: one input, images N x 3 x H x W, and one output")
    add("--torch", metavar="FILE.pth", help="read arcface_torch's state dict instead (needs PyTorch)")
    add("--output", required=True, metavar="PREFIX", help="where the checkpoint goes, for example ../model/r50")
    add("--mean", type=float, metavar="X", help="what the file's user subtracts from the pixels of 0..255 ..")
    add(
        "--std",
        type=float,
        metavar="X",
        help=".. and divides them by then (default: as insightface's ArcFaceONNX takes the file: 0 and 1 where a Sub "
        "and a Mul are among its first nodes, else 127.5 and 127.5)",
    )
    add("--images", metavar="FOLDER|FILE.bin", help="up to 30 real faces to compare on, beside the made ones")
    return result


def main(argv=None):
    """Run the command; exit status 2 with a message for what the user can mend."""
    command = parser()
    args = command.parse_args(argv)
    if bool(args.file) == bool(args.torch):
        command.error("name one network: FILE.onnx or --torch FILE.pth")
    if (args.mean is None) != (args.std is None):
        command.error("--mean and --std go together")
    if args.std == 0:
        command.error("--std must not be 0")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with exit_on_user_error():
        run(args)


if __name__ == "__main__":
    main()
