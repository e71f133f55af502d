"""Write a network as an int8 ONNX file, if it still tells people apart.

python quantize.py --model ../model/r50,1 --calibration ../data/train.rec --pairs ../data/lfw.bin --output r50-int8.onnx

Weights and activations become 8-bit integers (ONNX's QuantizeLinear and DequantizeLinear) where NNCF, OpenVINO's
quantiser, finds that it pays; the ranges of activations are those of the calibration images, which must look like what
the network will see and must not be those of the pairs. OpenVINO and ONNX Runtime run the file.

Accuracy on the pairs is measured before and after, as verification.py does, by the fastest backend that is installed.
Where it falls by more than --max-loss, no file is left. On a processor with VNNI, OpenVINO runs ResNets about three
times as fast as in float32, MobileFaceNet (y1) twice.
"""

import argparse
import contextlib
import importlib.util
import logging
import os
import shutil
import sys
import tempfile

import numpy as np
import onnx
from onnx import version_converter

from insightface_mx.base.errors import UserError, exit_on_user_error
from insightface_mx.cli import types
from insightface_mx.conversion import export as export_onnx
from insightface_mx.conversion import proof as onnx_check
from insightface_mx.embedding import backends
from insightface_mx.eval import roc
from insightface_mx.eval.pairs import load_bin
from insightface_mx.photos import sources

OPSET = 13  # the first that knows a scale for every channel
CALIBRATION_IMAGES = 300
MAX_LOSS = 0.3  # per cent of accuracy


def quantize(source, target, images):
    """Write the float32 ONNX file `source`, with its norms folded, as the int8 file `target`.

    images: (n, 3, height, width) float32, RGB of 0..255, for the ranges of activations.
    """
    nncf = _nncf()
    model = version_converter.convert_version(onnx.load(source), OPSET)
    batches = nncf.Dataset([{"data": image[np.newaxis]} for image in images])
    with contextlib.redirect_stdout(sys.stderr):  # for its progress bars
        model = nncf.quantize(model, batches, subset_size=len(images), preset=nncf.QuantizationPreset.MIXED)
    model.producer_name = backends.INT8_PRODUCER
    onnx.save(model, target)


def installed():
    """Whether int8 files can be made."""
    return bool(importlib.util.find_spec("nncf"))


def _nncf():
    """The package, kept from advice and from reporting its use over the network. UserError: it is not installed."""
    os.environ.setdefault("NNCF_CI", "1")
    if not installed():
        raise UserError("int8 needs nncf: pip install 'insightface-mx[deploy]', or before Python 3.10 pip install nncf")
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf


def accuracy(backend, pairs):
    """Mean accuracy over ten folds of image plus mirror image, in per cent; pairs: what load_bin returned."""
    views, issame = pairs
    embeddings = sum(backend.embed(view.asnumpy()).astype(np.float64) for view in views)
    return 100 * np.mean(roc.calculate_roc(roc.normalize(embeddings), np.array(issame))[2])


def run(args):
    """Quantise, compare on the pairs, and keep the file where it serves."""
    _nncf()  # before the long work
    image_size = args.image_size
    pairs = load_bin(args.pairs, image_size)
    images = sources.aligned_images(args.calibration, image_size, CALIBRATION_IMAGES)
    with export_onnx.writing(args.output) as temporary, tempfile.TemporaryDirectory() as folder:
        single, int8 = (os.path.join(folder, name) for name in ("single.onnx", "int8.onnx"))
        network = export_onnx.load_network(args.model, image_size)
        export_onnx.export(network, single, image_size, onnx_check.make_images(image_size), fold_norms=True)
        quantize(single, int8, images)
        name = next(key for key in backends.PACKAGES if backends.installed(key))
        both = [backends.onnx_backend(name, path, image_size) for path in (single, int8)]
        before, after = (accuracy(backend, pairs) for backend in both)
        loss = before - after
        figures = f"accuracy on {args.pairs} {before:.3f} % before, {after:.3f} % in int8 ({name})"
        if loss > args.max_loss:
            raise UserError(f"{figures}: a loss of more than --max-loss {args.max_loss}; nothing was written")
        shutil.copyfile(int8, temporary)
    print(f"{args.output}: {figures}; calibrated on {len(images)} images")


def parser():
    """The command's options."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("--model", required=True, metavar="PREFIX,EPOCH", help="the checkpoint, for example ../model/r50,1")
    add("--output", required=True, metavar="FILE.onnx", help="the int8 ONNX file to write")
    add(
        "--calibration",
        required=True,
        metavar="FOLDER|LIST|FILE.rec|FILE.bin",
        help=f"aligned faces for the ranges; {CALIBRATION_IMAGES}, spread evenly, are taken",
    )
    add("--pairs", required=True, metavar="FILE.bin", help="a verification set to measure the loss on")
    add("--max-loss", type=float, default=MAX_LOSS, metavar="PERCENT", help="of accuracy (default: %(default)s)")
    add(
        "--image-size",
        type=types.image_size,
        default="112,112",
        metavar="H,W",
        help="the network's input, pixels (default: %(default)s)",
    )
    return result


def main(argv=None):
    """Run the command; exit status 2 with a message for what the user can mend."""
    args = parser().parse_args(argv)
    with exit_on_user_error():
        run(args)


if __name__ == "__main__":
    main()
