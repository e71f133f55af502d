"""Search probes in a gallery and among any number of distractors, block by block, with the best candidates of each."""

from __future__ import annotations

from typing import Iterable, NamedTuple, Sequence

import numpy as np

from insightface_mx.eval.curves import check_rates
from insightface_mx.eval.identification import Identification, Searches

_BLOCK = 1 << 10  # distractors that are compared at once
_CELLS = 1 << 24  # similarities to a gallery that are in memory at once


class Candidates(NamedTuple):
    """What searches find, an entry for each probe.

    Attributes:
        rank: (p,) of the mate; 0 where there is none.
        mate: (p,) similarity of the mate, -inf where there is none.
        mate_place: (p,) index of that face in the gallery, -1 where there is none.
        stranger: (p,) the highest similarity of anybody else.
        places: (p, n) the faces with the highest similarities, best first: indices in the gallery, and from its end
            on in the distractors; -1 where there are fewer. Of a subject only the best face.
        similarities: (p, n) theirs.
    """

    rank: np.ndarray
    mate: np.ndarray
    mate_place: np.ndarray
    stranger: np.ndarray
    places: np.ndarray
    similarities: np.ndarray

    @property
    def searches(self) -> Searches:
        """What rates follow from."""
        return Searches(self.rank, self.mate, self.stranger)

    def rates(self, fpirs: Sequence[float], ranks: Sequence[int]) -> Identification:
        """Return the rates of the searches."""
        return self.searches.rates(check_rates(fpirs), np.asarray(ranks))


def find_candidates(
    probes: np.ndarray,
    subjects: Sequence[str],
    gallery: np.ndarray,
    gallery_subjects: Sequence[str],
    distractors: Iterable[np.ndarray] = (),
    any_mate: bool = False,
    count: int = 3,
) -> Candidates:
    """Search every probe in a gallery and among distractors, whose similarities are never in memory all at once.

    Ties go to the mate.

    Args:
        probes: (p, d) unit embeddings.
        subjects: The probes' subjects.
        gallery: (g, d) unit embeddings.
        gallery_subjects: Theirs; several images of a subject count by their best.
        distractors: Blocks (n, d) of unit embeddings of others, each somebody else.
        any_mate: Count every image before the best mate, not every subject: TinyFace's rule.
        count: Candidates to return.
    """
    found = _search_gallery(probes, np.asarray(subjects), gallery, np.asarray(gallery_subjects), any_mate, count)
    start = len(gallery)
    for array in distractors:
        for first in range(0, len(array), _BLOCK):
            block = array[first : first + _BLOCK]
            similarity = probes @ block.T
            highest = similarity.max(axis=1)
            np.maximum(found.stranger, highest, out=found.stranger)
            before = np.flatnonzero((found.rank > 0) & (highest > found.mate))
            found.rank[before] += (similarity[before] > found.mate[before, None]).sum(axis=1)
            better = np.flatnonzero(highest > found.similarities[:, -1])
            values = np.concatenate((found.similarities[better], similarity[better]), axis=1)
            places = np.broadcast_to(np.arange(start, start + len(block)), (len(better), len(block)))
            places = np.concatenate((found.places[better], places), axis=1)
            order = _highest(values, count)
            found.similarities[better] = np.take_along_axis(values, order, axis=1)
            found.places[better] = np.take_along_axis(places, order, axis=1)
            start += len(block)
    return found


def _search_gallery(
    probes: np.ndarray, subjects: np.ndarray, gallery: np.ndarray, owners: np.ndarray, any_mate: bool, count: int
) -> Candidates:
    """Return what searches in the gallery alone find."""
    names, owner = np.unique(owners, return_inverse=True)
    owner = owner.reshape(-1)
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(len(names) + 1))
    own = np.searchsorted(names, subjects).clip(max=len(names) - 1)
    own[names[own] != subjects] = -1
    found = Candidates(
        np.zeros(len(probes), np.int64),
        np.full(len(probes), -np.inf, probes.dtype),
        np.full(len(probes), -1),
        np.full(len(probes), -np.inf, probes.dtype),
        np.full((len(probes), count), -1),
        np.full((len(probes), count), -np.inf, probes.dtype),
    )
    step = max(1, _CELLS // len(gallery))
    for first in range(0, len(probes), step):
        part = slice(first, min(first + step, len(probes)))
        similarity = probes[part] @ gallery[order].T
        best = np.maximum.reduceat(similarity, starts[:-1], axis=1)
        mated = np.flatnonzero(own[part] >= 0)
        mates = best[mated, own[part][mated]]
        rivals = similarity if any_mate else best
        found.mate[part][mated] = mates
        found.rank[part][mated] = 1 + (rivals[mated] > mates[:, None]).sum(axis=1)
        chosen = _highest(best, min(count, len(names)))
        found.similarities[part, : chosen.shape[1]] = np.take_along_axis(best, chosen, axis=1)
        for row, places in enumerate(chosen):
            for column, subject in enumerate(places):
                found.places[first + row, column] = _place(similarity[row], order, starts, subject)
            if own[first + row] >= 0:
                found.mate_place[first + row] = _place(similarity[row], order, starts, own[first + row])
        best[mated, own[part][mated]] = -np.inf
        found.stranger[part] = best.max(axis=1)
    return found


def _place(similarity: np.ndarray, order: np.ndarray, starts: np.ndarray, subject: int) -> int:
    """Return the gallery's index of the best face of a subject, whose faces follow each other in `similarity`."""
    start = starts[subject]
    return order[start + int(np.argmax(similarity[start : starts[subject + 1]]))]


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the `count` highest values of each row, highest first; of equal ones the first."""
    some = np.argpartition(-values, min(count, values.shape[1]) - 1, axis=1)[:, :count]
    keys = np.take_along_axis(values, some, axis=1)
    return np.take_along_axis(some, np.lexsort((some, -keys), axis=1), axis=1)
