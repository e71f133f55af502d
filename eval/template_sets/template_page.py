"""Write what tests with templates find as one HTML file that needs no network and no script."""

from __future__ import annotations

import os
from typing import Mapping, Sequence

import numpy as np

from insightface_mx.eval import drawing, page_parts
from insightface_mx.eval.features.face_features import FaceReader
from insightface_mx.eval.intervals import Interval, words_of
from insightface_mx.eval.page_parts import Face, FaceFigure
from insightface_mx.eval.template_sets.ijb_files import Images
from insightface_mx.eval.template_sets.pair_scores import FARS, ScoredPair, Verification
from insightface_mx.eval.template_sets.template_results import rates_of
from insightface_mx.eval.template_sets.template_tests import Gallery, Mean, Result
from insightface_mx.formats.html_page import page, table, text


def make_page(
    results: Sequence[Result],
    images: Images,
    reader: FaceReader,
    name: str,
    settings: Sequence[tuple[str, Mapping[str, object]]],
) -> str:
    """Return the page.

    Args:
        results: Those of the settings, which are drawn in one figure.
        images: Of the set.
        reader: Reads them.
        name: Of the set.
        settings: Title and entries of each table of settings.

    Raises:
        UserError: matplotlib is not installed.
    """
    parts = []
    tested = [(result, result.verification) for result in results if result.verification]
    if tested:
        parts.append(_overview(tested))
    if results[0].mean:
        parts.append(_searches(results))
    parts.append(page_parts.notes([page_parts.FEW_NOTE]))
    if tested:
        parts += [f"<h2>1:1 on {text(name)}</h2>", _pair_figures(name, tested)]
        parts += [_of_setting(result, found, images, reader) for result, found in tested]
    for place, gallery in enumerate(results[0].galleries):
        parts.append(_search_figures(f"gallery {gallery.name}", results, place))
    return page("Face templates", "\n".join([*parts, page_parts.settings(settings)]))


def _overview(tested: Sequence[tuple[Result, Verification]]) -> str:
    rows = [
        (_title(result), f"{found.genuine} + {found.impostor}", *map(_tar, _far_rows(found)))
        for result, found in tested
    ]
    headings = ("1:1, setting", "genuine + impostor pairs", *(f"TAR at FAR {far:g}" for far in FARS))
    result, first = tested[0]
    lines = [
        "TAR at FAR: the fraction of genuine pairs above the lowest threshold that no more than this fraction of "
        "impostor pairs exceeds; false accepts in brackets.",
        f"Intervals of TAR: {words_of(first.intervals[0].method, result.reason)}.",
    ]
    if first.published:
        lines.append("As published: at the point of the ROC whose FAR, in brackets, is nearest to the target.")
    return table(headings, rows) + page_parts.notes(lines)


def _far_rows(found: Verification) -> list[tuple[float, Interval, tuple[float, float] | None]]:
    published = zip(*(values.tolist() for values in found.published[:2])) if found.published else [None] * len(FARS)
    return list(zip(found.strict.tar.tolist(), found.intervals, published))


def _tar(row: tuple[float, Interval, tuple[float, float] | None]) -> str:
    tar, interval, published = row
    shown = f"{tar:.5f} ({interval.errors}), {page_parts.ends(interval)}"
    return shown + (f"; as published {published[0]:.5f} ({published[1]:.2e})" if published else "")


