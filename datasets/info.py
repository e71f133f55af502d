"""What a training set holds: people, images, images a person, sizes, verification sets.

python info.py ../data --plot images-per-person.png
"""

import argparse
import logging
import os

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.cli.main import Help
from insightface_mx.datasets import command
from insightface_mx.formats.atomic import report_write_errors
from insightface_mx.formats.training_set import TrainingSet, verification_sets
from insightface_mx.formats.verification_set import read_bin
from insightface_mx.photos.decode import decode_record


def describe(folder):
    """Lines of text about a set, and the number of images of every person."""
    data = TrainingSet(folder)
    counts = np.array([len(group) for group in data.identities])
    median, ninety = np.percentile(counts, (50, 90))
    lines = [
        f"{len(counts):,} people, {counts.sum():,} images; property: {','.join(map(str, data.property))}",
        f"images a person: {counts.min()} to {counts.max()}, mean {counts.mean():.1f}, median {median:g}, "
        f"nine tenths have at most {ninety:g}",
        *_histogram(counts),
        f"first image: {_first_image(data)}",
        *(_size(os.path.join(folder, name)) for name in ("train.rec", "train.idx")),
        *(f"{_size(path)}, {len(read_bin(path)[1]):,} pairs" for path in verification_sets(folder)),
    ]
    return lines, counts


def _histogram(counts):
    """A line for every power of two."""
    powers = np.floor(np.log2(np.maximum(counts, 1))).astype(int)
    for power in range(powers.min(), powers.max() + 1):
        which = f"{1 << power} to {(2 << power) - 1} images" if power else "at most 1 image"
        yield f"  {which}: {np.count_nonzero(powers == power):,} people"


def _first_image(data):
    encoded = data.image(int(next(group for group in data.identities if len(group))[0]))
    image = decode_record(encoded)
    if image is None:
        return "cannot be decoded: see insightface-check-set"
    return f"{image.shape[0]}x{image.shape[1]} pixels (height x width), {len(encoded):,} bytes"


def _size(path):
    return f"{path}: {os.path.getsize(path) / 1e6:,.1f} MB"


def plot(counts, path):
    """Draw how many people have how many images, to a PNG file."""
    try:
        from matplotlib.figure import Figure  # here, for it is no dependency of the rest
    except ImportError as error:
        raise UserError("--plot needs the package matplotlib: pip install 'insightface-mx[plot]'") from error
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    edges = np.unique(np.geomspace(1, max(counts.max(), 1) + 1, 40).astype(int))
    axes.hist(np.maximum(counts, 1), bins=edges if len(edges) > 1 else 1)
    axes.set(xscale="log", xlabel="images a person", ylabel="people")
    with report_write_errors(path):
        figure.savefig(path, dpi=100, format="png")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    parser.add_argument("data_dir", help="folder with train.rec, train.idx and property")
    parser.add_argument("--plot", metavar="PNG", help="draw how many people have how many images")
    args = parser.parse_args(argv)
    with command.running():
        lines, counts = describe(args.data_dir)
        for line in lines:
            logging.info(line)
        if args.plot:
            plot(counts, args.plot)


if __name__ == "__main__":
    main()
