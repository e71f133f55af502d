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
from insightface_mx.formats.face_records import FaceRecords, disagreement, group_by_label, is_class
from insightface_mx.formats.identity_table import IdentityTable, read_table
from insightface_mx.formats.recordio import find_offsets
from insightface_mx.formats.training_set import Property, read_property, verification_sets
from insightface_mx.formats.verification_set import read_bin
from insightface_mx.photos.decode import decode_record

_AT_ONCE = 256  # records that a thread reads before it hands them over


class Problem(NamedTuple):
    """A line that says what is wrong, and the records of the images that a repaired set does without."""

    text: str
    images: tuple[int, ...] = ()


class Record(NamedTuple):
    """What a record holds: its (first) label, and of an image the size (height, width) and a hash of its pixels."""

    label: float
    label_count: int
    size: Size | None = None
    digest: bytes = b""
    problem: str = ""  # why it is damaged, or holds neither an image nor labels of the identity table


@dataclasses.dataclass(frozen=True)
class FoundSet:
    """A training set as far as it can be read.

    Attributes:
        folder: Where it is.
        file: Its records.
        table: Its identity table, None where there is none or it cannot be read.
        table_problem: Why it cannot be read, or ''.
        declared: Its classes and size, None where they cannot be read.
        records: Index -> what the record holds.
        problems: Of reading it.
    """

    folder: str
    file: FaceRecords
    table: IdentityTable | None
    table_problem: str
    declared: Property | None
    records: dict[int, Record]
    problems: list[Problem]

    @functools.cached_property
    def images(self) -> dict[int, Record]:
        """The records that hold an image."""
        return {index: record for index, record in self.records.items() if record.size}

    @functools.cached_property
    def classes(self) -> dict[int, int]:
        """The label of every image whose label can be a class."""
        labels = np.array([record.label for record in self.images.values()])
        good = is_class(labels).tolist()
        return {index: int(image.label) for (index, image), is_good in zip(self.images.items(), good) if is_good}

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
        file = FaceRecords(path)
    except UserError as error:
        file = FaceRecords(path, find_offsets(path))
        text = f"{path}: {len(file)} records were found without the index, and numbered from 0"
        problems += [Problem(str(error)), Problem(text)]
    table, table_problem = None, ""
    try:
        table = read_table(file)
    except UserError as error:
        table_problem = str(error)
    places, firsts = np.unique(file.offsets(file.record_ids), return_index=True)
    if len(places) < len(file):
        text = f"{file.path_idx}: {len(file) - len(places)} records are at the same place of the file as others"
        problems.append(Problem(text))
    indexes = file.record_ids[np.sort(firsts)]
    records = _read_records(file, indexes, set(table.record_ids.tolist()) if table else set())
    return FoundSet(folder, file, table, table_problem, declared, records, problems)


def _read_records(file: FaceRecords, indexes: np.ndarray, table_records: set[int]) -> dict[int, Record]:
    """Read records; table_records: those that are no images, whatever they hold."""

    def inspect(part: np.ndarray) -> list[tuple[int, Record]]:
        return [(index, _inspect(file, index, index in table_records)) for index in part.tolist()]

    records: dict[int, Record] = {}
    parts = [indexes[start : start + _AT_ONCE] for start in range(0, len(indexes), _AT_ONCE)]
    with ThreadPoolExecutor(cpu_count()) as pool, tqdm(
        total=len(indexes), unit="rec", desc="reading", disable=None
    ) as progress:
        for found in pool.map(inspect, parts):
            records.update(found)
            progress.update(len(found))
    return records


def find_problems(found: FoundSet, verification: Sequence[str] = ()) -> list[Problem]:
    """Return everything that is wrong with a set.

    Args:
        found: The set.
        verification: Paths of verification sets, besides those in its folder, that must not hold its images.
    """
    problems = [*found.problems]
    for check in (check_records, check_table, check_classes, check_copies):
        problems += check(found)
    for path in [*verification_sets(found.folder), *verification]:
        problems += check_overlap(found, path)
    return problems


