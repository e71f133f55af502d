"""Read error rates off genuine and impostor scores: TAR at FAR, DET, EER, AUC and a table of thresholds.

A score is higher where two faces are more alike, a cosine for example. Genuine scores compare one identity with itself,
impostor scores compare two identities. ISO/IEC 19795-1 calls the rates of a threshold FMR (impostors accepted) and FNMR
(genuine ones rejected); face recognition papers write FAR and TAR = 1 - FNMR.

Two readings exist of "TAR at FAR x":
    strict     the largest FAR that is not above x; a pair is accepted where its score > the threshold.
    nearest    the point of scikit-learn's ROC whose FAR is nearest to x, as the public IJB scripts print it. Its FAR
               may be above x. A pair is accepted where its score >= the threshold.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

import numpy as np

FMRS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
READINGS = STRICT, NEAREST = ("strict", "nearest")
_ROUNDING = 1e-6  # 0.29 x 100 false accepts are 29, not 28.999999999999996


class TarAtFar(NamedTuple):
    """What `tar_at_far` returns: arrays in the order of the FARs that were asked for.

    Attributes:
        tar: Fraction of genuine scores that are accepted.
        far_reached: Fraction of impostor scores that are accepted.
        threshold: -inf where every score is accepted.
    """

    tar: np.ndarray
    far_reached: np.ndarray
    threshold: np.ndarray


class Det(NamedTuple):
    """A DET curve: FMR falling and FNMR rising with the threshold; a pair is accepted where its score >= threshold.

    Attributes:
        fmr: (n,) false match rate.
        fnmr: (n,) false non-match rate.
        threshold: (n,) rising: every different score, and infinity at the end.
    """

    fmr: np.ndarray
    fnmr: np.ndarray
    threshold: np.ndarray


class EqualErrorRate(NamedTuple):
    """The rate at which FMR and FNMR are equal, and the threshold there."""

    rate: float
    threshold: float


class FmrRow(NamedTuple):
    """A row of `fmr_table`.

    Attributes:
        name: "FMR 0.01", also called FMR100, and so on; "ZeroFMR".
        target: The FMR that was asked for.
        fmr: The FMR that the threshold reaches, at most the target.
        fnmr: The FNMR there.
        cosine: The threshold: a match is above it.
        squared_distance: The same threshold for squared distances of unit embeddings, 2 - 2 cosine: a match is below.
        false_matches: Impostor scores above the threshold.
    """

    name: str
    target: float
    fmr: float
    fnmr: float
    cosine: float
    squared_distance: float
    false_matches: int


def tar_at_far(
    genuine: np.ndarray, impostor: np.ndarray, fars: Sequence[float] | float, reading: str = STRICT
) -> TarAtFar:
    """Read the true accept rate at false accept rates.

    Args:
        genuine: (n,) scores of pairs of one identity.
        impostor: (m,) scores of pairs of two identities.
        fars: The false accept rates, 0 to 1.
        reading: "strict" or "nearest", see above.

    Returns:
        Three arrays as long as `fars`.

    Raises:
        ValueError: There is no score of a kind, a score is NaN, a FAR is outside 0 to 1, or there is no such reading.
    """
    genuine, impostor = _scores(genuine, "genuine"), _scores(impostor, "impostor")
    targets = check_rates(fars)
    if reading == NEAREST:
        return _nearest(genuine, impostor, targets)
    if reading != STRICT:
        raise ValueError(f"reading '{reading}' does not exist: choose one of {', '.join(READINGS)}")
    thresholds = strict_thresholds(impostor, targets)
    return TarAtFar(_above(genuine, thresholds), _above(impostor, thresholds), thresholds)


def strict_thresholds(impostor: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Return, for each rate, the lowest threshold above which at most this fraction of the scores lies.

    Args:
        impostor: (m,) scores, at least one.
        rates: Numbers from 0 to 1.

    Returns:
        A score for each rate, or -inf where all scores may lie above.
    """
    allowed = np.array([allowed_errors(len(impostor), rate) for rate in rates], int)
    falling = np.append(np.sort(impostor)[::-1], -np.inf)
    return falling[allowed]


def allowed_errors(count: int, rate: float) -> int:
    """Return how many of `count` scores may be accepted at a rate from 0 to 1: the whole part of count x rate."""
    return min(count, math.floor(count * rate + _ROUNDING))


def det(genuine: np.ndarray, impostor: np.ndarray) -> Det:
    """Return the DET curve at every threshold; errors as for `tar_at_far`."""
    genuine, impostor = np.sort(_scores(genuine, "genuine")), np.sort(_scores(impostor, "impostor"))
    thresholds = np.append(np.unique(np.concatenate((genuine, impostor))), np.inf)
    fmr = 1 - np.searchsorted(impostor, thresholds) / len(impostor)
    fnmr = np.searchsorted(genuine, thresholds) / len(genuine)
    return Det(fmr, fnmr, thresholds)


