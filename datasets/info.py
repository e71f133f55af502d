"""Print what a training set holds: identities, images, images of an identity, sizes, verification sets."""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.set_info()

import argparse
import os
from typing import Iterator, Sequence

import numpy as np

from insightface_mx.base.errors import require
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import say
from insightface_mx.files.atomic import atomic_path, report_write_errors
from insightface_mx.formats import overwrite
from insightface_mx.formats.training_set import TrainingSet, verification_sets
from insightface_mx.formats.verification_set import read_bin

EXAMPLE = "insightface-set-info data --plot images-per-identity.png"


def describe(data: TrainingSet) -> list[str]:
    """Return lines of text about a set."""
    counts = image_counts(data)
    median, ninety = np.percentile(counts, (50, 90))
    return [
        f"{len(counts):,} identities, {counts.sum():,} images; property: {','.join(map(str, data.property))}",
        *_unusual(data),
        f"images of an identity: {counts.min()} to {counts.max()}, mean {counts.mean():.1f}, median {median:g}, "
        f"nine tenths have at most {ninety:g}",
        *_histogram(counts),
        f"first image: {_first_image(data)}",
        *(_size(os.path.join(data.folder, name)) for name in ("train.rec", "train.idx")),
        *(f"{_size(path)}, {len(read_bin(path)[1]):,} pairs" for path in verification_sets(data.folder)),
    ]


def _unusual(data: TrainingSet) -> Iterator[str]:
    """Yield a line for labels that are not 0, 1, 2 ..., and for records that are nobody's image."""
    first, last = data.labels[[0, -1]].tolist()
    if (first, last) != (0, data.property.num_classes - 1) or len(data.labels) <= last:
        yield f"labels of the images: {first} to {last}, {len(data.labels)} different ones"
    if data.unusable:
        yield f"{len(data.unusable):,} records are nobody's image: see insightface-check-set"


def image_counts(data: TrainingSet) -> np.ndarray:
    """Return the number of images of every identity."""
    return np.array([len(images) for images in data.identities])


def plot(counts: np.ndarray, path: str) -> None:
    """Draw how many identities have how many images, to a PNG file. UserError: matplotlib is not installed."""
    require("plot", "matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    edges = np.unique(np.geomspace(1, max(counts.max(), 1) + 1, 40).astype(int))
    axes.hist(np.maximum(counts, 1), bins=edges if len(edges) > 1 else 1)
    axes.set(xscale="log", xlabel="images of an identity", ylabel="identities")
    with report_write_errors(path), atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def _histogram(counts: np.ndarray) -> Iterator[str]:
    """Yield a line for every power of two."""
    powers = np.floor(np.log2(np.maximum(counts, 1))).astype(int)
    for power in range(powers.min(), powers.max() + 1):
        which = f"{1 << power} to {(2 << power) - 1} images" if power else "at most 1 image"
        yield f"  {which}: {np.count_nonzero(powers == power):,} identities"


def _first_image(data: TrainingSet) -> str:
    from insightface_mx.photos.decode import decode_record

    encoded = data.image(int(next(images for images in data.identities if len(images))[0]))
    image = decode_record(encoded)
    if image is None:
        return "cannot be decoded: see insightface-check-set"
    return f"{image.shape[0]}x{image.shape[1]} pixels (height x width), {len(encoded):,} bytes"


def _size(path: str) -> str:
    return f"{path}: {os.path.getsize(path) / 1e6:,.1f} MB"


def run(args: argparse.Namespace) -> None:
    """Describe the set and, where that is asked for, draw it."""
    if args.plot:
        overwrite.refuse_other_kind(args.plot, "PNG image", args.force)
    data = TrainingSet(args.data_dir)
    for line in describe(data):
        say(line)
    if args.plot:
        plot(image_counts(data), args.plot)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument("data_dir", help="folder with train.rec, train.idx and property")
    parser.add_argument("--plot", metavar="PNG", help="draw how many identities have how many images")
    overwrite.add_force_option(parser)
    run_command(run, parser, argv)
