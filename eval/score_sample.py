"""Keep, of scores that are too many for memory, the highest ones and an even part of the others, with their people."""

from __future__ import annotations

import math
from typing import Callable, NamedTuple

import numpy as np

KEPT = 1 << 19  # of the highest scores, and about as many of the others
_ROUNDING = 1e-6


class Sample(NamedTuple):
    """Scores that stand for all.

    Attributes:
        scores: (n,) falling.
        people: (n, 2) the two people of each.
        times: (n,) how many scores each one stands for.
    """

    scores: np.ndarray
    people: np.ndarray
    times: np.ndarray

    def threshold(self, allowed: int) -> float:
        """Return the lowest threshold above which `allowed` scores lie, or fewer; -inf: all may."""
        first = int(np.searchsorted(np.cumsum(self.times), allowed + _ROUNDING, side="right"))
        return float(self.scores[first]) if first < len(self.scores) else -math.inf

    def count(self, threshold: float, with_ties: bool = False) -> int:
        """Return how many scores lie above a threshold, or at it."""
        above = self.scores >= threshold if with_ties else self.scores > threshold
        return round(float(self.times[above].sum()))

    @staticmethod
    def of(scores: np.ndarray, people: np.ndarray) -> Sample:
        """Return all of some scores, (n,) in any order, with their people, (n, 2)."""
        falling = np.argsort(-scores, kind="stable")
        return Sample(scores[falling], people[falling], np.ones(len(scores)))


class ScoreSample:
    """Collects a `Sample`.

    At most `kept` scores that are higher than all left out are there themselves. Of the others every n-th one is there,
    from a random one on, for n.
    """

    def __init__(self, total: int, kept: int = KEPT, seed: int = 0) -> None:
        """Begin.

        Args:
            total: Number of scores to come, at most.
            kept: How many of the highest to keep.
            seed: Of the random place.
        """
        self._seen, self._kept = 0, kept
        self._step = -(-total // kept) if total > kept else 0
        self._next = int(np.random.default_rng(seed).integers(self._step)) if self._step else 0
        self._floor = -np.inf  # what is left out of the highest is not above it
        self._high: list[tuple[np.ndarray, np.ndarray]] = []
        self._even: list[tuple[np.ndarray, np.ndarray]] = []
        self._held = 0

    def add(self, scores: np.ndarray, people_of: Callable[[np.ndarray], np.ndarray]) -> None:
        """Add scores.

        Args:
            scores: (n,).
            people_of: Returns the people, (k, 2), of the scores at some indices, (k,).
        """
        self._seen += len(scores)
        high = np.flatnonzero(scores > self._floor) if self._step else np.arange(len(scores))
        self._high.append((scores[high], people_of(high)))
        self._held += len(high)
        if self._step and self._held > 2 * self._kept:
            self._shrink()
        if self._step:
            even = np.arange(self._next, len(scores), self._step)
            self._next = (self._next - len(scores)) % self._step
            self._even.append((scores[even], people_of(even)))

    def finish(self) -> Sample:
        """Return what was kept."""
        if not self._step:
            return Sample.of(*self._joined(self._high))
        self._shrink()
        top = Sample.of(*self._high[0])
        scores, people = self._joined(self._even)
        below = scores <= self._floor
        rest = Sample.of(scores[below], people[below])
        times = (self._seen - len(top.scores)) / max(1, len(rest.scores))
        joined = (np.concatenate(both) for both in zip(top, rest._replace(times=rest.times * times)))
        return Sample(*joined)

    def _shrink(self) -> None:
        """Leave the highest scores, and set the floor to the highest one that is left out."""
        scores, people = self._joined(self._high)
        if len(scores) > self._kept:
            self._floor = np.partition(scores, -self._kept - 1)[-self._kept - 1]
        chosen = scores > self._floor
        self._high = [(scores[chosen], people[chosen])]
        self._held = int(chosen.sum())

    @staticmethod
    def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        scores, people = zip(*parts) if parts else ((np.empty(0),), (np.empty((0, 2), int),))
        return np.concatenate(scores), np.concatenate(people)
