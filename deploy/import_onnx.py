"""Read a face recognition network from an ONNX file as a checkpoint of one of the networks here.

Writes PREFIX-symbol.json and PREFIX-0000.params with the names of symbols/, so that training can continue with
train_softmax.py --pretrained PREFIX,0. The file may come from export_onnx.py, from insightface, or from another program
that uses the same operators, with or without folded batch norms; a folded norm becomes one that only adds a bias.
The checkpoint is written only if it gives the same embeddings as the file in ONNX Runtime: largest difference at most
1e-4 of the largest value, no cosine below 0.99999.

--torch reads the state dict of arcface_torch's iresnet (18, 34, 50 or 100), and compares with PyTorch.
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.import_onnx()

import argparse
from typing import TYPE_CHECKING, Sequence

from insightface_mx.base.errors import UserError, require
from insightface_mx.cli.fields import refuse_idle
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import say
from insightface_mx.cli.types import size_text
from insightface_mx.formats import overwrite

if TYPE_CHECKING:
    from insightface_mx.conversion.importer import Imported

EXAMPLE = """
insightface-import-onnx r50.onnx --output model/imported
insightface-import-onnx fr_feature.onnx --mean 127.5 --std 128 --output model/imported
insightface-import-onnx --torch backbone.pth --output model/imported
"""
EPOCH = 0


def run(args: argparse.Namespace) -> None:
    """Import the network, write the checkpoint, and print what the network is."""
    _check_options(args)
    if args.torch:
        require("torch", "torch")
    else:
        require("onnx", "onnx", "onnxruntime")
    from insightface_mx.files.lock import lock_file
    from insightface_mx.formats import checkpoint

    overwrite.refuse_needed_checkpoint(args.output, EPOCH, args.force)
    with lock_file(args.output):
        found = _import(args)
    say(f"{args.torch or args.file} is {found.name}; the checkpoint gives its embeddings: {found.difference}")
    say(f"{checkpoint.params_path(args.output, EPOCH)}: fine-tune with --pretrained {args.output},{EPOCH}")


def _import(args: argparse.Namespace) -> Imported:
    """Read the network and write the checkpoint."""
    from insightface_mx.conversion import importer

    if args.torch:
        found = importer.import_torch(args.torch, args.images)
    else:
        scaling = None if args.mean is None else importer.Scaling(args.mean, args.std)
        found = importer.import_onnx(args.file, args.images, scaling)
    auxiliary = {name: found.params.pop(name) for name in found.symbol.list_auxiliary_states()}
    metadata = {"options": {"image_size": size_text(found.image_size)}}
    overwrite.save_checkpoint(args.output, EPOCH, (found.symbol, found.params, auxiliary), metadata, args.force)
    return found


def _check_options(args: argparse.Namespace) -> None:
    if bool(args.file) == bool(args.torch):
        raise UserError("name one network: FILE.onnx or --torch FILE.pth")
    if args.torch:
        given = (("--mean", args.mean), ("--std", args.std))
        refuse_idle([name for name, value in given if value is not None], "with --torch: leave it out")
    if (args.mean is None) != (args.std is None):
        raise UserError("--mean and --std go together")
    if args.std == 0:
        raise UserError("--std must not be 0")


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    result = make_parser(__doc__, EXAMPLE)
    add = result.add_argument
    add("file", nargs="?", metavar="FILE.onnx", help="the network: one input, images N x 3 x H x W, and one output")
    add("--torch", metavar="FILE.pth", help="read arcface_torch's state dict instead (needs PyTorch)")
    add("--output", required=True, metavar="PREFIX", help="prefix of the checkpoint, for example ../model/r50")
    add("--mean", type=float, metavar="X", help="number that the file's user subtracts from pixels of 0..255 ..")
    add(
        "--std",
        type=float,
        metavar="X",
        help=".. and then divides them by (default: as insightface's ArcFaceONNX takes the file: 0 and 1 if a Sub and "
        "a Mul are among its first nodes, otherwise 127.5 and 127.5)",
    )
    overwrite.add_force_option(result)
    add("--images", metavar="FOLDER|FILE.bin", help="up to 30 real faces to compare on, besides the synthetic images")
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; argv: words of the command line, None for those of the process."""
    run_command(run, parser(), argv)