def _searches(results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        found: list[tuple[str, Gallery | Mean]] = [(gallery.name, gallery) for gallery in result.galleries]
        if len(found) > 1 and result.mean:
            found.append(("all", result.mean))
        for name, each in found:
            counts = f"{each.mated} + {each.others}" if isinstance(each, Gallery) else str(each.mated)
            rows.append((_title(result), name, counts, *(_rate(*rate[2:]) for rate in rates_of(each))))
    names = [f"{metric} {target:g}" for metric, target, _, _ in rates_of(results[0].galleries[0])]
    headings = ("1:N, setting", "gallery", "mated + non-mated searches", *names)
    lines = [
        "Rank k: the fraction of mated searches whose mate is among the first k subjects. TPIR at FPIR: the fraction "
        "of mated searches with the mate first and above the threshold that no more than this fraction of the "
        "non-mated searches passes.",
        "Intervals of searches: subjects drawn with replacement, 1000 times; galleries stay as they are.",
    ]
    return table(headings, rows) + page_parts.notes(lines)


def _rate(value: float, interval: Interval | None) -> str:
    return f"{value:.5f}, {page_parts.ends(interval)}" if interval else "no search can tell"


def _title(result: Result) -> str:
    setting = result.setting
    return f"{setting.words} ({setting.notebook_name}; ijb_evals.py: {setting.evals_name})"


def _pair_figures(name: str, tested: Sequence[tuple[Result, Verification]]) -> str:
    marked = _marked(tested[0][1])
    lines = [
        drawing.Line(
            result.setting.words,
            drawing.Scores.of_histogram(found.curve.genuine),
            drawing.Scores.of_histogram(found.curve.impostor),
            found.curve.det(),
            float(found.strict.threshold[marked]),
        )
        for result, found in tested
    ]
    words = drawing.PAIRS._replace(threshold=f"the threshold of FAR {FARS[marked]:g}")
    return page_parts.figures(drawing.figures(name, lines, words), [line.name for line in lines])


def _marked(found: Verification) -> int:
    """Return the place of the FAR whose threshold figures show: the lowest one with a false accept."""
    return next((place for place, one in enumerate(found.intervals) if one.errors), len(FARS) - 1)


def _search_figures(name: str, results: Sequence[Result], place: int) -> str:
    """Return the figures of the searches in a gallery."""
    found = [(result.setting.words, result.galleries[place].searches) for result in results]
    mated = found[0][1].rank > 0
    if not mated.any():
        return ""
    drawn = [drawing.ranks_figure(name, [(words, each.rank[mated]) for words, each in found])]
    if not mated.all():
        lines = [drawing.search_line(words, each) for words, each in found]
        drawn += drawing.figures(name, lines, drawing.SEARCHES)
    return f"<h2>1:N, {text(name)}</h2>" + page_parts.figures(drawn, [words for words, _ in found])


def _of_setting(result: Result, found: Verification, images: Images, reader: FaceReader) -> str:
    """Return the thresholds and the worst pairs of a setting."""
    marked = _marked(found)
    threshold = float(found.strict.threshold[marked])
    wrong = [
        [_face_figure(pair, result.templates, images, reader) for pair in pairs if (pair.score > threshold) == accepted]
        for pairs, accepted in ((found.false_matches, True), (found.false_non_matches, False))
    ]
    caption = f"Thresholds of {result.setting.words}"
    above = f"at the threshold of FAR {FARS[marked]:g}, cosine {threshold:.4f}; the first image of each template"
    return "\n".join(
        [
            f"<h3>{text(_title(result))}</h3>",
            page_parts.threshold_table(found.curve.thresholds, found.genuine, found.impostor, caption),
            page_parts.faces("False matches", f"two subjects taken for one {above}", wrong[0]),
            page_parts.faces("False non-matches", f"one subject taken for two {above}", wrong[1]),
        ]
    )


def _face_figure(pair: ScoredPair, templates: np.ndarray, images: Images, reader: FaceReader) -> FaceFigure:
    names, faces = [], []
    for place in (pair.first, pair.second):
        template = int(templates[place])
        photo = images.photos[int(np.argmax(images.templates == template))]
        names.append(f"template {images.name(template)}")
        faces.append(
            Face(page_parts.png_of(reader.face_or_blank(photo)), f"{names[-1]}: {os.path.basename(photo.path)}")
        )
    return FaceFigure(faces, [f"{names[0]}, {names[1]}: cosine {pair.score:.4f}"])