def good_groups(found: FoundSet, problems: Sequence[Problem]) -> list[np.ndarray]:
    """Return for every identity that has some the records of its images which no problem names."""
    bad = {index for problem in problems for index in problem.images}
    good = {index: label for index, label in found.classes.items() if index not in bad}
    return group_by_label(np.array([*good], np.int64), np.array([*good.values()], np.int64))[1]


def check_records(found: FoundSet) -> list[Problem]:
    """Find damaged records, labels that can be no class, and images of another size than the set's."""
    problems = []
    for index, record in found.records.items():
        if record.problem:
            problems.append(Problem(record.problem, (index,)))
        if not record.size:
            continue
        if index not in found.classes:
            problems.append(Problem(f"record {index}: its label {record.label:g} is no class", (index,)))
        if found.declared and record.size != found.image_size:
            (height, width), (all_height, all_width) = record.size, found.image_size
            text = (
                f"record {index}: an image of {height},{width} pixels, property says {all_height},{all_width} "
                "(height,width); training scales it"
            )
            problems.append(Problem(text))
    return problems


def check_table(found: FoundSet) -> list[Problem]:
    """Find out whether the identity table says the same as the images' labels, which count; no image is bad for it."""
    if found.table_problem:
        return [Problem(found.table_problem)]
    table_records = set(found.table.record_ids.tolist()) if found.table else set()
    strays = [
        index
        for index, record in found.records.items()
        if record.label_count > 1 and not (record.size or record.problem or index in table_records)
    ]
    problems = []
    if strays:
        text = f"record {strays[0]} has no image, and the identity table does not name it ({len(strays)} such records)"
        problems.append(Problem(text))
    if found.table is None:
        return problems
    if found.table.bad:
        return [*problems, Problem(f"{found.table.problem} ({found.table.bad} are bad)")]
    labels = found.classes
    images = group_by_label(np.array([*labels], np.int64), np.array([*labels.values()], np.int64))[1]
    difference = disagreement(found.table, images)
    return [*problems, Problem(f"{difference}; the labels count")] if difference else problems


def check_classes(found: FoundSet) -> list[Problem]:
    """Find out whether the images' labels are 0, 1, 2 ... up to the number of classes in the property."""
    labels = sorted(set(found.classes.values()))
    if not labels:
        return []
    classes = found.declared.num_classes if found.declared else len(labels)
    if labels[-1] >= max(classes, len(labels)):
        text = (
            f"the labels of {len(labels)} identities go from {labels[0]} to {labels[-1]}, not from 0 to {classes} - 1"
        )
        return [Problem(text)]
    if labels[-1] >= len(labels):
        first = next(place for place, label in enumerate(labels) if label != place)
        return [Problem(f"{classes - len(labels)} of {classes} classes have no image; the first is {first}")]
    if classes != len(labels):
        return [Problem(f"property says {classes} classes, the records hold {len(labels)}")]
    return []


def check_copies(found: FoundSet) -> list[Problem]:
    """Find images that the set holds twice; those of two identities are both bad."""
    problems = []
    first_of: dict[bytes, int] = {}
    images = found.images
    for index, image in images.items():
        first = first_of.setdefault(image.digest, index)
        if first == index:
            continue
        if image.label == images[first].label:
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


def _inspect(file: FaceRecords, index: int, in_table: bool) -> Record:
    try:
        labels, encoded = file.read(index)
    except UserError as error:
        return Record(float("nan"), 0, problem=str(error))
    label = float(labels[0])  # not the array, which may hold the complete record
    if in_table or not encoded:
        problem = "" if len(labels) > 1 else f"record {index}: neither an image nor an identity's record"
        return Record(label, len(labels), problem=problem)
    image = decode_record(encoded)
    if image is None:
        return Record(label, len(labels), problem=f"record {index}: an image that cannot be decoded")
    return Record(label, len(labels), (image.shape[0], image.shape[1]), _digest(image))


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(image.tobytes() + repr(image.shape).encode(), digest_size=16).digest()
