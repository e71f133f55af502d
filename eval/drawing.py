"""Draw the figures of a report with matplotlib, as SVG that a page holds: legible on white and on black."""

from __future__ import annotations

import io
import re
from functools import partial
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np

from insightface_mx.base.errors import require
from insightface_mx.eval import curves
from insightface_mx.eval.identification import Searches
from insightface_mx.eval.intervals import FEWEST_ERRORS
from insightface_mx.eval.score_histogram import ScoreHistogram
from insightface_mx.formats.html_page import colour_of, dashes_of, text


class Scores(NamedTuple):
    """Scores, (n,), and how often each one is there, (n,)."""

    values: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Scores:
        """Return scores that are there once."""
        return cls(values, np.ones(len(values), np.int64))

    @classmethod
    def of_histogram(cls, histogram: ScoreHistogram) -> Scores:
        """Return the upper edges of the bins that hold scores."""
        used = np.flatnonzero(histogram.counts)
        return cls(histogram.upper_edges[used], histogram.counts[used])

    @property
    def total(self) -> int:
        """How many scores there are."""
        return int(self.counts.sum())


class Line(NamedTuple):
    """What figures draw of a model.

    Attributes:
        name: Of the model.
        genuine: Scores of pairs of one identity.
        impostor: Scores of pairs of two.
        det: Their error rates.
        threshold: A cosine to mark; None: none.
    """

    name: str
    genuine: Scores
    impostor: Scores
    det: curves.Det
    threshold: float | None = None


class Words(NamedTuple):
    """How figures call what they count."""

    genuine: str
    impostor: str
    false_accepts: str
    true_accepts: str
    misses: str
    threshold: str
    score: str = "cosine"


PAIRS = Words(
    "Genuine pairs", "impostor pairs", "FMR", "true accept rate", "FNMR",
    "the threshold of the accuracy, the median of the folds",
)  # fmt: skip
SEARCHES = Words(
    "Mated searches", "non-mated searches", "FPIR", "TPIR", "FNIR", "the threshold of FPIR 0.01",
)  # fmt: skip
Draw = Callable[..., None]  # on matplotlib's axes

SIZE = (5.2, 3.9)  # inches; the page scales a figure to its column
_INK = "#010203"  # stands for the colour of the page's text
_STEPS = 600  # that an axis is rounded to: a curve has no more points than a screen shows
_BINS = 80
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "insightface-mx",
    "font.size": 10,
    "font.family": "sans-serif",
    "lines.linewidth": 1.6,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
}


def figures(name: str, lines: Sequence[Line], words: Words = PAIRS) -> list[tuple[str, str]]:
    """Draw ROC, DET, histogram and error rates of the models on one set.

    Args:
        name: Of the set.
        lines: The models; colours and dashes are those of `html_page.key`.
        words: What is counted.

    Returns:
        SVG and caption of each figure.

    Raises:
        UserError: matplotlib is not installed.
    """
    require("plot", "matplotlib")
    few = f"In the grey part fewer than {FEWEST_ERRORS} errors carry a curve."
    accepted = f"{words.genuine} accepted, by {words.impostor} accepted. {few}"
    missed = f"{words.genuine} rejected ({words.misses}), by {words.impostor} accepted ({words.false_accepts}). {few}"
    mark = f" Vertical line: {words.threshold}." if any(line.threshold is not None for line in lines) else ""
    drawn: list[tuple[Draw, str, str]] = [
        (_roc, "ROC", accepted),
        (_det, "DET", missed),
        (_histogram, "Scores", f"{words.genuine}: solid, {words.impostor}: dashed.{mark}"),
        (
            _rates,
            "Error rates by threshold",
            f"{words.false_accepts}: solid, {words.misses}: dashed. A face is accepted at the threshold or above.",
        ),
    ]
    described = ", ".join(line.name for line in lines)
    return [
        (_svg(partial(draw, lines=lines, words=words), f"{title} of {described} on {name}"), f"{title}. {said}")
        for draw, title, said in drawn
    ]


def search_line(name: str, found: Searches, threshold: float | None = None) -> Line:
    """Return what figures draw of searches: TPIR and FPIR, and the mates' similarities; both kinds must be there."""
    mated, scores = found.rank > 0, found.scores
    curve = curves.det(scores[mated], scores[~mated])
    curve = curves.Det(*(values[np.isfinite(curve.threshold) | (curve.threshold > 0)] for values in curve))
    genuine, impostor = Scores.of(found.mate[mated]), Scores.of(scores[~mated])
    return Line(name, genuine, impostor, curve, threshold)


def ranks_figure(name: str, lines: Sequence[tuple[str, np.ndarray]]) -> tuple[str, str]:
    """Draw the rates of all ranks (CMC), and return SVG and caption.

    Args:
        name: Of the set.
        lines: Name of each model, and (n,) the ranks of its mates.
    """
    require("plot", "matplotlib")

    def draw(axes: Any) -> None:
        for index, (_, ranks) in enumerate(lines):
            values, counts = np.unique(ranks, return_counts=True)
            _line(
                axes,
                index,
                np.append(values, max(values[-1], 10)),
                np.append(np.cumsum(counts), len(ranks)) / len(ranks),
            )
            axes.plot(values[:1], np.cumsum(counts)[:1] / len(ranks), "o", color=colour_of(index))
        axes.set(xscale="log", xlabel="rank", ylabel="mated searches found")

    described = ", ".join(model for model, _ in lines)
    caption = "CMC. Mated searches whose mate is among the first k, by k."
    return _svg(draw, f"CMC of {described} on {name}"), caption


