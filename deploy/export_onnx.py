"""Write a checkpoint of any network here as an ONNX file, and prove that it computes the same.

The file takes RGB images of 0..255, N x 3 x height x width, under the name "data" and returns the embedding, not scaled
to unit length; insightface's ArcFaceONNX recognises it as such. Before the file gets its name, ONNX Runtime and MXNet
both run it on noise, drawn faces and, with --images, real ones, one by one and three at a time. If the largest
difference exceeds 1e-4 of the largest value, or a cosine falls below 0.99999, no file is left.

On CPUs that can, OpenVINO computes such a file in bfloat16 by default, which changes embeddings by far more than that:
give compile_model {"INFERENCE_PRECISION_HINT": "f32"}, as the commands here do. The file's description says so, too.

--torch writes the state dict of arcface_torch's iresnet instead (r18, r34, r50 or r100 with the default versions).
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.export_onnx()

import argparse
from typing import Sequence

from insightface_mx.base.errors import UserError, require
from insightface_mx.cli import types
from insightface_mx.cli.fields import add_options, read_options, refuse_idle
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import say
from insightface_mx.engine.network_input import INPUT_GROUP, NetworkInput
from insightface_mx.formats import overwrite

EXAMPLE = """
insightface-export-onnx --model model/r50,1 --output r50.onnx
insightface-export-onnx --model model/r50,1 --output r50.onnx --fold-norms --images demo/data/orl.bin
insightface-export-onnx --model model/r50,1 --torch r50.pth
"""


def run(args: argparse.Namespace) -> None:
    """Export the checkpoint and print the difference from MXNet."""
    if not (args.output or args.torch):
        raise UserError("give a file to write: --output FILE.onnx or --torch FILE.pth")
    if not args.output:
        given = (("--fold-norms", args.fold_norms), ("--head", args.head))
        refuse_idle([name for name, value in given if value], "without --output FILE.onnx: give that, too")
    if args.torch:
        require("torch", "torch")
    if args.output:
        require("onnx", "onnx", "onnxruntime")
    for path, kind in ((args.output, "ONNX file"), (args.torch, ".pth file")):
        if path:
            overwrite.refuse_other_kind(path, kind, args.force)
    from insightface_mx.conversion import export, iresnet
    from insightface_mx.conversion.proof import make_images
    from insightface_mx.files.atomic import atomic_path, report_write_errors
    from insightface_mx.files.lock import lock_file
    from insightface_mx.onnx_files.file import OPENVINO_ADVICE

    network = export.load_network(args.model, args.image_size, args.head, read_options(args, NetworkInput))
    images = make_images(network.image_size, args.images)
    if args.output:
        with lock_file(args.output):
            difference = export.export(network, args.output, images, args.fold_norms)
        say(f"{args.output}: {len(images)} images one by one and in threes, compared with MXNet: {difference}")
        say(f"{args.output}: {OPENVINO_ADVICE.replace('FILE', repr(args.output))}")
    if args.torch:
        with lock_file(args.torch), report_write_errors(args.torch), atomic_path(args.torch) as temporary:
            difference = iresnet.export(network.symbol, network.params, temporary, images)
        say(f"{args.torch}: {len(images)} images in PyTorch, compared with MXNet: {difference}")


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    result = make_parser(__doc__, EXAMPLE)
    add = result.add_argument
    add("--model", required=True, metavar="PREFIX,EPOCH", help="the checkpoint, for example ../model/r50,1")
    add("--output", metavar="FILE.onnx", help="the ONNX file to write")
    add(
        "--image-size",
        type=types.image_size,
        metavar="H,W",
        help="the network's input in pixels (default: from the checkpoint, otherwise 112,112)",
    )
    add("--fold-norms", action="store_true", help="fold batch norms into the layers next to them, for speed")
    add("--head", action="store_true", help="with class cosines: a second output for classes (not for ArcFaceONNX)")
    add("--images", metavar="FOLDER|FILE.bin", help="up to 30 real faces to compare on, besides the synthetic images")
    add("--torch", metavar="FILE.pth", help="also write arcface_torch's state dict (needs PyTorch)")
    overwrite.add_force_option(result)
    add_options(result, INPUT_GROUP, NetworkInput)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; argv: words of the command line, None for those of the process."""
    run_command(run, parser(), argv)
