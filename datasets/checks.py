"""Everything that can be wrong with a training set: `read_set` reads it once, each check returns its problems."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Sequence

import numpy as np
from tqdm import tqdm

from insightface_mx.base.errors import UserError
from insightface_mx.base.machine import cpu_count
from insightface_mx.cli.types import Size
from insightface_mx.formats.recordio import RecordFile, find_offsets
from insightface_mx.formats.training_set import (
    Property,
    group_by_label,
    read_property,
    record_range,
    verification_sets,
)
from insightface_mx.formats.verification_set import read_bin
from insightface_mx.photos.decode import decode_record


class Problem(NamedTuple):
    """A line that says what is wrong, and the records of the images that a repaired set does without."""

    text: str
    images: tuple[int, ...] = ()


class Record(NamedTuple):
    """What a record holds: its labels, and of an image the size (height, width) and a hash of its pixels."""

    labels: np.ndarray
    size: Size | None = None
    digest: bytes = b""
    problem: str = ""  # why it holds neither an image nor a range of records


@dataclasses.dataclass(frozen=True)
class FoundSet:
    """A training set as far as it can be read.

    Attributes:
        folder: Where it is.
        file: Its records.
        declared: Its classes and size, None where they cannot be read.
        records: Index -> what the record holds.
        problems: Of reading it.
    """

    folder: str
    file: RecordFile
    declared: Property | None
    records: dict[int, Record]
    problems: list[Problem]

    @functools.cached_property
    def images(self) -> dict[int, Record]:
        """The records that hold an image."""
        return {index: record for index, record in self.records.items() if record.size}

    @functools.cached_property
    def end(self) -> int:
        """The last record's index + 1."""
        return max(self.records) + 1

    @property
    def image_size(self) -> Size:
        """Height and width from the property, or else of the first image."""
        if self.declared:
            return self.declared.height, self.declared.width
        return next(record.size for record in self.records.values() if record.size)


def read_set(folder: str) -> FoundSet:
    """Read all records of the set in a folder, by its index or without.

    Raises:
        UserError: There is no train.rec in it, or no record in that.
    """
    problems: list[Problem] = []
    declared: Property | None = None
    try:
        declared = read_property(folder)
    except UserError as error:
        problems.append(Problem(str(error)))
    path = os.path.join(folder, "train.rec")
    try:
        file = RecordFile(path)
    except UserError as error:
        file = RecordFile(path, find_offsets(path))
        text = f"{path}: {len(file)} records were found without the index, and numbered from 0"
        problems += [Problem(str(error)), Problem(text)]
    with ThreadPoolExecutor(cpu_count()) as pool:
        indexes = file.keys()
        found = pool.map(lambda index: _inspect(file, index), indexes)
        records = dict(zip(indexes, tqdm(found, total=len(indexes), unit="rec", desc="reading", disable=None)))
    return FoundSet(folder, file, declared, records, problems)


def find_problems(found: FoundSet, verification: Sequence[str] = ()) -> list[Problem]:
    """Return everything that is wrong with a set.

    Args:
        found: The set.
        verification: Paths of verification sets, besides those in its folder, that must not hold its images.
    """
    problems = [*found.problems, *check_records(found), *check_identities(found), *check_copies(found)]
    for path in [*verification_sets(found.folder), *verification]:
        problems += check_overlap(found, path)
    return problems


def good_groups(found: FoundSet, problems: Sequence[Problem]) -> list[np.ndarray]:
    """Return for every identity that has some the records of its images which no problem names."""
    bad = {index for problem in problems for index in problem.images}
    labels = {index: record.labels[0] for index, record in found.images.items() if index not in bad}
    return group_by_label(list(labels), list(labels.values()))


def check_records(found: FoundSet) -> list[Problem]:
    """Find damaged records, labels that are no class, and images of another size than the set's."""
    classes = found.declared.num_classes if found.declared else np.inf
    problems = []
    for index, record in found.records.items():
        if record.problem:
            problems.append(Problem(record.problem, (index,)))
        if not record.size:
            continue
        label = record.labels[0] if len(record.labels) else np.nan
        if not 0 <= label < classes or label != int(label):
            text = f"record {index}: its label {label:g} is no class from 0 to {classes} - 1"
            problems.append(Problem(text, (index,)))
        if found.declared and record.size != found.image_size:
            (height, width), (all_height, all_width) = record.size, found.image_size
            text = (
                f"record {index}: an image of {height},{width} pixels, property says {all_height},{all_width} "
                "(height,width); training scales it"
            )
            problems.append(Problem(text))
    return problems


