"""Which records of a .rec file are images, and whose: the same for training sets, lists and damaged ones.

An image is a record with a payload, but for those of the identity table. Its label, or the first value of its label
array, says whose it is; equal labels make an identity, whatever the table says.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import NamedTuple, Sequence

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.base.limits import MAX_CLASSES
from insightface_mx.files.cache import cached
from insightface_mx.formats.identity_table import MENDING, IdentityTable, read_table
from insightface_mx.formats.recordio import RecordFile

MAX_BAD_FRACTION = 0.01  # of a set's images or identities; a set with more damaged ones is refused
_NO_IMAGE, _UNUSABLE = -1, -2  # in place of a class


class Identities(NamedTuple):
    """The images of a set by identity.

    Attributes:
        labels: What the images of every identity have as label, int64, rising.
        images: For every identity the record ids of its images, int64, in the order of the index.
        unusable: The ids of records that should be images of somebody and are not.
    """

    labels: np.ndarray
    images: list[np.ndarray]
    unusable: np.ndarray


class FaceRecords(RecordFile):
    """The records of a training set, or of a plain list of images.

    Raises:
        UserError: As RecordFile.
    """

    @functools.cached_property
    def table(self) -> IdentityTable | None:
        """The identity table; None if there is none. Raises UserError where record 0 names no records of the file."""
        table = read_table(self)
        if table and 0 < table.bad <= MAX_BAD_FRACTION * table.size:
            logging.warning("%s (%d are bad); the images' labels count; %s", table.problem, table.bad, MENDING)
        return table

    @functools.cached_property
    def identities(self) -> Identities:
        """The images by identity. A log line says where the table does not agree, or what cannot be used.

        Raises:
            UserError: More than 1 % of the table is damaged.
        """
        self._check_table(MAX_BAD_FRACTION)
        classes = self._classes
        labels, images = group_by_label(self.record_ids[classes >= 0], classes[classes >= 0])
        unusable = self.record_ids[classes == _UNUSABLE]
        if len(unusable):
            first = self.problem(int(unusable[0]))
            logging.warning("%d records are nobody's image and left out; the first: %s", len(unusable), first)
        if self.table and not self.table.bad:
            difference = disagreement(self.table, images)
            if difference:
                logging.warning("%s: %s; the images' labels count; %s", self.path, difference, MENDING)
        return Identities(labels, images, unusable)

    def image_ids(self, images_filter: int = 0, strict: bool = False) -> np.ndarray:
        """Return the record ids of the images, int64, in the order of the index.

        Args:
            images_filter: Leave out identities with fewer images.
            strict: Refuse any damage of the table; otherwise 1 % of it may be damaged.

        Raises:
            UserError: The table is damaged, or no identity is left.
        """
        self._check_table(0 if strict else MAX_BAD_FRACTION)
        if images_filter > 1:
            counts = np.bincount(self._classes[self._classes >= 0], minlength=1)
            kept = (self._classes >= 0) & (counts[np.maximum(self._classes, 0)] >= images_filter)
            if not kept.any():
                raise UserError(f"{self.path}: no identity has {images_filter} images; lower --images-filter")
            return self.record_ids[kept]
        if self.table is None and self._begins_and_ends_with_images():
            return self.record_ids
        if self.table and self.table.covers(self.record_ids):
            return self.record_ids[1 : len(self) + 1 - len(self.table.record_ids)]
        return self.record_ids[self._classes != _NO_IMAGE]

    def problem(self, record_id: int) -> str:
        """Say why nobody's image is in a record; '' if one is, as far as it is known without decoding it."""
        try:
            labels, payload = self.read(record_id)
        except UserError as error:
            return str(error)
        if not payload:
            return f"{self.path}: record {record_id} is neither an image nor an identity's record"
        if not is_class(labels[:1])[0]:
            return f"{self.path}: record {record_id} has the label {labels[0]:g}, which is no class"
        return ""

    @functools.cached_property
    def _classes(self) -> np.ndarray:
        """For every record, in the order of the index, the class of an image, _NO_IMAGE or _UNUSABLE; int32."""
        path = f"{os.path.splitext(self.path)[0]}.table.npz"
        sources = [self.path, self.path_idx]
        found = cached(path, sources, self.path_idx, {"classes": np.int32}, lambda: {"classes": self._read_classes()})
        if len(found["classes"]) != len(self):
            return self._read_classes()
        return found["classes"]

    def _read_classes(self) -> np.ndarray:
        heads = self.heads(self.record_ids)
        labels = heads.labels[:, 0]
        usable = heads.valid & heads.has_payload & is_class(labels)
        classes = np.where(usable, np.where(usable, labels, 0).astype(np.int32), np.int32(_UNUSABLE))
        of_a_table = heads.valid & ~heads.has_payload & ~np.isnan(heads.labels[:, 1])  # even if record 0 is lost
        classes[of_a_table] = _NO_IMAGE
        if self.table:
            classes[np.isin(self.record_ids, self.table.record_ids)] = _NO_IMAGE
        return classes

    def _begins_and_ends_with_images(self) -> bool:
        """Return whether this looks like a plain list; damage of record 0 could hide a table."""
        return bool(self.heads(self.record_ids[[0, -1]]).has_payload.all())

    def _check_table(self, most_bad: float) -> None:
        """Check that at most a fraction `most_bad` of the table is damaged. Raises UserError."""
        if self.table and self.table.bad > most_bad * self.table.size:
            raise UserError(f"{self.table.problem} ({self.table.bad} are bad); {MENDING}")


