"""Make a verification set NAME.bin from a list of pairs and the photos: find faces, align and store them.

The file opens in the original's tools, under Python 2 and 3. A pair whose photo cannot be used is left out, and listed
in OUTPUT-skipped.csv; metrics compare with published ones only if there is none (--no-face crop leaves out fewer).
OUTPUT-pairs.csv lists photos, identities and groups of the pairs, for the intervals and groups of reports.
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.make_pairs()

import argparse
import logging
import os
from typing import Sequence

from insightface_mx.base.errors import UserError
from insightface_mx.base.machine import cpu_count
from insightface_mx.cli.fields import add_options, read_options
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import start_logging
from insightface_mx.cli.types import positive
from insightface_mx.datasets.face_options import FaceOptions
from insightface_mx.datasets.skipped import report_skipped
from insightface_mx.files.atomic import report_write_errors
from insightface_mx.files.lock import lock_file
from insightface_mx.formats import overwrite
from insightface_mx.formats.verification_set import write_bin
from insightface_mx.photos import pair_lists
from insightface_mx.photos.lists import Photo
from insightface_mx.photos.pair_table import table_path, write_table

EXAMPLE = """
insightface-make-pairs --format lfw --list pairs.txt --root lfw --output data/lfw.bin
insightface-make-pairs --format cfp-fp --list cfp-dataset/Protocol --output data/cfp_fp.bin
insightface-make-pairs --format plain --list agedb_30_pair.txt --root agedb --output data/agedb_30.bin
insightface-make-pairs --format calfw --list pairs_CALFW.txt --root calfw/images --output data/calfw.bin
insightface-make-pairs --format rfw --list RFW/txts --root RFW/data --output data/rfw.bin
"""


def make_pairs(list_format: str, path: str, root: str | None, output: str, options: FaceOptions, workers: int) -> None:
    """Make the verification set `output` from a list of pairs, in `workers` processes.

    Args:
        list_format: One of pair_lists.FORMATS.
        path: The list.
        root: Folder that the photos' paths start from; None: the list's own.
        output: File to write.
        options: How faces are made.
        workers: Processes that prepare faces.

    Raises:
        UserError: The list cannot be read, or no pair of it can be used.
    """
    from insightface_mx.datasets.face_store import FaceStore

    pairs, skipped = pair_lists.read(list_format, path, root)
    if not pairs:
        raise UserError(f"{path} holds no pair" + (f": {skipped[0][0]}: {skipped[0][1]}" if skipped else ""))
    photos = {photo: index for index, photo in enumerate(dict.fromkeys(p for pair in pairs for p in pair[:2]))}
    logging.info("%d pairs of %d photos", len(pairs), len(photos))
    store = FaceStore(f"{output}.partial", [Photo(photo) for photo in photos], options)
    store.fill(workers)
    reasons = dict(zip(photos, store.reasons()))
    usable = [pair for pair in pairs if not reasons[pair.one] and not reasons[pair.other]]
    skipped += [(photo, reason) for photo, reason in reasons.items() if reason]
    skipped_path = f"{os.path.splitext(output)[0]}-skipped.csv"
    report_skipped(skipped_path, skipped)
    if not usable:
        raise UserError(f"no pair of {path} can be used: see {skipped_path}")
    if len({pair.same for pair in usable}) == 1:
        kind = "the same identity" if usable[0].same else "different identities"
        logging.warning("all usable pairs show %s: accuracy needs pairs of both kinds", kind)
    else:
        for problem in pair_lists.fold_problems(usable):
            logging.warning("%s", problem)
    faces = {photo: store.face(index) for photo, index in photos.items() if not reasons[photo]}
    with report_write_errors(output):
        write_table(table_path(output), ((*pair[:2], int(pair.same), *pair[3:]) for pair in usable))
        write_bin(output, [faces[photo] for pair in usable for photo in pair[:2]], [pair.same for pair in usable])
    store.remove()
    logging.info("%d of %d pairs in %s", len(usable), len(pairs), output)


def run(args: argparse.Namespace) -> None:
    """Make the set that the command line asks for."""
    start_logging()
    overwrite.refuse_other_kind(args.output, "verification set", args.force)
    overwrite.refuse_other_kind(table_path(args.output), "table of pairs", args.force)
    with lock_file(args.output):
        make_pairs(args.format, args.list, args.root, args.output, read_options(args, FaceOptions), args.workers)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument("--format", choices=pair_lists.FORMATS, default="plain", help="format of the list")
    parser.add_argument("--list", required=True, help="file with the pairs; for CFP its folder Protocol, for RFW txts")
    parser.add_argument("--root", help="folder that the photos' paths start from (default: the list's own)")
    parser.add_argument("--output", required=True, help="file to write, NAME.bin")
    parser.add_argument("--workers", type=positive, default=cpu_count(), help="processes that prepare faces")
    overwrite.add_force_option(parser)
    add_options(parser, "faces", FaceOptions)
    run_command(run, parser, argv)