def check_identities(found: FoundSet) -> list[Problem]:
    """Find wrong ranges in the records of the identities, and images that have another label or no identity."""
    table = found.records.get(0)
    if table is None or table.problem or table.size:  # a plain list of images
        return _check_classes(found, len({record.labels[0] for record in found.images.values()}))
    identity_records = record_range(table.labels, found.end)
    if identity_records is None:
        text = f"record 0 names the identities' records {table.labels[:2]}, which are not in the file"
        return [Problem(text), *_check_classes(found, len({record.labels[0] for record in found.images.values()}))]
    problems: list[Problem] = []
    seen: set[int] = set()
    for identity, index in enumerate(identity_records):
        members, found_here = _check_identity(found, identity, index)
        problems += found_here
        if seen & set(members):
            problems.append(Problem(f"record {index}: shares images with an identity before it"))
        seen.update(members)
    lost = sorted(set(found.images) - seen)
    problems += [Problem(f"record {index}: an image of no identity", (index,)) for index in lost]
    return problems + _check_classes(found, len(identity_records))


def check_copies(found: FoundSet) -> list[Problem]:
    """Find images that the set holds twice; those of two identities are both bad."""
    problems = []
    first_of: dict[bytes, int] = {}
    images = found.images
    for index, image in images.items():
        first = first_of.setdefault(image.digest, index)
        if first == index:
            continue
        if image.labels[0] == images[first].labels[0]:
            problems.append(Problem(f"record {index}: the same image as record {first}", (index,)))
        else:
            text = f"records {first} and {index}: the same image for two identities"
            problems.append(Problem(text, (first, index)))
    return problems


def check_overlap(found: FoundSet, path: str) -> list[Problem]:
    """Find images that a verification set also holds, and images of that set which cannot be decoded."""
    try:
        encoded = read_bin(path)[0]
    except UserError as error:
        return [Problem(str(error))]
    problems = []
    places: dict[bytes, int] = {}
    for place, content in enumerate(encoded):
        pixels = decode_record(content)
        if pixels is None:
            problems.append(Problem(f"{path}: image {place} cannot be decoded"))
        else:
            places.setdefault(_digest(pixels), place)
    for index, image in found.images.items():
        if image.digest in places:
            text = f"record {index}: also image {places[image.digest]} of {path}"
            problems.append(Problem(text, (index,)))
    return problems


def _inspect(file: RecordFile, index: int) -> Record:
    try:
        labels, encoded = file.read(index)
    except UserError as error:
        return Record(np.empty(0), problem=str(error))
    if not encoded:
        problem = "" if len(labels) > 1 else f"record {index}: neither an image nor an identity's record"
        return Record(labels, problem=problem)
    image = decode_record(encoded)
    if image is None:
        return Record(labels, problem=f"record {index}: an image that cannot be decoded")
    return Record(labels, (image.shape[0], image.shape[1]), _digest(image))


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(image.tobytes() + repr(image.shape).encode(), digest_size=16).digest()


def _check_identity(found: FoundSet, identity: int, index: int) -> tuple[range, list[Problem]]:
    """Return the records that the record of an identity names, and what is wrong with it and their labels."""
    record = found.records.get(index)
    if record is None or record.problem:
        return range(0), [Problem(f"identity {identity}: its record {index} cannot be read")]
    members = record_range(record.labels, found.end)
    if members is None:
        text = f"identity {identity}: its record {index} names the records {record.labels[:2]}, not in the file"
        return range(0), [Problem(text)]
    labels = {member: found.images[member].labels[0] for member in members if member in found.images}
    problems = [] if labels else [Problem(f"identity {identity}: no images")]
    for member, label in labels.items():
        if label != identity:
            text = f"record {member}: its label {label:g}, but it is identity {identity}'s"
            problems.append(Problem(text, (member,)))
    return members, problems


def _check_classes(found: FoundSet, classes: int) -> list[Problem]:
    if found.declared is None or classes == found.declared.num_classes:
        return []
    return [Problem(f"property says {found.declared.num_classes} classes, the records hold {classes}")]
