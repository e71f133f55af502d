"""Write what verification sets say of networks as one HTML file that needs no network and no script."""

from __future__ import annotations

import math
from typing import Mapping, NamedTuple, Sequence

import numpy as np

from insightface_mx.eval import drawing, page_parts
from insightface_mx.eval.curves import det
from insightface_mx.eval.page_parts import MOST_FACES, Face, FaceFigure
from insightface_mx.eval.summary import Groups, Pairs, Summary, TarRow
from insightface_mx.formats.html_page import page, table, text


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
    false_matches: list[FaceFigure]
    false_non_matches: list[FaceFigure]
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
    return page("Face verification", "\n".join([*parts, page_parts.settings(settings)]))


def _overview(results: Sequence[Result]) -> str:
    rows = [
        (
            result.set_name,
            result.model,
            f"{result.summary.genuine} + {result.summary.impostor}",
            f"{result.summary.accuracy:.5f} ± {result.summary.std:.5f}, "
            f"{page_parts.ends(result.summary.accuracy_interval)}",
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
        page_parts.FEW_NOTE,
        *dict.fromkeys(f"Intervals on {result.set_name}: {result.intervals}." for result in results),
    ]
    return table(headings, rows) + page_parts.notes(notes)


def _tar(row: TarRow, genuine: int) -> str:
    false = "1 false accept" if row.false_accepts == 1 else f"{row.false_accepts} false accepts"
    return f"{row.tar:.5f} ({row.accepted} of {genuine}; {false}), {page_parts.ends(row.interval)}"


def _set_section(name: str, results: Sequence[Result]) -> list[str]:
    """Return the parts of a set: figures, thresholds, groups and faces of each model."""
    drawn = drawing.figures(name, [_line(result) for result in results])
    parts = [f"<h2>{text(name)}</h2>", page_parts.figures(drawn, [result.model for result in results])]
    for result in results:
        parts += [f"<h3>{text(result.model)} on {text(name)}</h3>", _thresholds(result.summary)]
        if result.summary.groups:
            parts.append(_groups(result.summary.groups))
        wrong = page_parts.faces("False matches", "two identities taken for one", result.false_matches)
        parts += [wrong, page_parts.faces("False non-matches", "one identity taken for two", result.false_non_matches)]
    return parts


def _line(result: Result) -> drawing.Line:
    genuine, impostor = (drawing.Scores.of(kind) for kind in (result.pairs.genuine, result.pairs.impostor))
    threshold = 1 - result.pairs.usual_threshold / 2
    return drawing.Line(result.model, genuine, impostor, det(genuine.values, impostor.values), threshold)


def _thresholds(summary: Summary) -> str:
    caption = (
        f"Thresholds. The accuracy's own: squared distance {summary.threshold:.4f}, cosine "
        f"{summary.threshold_cosine:.4f} (median of the folds); at the EER: cosine {summary.eer_cosine:.4f}."
    )
    return page_parts.threshold_table(summary.thresholds, summary.genuine, summary.impostor, caption)


def _groups(groups: Groups) -> str:
    rows = [
        (
            row.name,
            row.pairs,
            f"{row.accuracy:.5f} ± {row.std:.5f}{page_parts.few(row.errors)}",
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


def worst_pairs(
    pairs: Pairs, images: np.ndarray, names: Sequence[tuple[str, str]] | None
) -> tuple[list[FaceFigure], list[FaceFigure]]:
    """Return the worst false matches and false non-matches of the accuracy, at most MOST_FACES of each.

    Args:
        pairs: The scores.
        images: (2n, 3, height, width) uint8, RGB, a numpy array or NDArray.
        names: The photos of each pair; None: not known.
    """
    worst_first = np.argsort(-np.abs(pairs.distance - pairs.threshold), kind="stable")
    wrong = worst_first[~pairs.correct[worst_first]]
    found = [wrong[pairs.issame[wrong] == same][:MOST_FACES].tolist() for same in (False, True)]
    false_matches, false_non_matches = ([_face_figure(pair, pairs, images, names) for pair in kind] for kind in found)
    return false_matches, false_non_matches


def _face_figure(pair: int, pairs: Pairs, images: np.ndarray, names: Sequence[tuple[str, str]] | None) -> FaceFigure:
    shown = names[pair] if names else ("", "")
    faces = [
        Face(_png(images[index]), f"{place} face of pair {pair}" + (f": {name}" if name else ""))
        for index, place, name in zip((2 * pair, 2 * pair + 1), ("first", "second"), shown)
    ]
    threshold = 1 - pairs.threshold[pair] / 2
    caption = f"pair {pair}: cosine {pairs.cosine[pair]:.4f}, threshold {threshold:.4f}"
    return FaceFigure(faces, [caption, *filter(None, shown)])


def _png(image: np.ndarray) -> bytes:
    """Encode an image (3, height, width), RGB, a numpy array or NDArray."""
    pixels = np.asarray(image.asnumpy() if hasattr(image, "asnumpy") else image)
    return page_parts.png_of(pixels.transpose(1, 2, 0)[:, :, ::-1])