def is_class(labels: np.ndarray) -> np.ndarray:
    """Return which labels are whole numbers that can be a class."""
    return (labels >= 0) & (labels < MAX_CLASSES) & (labels == np.floor(labels))


def group_by_label(record_ids: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the different labels, rising, int64, and for each its record ids, int64 arrays in the order given.

    Args:
        record_ids: int64.
        labels: The label of each, a class.
    """
    if not len(record_ids):
        return np.empty(0, np.int64), []
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    ids, bounds = record_ids[order], [*starts.tolist(), len(order)]
    groups = [ids[start:end] for start, end in zip(bounds, bounds[1:])]  # np.split takes ten times as long
    return labels[order[starts]].astype(np.int64), groups


def disagreement(table: IdentityTable, images: Sequence[np.ndarray]) -> str:
    """Say where the ranges of a table are not the identities, each with all its images; '' if they are.

    Args:
        table: The table, of which nothing is bad.
        images: The record ids of every identity's images, by their labels.
    """
    if not images:
        return ""
    ids = np.concatenate(images)
    order = np.argsort(ids, kind="stable")
    ids, identities = ids[order], np.repeat(np.arange(len(images)), [len(some) for some in images])[order]
    firsts = np.flatnonzero(np.diff(identities, prepend=-1))  # of images in a row that have the same label
    lasts = np.append(firsts[1:], len(ids))
    places = np.searchsorted(ids, table.ranges)
    filled = np.flatnonzero((places[:, 0] < places[:, 1]) | table.slack.any(axis=1))  # rounding may empty a range
    filled = filled[np.argsort(table.ranges[filled, 0], kind="stable")]
    slack, ranges = table.slack[filled], table.ranges[filled]
    if len(filled) == len(firsts) == len(images):
        expected = np.stack([firsts, lasts], axis=1)
        low, high = np.searchsorted(ids, ranges - slack), np.searchsorted(ids, ranges + slack)
        if ((low <= expected) & (expected <= high)).all():
            return ""
    within = np.searchsorted(places[filled, 0], firsts)  # ranges that begin before, none of which has ended
    inside = firsts[(within > 0) & (np.append(0, places[filled, 1])[within] > firsts)]
    if len(inside) and not slack.any():
        return f"the identity table has record {ids[inside[0]]} in a range of images that have another label"
    return f"the identity table has {len(filled)} ranges of images, their labels make {len(images)} identities"
