"""Make a verification set NAME.bin from a list of pairs and the photos: find faces, align and store them.

    python pairs.py --format lfw --list pairs.txt --root lfw --output ../data/lfw.bin
    python pairs.py --format cfp-fp --list cfp-dataset/Protocol --output ../data/cfp_fp.bin
    python pairs.py --format plain --list agedb_30_pair.txt --root agedb --output ../data/agedb_30.bin

The file opens in the original's tools, under Python 2 and 3. A pair whose photo cannot be used is left out, and listed
in OUTPUT-skipped.csv; figures compare with published ones only if there is none (--no-face crop leaves out fewer).
"""

import argparse
import logging
import os

from insightface_mx.base.errors import UserError
from insightface_mx.cli.main import Help
from insightface_mx.datasets import command, pair_lists
from insightface_mx.datasets.spool import Spool
from insightface_mx.formats.atomic import report_write_errors
from insightface_mx.formats.verification_set import write_bin
from insightface_mx.photos.lists import Photo


def read_list(args):
    """The pairs of the list that the options name, and what is left out of it."""
    if args.format.startswith("cfp-"):
        return pair_lists.cfp(args.list, args.root, args.format[-2:].upper())
    root = os.path.dirname(args.list) if args.root is None else args.root
    return (pair_lists.lfw if args.format == "lfw" else pair_lists.plain)(args.list, root)


def make(args):
    """Make a verification set as the options say."""
    settings = command.settings(args)
    pairs, skipped = read_list(args)
    if not pairs:
        raise UserError(f"{args.list} holds no pair" + (f": {skipped[0][0]}: {skipped[0][1]}" if skipped else ""))
    paths = list(dict.fromkeys(path for one, other, _ in pairs for path in (one, other)))
    logging.info("%d pairs of %d photos", len(pairs), len(paths))
    spool = Spool(f"{args.output}.partial", [Photo(path) for path in paths], settings)
    spool.fill(args.workers)
    reasons = dict(zip(paths, spool.reasons()))
    usable = [pair for pair in pairs if not reasons[pair[0]] and not reasons[pair[1]]]
    skipped += [(path, reason) for path, reason in reasons.items() if reason]
    command.report_skipped(f"{os.path.splitext(args.output)[0]}-skipped.csv", skipped)
    if not usable:
        raise UserError(f"no pair of {args.list} can be used: see the list of what was skipped")
    numbers = {path: number for number, path in enumerate(paths)}
    faces = {path: spool.face(number) for path, number in numbers.items() if not reasons[path]}
    with report_write_errors(args.output):
        images = [faces[path] for one, other, _ in usable for path in (one, other)]
        write_bin(args.output, images, [same for _, _, same in usable])
    spool.remove()
    logging.info("%d of %d pairs in %s", len(usable), len(pairs), args.output)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    parser.add_argument("--format", choices=("lfw", "cfp-ff", "cfp-fp", "plain"), default="plain", help="the list's")
    parser.add_argument("--list", required=True, help="file with the pairs; for CFP its folder Protocol")
    parser.add_argument("--root", help="folder that the photos' paths start from (default: the list's own)")
    parser.add_argument("--output", required=True, help="file to write, NAME.bin")
    command.add_face_options(parser)
    args = parser.parse_args(argv)
    with command.running():
        make(args)


if __name__ == "__main__":
    main()
