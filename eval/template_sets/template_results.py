"""Write the results of tests with templates: lines for a terminal, a .json and a .csv file."""

from __future__ import annotations

import json
import math
from typing import Iterator, Mapping, Sequence

import numpy as np

from insightface_mx.eval.intervals import BY_PEOPLE, Interval, words_of
from insightface_mx.eval.summary import plain
from insightface_mx.eval.template_sets.pair_scores import FARS, Verification
from insightface_mx.eval.template_sets.template_tests import (
    FPIRS,
    RANKS,
    Gallery,
    Mean,
    Result,
)

CSV_TITLE = ("setting", "notebook", "ijb_evals", "test", "metric", "target", "value", "low", "high", "reached",
             "threshold", "errors", "published")  # fmt: skip


def lines(result: Result) -> Iterator[str]:
    """Yield the lines of one setting's result."""
    setting = result.setting
    yield f"{setting.words} (notebook {setting.notebook_name}, ijb_evals.py {setting.evals_name})"
    if result.verification:
        yield from _verification_lines(result.verification)
    for gallery in result.galleries:
        yield from _gallery_lines(gallery)
    if len(result.galleries) > 1 and result.mean:
        yield f"1:N, all galleries: {result.mean.mated} mated searches"
        yield from _rate_lines(result.mean)
    yield from _notes(result)


def _notes(result: Result) -> Iterator[str]:
    every = [*(result.verification.intervals if result.verification else [])]
    for found in result.galleries:
        every += [one for one in (*found.intervals.ranks, *found.intervals.tpir) if one]
    if any(one.few_errors for one in every):
        yield "*: fewer than 30 errors (false accepts, missed mates, false alarms) carry the figure: it may be far off"


def _verification_lines(found: Verification) -> Iterator[str]:
    method = "by people" if found.intervals[0].method == BY_PEOPLE else "by pairs (Wilson)"
    yield f"1:1, {found.genuine} genuine and {found.impostor} impostor pairs; 95 % intervals {method}"
    published = "  as published (its FAR)" if found.published else ""
    title = f"{'FAR':>6}  {'TAR':>7}  {'95 % interval':>15}  {'FAR reached':>11}  {'false accepts':>13}  threshold"
    yield title + published
    for index, far in enumerate(FARS):
        interval = found.intervals[index]
        mark = "*" if interval.few_errors else " "
        span = f"{interval.low:.4f}-{interval.high:.4f}"
        line = (
            f"{far:>6.0e}  {found.strict.tar[index]:>7.4f}  {span:>15}  {found.strict.far_reached[index]:>11.2e}  "
            f"{interval.errors:>12}{mark}  {found.strict.threshold[index]:>9.4f}"
        )
        if found.published:
            line += f"  {found.published.tar[index]:>12.4f} ({found.published.far_reached[index]:.2e})"
        yield line


def _gallery_lines(found: Gallery) -> Iterator[str]:
    counts = f"{found.subjects} subjects, {found.mated} mated and {found.others} non-mated searches"
    yield f"1:N, gallery {found.name}: {counts}"
    yield from _rate_lines(found)
    if found.published_tpir is not None:
        rates = ", ".join(f"FPIR {fpir:g}: {_text(tpir)}" for fpir, tpir in zip(FPIRS, found.published_tpir.tolist()))
        yield f"  TPIR as ijb_evals.py reads it: {rates}"


def _rate_lines(found: Gallery | Mean) -> Iterator[str]:
    for metric, target, value, interval in rates_of(found):
        span = ""
        if interval:
            span = f"  {interval.low:.4f}-{interval.high:.4f}{'*' if interval.few_errors else ''}"
        yield f"  {metric} {target:g}: {_text(value)}{span}"


def rates_of(found: Gallery | Mean) -> Iterator[tuple[str, float, float, Interval | None]]:
    """Yield metric, target, rate and interval of a gallery, or of all."""
    rates = found.found if isinstance(found, Gallery) else found
    for metric, targets, values, intervals in (
        ("rank", RANKS, rates.rank_rates, found.intervals.ranks),
        ("TPIR at FPIR", FPIRS, rates.tpir, found.intervals.tpir),
    ):
        yield from ((metric, *row) for row in zip(targets, values.tolist(), intervals))


def _text(value: float) -> str:
    return "no search can tell" if math.isnan(value) else f"{value:.4f}"


def json_text(results: Sequence[Result], origin: Mapping[str, object]) -> str:
    """Return the results as JSON; `origin` says of what they are. A rate that does not exist is null."""
    return json.dumps({**origin, "results": [_object(result) for result in results]}, indent=1) + "\n"


