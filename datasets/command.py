"""What the data set commands share: their options, their messages and how they end."""

import contextlib
import csv
import logging
import os
import sys
from collections import Counter

from insightface_mx.base.compat import cpu_count
from insightface_mx.base.errors import UserError, exit_on_user_error
from insightface_mx.cli.types import positive
from insightface_mx.datasets.prepare import Settings
from insightface_mx.formats.atomic import atomic_path, report_write_errors
from insightface_mx.photos.lists import open_text

MOST_SHOWN = 10  # reasons in a summary


def add_face_options(parser):
    """The options that `settings` reads, and --workers."""
    group = parser.add_argument_group("faces")
    group.add_argument("--aligned", action="store_true", help="the photos are aligned crops: find no faces in them")
    group.add_argument("--image-size", default="112,112", help="height,width of the faces, in pixels")
    group.add_argument("--png", action="store_true", help="store faces as PNG, without loss, in place of JPEG")
    group.add_argument("--quality", type=positive, default=95, help="of the JPEGs, 1 to 100")
    group.add_argument(
        "--no-face", choices=("skip", "crop"), default="skip", help="photos without a found face: skip, or crop"
    )
    group.add_argument("--min-face", type=positive, default=20, help="smallest face looked for, pixels, from 12 on")
    group.add_argument("--detector", help="folder of MTCNN's det1..det3 checkpoints (default: the package mtcnn)")
    parser.add_argument("--workers", type=positive, default=cpu_count(), help="processes that prepare faces")


def settings(args):
    """The Settings that the face options ask for."""
    size = args.image_size.split(",")
    if len(size) != 2 or not all(side.isdigit() and int(side) for side in size):
        raise UserError(f"--image-size {args.image_size}: give height,width in pixels, for example 112,112")
    size = int(size[0]), int(size[1])
    if not args.aligned and size not in ((112, 112), (112, 96)):
        raise UserError(
            f"--image-size {args.image_size}: faces are aligned to 112,112 or 112,96; others need --aligned"
        )
    if args.quality > 100:
        raise UserError(f"--quality {args.quality}: JPEG has 1 to 100")
    if args.min_face < 12:
        raise UserError(f"--min-face {args.min_face}: MTCNN finds faces of 12 pixels and more")
    return Settings(size, args.png, args.quality, args.aligned, args.no_face, args.min_face, args.detector)


def write_csv(path, rows):
    """Write a csv file, whole or not at all."""
    with atomic_path(path) as temporary, open_text(temporary, "w") as file:
        csv.writer(file).writerows(rows)


def report_skipped(path, skipped):
    """Write (name, reason) rows to a csv file and log how often each reason occurs; nothing skipped, no file."""
    if not skipped:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
        return
    with report_write_errors(path):
        write_csv(path, [("skipped", "reason"), *skipped])
    logging.warning("%d skipped, listed in %s:", len(skipped), path)
    for reason, count in Counter(reason for _, reason in skipped).most_common(MOST_SHOWN):
        logging.warning("  %d: %s", count, reason)


@contextlib.contextmanager
def running():
    """Log to standard output; end with status 2 for what the user can mend, 130 for Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    try:
        with exit_on_user_error():
            yield
    except KeyboardInterrupt:
        sys.stderr.write("stopped; nothing is half written\n")
        raise SystemExit(130) from None
