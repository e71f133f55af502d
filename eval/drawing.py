"""Draw the figures of a report with matplotlib, as SVG that a page holds: legible on white and on black."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, Callable, Sequence

import numpy as np

from insightface_mx.base.errors import require
from insightface_mx.eval import curves
from insightface_mx.eval.intervals import FEWEST_ERRORS
from insightface_mx.formats.html_page import colour_of, dashes_of, text

if TYPE_CHECKING:
    from insightface_mx.eval.summary import Pairs

Draw = Callable[[Any, Sequence["Pairs"]], None]  # on matplotlib's axes

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


def figures(name: str, models: Sequence[tuple[str, Pairs]]) -> list[tuple[str, str]]:
    """Draw ROC, DET, histogram and error rates of the models on one set.

    Args:
        name: Of the set.
        models: Each model's name and scores; colours and dashes are those of `html_page.key`.

    Returns:
        SVG and caption of each figure.

    Raises:
        UserError: matplotlib is not installed.
    """
    require("plot", "matplotlib")
    few = f"In the grey part fewer than {FEWEST_ERRORS} errors carry a curve."
    drawn: list[tuple[Draw, str, str]] = [
        (_roc, "ROC", f"Genuine pairs accepted, by impostor pairs accepted. {few}"),
        (_det, "DET", f"Genuine pairs rejected (FNMR), by impostor pairs accepted (FMR). {few}"),
        (
            _histogram,
            "Scores",
            "Genuine pairs: solid, impostor pairs: dashed. Vertical line: the threshold of the accuracy, the median of "
            "the folds.",
        ),
        (_rates, "Error rates by threshold", "FMR: solid, FNMR: dashed. A pair is accepted at the threshold or above."),
    ]
    scores = [pairs for _, pairs in models]
    described = ", ".join(model for model, _ in models)
    return [
        (_svg(draw, scores, f"{title} of {described} on {name}"), f"{title}. {caption}")
        for draw, title, caption in drawn
    ]


def _roc(axes: Any, models: Sequence[Pairs]) -> None:
    lowest = min(0.5 / len(pairs.impostor) for pairs in models)
    for index, pairs in enumerate(models):
        curve = curves.det(pairs.genuine, pairs.impostor)
        fmr, tar = _without_tail(curve.fmr, 1 - curve.fnmr)
        _line(axes, index, *_thinned(np.maximum(fmr, lowest), tar, log_x=True))
    axes.set(xscale="log", xlim=(lowest, 1), xlabel="false accept rate", ylabel="true accept rate")
    axes.set_ylim(top=1.005)
    _shade(axes.axvspan, lowest, FEWEST_ERRORS / len(models[0].impostor))


def _det(axes: Any, models: Sequence[Pairs]) -> None:
    lowest = [min(0.5 / len(kind) for kind in kinds) for kinds in zip(*((p.impostor, p.genuine) for p in models))]
    for index, pairs in enumerate(models):
        curve = curves.det(pairs.genuine, pairs.impostor)
        fmr, fnmr = _without_tail(curve.fmr, curve.fnmr)
        _line(axes, index, *_thinned(np.maximum(fmr, lowest[0]), np.maximum(fnmr, lowest[1]), log_x=True, log_y=True))
    axes.set(xscale="log", yscale="log", xlim=(lowest[0], 1), ylim=(lowest[1], 1), xlabel="FMR", ylabel="FNMR")
    _shade(axes.axvspan, lowest[0], FEWEST_ERRORS / len(models[0].impostor))
    _shade(axes.axhspan, lowest[1], FEWEST_ERRORS / len(models[0].genuine))


def _histogram(axes: Any, models: Sequence[Pairs]) -> None:
    every = np.concatenate([pairs.cosine for pairs in models])
    edges = np.linspace(every.min(), max(every.max(), every.min() + 1e-3), _BINS + 1)
    for index, pairs in enumerate(models):
        for scores, style in ((pairs.genuine, "-"), (pairs.impostor, "--")):
            counts, _ = np.histogram(scores, edges)
            axes.stairs(counts, edges, color=colour_of(index), linestyle=style, linewidth=1.6)
        axes.axvline(1 - pairs.usual_threshold / 2, color=colour_of(index), linewidth=1)
    axes.set(yscale="log", xlabel="cosine", ylabel="pairs")
    axes.set_ylim(bottom=0.7)


def _rates(axes: Any, models: Sequence[Pairs]) -> None:
    lowest = min(0.5 / max(len(pairs.genuine), len(pairs.impostor)) for pairs in models)
    for index, pairs in enumerate(models):
        curve = curves.det(pairs.genuine, pairs.impostor)
        cosine = curve.threshold[:-1]
        for rate, style in ((curve.fmr, "-"), (curve.fnmr, "--")):
            x, y = _thinned(cosine, rate[:-1], log_y=True, lowest=lowest)
            axes.plot(x, y, color=colour_of(index), linestyle=style)
    axes.set(yscale="log", ylim=(lowest, 1), xlabel="threshold (cosine)", ylabel="rate")


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


def _svg(draw: Draw, models: Sequence[Pairs], description: str) -> str:
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
        draw(axes, models)
        file = io.StringIO()
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None})
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(_INK, "currentColor")
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", drawing, count=1)
    drawing = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", drawing, count=1)
    drawing = re.sub(r'(?<!clip-)\bid="(?:figure|axes|patch|line2d|text|matplotlib|xtick|ytick)[^"]*"', "", drawing)
    return drawing.replace("<svg", f'<svg role="img" aria-label="{text(description)}"', 1)