def _object(result: Result) -> dict[str, object]:
    setting = result.setting
    found: dict[str, object] = {
        **setting._asdict(),
        "words": setting.words,
        "notebook": setting.notebook_name,
        "ijb_evals": setting.evals_name,
    }
    if result.verification:
        found["1:1"] = {
            "genuine_pairs": result.verification.genuine,
            "impostor_pairs": result.verification.impostor,
            "intervals": words_of(result.verification.intervals[0].method, result.reason),
            "tar_at_far": list(_tar_objects(result.verification)),
            "thresholds": plain(result.verification.curve.thresholds),
        }
    if result.mean:
        found["1:N"] = [_gallery_object(gallery) for gallery in result.galleries]
        found["1:N mean"] = {"mated": result.mean.mated, **_rate_objects(result.mean)}
    return found


def _tar_objects(found: Verification) -> Iterator[dict[str, object]]:
    for index, (far, interval) in enumerate(zip(FARS, found.intervals)):
        values = {
            "far": far,
            "tar": float(found.strict.tar[index]),
            "low": interval.low,
            "high": interval.high,
            "interval_by": interval.method,
            "far_reached": float(found.strict.far_reached[index]),
            "threshold": _number(found.strict.threshold[index]),
            "false_accepts": interval.errors,
            "few_errors": interval.few_errors,
        }
        if found.published:
            values["published_tar"] = float(found.published.tar[index])
            values["published_far"] = float(found.published.far_reached[index])
        yield values


def _gallery_object(gallery: Gallery) -> dict[str, object]:
    found = {
        "gallery": gallery.name,
        "subjects": gallery.subjects,
        "mated": gallery.mated,
        "non_mated": gallery.others,
        **_rate_objects(gallery),
        "thresholds": _by_target(FPIRS, gallery.found.thresholds),
        "fpir_reached": _by_target(FPIRS, gallery.found.fpir_reached),
    }
    if gallery.published_tpir is not None:
        found["published_tpir"] = _by_target(FPIRS, gallery.published_tpir)
    return found


def _rate_objects(found: Gallery | Mean) -> dict[str, object]:
    rates, intervals = (found.found if isinstance(found, Gallery) else found), found.intervals
    return {
        "rank_rates": _by_target(RANKS, rates.rank_rates),
        "rank_intervals": _intervals(RANKS, intervals.ranks),
        "tpir_at_fpir": _by_target(FPIRS, rates.tpir),
        "tpir_intervals": _intervals(FPIRS, intervals.tpir),
    }


def _intervals(targets: Sequence[float], intervals: Sequence[Interval | None]) -> dict[str, object]:
    return {
        f"{target:g}": one and {**one._asdict(), "few_errors": one.few_errors}
        for target, one in zip(targets, intervals)
    }


def _by_target(targets: Sequence[float], values: np.ndarray) -> dict[str, float | None]:
    return {f"{target:g}": _number(value) for target, value in zip(targets, values)}


def _number(value: float) -> float | None:
    """Return a number as JSON has it: null where there is none, or where it is infinite."""
    return float(value) if math.isfinite(value) else None


def csv_rows(results: Sequence[Result]) -> Iterator[Sequence[object]]:
    """Yield the title and the rows of the .csv: one for each rate."""
    yield CSV_TITLE
    for result in results:
        setting = result.setting
        head = (setting.words, setting.notebook_name, setting.evals_name)
        if result.verification:
            for one in _tar_objects(result.verification):
                names = ("far", "tar", "low", "high", "far_reached", "threshold", "false_accepts", "published_tar")
                yield (*head, "1:1", "TAR at FAR", *(one.get(name, "") for name in names))
        for gallery in result.galleries:
            yield from ((*head, f"1:N {gallery.name}", *row) for row in _rate_rows(gallery))
        if len(result.galleries) > 1 and result.mean:
            yield from ((*head, "1:N mean", *row) for row in _rate_rows(result.mean))


def _rate_rows(found: Gallery | Mean) -> Iterator[Sequence[object]]:
    """Yield metric, target, value, low, high, reached, threshold, errors and published of the rates of a gallery."""
    for index, (metric, target, value, interval) in enumerate(rates_of(found)):
        ends = (interval.low, interval.high) if interval else ("", "")
        errors = interval.errors if interval else ""
        fpir = index - len(RANKS)
        name = "rank rate" if fpir < 0 else metric
        if fpir < 0 or not isinstance(found, Gallery):
            yield (name, target, value, *ends, "", "", errors, "")
            continue
        reached, threshold = (float(array[fpir]) for array in (found.found.fpir_reached, found.found.thresholds))
        published = "" if found.published_tpir is None else float(found.published_tpir[fpir])
        yield (name, target, value, *ends, reached, threshold, errors, published)
