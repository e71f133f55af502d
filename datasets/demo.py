"""The whole job on real faces: build the demo set, train on 30 people, verify on 10 whom the network never saw.

    python demo.py --network r18 --epochs 25

Any option that is not listed here is one of train_softmax.py and goes there.
"""

import argparse
import os
import sys

import numpy as np

from insightface_mx import train_softmax
from insightface_mx.base.compat import mx
from insightface_mx.base.errors import exit_on_user_error
from insightface_mx.datasets import orl
from insightface_mx.engine import network as embedding
from insightface_mx.eval import pairs, roc, verification
from insightface_mx.formats import checkpoint

BATCH = 30  # ten batches an epoch
LR_FALLS = (0.65, 0.85)  # after these shares of the run
INPUT = 56  # pixels a side: half the photos' size, at a quarter of the time
SETTINGS = f"--per-batch-size {BATCH} --image-size {INPUT},{INPUT} --emb-size 256 --lr 0.1 --margin-s 30 --margin-m 0.5"
AUGMENTATION = "--color 1 --cutoff 20"


def pixel_accuracy(data_set):
    """Accuracy where the embedding is the pixels themselves, image plus mirror image: what a network must beat."""
    images, issame = data_set
    pixels = sum(view.asnumpy().reshape(view.shape[0], -1).astype(np.float64) for view in images)
    return np.mean(roc.calculate_roc(roc.normalize(pixels), np.array(issame), 10)[2])


def network_accuracy(data_set, prefix):
    model = embedding.load_model(prefix, 1, [mx.cpu()], embedding.BATCH_SIZE, (INPUT, INPUT))
    return pairs.test(data_set, model, embedding.BATCH_SIZE)[2]


def train(args, others, data_dir, prefix):
    """Run train_softmax.py with the demo's settings; its last state is saved as checkpoint 1."""
    steps = args.epochs * orl.TRAINING_PEOPLE * orl.PHOTOS // BATCH
    lr_steps = ",".join(str(max(1, int(steps * share))) for share in LR_FALLS)
    run = f"--network {args.network} --seed {args.seed} --verbose {steps} --max-steps {steps} --lr-steps {lr_steps}"
    settings = f"{SETTINGS} {AUGMENTATION} {run} --target orl --ckpt 2".split()
    train_softmax.main([*settings, "--data-dir", data_dir, "--prefix", prefix, *others])


def report(args, data_dir, prefix):
    """Print what was trained and how well it tells people apart that it never saw."""
    path = os.path.join(data_dir, "orl.bin")
    pixels = pixel_accuracy(pairs.load_bin(path, (orl.SIZE, orl.SIZE)))
    network = network_accuracy(pairs.load_bin(path, (INPUT, INPUT)), prefix)
    print(
        f"\n{args.network}, {args.epochs} epochs on {orl.TRAINING_PEOPLE} people: {checkpoint.params_path(prefix, 1)}"
    )
    print(f"Accuracy on {orl.PEOPLE - orl.TRAINING_PEOPLE} people it never saw, 900 pairs in ten folds:")
    print(f"  raw pixels    {pixels:.5f}")
    print(f"  this network  {network:.5f}")
    print("Repeat the last figure with")
    print(
        f"  {sys.executable} {verification.__file__} --data-dir {data_dir} --model {prefix},1 --target orl "
        f"--image-size {INPUT},{INPUT}"
    )
    print(orl.CREDIT)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="../demo", help="where data and model go (default: %(default)s)")
    parser.add_argument("--network", default="r18", help="letter and depth (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=25, help="passes over the 300 photos (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the run (default: %(default)s)")
    args, others = parser.parse_known_args(argv)
    if args.epochs < 1:
        parser.error("--epochs must be at least 1")
    data_dir, prefix = os.path.join(args.folder, "data"), os.path.join(args.folder, "model", args.network)
    with exit_on_user_error():
        if not os.path.exists(os.path.join(data_dir, "property")):
            orl.build(data_dir)
    train(args, others, data_dir, prefix)
    with exit_on_user_error():
        report(args, data_dir, prefix)


if __name__ == "__main__":
    main()
