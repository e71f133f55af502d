"""Count scores that are too many to store, and read error rates off the counts."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from insightface_mx.eval.curves import Det, TarAtFar, allowed_errors, check_rates, refuse_nan


class ScoreHistogram:
    """Counts scores that are too many to store: bins of equal width, each open below and closed above.

    Thresholds at the edges of bins give exact rates, so results differ from those of the scores by less than `width` in
    the threshold.

    Attributes:
        counts: (bins,) number of scores in each bin; scores outside the range are in the first or last one.
        edges: (bins,) the lower edge of each bin; the first is -inf.
        width: Of a bin.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0, bins: int = 1 << 20) -> None:
        """Make an empty histogram; the defaults suit cosines, at 2e-6 a bin."""
        self.width = (high - low) / bins
        self.counts = np.zeros(bins, np.int64)
        self.edges = low + self.width * np.arange(bins)
        self.edges[0] = -np.inf
        self._low = low

    def add(self, scores: np.ndarray) -> None:
        """Count scores. Raises ValueError if one is NaN."""
        refuse_nan(scores, "a")
        bins = np.ceil((np.asarray(scores, float).ravel() - self._low) / self.width) - 1
        bins = np.clip(bins, 0, len(self.counts) - 1).astype(np.int64)
        self.counts += np.bincount(bins, minlength=len(self.counts))

    @property
    def upper_edges(self) -> np.ndarray:
        """The upper edge of each bin, (bins,)."""
        return self._low + self.width * np.arange(1, len(self.counts) + 1)

    def above(self) -> np.ndarray:
        """Return, (bins,), how many scores are above each edge."""
        return np.cumsum(self.counts[::-1])[::-1]


def tar_at_far_of_histograms(
    genuine: ScoreHistogram, impostor: ScoreHistogram, fars: Sequence[float] | float
) -> TarAtFar:
    """Read the true accept rate at false accept rates, strictly; both histograms have the same bins.

    Raises:
        ValueError: A histogram is empty, their bins differ, or a FAR is outside 0 to 1.
    """
    if not np.array_equal(genuine.edges, impostor.edges):
        raise ValueError("the histograms have different bins")
    accepted = {"genuine": genuine.above(), "impostor": impostor.above()}
    for kind, above in accepted.items():
        if not above[0]:
            raise ValueError(f"there is no {kind} score")
    total = int(accepted["impostor"][0])
    allowed = np.array([allowed_errors(total, far) for far in check_rates(fars)])
    first = np.searchsorted(-accepted["impostor"], -allowed)  # the lowest edge with few enough scores above it
    highest = genuine.edges[-1] + genuine.width  # above all scores
    thresholds = np.append(genuine.edges, highest)[first]
    tar, far = (np.append(above, 0)[first] / above[0] for above in accepted.values())
    return TarAtFar(tar, far, thresholds)


def det_of_histograms(genuine: ScoreHistogram, impostor: ScoreHistogram) -> Det:
    """Return the DET curve at the lower edges of the bins that hold a score; both histograms have the same bins."""
    used = np.flatnonzero(genuine.counts + impostor.counts)
    fmr, tar = (np.append(each.above()[used], 0) / each.counts.sum() for each in (impostor, genuine))
    return Det(fmr, 1 - tar, np.append(genuine.edges[used], np.inf))
