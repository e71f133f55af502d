"""Write what searches find as one HTML file that needs no network and no script."""

from __future__ import annotations

import os
from typing import Mapping, Sequence

from insightface_mx.eval import drawing, page_parts
from insightface_mx.eval.features.face_features import FaceReader
from insightface_mx.eval.intervals import BY_PEOPLE, words_of
from insightface_mx.eval.page_parts import MOST_FACES
from insightface_mx.eval.searches.identify_results import SHEET_FPIR, GallerySearch
from insightface_mx.eval.searches.mate_ranks import MateRanks
from insightface_mx.eval.searches.rates import Rate
from insightface_mx.formats.html_page import page, table, text


def make_page(
    result: GallerySearch | MateRanks,
    rates: Sequence[Rate],
    reader: FaceReader | None,
    model: str,
    settings: Sequence[tuple[str, Mapping[str, object]]],
) -> str:
    """Return the page.

    Args:
        result: The searches.
        rates: Their rates.
        reader: Reads the photos; None where there are feature files alone: no faces are shown then.
        model: What figures call the network.
        settings: Title and entries of each table of settings.

    Raises:
        UserError: matplotlib is not installed.
    """
    name = os.path.basename(os.path.normpath(result.probes.path))
    parts = [_overview(result, rates), f"<h2>{text(name)}</h2>"]
    parts.append(page_parts.figures(_drawn(name, model, result), [model]))
    if isinstance(result, GallerySearch) and reader and not result.probes.are_features:
        missed, alarms = result.face_figures(reader, MOST_FACES)
        parts.append(page_parts.faces("Missed mates", "the first candidate is somebody else", missed))
        above = f"no mate, above the threshold of FPIR {SHEET_FPIR:g}"
        parts.append(page_parts.faces("False alarms", above, alarms))
    return page("Face identification", "\n".join([*parts, page_parts.settings(settings)]))


def _overview(result: GallerySearch | MateRanks, rates: Sequence[Rate]) -> str:
    rows: list[tuple[object, ...]] = []
    for rate in rates:
        if rate.interval is None:
            rows.append((rate.name, "no search can tell", "", "", "", "", ""))
            continue
        has_threshold = bool(rate.reached_text)
        cosine = f"{rate.threshold:.5f}" if has_threshold else ""
        squared = f"{2 - 2 * rate.threshold:.5f}" if has_threshold else ""
        shown = page_parts.ends(rate.interval)
        rows.append((rate.name, f"{rate.value:.5f}", shown, rate.interval.errors, cosine, squared, rate.reached_text))
    headings = ("rate", "value", "95 % interval", "errors", "cosine above", "squared distance below", "reached")
    counts = ", ".join(f"{count} {name.replace('_', '-')}" for name, count in result.counts().items())
    notes = [
        f"{counts}.",
        "Rank k: the fraction of mated searches whose mate is among the first k. TPIR at FPIR: the fraction of mated "
        "searches with the mate first and above the threshold that no more than this fraction of the searches without "
        "mate passes. Errors: mates that come later; false alarms at a threshold.",
        page_parts.FEW_NOTE,
        f"Intervals: {words_of(BY_PEOPLE, '')}; galleries and distractors stay as they are.",
    ]
    return table(headings, rows) + page_parts.notes(notes)


def _drawn(name: str, model: str, result: GallerySearch | MateRanks) -> list[tuple[str, str]]:
    """Return SVG and caption of each figure that there can be."""
    if isinstance(result, MateRanks):
        pairs = drawing.figures(name, [_line_of_pairs(model, result)])
        return [drawing.ranks_figure(name, [(model, result.rank)]), *pairs]
    found = result.found.searches
    drawn = [drawing.ranks_figure(name, [(model, found.rank[found.rank > 0])])] if found.rank.any() else []
    if found.rank.any() and not found.rank.all():
        drawn += drawing.figures(name, [drawing.search_line(model, found, result.threshold)], drawing.SEARCHES)
    return drawn


def _line_of_pairs(model: str, result: MateRanks) -> drawing.Line:
    genuine, impostor = (drawing.Scores(each.scores, each.times) for each in (result.genuine, result.impostor))
    return drawing.Line(model, genuine, impostor, result.det())
