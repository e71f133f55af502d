"""Build a training set (train.rec, train.idx, train.lst, property) from photos: find faces, align and store them.

SOURCE is a folder with a folder of photos for each identity (as ImageFolder and LFW have it), a training set or .rec
file, a .csv of path,label, or a .lst file with tabs: aligned (0 or 1), path, label [, box [, ten landmark coordinates]]
or im2rec's number, label, path. Paths in a list start from the list's folder. Classes are numbered in the order of the
identities' names or labels.

What is left out, and why, is listed in skipped.csv. A run that was stopped continues when it is started again. The set
is complete once `property` is there.
"""

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.build_set()

import argparse
import dataclasses
import logging
import os
from itertools import groupby
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.base.machine import cpu_count
from insightface_mx.cli.fields import add_options, changed, option, read_options, refuse_idle
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import start_logging
from insightface_mx.cli.types import AT_LEAST_ONE, NOT_NEGATIVE, positive
from insightface_mx.datasets import hold_out
from insightface_mx.datasets.face_options import FaceOptions
from insightface_mx.datasets.skipped import report_skipped
from insightface_mx.files.atomic import report_write_errors
from insightface_mx.files.lock import lock_folder
from insightface_mx.formats.training_set import LazyImages, refuse_existing, write_lst, write_training_set
from insightface_mx.formats.verification_set import write_bin
from insightface_mx.photos.lists import Photo, Skipped, write_csv

if TYPE_CHECKING:
    from insightface_mx.datasets.face_store import FaceStore

EXAMPLE = "insightface-build-set photos --output data --hold-out 20"


@dataclasses.dataclass(frozen=True)
class SourceOptions:
    """Which photos become the set."""

    root: Optional[str] = option(None, "folder that a list's paths start from (default: the list's own)", parse=str)
    flat: bool = option(False, "every photo in the folder SOURCE is another identity")
    min_images: int = option(1, "leave out identities with fewer usable photos", allowed=AT_LEAST_ONE)


@dataclasses.dataclass(frozen=True)
class HoldOutOptions:
    """The verification set of identities that are held out of training."""

    hold_out: Optional[int] = option(
        None, "hold N identities out of training for it", allowed=AT_LEAST_ONE, metavar="N"
    )
    hold_out_name: str = option("holdout", "its name: NAME.bin, and NAME.csv with its pairs")
    pairs: int = option(6000, "the largest number of pairs; half of them show one identity", allowed=AT_LEAST_ONE)
    seed: int = option(1, "seed of the choice of identities and pairs", allowed=NOT_NEGATIVE)

    def __post_init__(self) -> None:
        """Refuse options that cannot act."""
        if self.hold_out is None:
            refuse_idle(changed(self), "without --hold-out N: give that, too")


def build(
    source: str,
    output: str,
    source_options: SourceOptions,
    face_options: FaceOptions,
    hold_out_options: HoldOutOptions,
    workers: int,
) -> None:
    """Build a training set in the folder `output` from the photos of `source`, in `workers` processes.

    Raises:
        UserError: The output holds a set already or cannot be written, or no photo can be used.
    """
    from insightface_mx.datasets.face_store import FaceStore
    from insightface_mx.photos.identities import identity_photos

    refuse_existing(output)
    photos, skipped = identity_photos(source, source_options.root, source_options.flat)
    logging.info("%d photos of %d identities", len(photos), len({photo.identity for photo in photos}))
    faces = FaceStore(os.path.join(output, "faces.partial"), photos, face_options)
    faces.fill(workers)
    groups, left_out = usable_photos(photos, faces.reasons(), source_options.min_images)
    report_skipped(os.path.join(output, "skipped.csv"), skipped + left_out)
    if not groups:
        raise UserError(f"no photo of {source} can be used: see {os.path.join(output, 'skipped.csv')}")
    with report_write_errors(output):
        if hold_out_options.hold_out:
            groups = write_held_out(output, hold_out_options, photos, groups, faces)
        rows = ((photos[index].name, label) for label, group in enumerate(groups) for index in group)
        write_lst(os.path.join(output, "train.lst"), rows)
    write_training_set(output, [LazyImages(faces.face, group) for group in groups], face_options.image_size)
    faces.remove()
    logging.info("%d images of %d identities in %s", sum(map(len, groups)), len(groups), output)


def usable_photos(photos: Sequence[Photo], reasons: Sequence[str], min_images: int) -> Tuple[List[List[int]], Skipped]:
    """Group the usable photos by identity.

    Args:
        photos: Those of an identity stand together.
        reasons: For every photo '' or the reason why it has no face.
        min_images: The smallest number of usable photos of an identity.

    Returns:
        The indexes of the photos of every identity, and what is left out.
    """
    left_out = [(photo.name, reason) for photo, reason in zip(photos, reasons) if reason]
    groups = []
    for identity, indexes in groupby(range(len(photos)), lambda index: photos[index].identity):
        usable = [index for index in indexes if not reasons[index]]
        if len(usable) >= min_images:
            groups.append(usable)
        else:
            left_out += [(photos[index].name, "its identity has too few usable photos") for index in usable]
            left_out.append((identity, f"the identity has {len(usable)} usable photos, --min-images is {min_images}"))
    return groups, left_out


def write_held_out(
    output: str, options: HoldOutOptions, photos: Sequence[Photo], groups: List[List[int]], faces: "FaceStore"
) -> List[List[int]]:
    """Write NAME.bin, and NAME.csv with its pairs, of identities held out of training.

    Args:
        output: Folder to write to.
        options: What to hold out.
        photos: All photos.
        groups: The indexes of the usable photos of every identity.
        faces: The photos' faces.

    Returns:
        The groups of the other identities.
    """
    rng = np.random.RandomState(options.seed)  # unlike Generator's, its numbers never change with numpy's version
    chosen = set(hold_out.choose_identities(groups, options.hold_out or 0, rng))
    pairs = hold_out.draw_pairs([groups[index] for index in sorted(chosen)], options.pairs, rng)
    rows = ((photos[a].name, photos[b].name, int(same)) for a, b, same in pairs)
    write_csv(os.path.join(output, f"{options.hold_out_name}.csv"), rows)
    images = [faces.face(index) for a, b, _ in pairs for index in (a, b)]
    write_bin(os.path.join(output, f"{options.hold_out_name}.bin"), images, [same for _, _, same in pairs])
    logging.info("%d identities held out: %d pairs in %s.bin", len(chosen), len(pairs), options.hold_out_name)
    return [group for index, group in enumerate(groups) if index not in chosen]


def run(args: argparse.Namespace) -> None:
    """Build the set that the command line asks for."""
    start_logging()
    photos, faces = read_options(args, SourceOptions), read_options(args, FaceOptions)
    with lock_folder(args.output):
        build(args.source, args.output, photos, faces, read_options(args, HoldOutOptions), args.workers)


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Run the command."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument("source", help="folder, or .lst, .csv or .rec file")
    parser.add_argument("--output", required=True, help="folder to write, a new one")
    parser.add_argument("--workers", type=positive, default=cpu_count(), help="processes that prepare faces")
    add_options(parser, "photos", SourceOptions)
    add_options(parser, "verification set", HoldOutOptions)
    add_options(parser, "faces", FaceOptions)
    run_command(run, parser, argv)
