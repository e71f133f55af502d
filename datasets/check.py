"""Read a complete training set and name everything that is wrong with it.

A line for every damaged record, unreadable image, image of another size, wrong label, identity without images, and for
every image that is there twice or also in a verification set (the .bin files in the folder, and those of
--verification; images are compared by their pixels). Exit status: 0 nothing is wrong, 1 something is.

--repair writes a copy without the images that a line names. Identities are numbered again where some have none left.
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.check_set()

import argparse
import contextlib
import logging
import os
from typing import TYPE_CHECKING, Sequence

from insightface_mx.base.errors import UserError
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import say, start_logging
from insightface_mx.files.lock import lock_folder
from insightface_mx.formats.training_set import LazyImages, refuse_existing, write_training_set

if TYPE_CHECKING:
    from insightface_mx.datasets.checks import FoundSet, Problem

EXAMPLE = """
insightface-check-set data
insightface-check-set data --repair data-good
"""


def repair(found: FoundSet, problems: Sequence[Problem], output: str) -> None:
    """Write a copy of a set without the images that a problem names. UserError: no image would be left."""
    from insightface_mx.datasets.checks import good_groups

    groups = good_groups(found, problems)
    if not groups:
        raise UserError(f"{found.folder} has no good image: there is nothing to repair")
    images = [LazyImages(lambda record_id: found.file.read(record_id)[1], group.tolist()) for group in groups]
    write_training_set(output, images, found.image_size)
    logging.info("%d good images of %d identities in %s", sum(map(len, groups)), len(groups), output)


def run(args: argparse.Namespace) -> int:
    """Check a set and, where that is asked for, write a good copy; returns 1 where something is wrong."""
    from insightface_mx.datasets.checks import find_problems, read_set

    start_logging()
    if not os.path.isdir(args.data_dir):
        raise UserError(f"data folder '{args.data_dir}' does not exist")
    with lock_folder(args.repair) if args.repair else contextlib.nullcontext():
        if args.repair:
            refuse_existing(args.repair)
        found = read_set(args.data_dir)
        problems = find_problems(found, args.verification)
        for problem in problems:
            say(problem.text)
        say(f"{len(found.records)} records, {len(found.images)} images, {len(problems)} problems")
        if args.repair:
            repair(found, problems, args.repair)
    return 1 if problems else 0


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument("data_dir", help="folder with train.rec, train.idx and property")
    parser.add_argument("--verification", nargs="+", default=[], metavar="BIN", help="more verification sets")
    parser.add_argument("--repair", metavar="FOLDER", help="write a good copy there, a new folder")
    run_command(run, parser, argv)
