"""A training folder: `property` and train.rec with its table of identities (the original's format)."""

import logging
import os
from collections import namedtuple

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.formats.cache import cached

MOST_BAD = 0.01  # share of a set's images or identities that may be damaged before it is not used any more

Property = namedtuple("Property", "num_classes height width")


def read_property(data_dir):
    """Number of classes, height and width (pixels) from DATA_DIR/property, one line 'classes,height,width'."""
    path = os.path.join(data_dir, "property")
    if not os.path.isdir(data_dir):
        raise UserError(f"data folder '{data_dir}' does not exist; give one with train.rec, train.idx and property")
    try:
        with open(path, encoding="utf-8") as file:
            fields = file.read().strip().split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error}); it must hold one line: classes,height,width") from error
    if len(fields) != 3 or not all(field.strip().isdigit() and int(field) > 0 for field in fields):
        raise UserError(f"{path} says '{','.join(fields)[:60]}'; it must hold one line: classes,height,width")
    return Property(*map(int, fields))


def image_records(records, images_filter=0, skip_bad=False):
    """Record numbers of a set's images, an int64 array, in the file's order.

    A file whose record 0 has a label array (flag above 0) names its identity records there, and each of those names
    its images; identities with fewer than `images_filter` images are left out. Otherwise every record is an image.
    Raises UserError as `identity_ranges` does.
    """
    if not records.has_label_array(0):
        return np.array(records.keys(), np.int64)
    ranges = identity_ranges(records, skip_bad)
    kept = [np.arange(first, last) for first, last in ranges if last - first >= images_filter]
    if not kept:
        raise UserError(f"{records.path}: no identity has {images_filter} images; lower --images-filter")
    return np.concatenate(kept)


def identity_ranges(records, skip_bad=False):
    """First image record and last + 1 of every identity, an (identities, 2) int64 array.

    Raises UserError where the table points outside the file or a record of it is damaged; skip_bad: leaves out, with a
    warning, up to 1 % of the identities for that. The table of a large set is kept beside it in PREFIX.table.npz.
    """
    sources = [records.path, records.path_idx]
    table = cached(f"{os.path.splitext(records.path)[0]}.table.npz", sources, lambda: _read_table(records))
    ranges, problems = table["ranges"], table["problems"].tolist()
    if problems and not (skip_bad and len(problems) <= MOST_BAD * (len(ranges) + len(problems))):
        raise UserError(problems[0])
    for problem in problems:
        logging.warning("an identity is left out: %s", problem)
    return ranges


def _read_table(records):
    first, last, problem = _range(records, 0, len(records))
    if problem:
        raise UserError(problem)
    found = [_range(records, number, first) for number in range(first, last)]
    if not found:
        raise UserError(f"{records.path}: record 0 names no identities; build the data set again")
    ranges = [(start, end) for start, end, problem in found if not problem]
    return {
        "ranges": np.array(ranges, np.int64).reshape(-1, 2),
        "problems": np.array([problem for _, _, problem in found if problem], np.str_),
    }


def _range(records, number, end):
    """First record and last + 1 that a record names, and '', or what is wrong with it."""
    try:
        labels, _ = records.read(number)
    except UserError as error:
        return 0, 0, str(error)
    if len(labels) < 2 or not 0 < labels[0] <= labels[1] <= end:
        return 0, 0, f"{records.path}: record {number} names the records {labels[:2]}, which are not in the file"
    return int(labels[0]), int(labels[1]), ""
