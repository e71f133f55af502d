"""Write a network as an int8 ONNX file, if it loses little accuracy.

Weights and activations become 8-bit integers (ONNX's QuantizeLinear and DequantizeLinear) where NNCF, OpenVINO's
quantiser, finds it worthwhile. The ranges of activations are those of the calibration images, which must look like the
images that the network will see and must not be those of the pairs. OpenVINO and ONNX Runtime run the file.

Accuracy on the pairs is measured before and after, as verification.py does, by the fastest backend that is installed.
If it falls by more than --max-loss, no file is left. On a CPU with VNNI, OpenVINO runs ResNets about three times as
fast as in float32, MobileFaceNet (y1) twice.
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.quantize()

import argparse
import contextlib
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Sequence

from insightface_mx.base.errors import UserError
from insightface_mx.cli import types
from insightface_mx.cli.fields import add_options, read_options
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import say
from insightface_mx.engine.network_input import INPUT_GROUP, NetworkInput
from insightface_mx.formats import overwrite

if TYPE_CHECKING:
    from insightface_mx.embedding.backends import Backend
    from insightface_mx.eval.pairs import DataSet

EXAMPLE = """
insightface-quantize --model model/r50,1 --calibration data/train.rec --pairs data/lfw.bin --output r50-int8.onnx
"""
CALIBRATION_IMAGES = 300
MAX_LOSS = 0.3  # per cent of accuracy


def run(args: argparse.Namespace) -> None:
    """Quantise, compare on the pairs, and keep the file if it loses little accuracy."""
    from insightface_mx.conversion.quantize import quantize, require_nncf

    require_nncf()  # before the long work
    from insightface_mx.conversion import export
    from insightface_mx.conversion.proof import make_images
    from insightface_mx.embedding import backends
    from insightface_mx.eval.pairs import load_bin
    from insightface_mx.files.atomic import atomic_path, report_write_errors
    from insightface_mx.files.lock import lock_file
    from insightface_mx.photos.sources import aligned_images

    output = args.output
    overwrite.refuse_other_kind(output, "ONNX file", args.force)
    network = export.load_network(args.model, args.image_size, network_input=read_options(args, NetworkInput))
    size = network.image_size
    pairs = load_bin(args.pairs, size)
    images = aligned_images(args.calibration, size, CALIBRATION_IMAGES)
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock_file(output))
        stack.enter_context(report_write_errors(output))
        temporary = stack.enter_context(atomic_path(output))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        single, int8 = (os.path.join(folder, name) for name in ("single.onnx", "int8.onnx"))
        export.export(network, single, make_images(size), fold_norms=True)
        quantize(single, int8, images)
        name = next(key for key in backends.PACKAGES if backends.installed(key))
        both = [backends.onnx_backend(name, path, size) for path in (single, int8)]
        before, after = (accuracy(backend, pairs) for backend in both)
        metrics = f"accuracy on {args.pairs} {before:.3f} % before, {after:.3f} % in int8 ({name})"
        if before - after > args.max_loss:
            raise UserError(f"{metrics}: a loss of more than --max-loss {args.max_loss}; nothing was written")
        shutil.copyfile(int8, temporary)
    say(f"{output}: {metrics}; calibrated on {len(images)} images")


def accuracy(backend: Backend, data_set: DataSet) -> float:
    """Return the mean accuracy over ten folds of image plus mirror image, in per cent."""
    from insightface_mx.eval.pairs import judge

    views, issame = data_set
    return float(100 * judge([backend.embed(view.asnumpy()).astype(float) for view in views], issame).acc2)


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    result = make_parser(__doc__, EXAMPLE)
    add = result.add_argument
    add("--model", required=True, metavar="PREFIX,EPOCH", help="the checkpoint, for example ../model/r50,1")
    add("--output", required=True, metavar="FILE.onnx", help="the int8 ONNX file to write")
    add(
        "--calibration",
        required=True,
        metavar="FOLDER|LIST|FILE.rec|FILE.bin",
        help=f"aligned faces for the ranges of activations; {CALIBRATION_IMAGES}, evenly spread, are taken",
    )
    add("--pairs", required=True, metavar="FILE.bin", help="a verification set to measure the loss on")
    add("--max-loss", type=float, default=MAX_LOSS, metavar="PERCENT", help="of accuracy (default: %(default)s)")
    add(
        "--image-size",
        type=types.image_size,
        metavar="H,W",
        help="the network's input in pixels (default: from the checkpoint, otherwise 112,112)",
    )
    overwrite.add_force_option(result)
    add_options(result, INPUT_GROUP, NetworkInput)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; argv: words of the command line, None for those of the process."""
    run_command(run, parser(), argv)
