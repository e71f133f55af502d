"""A training set in the original's format: a folder with train.rec, train.idx and `property`.

Record 0 has a label array of two: the id of the first identity record, and of the last + 1. Then follow the images,
identity by identity, with their class as label, and then the identity records, whose label arrays in the same way say
where the identity's images are. A .rec file without this identity table is a plain list of images.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Callable, Collection, Iterable, Iterator, NamedTuple, Sequence, Union

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.formats.atomic import atomic_path, report_write_errors, save_text
from insightface_mx.formats.cache import cached
from insightface_mx.formats.recordio import RecordFile, write_records
from insightface_mx.formats.wrong_file import refuse_wrong_file

MAX_BAD_FRACTION = 0.01  # of a set's images or identities; a set with more damaged ones is refused


class Property(NamedTuple):
    """The content of `property`: the number of classes, height and width of the images in pixels."""

    num_classes: int
    height: int
    width: int


def read_property(data_dir: str) -> Property:
    """Read DATA_DIR/property, one line 'classes,height,width'."""
    path = os.path.join(data_dir, "property")
    if not os.path.isdir(data_dir):
        raise UserError(f"data folder '{data_dir}' does not exist; give one with train.rec, train.idx and property")
    try:
        with open(path, encoding="utf-8") as file:
            fields = file.read().strip().split(",")
    except (OSError, UnicodeDecodeError) as error:
        refuse_wrong_file(path)
        raise UserError(f"cannot read {path} ({error}); it must hold one line: classes,height,width") from error
    if len(fields) != 3 or not all(field.strip().isdigit() and int(field) > 0 for field in fields):
        refuse_wrong_file(path)
        raise UserError(f"{path} says '{','.join(fields)[:60]}'; it must hold one line: classes,height,width")
    return Property(*map(int, fields))


class TrainingSet:
    """A training set to look at or to copy images from.

    Args:
        folder: The folder with train.rec, train.idx and property.

    Attributes:
        folder: As given.
        property: The content of the file `property`.
        records: The records, a RecordFile.
        identities: For every identity the record ids of its images, an int64 array.

    Raises:
        UserError: The set cannot be read.
    """

    def __init__(self, folder: str) -> None:
        self.folder, self.property = folder, read_property(folder)
        self.records = RecordFile(os.path.join(folder, "train.rec"))
        self.identities = identity_images(self.records)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.property.height, self.property.width

    def image(self, record_id: int) -> bytes:
        """Return an encoded image."""
        return self.records.read(record_id)[1]


def verification_sets(folder: str) -> list[str]:
    """Return the paths of the .bin files in a folder."""
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".bin")]


def image_records(records: RecordFile, images_filter: int = 0, skip_bad: bool = False) -> np.ndarray:
    """Return the record ids of a set's images, an int64 array, in the order of the file.

    Args:
        records: The records.
        images_filter: Leave out identities with fewer images; a plain list of images is taken as it is.
        skip_bad: As in `identity_ranges`.

    Raises:
        UserError: As `identity_ranges`, or no identity is left.
    """
    if not records.has_label_array(0):
        return np.array(records.keys(), np.int64)
    identities = [ids for ids in identity_images(records, skip_bad) if len(ids) >= images_filter]
    if not identities:
        raise UserError(f"{records.path}: no identity has {images_filter} images; lower --images-filter")
    return np.concatenate(identities)


def identity_images(records: RecordFile, skip_bad: bool = False) -> list[np.ndarray]:
    """Return for every identity the record ids of its images, an int64 array.

    In a plain list of images, equal labels make an identity; identities are in rising order of their labels there.

    Raises:
        UserError: As `identity_ranges`.
    """
    if records.has_label_array(0):
        return [np.arange(first, last) for first, last in identity_ranges(records, skip_bad)]
    record_ids = np.array(records.keys(), np.int64)
    return group_by_label(record_ids, [records.read(record_id)[0][0] for record_id in record_ids.tolist()])


def group_by_label(record_ids: Sequence[int] | np.ndarray, labels: Sequence[float]) -> list[np.ndarray]:
    """Return the record ids of every label, int64 arrays, in rising order of the labels."""
    ids, values = np.asarray(record_ids, np.int64), np.asarray(labels, np.float64)
    if not len(ids):
        return []
    order = np.argsort(values, kind="stable")
    return np.split(ids[order], np.flatnonzero(np.diff(values[order])) + 1)


def identity_ranges(records: RecordFile, skip_bad: bool = False) -> np.ndarray:
    """Read the identity table; that of a large set is stored next to it, in PREFIX.table.npz.

    Args:
        records: The records, of which record 0 has a label array.
        skip_bad: Leave out damaged identities, up to 1 % of all, with a warning.

    Returns:
        The first image record of every identity and the last + 1, an (identities, 2) int64 array.

    Raises:
        UserError: The table names records outside the file, or one of its records is damaged.
    """
    sources = [records.path, records.path_idx]
    table = cached(f"{os.path.splitext(records.path)[0]}.table.npz", sources, lambda: _read_table(records))
    ranges, problems = table["ranges"], table["problems"].tolist()
    if problems and not (skip_bad and len(problems) <= MAX_BAD_FRACTION * (len(ranges) + len(problems))):
        raise UserError(problems[0])
    for problem in problems:
        logging.warning("an identity is left out: %s", problem)
    return ranges


def record_range(labels: np.ndarray, end: int) -> range | None:
    """Return the record ids that a label array names; None where they are not between 1 and `end` - 1."""
    if len(labels) < 2 or not 0 < labels[0] <= labels[1] <= end:
        return None
    return range(int(labels[0]), int(labels[1]))


def _read_table(records: RecordFile) -> dict[str, np.ndarray]:
    """Read the identity records: arrays `ranges` and `problems`, the latter lines of text."""
    identity_records, problem = _named_records(records, 0, len(records))
    if problem:
        raise UserError(problem)
    if not identity_records:
        raise UserError(f"{records.path}: record 0 names no identities; build the data set again")
    named = [_named_records(records, record_id, identity_records.start) for record_id in identity_records]
    ranges = [(images.start, images.stop) for images, problem in named if not problem]
    problems = [problem for _, problem in named if problem]
    return {"ranges": np.array(ranges, np.int64).reshape(-1, 2), "problems": np.array(problems, np.str_)}


def _named_records(records: RecordFile, record_id: int, end: int) -> tuple[range, str]:
    """Read which records a record of the identity table names, before `end`; and '', or what is wrong with it."""
    try:
        labels, _ = records.read(record_id)
    except UserError as error:
        return range(0), str(error)
    named = record_range(labels, end)
    if named is None:
        problem = f"{records.path}: record {record_id} names the records {labels[:2]}, which are not in the file"
        return range(0), problem
    return named, ""


class LazyImages:
    """Encoded images that are read only when they are iterated over.

    Args:
        read: Returns the encoded image of an id.
        ids: The ids, in order.
    """

    def __init__(self, read: Callable[[int], bytes], ids: Sequence[int]) -> None:
        self._read, self._ids = read, ids

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[bytes]:
        return map(self._read, self._ids)


EncodedImages = Union[Collection[bytes], LazyImages]


def write_training_set(output: str, identities: Sequence[EncodedImages], image_size: tuple[int, int]) -> None:
    """Write a training set. While it is incomplete it has no `property`, so nothing reads it as a complete set.

    Args:
        output: Folder.
        identities: For every class 0, 1, ... its encoded images. They are read once, in order.
        image_size: Height and width in pixels.
    """
    path_rec, path_property = os.path.join(output, "train.rec"), os.path.join(output, "property")
    with report_write_errors(path_rec):
        with contextlib.suppress(FileNotFoundError):
            os.remove(path_property)
        with write_records(path_rec) as writer:
            for record_id, (label, payload) in enumerate(_labels_and_payloads(identities)):
                writer.write(record_id, label, payload)
        height, width = image_size
        save_text(path_property, f"{len(identities)},{height},{width}\n")


def _labels_and_payloads(identities: Sequence[EncodedImages]) -> Iterator[tuple[float | list[int], bytes]]:
    """Yield all records in order: record 0, every image, every identity record."""
    images = sum(map(len, identities))
    yield [images + 1, images + 1 + len(identities)], b""
    for label, encoded in enumerate(identities):
        for payload in encoded:
            yield label, payload
    first = 1
    for encoded in identities:
        yield [first, first + len(encoded)], b""
        first += len(encoded)


def refuse_existing(output: str) -> None:
    """Raise UserError if a folder holds a training set already."""
    if os.path.exists(os.path.join(output, "property")):
        raise UserError(f"{output} holds a training set already: remove it, or choose another --output")


def write_lst(path: str, rows: Iterable[tuple[str, int]]) -> None:
    """Write the list of a set's images: rows of (path of the photo, class), in the order of the records."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(f"1\t{photo}\t{label}\n" for photo, label in rows)
