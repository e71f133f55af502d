"""Make a training set from others; people are numbered anew, and the sets that are read stay as they are.

    python edit.py merge ../data ../mine --output ../both
    python edit.py filter ../data --min-images 10 --output ../large
    python edit.py clean ../data --model ../model/r50,1 --min-cosine 0.3 --output ../clean
    python edit.py exclude ../data --model ../model/r50,1 --from ../data/lfw.bin --max-cosine 0.5 --output ../disjoint

What is dropped is listed in OUTPUT/dropped.csv: record or person, and why.
"""

import argparse
import logging
import os

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.cli.device import CTX_HELP
from insightface_mx.cli.main import Help
from insightface_mx.cli.types import positive
from insightface_mx.datasets import command
from insightface_mx.embedding.embedder import Embedder
from insightface_mx.formats.training_set import LazyImages, TrainingSet, refuse_existing, write_training_set
from insightface_mx.formats.verification_set import read_bin


def merge(args):
    """All people of several sets, each a person of its own."""
    sets = [TrainingSet(folder) for folder in args.data_dirs]
    sizes = {data.image_size for data in sets}
    if len(sizes) > 1:
        raise UserError(f"the sets have images of {' and '.join(map(str, sorted(sizes)))} (height, width): build alike")
    _write(
        args.output, [LazyImages(data.image, group.tolist()) for data in sets for group in data.identities], sets[0], []
    )


def filter_by_count(args):
    """People with so many images; of those with too many the first are kept."""
    data = TrainingSet(args.data_dir)
    kept = [group[: args.max_images] for group in data.identities if len(group) >= args.min_images]
    dropped = [
        (f"person {person}", f"{len(group)} images, {args.min_images} are wanted")
        for person, group in enumerate(data.identities)
        if len(group) < args.min_images
    ]
    _write_groups(args.output, data, kept, dropped)


def clean(args):
    """Every person's images whose embedding is near the person's centre."""
    data = TrainingSet(args.data_dir)
    embedder = Embedder(args.model, data.image_size, args.ctx, backend="mxnet")
    kept, dropped = [], []
    for person, group in enumerate(data.identities):
        embeddings = embedder.encoded(LazyImages(data.image, group.tolist()))
        cosines = embeddings @ centre(embeddings)
        kept.append(group[cosines >= args.min_cosine])
        dropped += [
            (f"record {number}", f"cosine {cosine:.3f} to the centre of person {person}")
            for number, cosine in zip(group.tolist(), cosines)
            if cosine < args.min_cosine
        ]
    _write_groups(args.output, data, kept, dropped)


def exclude(args):
    """People who are not in a verification set: none of its images is near the person's centre."""
    data = TrainingSet(args.data_dir)
    embedder = Embedder(args.model, data.image_size, args.ctx, backend="mxnet")
    others = np.concatenate([embedder.encoded(dict.fromkeys(read_bin(path)[0])) for path in args.verification])
    kept, dropped = [], []
    for person, group in enumerate(data.identities):
        nearest = (others @ centre(embedder.encoded(LazyImages(data.image, group.tolist())))).max()
        if nearest <= args.max_cosine:
            kept.append(group)
        else:
            dropped.append((f"person {person}", f"cosine {nearest:.3f} to an image of the verification sets"))
    _write_groups(args.output, data, kept, dropped)


def centre(embeddings):
    """The mean of unit embeddings (n, d), scaled to length 1."""
    mean = embeddings.mean(axis=0)
    return mean / max(np.linalg.norm(mean), np.finfo(np.float64).tiny)


def _write_groups(output, data, groups, dropped):
    _write(output, [LazyImages(data.image, group.tolist()) for group in groups if len(group)], data, dropped)


def _write(output, images, data, dropped):
    if not images:
        raise UserError("nobody would be left: choose other limits")
    write_training_set(output, images, data.image_size)
    command.report_skipped(os.path.join(output, "dropped.csv"), dropped)
    logging.info("%d images of %d people in %s", sum(map(len, images)), len(images), output)


def _parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for function, name in ((merge, "merge"), (filter_by_count, "filter"), (clean, "clean"), (exclude, "exclude")):
        one = commands.add_parser(name, help=function.__doc__, description=function.__doc__, formatter_class=Help)
        one.set_defaults(function=function)
        one.add_argument("--output", required=True, help="folder to write, a new one")
        if function is merge:
            one.add_argument("data_dirs", nargs="+", metavar="data_dir", help="folders of training sets")
        else:
            one.add_argument("data_dir", help="folder with train.rec, train.idx and property")
        if function in (clean, exclude):
            one.add_argument(
                "--model", required=True, metavar="PREFIX,EPOCH", help="checkpoint that tells people apart"
            )
            one.add_argument("--ctx", default="", help=CTX_HELP)
    choices = commands.choices
    choices["filter"].add_argument("--min-images", type=positive, default=1, help="images of a person")
    choices["filter"].add_argument("--max-images", type=positive, help="of a person with more: the first so many")
    choices["clean"].add_argument("--min-cosine", type=float, required=True, help="to the centre, -1 to 1")
    choices["exclude"].add_argument("--max-cosine", type=float, required=True, help="to the nearest image, -1 to 1")
    choices["exclude"].add_argument(
        "--from", nargs="+", required=True, dest="verification", metavar="BIN", help="verification sets"
    )
    return parser


def main(argv=None):
    args = _parser().parse_args(argv)
    with command.running():
        refuse_existing(args.output)
        args.function(args)


if __name__ == "__main__":
    main()
