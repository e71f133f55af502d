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
import logging

from tqdm import tqdm

from insightface_mx.base.errors import exit_on_user_error
from insightface_mx.cli import types
from insightface_mx.conversion import export, iresnet
from insightface_mx.conversion import proof as onnx_check


def run(args):
    """Export as the options say, and tell what the comparison found."""
    image_size = args.image_size
    network = export.load_network(args.model, image_size, args.head)
    images = onnx_check.make_images(image_size, args.images)
    if args.output:
        difference = export.export(network, args.output, image_size, images, args.fold_norms)
        tqdm.write(f"{args.output}: {len(images)} images one by one and in threes, beside MXNet: {difference}")
    if args.torch:
        with export.writing(args.torch) as temporary:
            difference = iresnet.export(*network, temporary, images)
        tqdm.write(f"{args.torch}: {len(images)} images in PyTorch, beside MXNet: {difference}")


def parser():
    """The command's options."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("--model", required=True, metavar="PREFIX,EPOCH", help="the checkpoint, for example ../model/r50,1")
    add("--output", metavar="FILE.onnx", help="the ONNX file to write")
    add(
        "--image-size",
        type=types.image_size,
        default="112,112",
        metavar="H,W",
        help="the network's input, pixels (default: %(default)s)",
    )
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
