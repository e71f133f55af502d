"""The whole job on real faces: build the demo set, train on 30 people, verify on 10 whom the network never saw.

    python demo.py --network y1 --epochs 40

Any option that is not listed here is one of train_softmax.py and goes there.
"""

import argparse
import os

import numpy as np

from insightface_mx import checkpoint, train_softmax
from insightface_mx.compat import mx
from insightface_mx.datasets import orl
from insightface_mx.errors import exit_on_user_error
from insightface_mx.eval import embedding, roc

BATCH = 30  # ten batches an epoch
LR_FALLS = (0.6, 0.85)  # after these shares of the run


def pixel_accuracy(data_set):
    """Accuracy where the embedding is the pixels themselves, image plus mirror image: what a network must beat."""
    images, issame = data_set
    pixels = sum(view.asnumpy().reshape(view.shape[0], -1).astype(np.float64) for view in images)
    return np.mean(roc.calculate_roc(roc.normalize(pixels), np.array(issame), 10)[2])


def network_accuracy(data_set, prefix):
    model = embedding.load_model(prefix, 1, mx.cpu(), embedding.BATCH_SIZE, (orl.SIZE, orl.SIZE))
    return embedding.test(data_set, model, embedding.BATCH_SIZE)[2]


def train(args, others, data_dir, prefix):
    """Run train_softmax.py with the demo's settings; its last state is saved as checkpoint 1."""
    steps = args.epochs * orl.TRAINING_PEOPLE * orl.PHOTOS // BATCH
    lr_steps = ",".join(str(int(steps * share)) for share in LR_FALLS)
    settings = f"--per-batch-size {BATCH} --lr 0.05 --lr-steps {lr_steps} --emb-size 256 --target orl --ckpt 2"
    settings += f" --network {args.network} --seed {args.seed} --verbose {steps} --max-steps {steps}"
    train_softmax.main([*settings.split(), "--data-dir", data_dir, "--prefix", prefix, *others])


def report(args, data_dir, prefix):
    data_set = embedding.load_bin(os.path.join(data_dir, "orl.bin"), (orl.SIZE, orl.SIZE))
    print(
        f"\n{args.network}, {args.epochs} epochs on {orl.TRAINING_PEOPLE} people: {checkpoint.params_path(prefix, 1)}"
    )
    print(f"Accuracy on {orl.PEOPLE - orl.TRAINING_PEOPLE} people it never saw, {len(data_set[1])} pairs in ten folds:")
    print(f"  raw pixels    {pixel_accuracy(data_set):.5f}")
    print(f"  this network  {network_accuracy(data_set, prefix):.5f}")
    print("Repeat the last figure with")
    print(f"  python eval/verification.py --data-dir {data_dir} --model {prefix},1 --target orl")
    print(orl.CREDIT)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="../demo", help="where data and model go (default: %(default)s)")
    parser.add_argument("--network", default="y1", help="letter and depth (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the 300 photos (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the run (default: %(default)s)")
    args, others = parser.parse_known_args(argv)
    data_dir, prefix = os.path.join(args.folder, "data"), os.path.join(args.folder, "model", args.network)
    with exit_on_user_error():
        if not os.path.exists(os.path.join(data_dir, "property")):
            orl.build(data_dir)
    train(args, others, data_dir, prefix)
    with exit_on_user_error():
        report(args, data_dir, prefix)


if __name__ == "__main__":
    main()
