"""A training set in the original's format: a folder with train.rec, train.idx and `property`.

The images follow record 0, identity by identity, with their class as label, and then come the identity records; see
`identity_table`. A .rec file without them is a plain list of images, which the original trains on, too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from typing import Any, Callable, Collection, Generic, Iterable, Iterator, NamedTuple, Sequence, TypeVar, Union

from insightface_mx.base.errors import UserError, shorten
from insightface_mx.base.limits import MAX_CLASSES, MAX_PROPERTY, MAX_SIDE
from insightface_mx.files.atomic import atomic_path, report_write_errors, save_text
from insightface_mx.files.regular_file import open_regular
from insightface_mx.files.wrong_file import refuse_wrong_file
from insightface_mx.formats.face_records import FaceRecords
from insightface_mx.formats.recordio import LARGEST_EXACT, write_records

_PROPERTY_LINE = "its first line must be classes,height,width, three whole numbers"


Id = TypeVar("Id")


class Property(NamedTuple):
    """The content of `property`: the number of classes, height and width of the images in pixels."""

    num_classes: int
    height: int
    width: int


def read_property(data_dir: str) -> Property:
    """Read DATA_DIR/property, whose first line is 'classes,height,width'; some have more lines."""
    path = os.path.join(data_dir, "property")
    if not os.path.isdir(data_dir):
        raise UserError(f"data folder '{data_dir}' does not exist; give one with train.rec, train.idx and property")
    try:
        with open_regular(path) as file:
            text = file.read(MAX_PROPERTY).decode("utf-8-sig", "replace").strip()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error}); {_PROPERTY_LINE}") from error
    line = text.splitlines()[0] if text else ""
    found = re.fullmatch(r"\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9})\s*", line, re.ASCII)
    values = Property(*map(int, found.groups())) if found else None
    if values is None or not all(values):
        refuse_wrong_file(path)
        raise UserError(f"{path} says '{shorten(line)}'; {_PROPERTY_LINE}")
    if values.num_classes > MAX_CLASSES or max(values.height, values.width) > MAX_SIDE:
        raise UserError(
            f"{path} says '{line}'; {MAX_CLASSES} classes and images of {MAX_SIDE} pixels a side are the most that "
            "can be used"
        )
    return values


class TrainingSet:
    """A training set to look at or to copy images from.

    Args:
        folder: The folder with train.rec, train.idx and property.

    Attributes:
        folder: As given.
        property: The content of the file `property`.
        records: The records.
        labels: What the images of every identity have as label, an int64 array, rising.
        identities: For every identity the record ids of its images, an int64 array.
        unusable: Records that should be images of somebody and are not, and why.

    Raises:
        UserError: The set cannot be read or has no image.
    """

    def __init__(self, folder: str) -> None:
        self.folder, self.property = folder, read_property(folder)
        self.records = FaceRecords(os.path.join(folder, "train.rec"))
        self.labels, self.identities, unusable = self.records.identities
        if not self.identities:
            raise UserError(f"{self.records.path} holds no image with a class as label; see insightface-check-set")
        self.unusable = [(f"record {record_id}", self.records.problem(record_id)) for record_id in unusable.tolist()]

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


class LazyImages(Generic[Id]):
    """Encoded images that are read only when they are iterated over.

    Args:
        read: Returns the encoded image of an id.
        ids: The ids, in order.
    """

    def __init__(self, read: Callable[[Id], bytes], ids: Sequence[Id]) -> None:
        self._read, self._ids = read, ids

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[bytes]:
        return map(self._read, self._ids)


EncodedImages = Union[Collection[bytes], LazyImages[Any]]


def write_training_set(output: str, identities: Sequence[EncodedImages], image_size: tuple[int, int]) -> None:
    """Write a training set. While it is incomplete it has no `property`, so nothing reads it as a complete set.

    Labels are float32: where they cannot hold the record ids of the identity table, the set is a plain list.

    Args:
        output: Folder.
        identities: For every class 0, 1, ... its encoded images. They are read once, in order.
        image_size: Height and width in pixels.

    Raises:
        UserError: There are more classes than labels can tell apart, or the set cannot be written.
    """
    path_rec, path_property = os.path.join(output, "train.rec"), os.path.join(output, "property")
    if len(identities) > MAX_CLASSES:
        raise UserError(f"{path_rec}: {len(identities)} identities, but labels tell only {MAX_CLASSES} apart")
    count = 1 + sum(map(len, identities)) + len(identities)
    if count > LARGEST_EXACT:
        logging.warning(
            "%s has no identity table: labels hold no ids above %d exactly, and there would be %d records. The "
            "original trains on it, too, but not with --images-filter or triplets",
            path_rec,
            LARGEST_EXACT,
            count,
        )
    with report_write_errors(path_rec):
        with contextlib.suppress(FileNotFoundError):
            os.remove(path_property)
        with write_records(path_rec) as writer:
            for record_id, (label, payload) in enumerate(_labels_and_payloads(identities, count <= LARGEST_EXACT)):
                writer.write(record_id, label, payload)
        height, width = image_size
        save_text(path_property, f"{len(identities)},{height},{width}\n")


def _labels_and_payloads(
    identities: Sequence[EncodedImages], with_table: bool
) -> Iterator[tuple[float | list[int], bytes]]:
    """Yield all records in order: record 0, every image, every identity record; without a table the images alone."""
    images = sum(map(len, identities))
    if with_table:
        yield [images + 1, images + 1 + len(identities)], b""
    for label, encoded in enumerate(identities):
        for payload in encoded:
            yield label, payload
    first = 1
    for encoded in identities if with_table else ():
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
