"""The identity table of a training set: which images follow each other as one identity, as the records say.

Record 0 has a label array of two, the id of the first identity record and of the last + 1. The label arrays of the
identity records in the same way say where images of an identity are. Only the original's loader needs the table: whose
an image is, its own label says. The table may have several ranges of one identity, in any order.

Labels are float32, so record ids above 2^24 may be rounded there.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.formats.record_heads import Heads
from insightface_mx.formats.recordio import LARGEST_EXACT, RecordFile

MENDING = "write the set again by the labels of its images: insightface-check-set FOLDER --repair NEW"


@dataclasses.dataclass(frozen=True)
class IdentityTable:
    """The identity table as it is stored.

    Attributes:
        record_ids: Of record 0 and the identity records, rising; none of them is an image. int64.
        ranges: The first image record of every range and the last + 1, (n, 2) int64.
        slack: How far rounding may have moved them, (n, 2) int64.
        bad: How many identity records are damaged, name records outside the file, or share images with others.
        problem: What is wrong with the first of them; '' if they are all good.
    """

    record_ids: np.ndarray
    ranges: np.ndarray
    slack: np.ndarray
    bad: int
    problem: str

    @property
    def size(self) -> int:
        """Number of identity records, good or bad."""
        return len(self.ranges) + self.bad

    def covers(self, record_ids: np.ndarray) -> bool:
        """Return whether the table is the last in a file of these records and names each of the others once."""
        count, first = len(record_ids), len(record_ids) - len(self.record_ids) + 1
        if self.bad or not np.array_equal(self.record_ids, [0, *range(first, count)]):
            return False
        if not np.array_equal(record_ids, np.arange(count)):
            return False
        order = np.argsort(self.ranges[:, 0], kind="stable")
        starts, ends = self.ranges[order].T
        slack = self.slack[order].max(axis=1, initial=0)
        gaps = np.append(starts, first) - np.insert(ends, 0, 1)
        return bool((np.abs(gaps) <= np.append(slack, slack[-1:].max(initial=0))).all())


def read_table(records: RecordFile) -> IdentityTable | None:
    """Read the identity table of a set; None for a plain list of images, or where record 0 is damaged.

    Record 0 with a payload is an image, unless the records that it names are without.

    Raises:
        UserError: Record 0 names records that are not in the file.
    """
    head = records.heads(np.array([0]))
    if not head.valid[0] or np.isnan(head.labels[0, 1]):
        return None
    first, last = head.labels[0].astype(np.float64)
    slack = _slack(head.labels[0])
    ids = np.sort(records.record_ids)
    end = int(ids[-1]) + 1
    named = ids[:0]
    if 0 < first <= last <= end + slack[1]:
        named = ids[np.searchsorted(ids, max(first - slack[0], 1)) : np.searchsorted(ids, last + slack[1])]
    heads = records.heads(named)
    if head.has_payload[0] and (not len(named) or heads.has_payload.any() or np.isnan(heads.labels[:, 1]).any()):
        return None
    if slack.any():  # images may stand before the identity records, and nothing after them
        kept = heads.valid & ~heads.has_payload & ~np.isnan(heads.labels[:, 1])
        named, heads = named[kept], Heads(*(column[kept] for column in heads))
    if not len(named):
        raise UserError(
            f"{records.path}: record 0 names the records {first:.0f} to {last:.0f} - 1 as those of the identities, but "
            f"they are not in the file; {MENDING}"
        )
    missing = 0 if slack.any() else int(last - first) - len(named)
    return _make_table(records.path, named, heads, end, missing)


def _make_table(path: str, named: np.ndarray, heads: Heads, end: int, missing: int) -> IdentityTable:
    """Make the table from the heads of the records that record 0 names.

    Args:
        path: The .rec file.
        named: The ids of these records.
        heads: Their heads.
        end: The last record id + 1.
        missing: How many more of them record 0 names.
    """
    labels, slack = np.nan_to_num(heads.labels.astype(np.float64), nan=-1.0), _slack(heads.labels)
    starts, ends = labels.T
    outside = (starts < 1) | (starts > ends) | (ends - slack[:, 1] > end)
    image = heads.has_payload & (outside | (starts == ends))  # named by mistake
    good = heads.valid & ~outside & ~image
    ranges = np.where(good[:, np.newaxis], labels, 0).astype(np.int64)
    order = np.argsort(ranges[:, 0], kind="stable")
    order = order[ranges[order, 0] < ranges[order, 1]]
    reached = np.maximum.accumulate(np.append(0, ranges[order, 1]))[:-1]
    shared = np.zeros(len(named), bool)
    shared[order] = ranges[order, 0] + slack[order].sum(axis=1) < reached
    bad = np.flatnonzero(~good | shared)
    problem = f"{path}: record 0 names {missing} identity records that are not in the index" if missing else ""
    if len(bad):
        which = "images that another one also names" if shared[bad[0]] else "no images of the file"
        problem = f"{path}: record {named[bad[0]]} of the identity table names {which}"
    record_ids = np.append(0, named[~image | ~heads.valid])
    return IdentityTable(record_ids, ranges[good], slack[good], len(bad) + missing, problem)


def _slack(labels: np.ndarray) -> np.ndarray:
    """Return how far rounding to float32 may have moved whole numbers, int64."""
    large = np.abs(np.nan_to_num(labels, posinf=0, neginf=0)) >= LARGEST_EXACT
    spacing = np.spacing(np.clip(np.nan_to_num(np.abs(labels)), 0, 2.0**60).astype(np.float32))
    return np.where(large, spacing, 0).astype(np.int64)
