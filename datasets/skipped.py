"""What a command leaves out: a .csv file of names and reasons, and a summary in the log."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter

from insightface_mx.files.atomic import report_write_errors
from insightface_mx.photos.lists import Skipped, write_csv

MAX_REASONS = 10  # in a summary


def report_skipped(path: str, skipped: Skipped) -> None:
    """Write names and reasons to a .csv file and log how often each reason occurs; nothing skipped, no file."""
    if not skipped:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
        return
    with report_write_errors(path):
        write_csv(path, [("skipped", "reason"), *skipped])
    logging.warning("%d skipped, listed in %s:", len(skipped), path)
    for reason, count in Counter(reason for _, reason in skipped).most_common(MAX_REASONS):
        logging.warning("  %d: %s", count, reason)
