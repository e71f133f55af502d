"""A training set to look at or to copy from: its records by person."""

import os

import numpy as np

from insightface_mx.formats.recordio import RecordFile
from insightface_mx.formats.training_set import identity_ranges, image_records, read_property


class TrainingSet:
    """The folder DATA_DIR with train.rec, train.idx and property.

    Attributes: folder, records (RecordFile), property, and groups, for every person the record numbers of its images.
    Raises UserError for a set that cannot be read.
    """

    def __init__(self, folder):
        self.folder, self.property = folder, read_property(folder)
        self.records = RecordFile(os.path.join(folder, "train.rec"))
        self.groups = groups(self.records)

    @property
    def image_size(self):
        return self.property.height, self.property.width

    def image(self, number):
        """An image's encoded bytes."""
        return self.records.read(number)[1]


def groups(records):
    """For every person an array of record numbers; in a plain list of images equal labels make a person."""
    if records.has_label_array(0):
        return [np.arange(first, last) for first, last in identity_ranges(records)]
    return list(by_label({number: records.read(number)[0][0] for number in image_records(records).tolist()}).values())


def by_label(labels):
    """Label -> array of record numbers, labels in rising order, from a dict record number -> label."""
    numbers, values = np.array(list(labels), np.int64), np.array(list(labels.values()), np.float64)
    order = np.argsort(values, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(values[order])) + 1) if len(order) else []
    return {float(values[part[0]]): numbers[part] for part in parts}


def verification_sets(folder):
    """Paths of the .bin files in a folder."""
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".bin")]
