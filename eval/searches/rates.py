"""Rates of searches, and how they are written: lines for a terminal, and JSON."""

from __future__ import annotations

import math
from typing import Iterator, Mapping, NamedTuple, Sequence

from insightface_mx.eval.intervals import SAMPLES, Interval

_REACHED = {"TPIR at FPIR": "FPIR", "TAR at FAR": "FAR"}


class Rate(NamedTuple):
    """A rate of searches or pairs; NaN, and no interval, where none can tell.

    Attributes:
        metric: "rank", "TPIR at FPIR" or "TAR at FAR".
        target: The rank, FPIR or FAR.
        value: The fraction of mated searches, or of genuine pairs.
        interval: At 95 %, by drawing identities with replacement.
        threshold: Of the similarity.
        reached: The FPIR or FAR that is reached.
        published: The rate as MegaFace's files are read: at the lowest FAR above the target.
        published_reached: That FAR.
    """

    metric: str
    target: float
    value: float
    interval: Interval | None
    threshold: float = math.nan
    reached: float = math.nan
    published: float = math.nan
    published_reached: float = math.nan

    @property
    def name(self) -> str:
        """Metric and target."""
        return f"{self.metric} {self.target:g}"

    @property
    def reached_text(self) -> str:
        """The FPIR or FAR that is reached; '' of a rank rate."""
        return f"{_REACHED[self.metric]} reached {self.reached:.4g}" if self.metric in _REACHED else ""


def lines(counts: Mapping[str, int], rates: Sequence[Rate], as_published: bool = False) -> Iterator[str]:
    """Yield the lines for a terminal.

    Args:
        counts: What was searched: name -> number.
        rates: Their rates.
        as_published: Also say the published reading of TAR.
    """
    yield ", ".join(f"{count} {name.replace('_', '-')}" for name, count in counts.items())
    yield f"95 % intervals by people: identities are drawn with replacement, {SAMPLES} times"
    for rate in rates:
        if rate.interval is None:
            yield f"{rate.name:<20} no search can tell"
            continue
        mark = "*" if rate.interval.few_errors else ""
        line = f"{rate.name:<20} {rate.value:.4f}  {rate.interval.low:.4f}-{rate.interval.high:.4f}{mark}"
        if rate.reached_text:
            line += f"  threshold {rate.threshold:.4f}, {rate.reached_text}, {rate.interval.errors} false alarms"
        if as_published and not math.isnan(rate.published):
            line += f"; as published {rate.published:.4f} (FAR {rate.published_reached:.4g})"
        yield line
    if any(rate.interval and rate.interval.few_errors for rate in rates):
        yield "*: fewer than 30 errors (missed mates, false alarms) carry the figure: it may be far off"


def json_object(counts: Mapping[str, int], rates: Sequence[Rate]) -> dict[str, object]:
    """Return counts and rates as JSON has them; a number that does not exist is null."""
    return {**counts, "rates": [_object(rate) for rate in rates]}


def _object(rate: Rate) -> dict[str, object]:
    interval = rate.interval
    found: dict[str, object] = {
        "metric": rate.metric,
        "target": rate.target,
        "value": _number(rate.value),
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "interval_by": interval.method if interval else None,
        "errors": interval.errors if interval else None,
        "few_errors": interval.few_errors if interval else None,
        "threshold": _number(rate.threshold),
    }
    if rate.metric in _REACHED:
        found[f"{_REACHED[rate.metric].lower()}_reached"] = _number(rate.reached)
    if not math.isnan(rate.published):
        found.update(published=rate.published, published_far=rate.published_reached)
    return found


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
