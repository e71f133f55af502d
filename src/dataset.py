"""A training folder: `property` and train.rec with its table of identities (the original's format)."""

import os
from collections import namedtuple

import numpy as np

from insightface_mx.errors import UserError

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


def write_property(data_dir, num_classes, height, width):
    with open(os.path.join(data_dir, "property"), "w", encoding="utf-8") as file:
        file.write(f"{num_classes},{height},{width}\n")


def image_records(records, images_filter=0):
    """Record numbers of a set's images, an int64 array, in the file's order.

    A file whose record 0 has a label array (flag above 0) names its identity records there, and each of those names
    its images; identities with fewer than `images_filter` images are left out. Otherwise every record is an image.
    Raises UserError where the table points outside the file.
    """
    if not records.has_label_array(0):
        return np.array(records.keys(), np.int64)
    ranges = identity_ranges(records)
    kept = [np.arange(first, last) for first, last in ranges if last - first >= images_filter]
    if not kept:
        raise UserError(f"{records.path}: no identity has {images_filter} images; lower --images-filter")
    return np.concatenate(kept)


def identity_ranges(records):
    """First image record and last + 1 of every identity, an (identities, 2) int64 array."""
    first, last = _range(records, 0, len(records))
    ranges = np.array([_range(records, number, first) for number in range(first, last)], np.int64)
    if not len(ranges):
        raise UserError(f"{records.path}: record 0 names no identities; build the data set again")
    return ranges


def _range(records, number, end):
    labels, _ = records.read(number)
    if len(labels) < 2 or not 0 < labels[0] <= labels[1] <= end:
        raise UserError(f"{records.path}: record {number} names the records {labels[:2]}, which are not in the file")
    return int(labels[0]), int(labels[1])
