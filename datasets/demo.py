"""Run the complete job on real faces: build the demo set, train on 30 people, verify on 10 whom the network never saw.

Any option that is not listed here is one of train_softmax.py and goes there.
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.demo()

import argparse
import os
import sys
from typing import TYPE_CHECKING, Sequence

from insightface_mx.cli.main import command_errors, make_parser
from insightface_mx.cli.output import say
from insightface_mx.cli.types import positive
from insightface_mx.engine import BATCH_SIZE
from insightface_mx.files.lock import lock_folder
from insightface_mx.formats import checkpoint

if TYPE_CHECKING:
    from insightface_mx.eval.pairs import DataSet

EXAMPLE = "python demo.py --network r18 --epochs 25"
BATCH = 30  # ten batches an epoch
LR_FALLS = (0.65, 0.85)  # after these fractions of the run
WARMUP = 20  # batches at most, and a fifth of the run
INPUT = (56, 56)  # pixels, height and width: half the photos' size, at a quarter of the time
SETTINGS = f"--per-batch-size {BATCH} --image-size 56,56 --emb-size 256 --lr 0.05 --margin-s 30 --margin-m 0.5"
AUGMENTATION = "--color 1 --cutoff 20"


def pixel_accuracy(data_set: DataSet) -> float:
    """Return the accuracy with the pixels, image plus mirror image, as embedding: what a network must beat."""
    from insightface_mx.eval.pairs import judge

    views, issame = data_set
    return judge([view.asnumpy().reshape(view.shape[0], -1).astype(float) for view in views], issame).acc2


def network_accuracy(data_set: DataSet, prefix: str) -> float:
    """Return the accuracy of checkpoint 1, image plus mirror image, on the CPU."""
    from insightface_mx.base.compat import mx
    from insightface_mx.engine import network
    from insightface_mx.eval import pairs

    model = network.load_model(prefix, 1, [mx.cpu()], BATCH_SIZE, INPUT)
    return pairs.test(data_set, model, BATCH_SIZE).acc2


def train(args: argparse.Namespace, others: Sequence[str], data_dir: str, prefix: str) -> None:
    """Run train_softmax.py with the demo's settings; its last state is saved as checkpoint 1.

    Args:
        args: The demo's options.
        others: Options of train_softmax.py, which come last and therefore count.
        data_dir: The demo set.
        prefix: Of the checkpoints.
    """
    from insightface_mx import train_softmax
    from insightface_mx.datasets import orl_faces

    steps = args.epochs * orl_faces.TRAINING_PEOPLE * orl_faces.PHOTOS // BATCH
    lr_steps = ",".join(str(max(1, int(steps * fraction))) for fraction in LR_FALLS)
    run = f"--network {args.network} --seed {args.seed} --verbose {steps} --max-steps {steps} --lr-steps {lr_steps}"
    run += f" --warmup {min(WARMUP, steps // 5)}"
    say("acc, in training, counts an image as right only if it is right with the margin: it is 0 at first.")
    settings = f"{SETTINGS} {AUGMENTATION} {run} --target orl --ckpt 2".split()
    train_softmax.main([*settings, "--data-dir", data_dir, "--prefix", prefix, *others])


def report(args: argparse.Namespace, data_dir: str, prefix: str) -> None:
    """Print what was trained and how well it tells people apart whom it never saw."""
    from insightface_mx.datasets import orl_faces
    from insightface_mx.eval import pairs, verification

    path = os.path.join(data_dir, "orl.bin")
    pixels = pixel_accuracy(pairs.load_bin(path, (orl_faces.SIZE, orl_faces.SIZE)))
    network = network_accuracy(pairs.load_bin(path, INPUT), prefix)
    unseen = orl_faces.PEOPLE - orl_faces.TRAINING_PEOPLE
    saved = checkpoint.params_path(prefix, 1)
    say(f"\n{args.network}, {args.epochs} epochs on {orl_faces.TRAINING_PEOPLE} people: {saved}")
    say(f"Accuracy on {unseen} people it never saw, 900 pairs in ten folds:")
    say(f"  raw pixels    {pixels:.5f}")
    say(f"  this network  {network:.5f}")
    say("Repeat the last figure with")
    say(f"  {sys.executable} {verification.__file__} --data-dir {data_dir} --model {prefix},1 --target orl")
    say(orl_faces.CREDIT)


def run(args: argparse.Namespace, others: Sequence[str]) -> None:
    """Build, train and verify. others: options of train_softmax.py."""
    from insightface_mx.datasets import orl_faces

    data_dir, prefix = os.path.join(args.folder, "data"), os.path.join(args.folder, "model", args.network)
    with lock_folder(data_dir):
        if not os.path.exists(os.path.join(data_dir, "property")):
            orl_faces.build(data_dir)
    train(args, others, data_dir, prefix)
    report(args, data_dir, prefix)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument("--folder", default="../demo", help="where data and model go")
    parser.add_argument("--network", default="r18", help="letter and depth")
    parser.add_argument("--epochs", type=positive, default=25, help="passes over the 300 photos")
    parser.add_argument("--seed", type=int, default=1, help="seed of the run")
    args, others = parser.parse_known_args(argv)
    with command_errors():
        run(args, others)
