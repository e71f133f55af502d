"""Say how certain the rates of searches are, by drawing the subjects of the probes with replacement."""

from __future__ import annotations

from typing import Callable, NamedTuple, Sequence

import numpy as np

from insightface_mx.eval.identification import Searches
from insightface_mx.eval.intervals import BY_PEOPLE, Interval, by_people, rate_intervals, weighted_tar, widened


class SearchIntervals(NamedTuple):
    """The intervals of rank rates and TPIRs; None where there is no rate.

    Attributes:
        ranks: Of the rank rates; `errors` are the searches whose mate comes later.
        tpir: Of the TPIRs; `errors` are the false alarms.
    """

    ranks: list[Interval | None]
    tpir: list[Interval | None]


def search_intervals(
    found: Sequence[Searches],
    subjects: Sequence[int] | Sequence[str] | np.ndarray,
    fpirs: Sequence[float],
    ranks: Sequence[int],
) -> SearchIntervals:
    """Return 95 % intervals of the rates of searches: subjects are drawn with replacement, galleries stay as they are.

    Args:
        found: The searches for the same probes in each gallery; rank rates are over all of them, a TPIR is the mean of
            the galleries'.
        subjects: (p,) subject of each probe.
        fpirs: The false positive identification rates.
        ranks: The ranks k.
    """
    names = np.asarray(subjects)
    people = np.stack((names, names), axis=1)
    mated = np.concatenate([each.rank for each in found]) > 0
    if not mated.any():
        return SearchIntervals([None] * len(ranks), [None] * len(fpirs))
    hits = np.concatenate([each.rank for each in found])[mated, None] <= np.asarray(ranks)
    of_ranks = rate_intervals(hits, np.concatenate([people] * len(found))[mated])
    if any(each.rank.all() or not each.rank.any() for each in found):
        return SearchIntervals([*of_ranks], [None] * len(fpirs))
    targets = np.asarray(fpirs, float)
    rates = [_weighted_tpir(each, targets) for each in found]
    ends = by_people(lambda weights: np.mean([rate(weights) for rate in rates], axis=0), people)
    alarms = [
        sum(np.count_nonzero(each.best[each.rank == 0] > threshold) for each, threshold in zip(found, thresholds))
        for thresholds in zip(*(each.rates(targets, np.array([1])).thresholds for each in found))
    ]
    with_mate = people[np.any([each.rank > 0 for each in found], axis=0)]
    of_tpir = [
        Interval(*widened(low, high, with_mate), BY_PEOPLE, count)
        for low, high, count in zip(*(side.tolist() for side in ends), alarms)
    ]
    return SearchIntervals([*of_ranks], [*of_tpir])


def _weighted_tpir(found: Searches, fpirs: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from weights of searches, (p,), to TPIRs."""
    scores = found.scores
    falling = np.argsort(-scores, kind="stable")
    mated, others = (falling[chosen] for chosen in (found.rank[falling] > 0, found.rank[falling] == 0))
    return lambda weights: weighted_tar(scores[mated], weights[mated], scores[others], weights[others], fpirs)[0]