def eer(genuine: np.ndarray, impostor: np.ndarray) -> EqualErrorRate:
    """Return the equal error rate, interpolated between the two points of the DET curve around it.

    Errors as for `tar_at_far`.
    """
    curve = det(genuine, impostor)
    after = int(np.argmax(curve.fnmr >= curve.fmr))  # at the last point FNMR is 1 and FMR 0
    if after == 0:
        return EqualErrorRate(float(curve.fnmr[0]), float(curve.threshold[0]))
    gap_before, gap_after = (curve.fmr[i] - curve.fnmr[i] for i in (after - 1, after))
    part = gap_before / (gap_before - gap_after)
    rate = curve.fnmr[after - 1] + part * (curve.fnmr[after] - curve.fnmr[after - 1])
    nearest = after if part >= 0.5 and np.isfinite(curve.threshold[after]) else after - 1
    return EqualErrorRate(float(rate), float(curve.threshold[nearest]))


def auc(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """Return the area under the ROC curve; errors as for `tar_at_far`."""
    from sklearn.metrics import roc_auc_score  # takes longer to import than --help may take

    return float(roc_auc_score(*_labelled(_scores(genuine, "genuine"), _scores(impostor, "impostor"))))


def fmr_table(genuine: np.ndarray, impostor: np.ndarray, fmrs: Sequence[float] = FMRS) -> list[FmrRow]:
    """Return the thresholds of false match rates: what an application sets.

    FMR100 and FMR1000 are the rows of 0.01 and 0.001; the last row, ZeroFMR, is the lowest FNMR without a false match.

    Args:
        genuine: (n,) cosines of pairs of one identity.
        impostor: (m,) cosines of pairs of two identities.
        fmrs: The rates.

    Raises:
        ValueError: As for `tar_at_far`.
    """
    targets = [*check_rates(fmrs), 0.0]
    return fmr_rows(targets, tar_at_far(genuine, impostor, targets), len(impostor))


def fmr_rows(targets: Sequence[float], found: TarAtFar, impostors: int) -> list[FmrRow]:
    """Return the rows of `fmr_table`.

    Args:
        targets: The rates, the last one 0.
        found: What `tar_at_far` returns for them.
        impostors: Number of impostor scores.
    """
    names = [*(f"FMR {target:g}" for target in targets[:-1]), "ZeroFMR"]
    return [
        FmrRow(name, target, fmr, 1 - tar, cosine, 2 - 2 * cosine, round(fmr * impostors))
        for name, target, tar, fmr, cosine in zip(names, targets, *(array.tolist() for array in found))
    ]


def check_rates(rates: Sequence[float] | float) -> np.ndarray:
    """Return rates as an array (n,). Raises ValueError for one outside 0 to 1."""
    array = np.atleast_1d(np.asarray(rates, float))
    if array.ndim != 1 or not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"a rate is a number from 0 to 1, not {rates}")
    return array


def _nearest(genuine: np.ndarray, impostor: np.ndarray, targets: np.ndarray) -> TarAtFar:
    """Read the points of scikit-learn's ROC that are nearest to the FARs, of several the one with the largest TAR."""
    from sklearn.metrics import roc_curve  # takes longer to import than --help may take

    far, tar, thresholds = (array[::-1] for array in roc_curve(*_labelled(genuine, impostor)))
    points = [int(np.argmin(np.abs(far - target))) for target in targets]
    return TarAtFar(tar[points], far[points], thresholds[points])


def _labelled(genuine: np.ndarray, impostor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, 1 for genuine and 0 for impostor, and the scores."""
    labels = np.concatenate((np.ones(len(genuine), np.int8), np.zeros(len(impostor), np.int8)))
    return labels, np.concatenate((genuine, impostor))


def _above(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the fraction of the scores that lie above each threshold."""
    return np.array([np.count_nonzero(scores > threshold) for threshold in thresholds], float) / len(scores)


def _scores(scores: np.ndarray, kind: str) -> np.ndarray:
    """Return scores as an array (n,). Raises ValueError if there is none, or one is NaN."""
    array = np.asarray(scores).ravel()
    if not array.size:
        raise ValueError(f"there is no {kind} score")
    refuse_nan(array, "a genuine" if kind == "genuine" else f"an {kind}")
    return array


def refuse_nan(scores: np.ndarray, which: str) -> None:
    """Raise ValueError if a score is NaN."""
    if np.isnan(scores).any():
        raise ValueError(f"{which} score is NaN")
