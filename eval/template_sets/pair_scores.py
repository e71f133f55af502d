"""Collect the scores of pairs of templates, few or very many, and read the rates of a 1:1 test off them."""

from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.eval.curves import FMRS, NEAREST, Det, FmrRow, TarAtFar, fmr_rows, tar_at_far
from insightface_mx.eval.intervals import BY_PEOPLE, Interval, sampled_tar_ends, wilson
from insightface_mx.eval.score_histogram import ScoreHistogram, det_of_histograms, tar_at_far_of_histograms
from insightface_mx.eval.score_sample import Sample, ScoreSample

FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
MOST_SCORES = 1 << 26  # of all pairs of one's own templates; more go through a histogram
_TARGETS = (*FMRS, 0.0)
WORST = 8  # pairs of each kind of error


class Verification(NamedTuple):
    """The result of a 1:1 test.

    Attributes:
        genuine: Number of pairs of one identity.
        impostor: Number of pairs of two.
        strict: TAR at the largest FAR that is not above each target.
        intervals: Of the strict TARs; `errors` are the false accepts.
        published: TAR at the nearest FAR, as the public scripts print it; None where it was not asked for.
        curve: For figures and thresholds.
        false_matches: The impostor pairs that are most alike, worst first.
        false_non_matches: The genuine pairs that are least alike, worst first.
    """

    genuine: int
    impostor: int
    strict: TarAtFar
    intervals: list[Interval]
    published: TarAtFar | None
    curve: Curve
    false_matches: list[ScoredPair]
    false_non_matches: list[ScoredPair]


class ScoredPair(NamedTuple):
    """Two templates, indices, and their score."""

    first: int
    second: int
    score: float


class Curve(NamedTuple):
    """What figures are drawn from: scores as histograms, and the thresholds of false match rates."""

    genuine: ScoreHistogram
    impostor: ScoreHistogram
    thresholds: list[FmrRow]

    def det(self) -> Det:
        """Return the DET curve, at the edges of the histograms' bins."""
        return det_of_histograms(self.genuine, self.impostor)


class PairScores:
    """Collects scores block by block."""

    def __init__(self, genuine: int, impostor: int, subjects: np.ndarray | None) -> None:
        """Begin.

        Args:
            genuine: Number of pairs of one identity to come.
            impostor: Number of pairs of two.
            subjects: (t,) number of each template's subject; None: not known.

        Raises:
            UserError: All pairs are of one kind.
        """
        for count, kind in ((genuine, "one subject"), (impostor, "two subjects")):
            if not count:
                raise UserError(f"there is no pair of templates of {kind}: without one there is no rate")
        self._counts, self._subjects = {True: genuine, False: impostor}, subjects
        self._scores: dict[bool, list[np.ndarray]] | None = None
        if genuine + impostor <= MOST_SCORES:
            self._scores = {True: [], False: []}
        self._histograms = {kind: ScoreHistogram() for kind in self._counts}
        self._samples = {kind: ScoreSample(count) for kind, count in self._counts.items()}
        self._lowest = ScoreSample(genuine, WORST)  # of negative scores

    def add(self, scores: np.ndarray, genuine: np.ndarray, templates: Callable[[np.ndarray], np.ndarray]) -> None:
        """Add pairs.

        Args:
            scores: (n,).
            genuine: (n,) whether a pair is of one identity.
            templates: Returns the templates, (k, 2) indices, of some of these pairs, (k,) indices.
        """
        for kind in self._counts:
            places = np.flatnonzero(genuine == kind)
            part = scores[places]

            def people(chosen: np.ndarray, places: np.ndarray = places) -> np.ndarray:
                return templates(places[chosen])

            self._samples[kind].add(part, people)
            self._histograms[kind].add(part)
            if kind:
                self._lowest.add(-part, people)
            if self._scores:
                self._scores[kind].append(part)

    def finish(self, as_published: bool) -> Verification:
        """Return the result; as_published: also read the nearest points, for which there must be few pairs."""
        genuine, impostor = (self._histograms[kind] for kind in (True, False))
        published = None
        if self._scores:
            scores = [np.concatenate(self._scores.pop(kind)) for kind in (True, False)]
            strict, table = (tar_at_far(scores[0], scores[1], fars) for fars in (FARS, _TARGETS))
            published = tar_at_far(scores[0], scores[1], FARS, NEAREST) if as_published else None
        else:
            strict = tar_at_far_of_histograms(genuine, impostor, FARS)
            table = tar_at_far_of_histograms(genuine, impostor, _TARGETS)
        samples = [self._samples[kind].finish() for kind in (True, False)]
        counts = self._counts[True], self._counts[False]
        lowest = self._lowest.finish()
        return Verification(
            *counts,
            strict,
            self._intervals(strict, samples),
            published,
            Curve(genuine, impostor, fmr_rows(_TARGETS, table, counts[1])),
            _worst(samples[1]),
            _worst(lowest._replace(scores=-lowest.scores)),
        )

    def _intervals(self, strict: TarAtFar, samples: list[Sample]) -> list[Interval]:
        """Return the intervals of TARs, by people where they are known, otherwise Wilson's."""
        genuine, impostor = self._counts[True], self._counts[False]
        by_pairs = [
            wilson(round(tar * genuine), genuine, round(far * impostor))
            for tar, far in zip(strict.tar.tolist(), strict.far_reached.tolist())
        ]
        if self._subjects is None:
            return by_pairs
        known = [sample._replace(people=self._subjects[sample.people]) for sample in samples]
        ends = sampled_tar_ends(known[0], known[1], FARS)
        return [Interval(low, high, BY_PEOPLE, whole.errors) for whole, (low, high) in zip(by_pairs, ends)]


def _worst(sample: Sample) -> list[ScoredPair]:
    rows = zip(sample.people[:WORST].tolist(), sample.scores[:WORST].tolist())
    return [ScoredPair(first, second, score) for (first, second), score in rows]