def _roc(axes: Any, lines: Sequence[Line], words: Words) -> None:
    lowest = min(0.5 / line.impostor.total for line in lines)
    for index, line in enumerate(lines):
        far, tar = _without_tail(line.det.fmr, 1 - line.det.fnmr)
        _line(axes, index, *_thinned(np.maximum(far, lowest), tar, log_x=True))
    label = "false accept rate" if words is PAIRS else words.false_accepts
    axes.set(xscale="log", xlim=(lowest, 1), xlabel=label, ylabel=words.true_accepts)
    axes.set_ylim(top=1.005)
    _shade(axes.axvspan, lowest, FEWEST_ERRORS / lines[0].impostor.total)


def _det(axes: Any, lines: Sequence[Line], words: Words) -> None:
    lowest = [
        min(0.5 / scores.total for scores in kind) for kind in zip(*((line.impostor, line.genuine) for line in lines))
    ]
    for index, line in enumerate(lines):
        fmr, fnmr = _without_tail(line.det.fmr, line.det.fnmr)
        _line(axes, index, *_thinned(np.maximum(fmr, lowest[0]), np.maximum(fnmr, lowest[1]), log_x=True, log_y=True))
    axes.set(xscale="log", yscale="log", xlim=(lowest[0], 1), ylim=(lowest[1], 1))
    axes.set(xlabel=words.false_accepts, ylabel=words.misses)
    _shade(axes.axvspan, lowest[0], FEWEST_ERRORS / lines[0].impostor.total)
    _shade(axes.axhspan, lowest[1], FEWEST_ERRORS / lines[0].genuine.total)


def _histogram(axes: Any, lines: Sequence[Line], words: Words) -> None:
    every = np.concatenate([scores.values for line in lines for scores in (line.genuine, line.impostor)])
    edges = np.linspace(every.min(), max(every.max(), every.min() + 1e-3), _BINS + 1)
    for index, line in enumerate(lines):
        for scores, style in ((line.genuine, "-"), (line.impostor, "--")):
            counts, _ = np.histogram(scores.values, edges, weights=scores.counts)
            axes.stairs(counts, edges, color=colour_of(index), linestyle=style, linewidth=1.6)
        if line.threshold is not None:
            axes.axvline(line.threshold, color=colour_of(index), linewidth=1)
    axes.set(yscale="log", xlabel=words.score, ylabel="pairs" if words is PAIRS else "searches")
    axes.set_ylim(bottom=0.7)


def _rates(axes: Any, lines: Sequence[Line], words: Words) -> None:
    lowest = min(0.5 / max(line.genuine.total, line.impostor.total) for line in lines)
    for index, line in enumerate(lines):
        finite = np.isfinite(line.det.threshold)
        for rate, style in ((line.det.fmr, "-"), (line.det.fnmr, "--")):
            x, y = _thinned(line.det.threshold[finite], rate[finite], log_y=True, lowest=lowest)
            axes.plot(x, y, color=colour_of(index), linestyle=style)
    axes.set(yscale="log", ylim=(lowest, 1), xlabel=f"threshold ({words.score})", ylabel="rate")


def _without_tail(fmr: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out the thresholds above the first without a false match, where only more genuine pairs are lost."""
    end = int(np.argmax(fmr == 0)) + 1  # the last FMR is 0
    return fmr[:end], other[:end]


def _line(axes: Any, index: int, x: np.ndarray, y: np.ndarray) -> None:
    dashes = tuple(map(float, dashes_of(index).split()))
    axes.plot(x, y, color=colour_of(index), linestyle=(0, dashes) if dashes else "-")


def _shade(span: Callable[..., object], low: float, high: float) -> None:
    """Mark the part of an axis that few errors carry."""
    span(low, min(1, max(low, high)), color="#808080", alpha=0.18, linewidth=0)


def _thinned(
    x: np.ndarray, y: np.ndarray, log_x: bool = False, log_y: bool = False, lowest: float = 1e-12
) -> tuple[np.ndarray, np.ndarray]:
    """Leave out the points of a curve that no screen tells from their neighbour, and rates that are 0 on a log axis."""
    if log_y:
        x, y = x[y >= lowest], y[y >= lowest]
    if not len(x):
        return x, y
    shown = [np.log10(values) if log else values for values, log in ((x, log_x), (y, log_y))]
    places = [np.round((values - values.min()) / (np.ptp(values) or 1) * _STEPS) for values in shown]
    moved = np.any(np.diff(places, axis=1, prepend=-1) != 0, axis=0)
    moved[-1] = True
    return x[moved], y[moved]


def _svg(draw: Callable[[Any], None], description: str) -> str:
    """Return a figure as an <svg> element with a text; its lines of ink take the colour of the page."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(SIZE, layout="constrained")
        axes = figure.add_subplot()
        figure.patch.set_alpha(0)
        axes.patch.set_alpha(0)
        axes.grid(color="#808080", alpha=0.3, linewidth=0.6)
        draw(axes)
        file = io.StringIO()
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None})
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(_INK, "currentColor")
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", drawing, count=1)
    drawing = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", drawing, count=1)
    drawing = re.sub(r'(?<!clip-)\bid="(?:figure|axes|patch|line2d|text|matplotlib|xtick|ytick)[^"]*"', "", drawing)
    return drawing.replace("<svg", f'<svg role="img" aria-label="{text(description)}"', 1)
