"""Identify people: search probes in a gallery, open set and closed set, and rank mates among distractors.

A probe is mated if the gallery holds its subject. NIST's FRTE 1:N counts a search as a success if the mate comes first
and above the threshold (TPIR, 1 - FNIR), and as a false alarm if anybody comes above the threshold for a probe without
mate (FPIR).
"""

from __future__ import annotations

from typing import Callable, Iterator, NamedTuple, Sequence

import numpy as np

from insightface_mx.embedding.vectors import pair_products
from insightface_mx.eval.curves import check_rates, strict_thresholds

TIES = FOR, AGAINST = ("for", "against")  # the mate, where another subject has the same similarity
_BLOCK = 1 << 10  # distractors that are compared at once


class Identification(NamedTuple):
    """What `search` returns: arrays in the order that was asked for. NaN where no probe can tell.

    Attributes:
        rank_rates: Fraction of mated probes whose mate is among the first k subjects, for each k.
        tpir: Fraction of mated probes whose mate is first and above the threshold, for each FPIR.
        thresholds: Similarity above which a candidate counts, for each FPIR; -inf where every candidate does.
        fpir_reached: Fraction of probes without mate for which some candidate counts.
    """

    rank_rates: np.ndarray
    tpir: np.ndarray
    thresholds: np.ndarray
    fpir_reached: np.ndarray


def search(
    similarity: np.ndarray,
    probe_subjects: Sequence[int] | Sequence[str] | np.ndarray,
    gallery_subjects: Sequence[int] | Sequence[str] | np.ndarray,
    fpirs: Sequence[float] | float,
    ranks: Sequence[int] | int,
    ties: str = FOR,
) -> Identification:
    """Search every probe in the gallery.

    Several images of a subject in the gallery count by their best.

    Args:
        similarity: (p, g) of each probe to each image of the gallery; larger is more alike.
        probe_subjects: (p,) subject of each probe, numbers or names.
        gallery_subjects: (g,) subject of each image of the gallery.
        fpirs: False positive identification rates, 0 to 1. Of n probes without mate at most floor(n x fpir) raise a
            false alarm.
        ranks: The ranks k, 1 and up.
        ties: "for": the mate comes before other subjects of the same similarity; "against": behind them.

    Raises:
        ValueError: The shapes do not fit, a similarity is NaN, the gallery is empty, or an argument is out of range.
    """
    similarity = np.asarray(similarity)
    probes, gallery = np.asarray(probe_subjects), np.asarray(gallery_subjects)
    targets, wanted = check_rates(fpirs), np.atleast_1d(np.asarray(ranks, int))
    if similarity.shape != (len(probes), len(gallery)) or not len(gallery):
        raise ValueError(
            f"similarity has the shape {similarity.shape} for {len(probes)} probes and a gallery of {len(gallery)}"
        )
    if np.isnan(similarity).any():
        raise ValueError(f"the similarity of probe {int(np.argmax(np.isnan(similarity).any(axis=1)))} is NaN")
    if ties not in TIES:
        raise ValueError(f"ties '{ties}' does not exist: choose one of {', '.join(TIES)}")
    if (wanted < 1).any():
        raise ValueError(f"a rank is 1 or more, not {ranks}")

    return search_each(similarity, probes, gallery, ties).rates(targets, wanted)


def search_each(similarity: np.ndarray, probes: np.ndarray, gallery: np.ndarray, ties: str = FOR) -> Searches:
    """Search every probe in the gallery, and return what each search finds; arguments as for `search`."""
    subjects, best = _best_of_subjects(similarity, gallery)
    place = np.searchsorted(subjects, probes).clip(max=len(subjects) - 1)
    mated = np.flatnonzero(subjects[place] == probes)
    found = Searches(np.zeros(len(probes), int), np.full(len(probes), -np.inf), best.max(axis=1))
    mate = best[mated, place[mated]]
    before = best[mated] > mate[:, None] if ties == FOR else best[mated] >= mate[:, None]
    found.rank[mated] = before.sum(axis=1) + (ties == FOR)  # `>=` counts the mate itself
    found.mate[mated] = mate
    return found


