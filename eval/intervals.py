"""Say how certain an error rate is: 95 % intervals.

Pairs that share people are not independent, so resampling pairs gives intervals that are too narrow. Where the people
are known, people are drawn with replacement (the vertex bootstrap of Fogliato, Patil and Perona, arXiv 2306.01198): a
genuine pair of person s counts w_s times, an impostor pair of s and t counts w_s w_t times, where w is how often a
person was drawn. Nothing is scored again. Where the people are not known, as in a .bin set, Wilson's interval over the
pairs is all there is.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Callable, Iterator, NamedTuple, Sequence

import numpy as np

from insightface_mx.eval.curves import check_rates
from insightface_mx.eval.score_sample import Sample

CONFIDENCE = 0.95
SAMPLES = 1000
FEWEST_ERRORS = 30  # for +-30 % at 90 % confidence: Doddington's rule, in Mansfield and Wayman, NPL CMSC 14/02
BY_PEOPLE, BY_PAIRS = "people", "pairs"
_ROUNDING = 1e-9


class Interval(NamedTuple):
    """A 95 % interval of a rate.

    Attributes:
        low: Its lower end.
        high: Its upper end.
        method: "people" or "pairs": what was taken as independent.
        errors: The errors that the rate stands on.
    """

    low: float
    high: float
    method: str
    errors: int

    @property
    def few_errors(self) -> bool:
        """Whether fewer than 30 errors carry the figure: it may be far off."""
        return self.errors < FEWEST_ERRORS


def wilson(successes: int, trials: int, errors: int | None = None) -> Interval:
    """Return Wilson's score interval of a fraction (E. B. Wilson, JASA 22, 1927), pairs taken as independent.

    Args:
        successes: Pairs that count.
        trials: All pairs, at least 1.
        errors: The errors that the figure stands on; None: trials - successes.

    Raises:
        ValueError: The numbers are no fraction.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} of {trials} is no fraction")
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    p = successes / trials
    centre = p + z * z / (2 * trials)
    half = z * np.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    low = (centre - half) / scale if successes else 0.0  # exactly, whatever is rounded
    high = (centre + half) / scale if successes < trials else 1.0
    return Interval(low, high, BY_PAIRS, trials - successes if errors is None else errors)


def words_of(method: str, reason: str) -> str:
    """Say what intervals rest on; reason: why identities are not known."""
    if method == BY_PEOPLE:
        return f"identities drawn with replacement, {SAMPLES} times"
    return f"Wilson's, with pairs taken as independent, which is too narrow where pairs share people ({reason})"


