"""Write what verification sets say of networks as one HTML file that needs no network and no script."""

from __future__ import annotations

import base64
import math
from typing import Mapping, NamedTuple, Sequence

import cv2
import numpy as np

from insightface_mx.eval import drawing
from insightface_mx.eval.intervals import FEWEST_ERRORS, Interval
from insightface_mx.eval.summary import Groups, Pairs, Summary, TarRow
from insightface_mx.formats.html_page import key, page, table, text

MOST_FACES = 8  # pairs of each kind of error
_FEW = "†"


class WrongPair(NamedTuple):
    """A wrongly judged pair, and its two faces as PNG files."""

    pair: int
    cosine: float
    threshold: float
    names: tuple[str, str]
    faces: tuple[bytes, bytes]


class Result(NamedTuple):
    """A network on a set.

    Attributes:
        set_name: Name of the set.
        model: Name of the network.
        pairs: Its scores.
        summary: Its numbers.
        false_matches: The worst pairs of two identities that are taken for one.
        false_non_matches: The worst pairs of one identity that are taken for two.
        names: The photos of each pair; None: not known.
        intervals: What the intervals rest on, in words.
    """

    set_name: str
    model: str
    pairs: Pairs
    summary: Summary
    false_matches: list[WrongPair]
    false_non_matches: list[WrongPair]
    names: list[tuple[str, str]] | None
    intervals: str


def make_page(results: Sequence[Result], settings: Sequence[tuple[str, Mapping[str, object]]]) -> str:
    """Return the page.

    Args:
        results: Sets and models; those of a set are drawn in one figure.
        settings: Title and entries of each table of settings.

    Raises:
        UserError: matplotlib is not installed.
    """
    names = list(dict.fromkeys(result.set_name for result in results))
    parts = [_overview(results)]
    for name in names:
        parts += _set_section(name, [result for result in results if result.set_name == name])
    parts.append("<h2>Settings</h2>")
    for title, entries in settings:
        parts.append(table(("setting", "value"), list(entries.items()), title))
    return page("Face verification", "\n".join(parts))


def _overview(results: Sequence[Result]) -> str:
    rows = [
        (
            result.set_name,
            result.model,
            f"{result.summary.genuine} + {result.summary.impostor}",
            f"{result.summary.accuracy:.5f} ± {result.summary.std:.5f}, {_ends(result.summary.accuracy_interval)}",
            *(_tar(row, result.summary.genuine) for row in result.summary.tar_at_far),
            f"{result.summary.eer:.5f}",
            f"{result.summary.auc:.5f}",
            f"{result.summary.decidability:.3f}",
        )
        for result in results
    ]
    headings = (
        "set", "model", "genuine + impostor pairs", "accuracy ± std of the folds, 95 % interval",
        *(f"TAR at FAR {row.far:g}" for row in results[0].summary.tar_at_far), "EER", "AUC", "d'",
    )  # fmt: skip
    notes = [
        "Accuracy: mean of the folds, for image plus mirror image. TAR at FAR: the fraction of genuine pairs above the "
        "lowest threshold that no more than this fraction of impostor pairs exceeds; accepted pairs in brackets.",
        f"{_FEW} fewer than {FEWEST_ERRORS} errors carry this figure: it may be far off.",
        *dict.fromkeys(f"Intervals on {result.set_name}: {result.intervals}." for result in results),
    ]
    return table(headings, rows) + "".join(f'<p class="note">{text(note)}</p>\n' for note in notes)


def _ends(interval: Interval) -> str:
    return f"[{interval.low:.5f}, {interval.high:.5f}]{_FEW if interval.few_errors else ''}"


def _tar(row: TarRow, genuine: int) -> str:
    false = "1 false accept" if row.false_accepts == 1 else f"{row.false_accepts} false accepts"
    return f"{row.tar:.5f} ({row.accepted} of {genuine}; {false}), {_ends(row.interval)}"


def _set_section(name: str, results: Sequence[Result]) -> list[str]:
    """Return the parts of a set: figures, thresholds, groups and faces of each model."""
    drawn = drawing.figures(name, [(result.model, result.pairs) for result in results])
    pictures = [f"<figure>{svg}<figcaption>{text(caption)}</figcaption></figure>" for svg, caption in drawn]
    parts = [
        f"<h2>{text(name)}</h2>",
        key([result.model for result in results]),
        f'<div class="figures">{"".join(pictures)}</div>',
    ]
    for result in results:
        parts += [f"<h3>{text(result.model)} on {text(name)}</h3>", _thresholds(result.summary)]
        if result.summary.groups:
            parts.append(_groups(result.summary.groups))
        parts += _faces("False matches", "two identities taken for one", result.false_matches)
        parts += _faces("False non-matches", "one identity taken for two", result.false_non_matches)
    return parts