class Searches(NamedTuple):
    """What each search finds.

    Attributes:
        rank: (p,) of the mate; 0 where there is none.
        mate: (p,) similarity of the mate, -inf where there is none.
        best: (p,) the highest similarity to anybody; used of searches without a mate.
    """

    rank: np.ndarray
    mate: np.ndarray
    best: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """Scores, (p,), whose TAR at FAR is TPIR at FPIR: the mate's, if it is first; without mate, the highest."""
        return np.where(self.rank == 0, self.best, np.where(self.rank == 1, self.mate, -np.inf))

    def rates(self, fpirs: np.ndarray, ranks: np.ndarray) -> Identification:
        """Return the rates at false positive identification rates, and rank rates of the ranks k."""
        mated, scores = self.rank > 0, self.scores
        if mated.all():
            tpir, thresholds, reached = np.full((3, len(fpirs)), np.nan)
        else:
            thresholds = strict_thresholds(scores[~mated], fpirs)
            tpir, reached = (_rates(scores[kind, None] > thresholds) for kind in (mated, ~mated))
        return Identification(_rates(self.rank[mated, None] <= ranks), tpir, thresholds, reached)


def ordered_pairs(subjects: Sequence[int] | Sequence[str] | np.ndarray) -> np.ndarray:
    """Return (n, 2) indices of all ordered pairs of two probes of one subject, by first, then by second probe."""
    subjects = np.asarray(subjects)
    order = np.argsort(subjects, kind="stable")
    groups = np.split(order, np.flatnonzero(subjects[order][1:] != subjects[order][:-1]) + 1)
    pairs = [np.stack(np.meshgrid(group, group, indexing="ij"), axis=-1).reshape(-1, 2) for group in groups]
    joined = np.concatenate(pairs)
    joined = joined[joined[:, 0] != joined[:, 1]]
    return joined[np.lexsort((joined[:, 1], joined[:, 0]))]


def distractor_ranks(
    probes: np.ndarray,
    subjects: Sequence[int] | Sequence[str] | np.ndarray,
    distractors: np.ndarray | Iterator[np.ndarray],
    watch: Callable[[np.ndarray], None] | None = None,
) -> np.ndarray:
    """Return the rank of each probe's mates, one by one, in a gallery of the mate and all distractors.

    This is MegaFace's challenge 1: every ordered pair (probe, mate) of one subject is a trial. A distractor of the same
    similarity does not come before the mate.

    Args:
        probes: (p, d) unit embeddings.
        subjects: (p,) subject of each probe.
        distractors: (n, d) unit embeddings, or an iterator of such blocks where they do not fit in memory.
        watch: Is given the similarities of all probes to some distractors, (p, k), k by k.

    Returns:
        (pairs,) int64, 1 + the number of distractors that are more alike than the mate, in the order of
        `ordered_pairs`.

    Raises:
        ValueError: The shapes do not fit, or an embedding is not finite.
    """
    probes = np.asarray(probes)
    if probes.ndim != 2 or len(probes) != len(subjects):
        raise ValueError(f"probes have the shape {probes.shape} for {len(subjects)} subjects")
    _check_finite(probes, "probe")
    pairs = ordered_pairs(subjects)
    ranks = np.ones(len(pairs), np.int64)
    if not len(pairs):
        return ranks
    mates = pair_products(probes, pairs[:, 0], pairs[:, 1])
    with_mates, starts, counts = np.unique(pairs[:, 0], return_index=True, return_counts=True)
    order = np.lexsort((mates, pairs[:, 0]))  # each probe's mates from the least to the most alike
    lowest = mates[order][starts]
    all_have_mates = len(with_mates) == len(probes)
    rows = probes if watch and not all_have_mates else np.ascontiguousarray(probes[with_mates])
    offsets = starts + np.arange(len(starts))
    above = np.zeros(len(pairs) + len(starts), np.int64)  # of each probe: distractors above exactly k of its mates
    keys = _Keys(mates[order], counts)
    buffer = np.empty((len(rows), _BLOCK), np.result_type(rows, np.float32))
    for block in _blocks(distractors, probes.shape[1]):
        similarity = _product(rows, block, buffer)
        if watch:
            watch(similarity)
            similarity = similarity if all_have_mates else similarity[with_mates]
        chosen = np.flatnonzero(similarity.max(axis=1) > lowest)  # few: the others' mates are all above
        row, column = np.nonzero(similarity[chosen] > lowest[chosen, None])
        row = chosen[row]
        passed = keys.below(row, similarity[row, column]) - starts[row]
        above += np.bincount(offsets[row] + passed, minlength=len(above))
    for probe, (start, count) in enumerate(zip(starts, counts)):
        exactly = above[offsets[probe] : offsets[probe] + count + 1]
        ranks[order[start : start + count]] += np.cumsum(exactly[::-1])[::-1][1:]
    return ranks