def by_people(
    statistic: Callable[[np.ndarray], np.ndarray], people: np.ndarray, samples: int = SAMPLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 95 % interval of a statistic of pairs, by drawing people with replacement.

    Args:
        statistic: Function from the weights of the pairs, (n,) float64, to an array (k,); NaN where it is undefined.
        people: (n, 2) the two people of each pair, numbers or names.
        samples: How often people are drawn.
        seed: Of the draws.

    Returns:
        Lower and upper ends, (k,) each. Draws without a value are left out.
    """
    values = np.array([np.atleast_1d(statistic(weights)) for weights in draws(people, samples, seed)], float)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(values, [tail, 100 - tail], axis=0)
    return low, high


def draws(people: np.ndarray, samples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield, for each draw of people with replacement, the weights (n,) of the pairs; arguments as for `by_people`."""
    names, places = np.unique(np.asarray(people), return_inverse=True)
    first, second = places.reshape(-1, 2).T
    genuine = first == second
    random = np.random.default_rng(seed)
    for _ in range(samples):
        drawn = np.bincount(random.integers(len(names), size=len(names)), minlength=len(names)).astype(float)
        yield np.where(genuine, drawn[first], drawn[first] * drawn[second])


def tar_intervals(
    scores: np.ndarray,
    issame: Sequence[bool] | np.ndarray,
    fars: Sequence[float] | float,
    people: np.ndarray | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
) -> list[Interval]:
    """Return the interval of the strict TAR at each FAR; see `curves.tar_at_far`.

    Args:
        scores: (n,) scores of pairs.
        issame: (n,) whether a pair shows one identity.
        fars: The false accept rates.
        people: (n, 2) the two people of each pair; None: not known.
        samples: How often people are drawn.
        seed: Of the draws.

    Returns:
        An interval for each FAR. Its `errors` are the false accepts that the threshold stands on.
    """
    scores, flags, targets = np.asarray(scores, float), np.asarray(issame, bool), check_rates(fars)
    known = np.zeros((len(scores), 2), int) if people is None else np.asarray(people)
    genuine, impostor = (Sample.of(scores[chosen], known[chosen]) for chosen in (flags, ~flags))
    exact, accepts = weighted_tar(genuine.scores, genuine.times, impostor.scores, impostor.times, targets)
    if people is None:
        count = int(flags.sum())
        return [wilson(round(rate * count), count, int(errors)) for rate, errors in zip(exact, accepts)]
    ends = zip(sampled_tar_ends(genuine, impostor, targets, samples, seed), accepts)
    return [Interval(low, high, BY_PEOPLE, int(errors)) for (low, high), errors in ends]


def sampled_tar_ends(
    genuine: Sample, impostor: Sample, fars: Sequence[float] | np.ndarray, samples: int = SAMPLES, seed: int = 0
) -> list[tuple[float, float]]:
    """Return the ends of the interval of the strict TAR at each FAR, by drawing people with replacement.

    Args:
        genuine: Scores of pairs of one identity; the two people of a pair are the same.
        impostor: Scores of pairs of two identities.
        fars: The false accept rates.
        samples: How often people are drawn.
        seed: Of the draws.
    """
    targets, count = np.asarray(fars, float), len(genuine.scores)
    times = np.concatenate((genuine.times, impostor.times))

    def tar(weights: np.ndarray) -> np.ndarray:
        weights = weights * times
        return weighted_tar(genuine.scores, weights[:count], impostor.scores, weights[count:], targets)[0]

    ends = by_people(tar, np.concatenate((genuine.people, impostor.people)), samples, seed)
    return [widened(low, high, genuine.people) for low, high in zip(*(side.tolist() for side in ends))]


def accuracy_interval(
    correct: Sequence[bool] | np.ndarray, people: np.ndarray | None = None, samples: int = SAMPLES, seed: int = 0
) -> Interval:
    """Return the interval of an accuracy.

    Args:
        correct: (n,) whether each pair was judged right.
        people: (n, 2) the two people of each pair; None: not known.
        samples: How often people are drawn.
        seed: Of the draws.
    """
    right = np.asarray(correct, bool)
    return rate_intervals(right[:, None], people, samples, seed)[0]


def rate_intervals(
    hits: np.ndarray, people: np.ndarray | None = None, samples: int = SAMPLES, seed: int = 0
) -> list[Interval]:
    """Return the interval of the mean of each column.

    Args:
        hits: (n, k) whether each pair or search counts.
        people: (n, 2) the two people of each; None: not known.
        samples: How often people are drawn.
        seed: Of the draws.
    """
    exact = [wilson(int(count), len(hits)) for count in hits.sum(axis=0)]
    if people is None:
        return exact
    values = hits.astype(float)

    def mean(weights: np.ndarray) -> np.ndarray:
        total = weights.sum()
        return weights @ values / total if total else np.full(values.shape[1], np.nan)

    ends = zip(exact, *(side.tolist() for side in by_people(mean, people, samples, seed)))
    return [Interval(*widened(low, high, people), BY_PEOPLE, whole.errors) for whole, low, high in ends]


def widened(low: float, high: float, people: np.ndarray) -> tuple[float, float]:
    """Return the ends of an interval; where every draw gave 0, or 1, Wilson's, with people taken as independent.

    Args:
        low: Lower end.
        high: Upper end.
        people: (n, 2) those of the pairs or searches that count.
    """
    if low != high or low not in (0.0, 1.0):
        return low, high
    count = len(np.unique(people))
    return wilson(int(low) * count, count)[:2]


def weighted_tar(
    genuine: np.ndarray,
    genuine_weights: np.ndarray,
    impostor: np.ndarray,
    impostor_weights: np.ndarray,
    fars: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the strict TAR at each FAR, and the weight of the false accepts there, of weighted scores that fall."""
    false = np.append(0.0, np.cumsum(impostor_weights))
    true = np.append(0.0, np.cumsum(genuine_weights))
    if not false[-1] or not true[-1]:
        return np.full(len(fars), np.nan), np.zeros(len(fars))
    first_refused = np.searchsorted(false[1:], fars * false[-1] * (1 + _ROUNDING) + _ROUNDING, side="right")
    thresholds = np.append(impostor, -np.inf)[first_refused]
    accepted, alarms = (_above(scores, thresholds) for scores in (genuine, impostor))
    return true[accepted] / true[-1], false[alarms]


def _above(falling: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return how many of falling scores lie above each threshold."""
    return len(falling) - np.searchsorted(falling[::-1], thresholds, side="right")
