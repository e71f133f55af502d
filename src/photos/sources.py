"""Where photos come from: folders, lists, .rec files and verification sets, the same in every command.

A folder holds a folder for each identity (as ImageFolder and LFW have it), images, or a training set.

Lists have the grammar of `photos.lists`.
"""

from __future__ import annotations

import abc
import hashlib
import logging
import os
from types import MappingProxyType
from typing import Iterable, Mapping, Sequence

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.base.repeats import first_places
from insightface_mx.cli.types import Size
from insightface_mx.files import cache
from insightface_mx.files.regular_file import open_regular
from insightface_mx.formats.face_records import FaceRecords
from insightface_mx.formats.recordio import RecordFile
from insightface_mx.formats.verification_set import read_bin
from insightface_mx.photos.decode import decode_photo, fit, network_input
from insightface_mx.photos.identities import class_of, folder_photos, refuse_root
from insightface_mx.photos.image_files import EXTENSIONS
from insightface_mx.photos.lists import NO_LABEL, Photo, Skipped, read_list


class PhotoReader:
    """Reads photos' encoded bytes; .rec files that it has read from stay open."""

    def __init__(self) -> None:
        """Begin with no open file."""
        self._records: dict[str, RecordFile] = {}

    def read(self, photo: Photo) -> bytes:
        """Return the bytes of a photo. Raises OSError or UserError where it cannot be read."""
        if photo.record is None:
            return _read_file(photo.path)
        if photo.path not in self._records:
            self._records[photo.path] = RecordFile(photo.path)
        return self._records[photo.path].read(photo.record)[1]


class Source(abc.ABC):
    """The photos of a folder or file, in its order.

    Attributes:
        repeated: Index of a photo whose content was there before -> index of the first photo of this content. Only a
            verification set has such photos, each as often as it is in a pair; in others contents are not compared.
        left_out: Lines of a list that name no photo: file and line, and the reason.
    """

    repeated: Mapping[int, int] = MappingProxyType({})
    left_out: Sequence[tuple[str, str]] = ()

    @abc.abstractmethod
    def __len__(self) -> int:
        """Return the number of photos."""

    @abc.abstractmethod
    def name(self, index: int) -> str:
        """Return what photo `index` is called in results."""

    @abc.abstractmethod
    def read(self, index: int) -> tuple[bytes, int]:
        """Return the encoded bytes and the label of photo `index`. Raises UserError where it cannot be read."""

    @abc.abstractmethod
    def stamp(self) -> str:
        """Return text that changes when the photos do, as far as names, sizes and times of change tell."""

    @abc.abstractmethod
    def _title(self, index: int) -> str:
        """Return what an error calls photo `index`."""

    def image(self, index: int) -> tuple[np.ndarray, int]:
        """Return photo `index`, (height, width, 3) uint8 BGR, and its label. Raises UserError as `decode_photo`."""
        content, label = self.read(index)
        return decode_photo(content, self._title(index)), label


class _Files(Source):
    """Image files of a folder or list; names are their paths."""

    def __init__(self, photos: list[Photo], left_out: Skipped) -> None:
        self._photos, self.left_out = photos, left_out

    def __len__(self) -> int:
        return len(self._photos)

    def name(self, index: int) -> str:
        return self._photos[index].path

    def read(self, index: int) -> tuple[bytes, int]:
        photo = self._photos[index]
        try:
            return _read_file(photo.path), photo.label
        except OSError as error:
            raise UserError(f"cannot open {photo.path}: {error.strerror}") from error

    def stamp(self) -> str:
        return photos_stamp(self._photos)

    def _title(self, index: int) -> str:
        return self._photos[index].path


class _Records(Source):
    """The images of a .rec; names are record indexes."""

    def __init__(self, path: str) -> None:
        self._records = FaceRecords(path)
        self._indexes = self._records.image_ids()

    def __len__(self) -> int:
        return len(self._indexes)

    def name(self, index: int) -> str:
        return str(self._indexes[index])

    def read(self, index: int) -> tuple[bytes, int]:
        record = int(self._indexes[index])
        labels, encoded = self._records.read(record)
        return encoded, class_of(labels, self._title(index))

    def stamp(self) -> str:
        return file_stamp(self._records.path)

    def _title(self, index: int) -> str:
        return f"{self._records.path}: record {self._indexes[index]}"