class _Keys:
    """Finds places in many sorted lists at once: in one list, whose numbers rise from one of the lists to the next."""

    def __init__(self, values: np.ndarray, counts: np.ndarray) -> None:
        """Take the lists, one after the other, each rising, and their lengths."""
        self._least, self._most = float(values.min()), float(values.max())
        self._step = self._most - self._least + 2
        lists = np.repeat(np.arange(len(counts)), counts)
        self._keys = lists * self._step + (np.asarray(values, float) - self._least)

    def below(self, lists: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return how many numbers are in the lists before `lists`, and in these strictly below `values`."""
        inside = np.clip(np.asarray(values, float), self._least, self._most + 1)
        return np.searchsorted(self._keys, lists * self._step + (inside - self._least))


def _product(rows: np.ndarray, block: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    """Return rows @ block.T, in the buffer where it has its type: new memory for each block costs time."""
    if block.dtype != rows.dtype or buffer.dtype != rows.dtype or len(block) != buffer.shape[1]:
        return rows @ block.T
    return np.dot(rows, block.T, out=buffer)


def _best_of_subjects(similarity: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gallery's subjects, sorted, and (p, subjects) the similarity to the best image of each."""
    subjects, first = np.unique(gallery, return_index=True)
    if len(subjects) == len(gallery):
        return subjects, similarity[:, first]
    order = np.argsort(gallery, kind="stable")
    starts = np.flatnonzero(np.append(True, gallery[order][1:] != gallery[order][:-1]))
    return subjects, np.maximum.reduceat(similarity[:, order], starts, axis=1)


def _rates(hits: np.ndarray) -> np.ndarray:
    """Return the mean of each column, NaN where there is no row."""
    return hits.mean(axis=0) if len(hits) else np.full(hits.shape[1], np.nan)


def _blocks(distractors: np.ndarray | Iterator[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """Yield the distractors in small blocks, checked."""
    arrays = [distractors] if isinstance(distractors, np.ndarray) else distractors
    seen = 0
    for array in arrays:
        if array.ndim != 2 or array.shape[1] != length:
            raise ValueError(f"distractors have the shape {array.shape}, the probes {length} numbers")
        for start in range(0, len(array), _BLOCK):
            block = array[start : start + _BLOCK]
            _check_finite(block, "distractor", seen + start)
            yield block
        seen += len(array)


def _check_finite(rows: np.ndarray, kind: str, start: int = 0) -> None:
    """Raise ValueError if a row holds NaN or infinity."""
    if not np.isfinite(rows).all():
        raise ValueError(f"{kind} {start + int(np.argmax(~np.isfinite(rows).all(axis=1)))} is not finite")
