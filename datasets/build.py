"""Build a training set (train.rec, train.idx, train.lst, property) from photos: find faces, align and store them.

    python build.py photos --output ../data --hold-out 20

SOURCE is a folder with one folder of photos for each person (as ImageFolder and LFW have it), a training set or .rec
file, a .lst file (aligned 0/1, path, label [, box [, ten landmark coordinates]] or im2rec's number, label, path,
separated by tabs), or a .csv file of path,label. Classes are numbered in the order of the people's names or labels.

What is left out, and why, is listed in skipped.csv. A run that was stopped goes on when it is started again. The set
is complete once `property` is there.
"""

import argparse
import logging
import os
from itertools import groupby

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.cli.main import Help
from insightface_mx.cli.types import positive
from insightface_mx.datasets import command, hold_out
from insightface_mx.datasets.spool import Spool
from insightface_mx.formats.atomic import report_write_errors
from insightface_mx.formats.training_set import LazyImages, refuse_existing, write_lst, write_training_set
from insightface_mx.formats.verification_set import write_bin
from insightface_mx.photos import sources


def build(args):
    """Build a set as the options say."""
    settings = command.settings(args)
    refuse_existing(args.output)
    photos, skipped = sources.identity_photos(args.source, args.root, args.flat)
    logging.info("%d photos of %d people", len(photos), len({photo.identity for photo in photos}))
    spool = Spool(os.path.join(args.output, "faces.partial"), photos, settings)
    spool.fill(args.workers)
    groups, left_out = people(photos, spool.reasons(), args.min_images)
    command.report_skipped(os.path.join(args.output, "skipped.csv"), skipped + left_out)
    if not groups:
        raise UserError(f"no photo of {args.source} can be used: see {os.path.join(args.output, 'skipped.csv')}")
    with report_write_errors(args.output):
        if args.hold_out:
            groups = write_held_out(args, photos, groups, spool)
        write_lst(os.path.join(args.output, "train.lst"), _rows(photos, groups))
    write_training_set(args.output, [LazyImages(spool.face, group) for group in groups], settings.image_size)
    spool.remove()
    logging.info("%d images of %d people in %s", sum(map(len, groups)), len(groups), args.output)


def people(photos, reasons, min_images):
    """For each person the numbers of the usable photos, and (name, reason) of what is left out."""
    left_out = [(photo.name, reason) for photo, reason in zip(photos, reasons) if reason]
    groups = []
    for identity, numbers in groupby(range(len(photos)), lambda number: photos[number].identity):
        usable = [number for number in numbers if not reasons[number]]
        if len(usable) >= min_images:
            groups.append(usable)
        else:
            left_out += [(photos[number].name, "its person has too few usable photos") for number in usable]
            left_out.append((identity, f"the person has {len(usable)} usable photos, {min_images} are wanted"))
    return groups, left_out


def write_held_out(args, photos, groups, spool):
    """Write NAME.bin, and NAME.csv with its pairs, of people held out of training; returns the others' groups."""
    rng = np.random.RandomState(args.seed)  # unlike Generator's, its numbers never change with numpy's version
    chosen = set(hold_out.choose(groups, args.hold_out, rng))
    pairs = hold_out.draw_pairs([groups[number] for number in sorted(chosen)], args.pairs, rng)
    rows = ((photos[a].name, photos[b].name, int(same)) for a, b, same in pairs)
    command.write_csv(os.path.join(args.output, f"{args.hold_out_name}.csv"), rows)
    faces = [spool.face(number) for a, b, _ in pairs for number in (a, b)]
    write_bin(os.path.join(args.output, f"{args.hold_out_name}.bin"), faces, [same for _, _, same in pairs])
    logging.info("%d people held out: %d pairs in %s.bin", len(chosen), len(pairs), args.hold_out_name)
    return [group for number, group in enumerate(groups) if number not in chosen]


def _rows(photos, groups):
    return ((photos[number].name, label) for label, group in enumerate(groups) for number in group)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    parser.add_argument("source", help="folder, or .lst, .csv or .rec file")
    parser.add_argument("--output", required=True, help="folder to write, a new one")
    parser.add_argument("--root", help="folder that a list's paths start from (default: the list's own)")
    parser.add_argument("--flat", action="store_true", help="every photo in the folder SOURCE is another person")
    parser.add_argument("--min-images", type=positive, default=1, help="leave out people with fewer photos")
    group = parser.add_argument_group("verification set")
    group.add_argument("--hold-out", type=positive, metavar="N", help="hold N people out of training for it")
    group.add_argument("--hold-out-name", default="holdout", help="its name: NAME.bin, and NAME.csv with its pairs")
    group.add_argument("--pairs", type=positive, default=6000, help="pairs at the most, half of one person")
    group.add_argument("--seed", type=int, default=1, help="chooses people and pairs")
    command.add_face_options(parser)
    with command.running():
        build(parser.parse_args(argv))


if __name__ == "__main__":
    main()