def _thresholds(summary: Summary) -> str:
    rows: list[tuple[object, ...]] = [
        (
            row.name,
            f"{row.cosine:.5f}",
            f"{row.squared_distance:.5f}",
            f"{row.fmr:.6f} ({row.false_matches} of {summary.impostor}){_few(row.false_matches)}",
            f"{row.fnmr:.5f} ({round(row.fnmr * summary.genuine)} of {summary.genuine})"
            f"{_few(round(row.fnmr * summary.genuine))}",
        )
        for row in summary.thresholds
    ]
    headings = ("rate wanted", "cosine above", "squared distance below", "FMR reached", "FNMR there")
    caption = (
        f"Thresholds. The accuracy's own: squared distance {summary.threshold:.4f}, cosine "
        f"{summary.threshold_cosine:.4f} (median of the folds); at the EER: cosine {summary.eer_cosine:.4f}."
    )
    return table(headings, rows, caption)


def _few(errors: int) -> str:
    return _FEW if errors < FEWEST_ERRORS else ""


def _groups(groups: Groups) -> str:
    rows = [
        (
            row.name,
            row.pairs,
            f"{row.accuracy:.5f} ± {row.std:.5f}{_few(row.errors)}",
            _rate(row.fmr),
            _rate(row.fnmr),
        )
        for row in groups.rows
    ]
    skew = "undefined" if math.isnan(groups.skew) else f"{groups.skew:.2f}"
    caption = (
        f"Groups. Mean of the accuracies {groups.mean:.5f}, standard deviation {groups.std:.5f}, largest "
        f"error over smallest {skew}. FMR and FNMR are those at the whole set's threshold."
    )
    return table(("group", "pairs", "accuracy ± std of its folds", "FMR", "FNMR"), rows, caption)


def _rate(rate: float) -> str:
    return "-" if math.isnan(rate) else f"{rate:.5f}"


def _faces(title: str, meaning: str, wrong: Sequence[WrongPair]) -> list[str]:
    """Return the figures of wrongly judged pairs."""
    if not wrong:
        return [f'<p class="note">{title}: none ({meaning}).</p>']
    shown = "".join(_pair(pair) for pair in wrong)
    return [f"<h4>{title}: the worst {len(wrong)} ({meaning})</h4>", f'<div class="pairs">{shown}</div>']


def _pair(wrong: WrongPair) -> str:
    images = []
    for place, name, face in zip(("first", "second"), wrong.names, wrong.faces):
        data = base64.b64encode(face).decode("ascii")
        described = f"{place} face of pair {wrong.pair}" + (f": {name}" if name else "")
        images.append(f'<img src="data:image/png;base64,{data}" alt="{text(described)}">')
    caption = f"pair {wrong.pair}: cosine {wrong.cosine:.4f}, threshold {wrong.threshold:.4f}"
    shown = "".join(f"<br>{text(name)}" for name in wrong.names if name)
    return f"<figure>{''.join(images)}<figcaption>{caption}{shown}</figcaption></figure>"


def worst_pairs(
    pairs: Pairs, images: np.ndarray, names: Sequence[tuple[str, str]] | None
) -> tuple[list[WrongPair], list[WrongPair]]:
    """Return the worst false matches and false non-matches of the accuracy, at most MOST_FACES of each.

    Args:
        pairs: The scores.
        images: (2n, 3, height, width) uint8, RGB, a numpy array or NDArray.
        names: The photos of each pair; None: not known.
    """
    worst_first = np.argsort(-np.abs(pairs.distance - pairs.threshold), kind="stable")
    wrong = worst_first[~pairs.correct[worst_first]]
    found = [wrong[pairs.issame[wrong] == same][:MOST_FACES].tolist() for same in (False, True)]
    false_matches, false_non_matches = ([_wrong_pair(pair, pairs, images, names) for pair in kind] for kind in found)
    return false_matches, false_non_matches


def _wrong_pair(pair: int, pairs: Pairs, images: np.ndarray, names: Sequence[tuple[str, str]] | None) -> WrongPair:
    both = [_png(images[index]) for index in (2 * pair, 2 * pair + 1)]
    threshold = 1 - pairs.threshold[pair] / 2
    shown = names[pair] if names else ("", "")
    return WrongPair(pair, float(pairs.cosine[pair]), float(threshold), shown, (both[0], both[1]))


def _png(image: np.ndarray) -> bytes:
    """Encode an image (3, height, width), RGB, a numpy array or NDArray."""
    pixels = np.asarray(image.asnumpy() if hasattr(image, "asnumpy") else image)
    return cv2.imencode(".png", pixels.transpose(1, 2, 0)[:, :, ::-1])[1].tobytes()