class _VerificationSet(Source):
    """The images of a verification set, pair i being 2i and 2i + 1; names are their indexes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._encoded, _ = read_bin(path)
        firsts = enumerate(first_places(self._encoded).tolist())
        self.repeated = {index: first for index, first in firsts if index != first}

    def __len__(self) -> int:
        return len(self._encoded)

    def name(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> tuple[bytes, int]:
        return self._encoded[index], NO_LABEL

    def stamp(self) -> str:
        return file_stamp(self._path)

    def _title(self, index: int) -> str:
        return f"{self._path}: image {index}"


def open_source(path: str, root: str | None = None) -> Source:
    """Open the photos of a folder or file, with or without labels.

    Args:
        path: What `lists.SOURCES` says.
        root: Folder that a list's paths start from; None: the list's own.

    Raises:
        UserError: There is nothing at `path`, or no photo in it; the message names it.
    """
    refuse_root(path, root)
    records = os.path.join(path, "train.rec")
    if os.path.isfile(records):
        return _Records(records)
    if not os.path.isdir(path) and path.lower().endswith(".rec"):
        return _Records(path)
    if not os.path.isdir(path) and path.lower().endswith(".bin"):
        return _VerificationSet(path)
    return _Files(*file_photos(path, root))


def file_photos(path: str, root: str | None = None) -> tuple[list[Photo], Skipped]:
    """Find the photos of a folder or list, with or without labels.

    Args:
        path: The folder or list.
        root: Folder that a list's paths start from; None: the list's own.

    Returns:
        The photos, and the lines of the list that are left out.

    Raises:
        UserError: As `open_source`.
    """
    if os.path.isdir(path):
        images = folder_photos(path)
        if not images:
            raise UserError(f"{path} holds no image files ({', '.join(EXTENSIONS)})")
        return images, []
    photos, left_out = read_list(path, root, labelled=False)
    if not photos:
        raise UserError(": ".join(left_out[0]) if left_out else f"{path} names no images")
    return photos, left_out


def aligned_images(path: str, image_size: Size, most: int) -> np.ndarray:
    """Read different aligned faces, spread evenly over a source; images that cannot be used are left out.

    Args:
        path: As `open_source` takes it.
        image_size: Height and width; larger or smaller images are fitted.
        most: The largest number of images to take.

    Returns:
        (n, 3, height, width) float32, RGB of 0..255.

    Raises:
        UserError: The source cannot be read, or none of these images can be used.
    """
    source = open_source(path)
    if source.left_out:
        logging.warning(
            "%d lines of %s name no image; the first: %s: %s", len(source.left_out), path, *source.left_out[0]
        )
    indexes: Sequence[int] = range(len(source))
    if source.repeated:
        indexes = [index for index in indexes if index not in source.repeated]
    chosen = np.unique(np.linspace(0, len(indexes) - 1, most).astype(int)).tolist()
    found = [_image_or_error(source, indexes[place]) for place in chosen]
    images = [network_input(fit(image, image_size)) for image in found if not isinstance(image, UserError)]
    problems = [problem for problem in found if isinstance(problem, UserError)]
    if not images:
        raise problems[0]
    return np.stack(images).astype(np.float32)


def file_stamp(path: str) -> str:
    """Return text that changes when a file does: path, inode, size in bytes and times of change."""
    try:
        stamp = cache.file_stamp(path)
    except OSError:
        return f"{os.path.abspath(path)} missing"
    return " ".join(map(str, (os.path.abspath(path), *stamp)))


def photos_stamp(photos: Iterable[Photo]) -> str:
    """Return text that changes when the list of photos or one of their files does."""
    digest = hashlib.sha256()
    stamps: dict[str, str] = {}
    for photo in photos:
        if photo.path not in stamps:
            stamps[photo.path] = file_stamp(photo.path)
        digest.update(repr((photo, stamps[photo.path])).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _read_file(path: str) -> bytes:
    with open_regular(path) as file:
        return file.read()


def _image_or_error(source: Source, index: int) -> np.ndarray | UserError:
    try:
        return source.image(index)[0]
    except UserError as error:
        return error
