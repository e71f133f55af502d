"""Find the photos of identities: of folders, of lists, and of training sets."""

from __future__ import annotations

import logging
import os
from typing import Callable, Iterable, Iterator

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.formats import face_records
from insightface_mx.formats.recordio import RecordFile
from insightface_mx.photos.image_files import EXTENSIONS, is_image
from insightface_mx.photos.lists import NO_LABEL, READABLE, Photo, Skipped, is_class, read_list


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


def folder_photos(root: str) -> list[Photo]:
    """Find the images below a folder, in the order of their paths.

    Those of every folder in `root` have the class that build-set gives this identity, the others have none. A log line
    names each folder that is left out.
    """
    skipped: Skipped = []
    images = sorted(file for file in _files_below(root, skipped, set()) if is_image(file))
    for folder, reason in skipped:
        logging.warning("%s is left out: %s", folder, reason)
    start = len(os.path.join(root, ""))
    parts = [image[start:].partition(os.sep) for image in images]
    identities = [first if separator else "" for first, separator, _ in parts]
    place = {**_place_of(filter(None, identities)), "": NO_LABEL}
    return [Photo(image, identity, place[identity]) for image, identity in zip(images, identities)]


def class_of(labels: np.ndarray, name: str) -> int:
    """Return the class number in a record's labels; UserError: it is none."""
    if not face_records.is_class(labels[:1])[0]:
        raise UserError(f"{name} has the label {labels[0]:g}, which is no class number")
    return int(labels[0])


def refuse_root(path: str, root: str | None) -> None:
    """Refuse a root for the paths of a list where `path` is none. Raises UserError."""
    if root is not None and (os.path.isdir(path) or path.lower().endswith((".rec", ".bin"))):
        raise UserError(f"--root has no effect, as {path} is no list of paths: leave it out")


def _identity_photos(path: str, root: str | None, flat: bool) -> tuple[list[Photo], Skipped]:
    refuse_root(path, root)
    if flat and not (os.path.isdir(path) and not os.path.isfile(os.path.join(path, "train.rec"))):
        raise UserError(f"--flat has no effect, as {path} is no folder of photos: leave it out")
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
    records = face_records.FaceRecords(path)
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
        return class_of(records.read(index)[0], "it")
    except UserError as error:
        return error


def _breaks_lists(path: str) -> bool:
    return any(character in path for character in "\t\n\r")
