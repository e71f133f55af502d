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
from typing import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.base.repeats import first_places
from insightface_mx.cli.types import Size
from insightface_mx.formats import cache
from insightface_mx.formats.face_records import FaceRecords
from insightface_mx.formats.recordio import RecordFile
from insightface_mx.formats.regular_file import open_regular
from insightface_mx.formats.verification_set import read_bin
from insightface_mx.photos.decode import decode_photo, fit, network_input
from insightface_mx.photos.image_files import EXTENSIONS, is_image
from insightface_mx.photos.lists import NO_LABEL, READABLE, Photo, Skipped, is_class, read_list


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
    """

    repeated: Mapping[int, int] = MappingProxyType({})

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

    def __init__(self, photos: list[Photo]) -> None:
        self._photos = photos

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
        return encoded, _class_of(labels, self._title(index))

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
        UserError: There is nothing at `path`, no photo in it, or a line that is none of a list; the message names it.
    """
    records = os.path.join(path, "train.rec")
    if os.path.isdir(path) and not os.path.isfile(records):
        left_out: Skipped = []
        images = sorted(file for file in _files_below(path, left_out, set()) if is_image(file))
        for folder, reason in left_out:
            logging.warning("%s is left out: %s", folder, reason)
        if not images:
            raise UserError(f"{path} holds no image files ({', '.join(EXTENSIONS)})")
        return _Files(_labelled_by_folder(path, images))
    if os.path.isdir(path) or path.lower().endswith(".rec"):
        return _Records(records if os.path.isdir(path) else path)
    if path.lower().endswith(".bin"):
        return _VerificationSet(path)
    photos, problems = read_list(path, root, labelled=False)
    if problems:
        place, problem = problems[0]
        raise UserError(f"{place}: {problem}")
    if not photos:
        raise UserError(f"{path} names no images")
    return _Files(photos)


def identity_photos(path: str, root: str | None = None, flat: bool = False) -> tuple[list[Photo], Skipped]:
    """Find the photos of a source by identity: in the order of the identities' numbers or names.

    Args:
        path: A folder with a folder for each identity (any depth below) or of a training set, a list or .rec file.
        root: Folder that a list's paths start from; None: the list's own.
        flat: Every image in the folder is an identity of its own.

    Returns:
        The photos, those of an identity together and in the source's order, and what is left out.

    Raises:
        UserError: The source cannot be read or holds no photo of an identity.
    """
    found, skipped = _identity_photos(path, root, flat)
    photos = [photo for photo in found if not _breaks_lists(photo.path)]
    skipped += [(photo.path, "its name holds a tab or a line break") for photo in found if _breaks_lists(photo.path)]
    if not photos:
        reason = f"left out: {skipped[0][0]} ({skipped[0][1]}), {len(skipped)} in all" if skipped else "it is empty"
        raise UserError(f"{path} holds no photo of an identity; {reason}")
    place = _place_of(photo.identity for photo in photos)
    return sorted(photos, key=lambda photo: place[photo.identity]), skipped


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


def _identity_photos(path: str, root: str | None, flat: bool) -> tuple[list[Photo], Skipped]:
    if os.path.isdir(path):
        records = os.path.join(path, "train.rec")
        return _from_records(records) if os.path.isfile(records) else _from_folder(path, flat)
    if path.lower().endswith(".rec"):
        return _from_records(path)
    if path.lower().endswith(".bin"):
        raise UserError(f"{path} is a verification set, whose images have no identities: {READABLE}")
    return read_list(path, root, labelled=True)


def _from_folder(root: str, flat: bool) -> tuple[list[Photo], Skipped]:
    """Find the images below ROOT/IDENTITY/; flat: those in ROOT, each an identity."""
    photos: list[Photo] = []
    skipped: Skipped = []
    seen = {_place_on_disk(root)}
    try:
        names = sorted(os.listdir(root))
    except OSError as error:
        raise UserError(f"cannot read the folder {root}: {error.strerror}") from error
    for name in names:
        path = os.path.join(root, name)
        if os.path.isdir(path) and not flat:
            files, identity = list(_files_below(path, skipped, seen)), name
        elif flat:
            files, identity = [path], os.path.splitext(name)[0]
        else:
            files, identity = [], ""
            skipped.append((path, "it is in no identity's folder"))
        photos += [Photo(file, identity) for file in files if is_image(file)]
        reason = f"its name does not end in {', '.join(EXTENSIONS)}"
        skipped += [(file, reason) for file in files if not is_image(file)]
    return photos, skipped


def _labelled_by_folder(root: str, images: Sequence[str]) -> list[Photo]:
    """Give the images of every folder in `root` the class that build-set gives this identity; the others have none."""
    start = len(os.path.join(root, ""))
    parts = [image[start:].partition(os.sep) for image in images]
    identities = [first if separator else "" for first, separator, _ in parts]
    place = {**_place_of(filter(None, identities)), "": NO_LABEL}
    return [Photo(image, identity, place[identity]) for image, identity in zip(images, identities)]


def _place_of(identities: Iterable[str]) -> dict[str, int]:
    """Return the place of every identity: by number if all of them are numbers, otherwise by name."""
    names = sorted(set(identities))
    key: Callable[[str], int | str] = int if all(map(is_class, names)) else str
    return {name: place for place, name in enumerate(sorted(names, key=key))}


def _files_below(folder: str, skipped: Skipped, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Yield the files of a folder and its subfolders, also of those that links name, sorted.

    Args:
        folder: The folder.
        skipped: Gets the folders that cannot be read, and those that are in `seen`: links may lead in a circle.
        seen: Where the folders are that were read; gets those of this one.
    """

    def leave_out(error: OSError) -> None:
        skipped.append((error.filename, f"the folder cannot be read: {error.strerror}"))

    for parent, folders, files in os.walk(folder, onerror=leave_out, followlinks=True):
        place = _place_on_disk(parent)
        if place in seen:
            skipped.append((parent, "a link makes it a folder that is read already"))
            folders.clear()
            continue
        seen.add(place)
        folders.sort()
        yield from (os.path.join(parent, name) for name in sorted(files))


def _place_on_disk(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _from_records(path: str) -> tuple[list[Photo], Skipped]:
    """Find the images of a training set or of a plain list of records."""
    records = FaceRecords(path)
    photos: list[Photo] = []
    skipped: Skipped = []
    for index in records.image_ids().tolist():
        label = _label_or_error(records, index)
        if isinstance(label, UserError):
            skipped.append((f"{path}#{index}", str(label)))
        else:
            photos.append(Photo(path, str(label), label, index))
    return photos, skipped


def _label_or_error(records: RecordFile, index: int) -> int | UserError:
    try:
        return _class_of(records.read(index)[0], "it")
    except UserError as error:
        return error


def _image_or_error(source: Source, index: int) -> np.ndarray | UserError:
    try:
        return source.image(index)[0]
    except UserError as error:
        return error


def _class_of(labels: np.ndarray, name: str) -> int:
    """Return the class number in a record's labels; UserError: it is none."""
    if not labels[0] >= 0 or labels[0] >= 2**24:
        raise UserError(f"{name} has the label {labels[0]:g}, which is no class number")
    return int(labels[0])


def _breaks_lists(path: str) -> bool:
    return any(character in path for character in "\t\n\r")
