"""Write the results of tests with templates: lines for a terminal, a .json and a .csv file."""

from __future__ import annotations

import json
import math
from typing import Any, Iterator, Mapping, Sequence

import numpy as np

from insightface_mx.eval.template_sets.template_tests import (
    FARS,
    FPIRS,
    RANKS,
    Gallery,
    Result,
    Verification,
    mean_of_galleries,
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
    if len(result.galleries) > 1:
        mean = mean_of_galleries(result.galleries)
        yield f"1:N, all galleries: {mean.mated} mated searches; {_rates(mean)}"


def _verification_lines(found: Verification) -> Iterator[str]:
    yield f"1:1, {found.genuine} genuine and {found.impostor} impostor pairs; 95 % intervals by pairs (Wilson)"
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
    if any(interval.few_errors for interval in found.intervals):
        yield "*: fewer than 30 false accepts carry the figure: it may be far off"


def _gallery_lines(found: Gallery) -> Iterator[str]:
    counts = f"{found.subjects} subjects, {found.mated} mated and {found.others} non-mated searches"
    yield f"1:N, gallery {found.name}: {counts}; {_rates(found.found)}"
    if found.published_tpir is not None:
        yield f"  TPIR as ijb_evals.py reads it: {_list('FPIR', FPIRS, found.published_tpir)}"


def _rates(found: Any) -> str:
    return f"{_list('rank', RANKS, found.rank_rates)}; TPIR at {_list('FPIR', FPIRS, found.tpir)}"


def _list(name: str, targets: Sequence[float], values: np.ndarray) -> str:
    return ", ".join(f"{name} {target:g}: {_text(value)}" for target, value in zip(targets, values.tolist()))


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
            "tar_at_far": list(_tar_objects(result.verification)),
        }
    if result.galleries:
        found["1:N"] = [_gallery_object(gallery) for gallery in result.galleries]
        mean = mean_of_galleries(result.galleries)
        found["1:N mean"] = {"mated": mean.mated, **_rate_objects(mean)}
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
        **_rate_objects(gallery.found),
        "thresholds": _by_target(FPIRS, gallery.found.thresholds),
        "fpir_reached": _by_target(FPIRS, gallery.found.fpir_reached),
    }
    if gallery.published_tpir is not None:
        found["published_tpir"] = _by_target(FPIRS, gallery.published_tpir)
    return found


def _rate_objects(found: Any) -> dict[str, object]:
    return {"rank_rates": _by_target(RANKS, found.rank_rates), "tpir_at_fpir": _by_target(FPIRS, found.tpir)}


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
            yield from ((*head, f"1:N {gallery.name}", *row) for row in _rate_rows(gallery.found, gallery))
        if len(result.galleries) > 1:
            yield from ((*head, "1:N mean", *row) for row in _rate_rows(mean_of_galleries(result.galleries), None))


def _rate_rows(found: Any, gallery: Gallery | None) -> Iterator[Sequence[object]]:
    """Yield metric, target, value, low, high, reached, threshold, errors and published of the rates of a gallery."""
    for rank, rate in zip(RANKS, found.rank_rates.tolist()):
        yield ("rank rate", rank, rate, "", "", "", "", "", "")
    for index, fpir in enumerate(FPIRS):
        if gallery is None:
            yield ("TPIR at FPIR", fpir, found.tpir[index], "", "", "", "", "", "")
            continue
        reached, threshold = (float(array[index]) for array in (gallery.found.fpir_reached, gallery.found.thresholds))
        published = "" if gallery.published_tpir is None else float(gallery.published_tpir[index])
        yield ("TPIR at FPIR", fpir, float(found.tpir[index]), "", "", reached, threshold, "", published)
