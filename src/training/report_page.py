"""Show how a run goes on a page, PREFIX-report.html, which a browser reloads: one curve for each metric of the tests.

The page is written at every test. Its points are in PREFIX-report.json, so that a resumed run continues its curves:
points of batches that the run has still before it, since it was killed or went back, are left out.
"""

from __future__ import annotations

import json
import logging
import math
import time
from typing import Any, Callable, Dict, Mapping, Sequence

from insightface_mx.base.errors import UserError
from insightface_mx.base.limits import MAX_MANIFEST_BYTES
from insightface_mx.files.atomic import report_write_errors, save_text
from insightface_mx.files.json_file import read_json
from insightface_mx.formats.html_page import colour_of, dashes_of, key, page, table, text

REFRESH = 60  # seconds
MAX_POINTS = 5000  # of a curve; a longer run keeps every second one of the older half
ACCURACY = "accuracy/"
_WIDTH, _HEIGHT = 520, 300  # of a chart, SVG units
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 14, 14, 40  # its borders
_CHARTS = {  # title of each chart and its metrics
    "Accuracy by verification set": (ACCURACY,),
    "Loss": ("loss", "lossvalue"),
    "Training images whose class is the most probable": ("acc",),
    "Embedding length (XNorm)": ("Train-XNorm",),
    "Angle to the own class, degrees": ("Train-Angle",),
    "Learning rate": ("lr",),
    "Images a second": ("images/s",),
}

Point = Dict[str, float]


class ReportPage:
    """Collects the metrics of a run and writes its page; a page that cannot be written ends with one warning."""

    def __init__(
        self,
        prefix: str,
        batch_size: int,
        step: int = 0,
        total: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Continue the page of a run that was interrupted, or begin one.

        Args:
            prefix: --prefix.
            batch_size: Images a batch.
            step: Batches so far; of the page that is there already, points up to there are kept.
            total: Batches from here until the end of the run; None: unknown.
            clock: Returns seconds.
        """
        self._prefix, self._batch_size, self._clock = prefix, batch_size, clock
        self._points = (
            [point for point in read_points(f"{prefix}-report.json") if point["step"] <= step] if step else []
        )
        self._first_step, self._end = step, None if total is None else step + total
        self._start = self._window_start = self._trained_until = clock()
        self._window_step = step
        self._sums: dict[str, list[float]] = {}
        self._usable = True

    def line(self, values: Mapping[str, float]) -> None:
        """Add the metrics of the last batches; a test shows their mean since the test before."""
        for name, value in values.items():
            self._sums.setdefault(name, []).append(value)

    def trained(self) -> None:
        """Note the time after a batch: if a test follows, it does not count as training."""
        self._trained_until = self._clock()

    def tested(self, step: int, newest: Mapping[str, float], lr: float, scalars: Mapping[str, float]) -> None:
        """Add a test and write the page.

        Args:
            step: Batches so far.
            newest: Metrics of the last batches, which are shown if there was no line since the test before.
            lr: The learning rate.
            scalars: The metrics of the test by name.
        """
        seconds, batches = self._trained_until - self._window_start, step - self._window_step
        means = {name: sum(values) / len(values) for name, values in self._sums.items()} or newest
        point = {"step": float(step), **means, "lr": lr, **scalars}
        if seconds > 0 and batches > 0:
            point["images/s"] = batches * self._batch_size / seconds
        self._points = _thinned([*(old for old in self._points if old["step"] < step), point])
        self._sums, self._window_step = {}, step
        self._write(REFRESH)
        self._window_start = self._clock()

    def close(self) -> None:
        """Write the page for the last time: it no longer loads itself."""
        if self._points:
            self._write(0)

    def _write(self, refresh: int) -> None:
        if not self._usable:
            return
        path = f"{self._prefix}-report.html"
        try:
            for file, content in ((f"{self._prefix}-report.json", self._data()), (path, self._page(refresh))):
                with report_write_errors(file):
                    save_text(file, content)
        except UserError as error:
            self._usable = False
            logging.warning("%s ends here: %s", path, error)

    def _data(self) -> str:
        points = [{name: value for name, value in point.items() if math.isfinite(value)} for point in self._points]
        return json.dumps({"points": points}) + "\n"

    def _page(self, refresh: int) -> str:
        newest = self._points[-1]
        step = int(newest["step"])
        state = f"loads itself every {refresh} seconds" if refresh else "the run has ended"
        rows = [("batch", f"{step}" if self._end is None else f"{step} of {self._end}")]
        rows += [
            (name.replace(ACCURACY, "accuracy "), f"{value:g}") for name, value in newest.items() if name != "step"
        ]
        if refresh and self._end is not None:
            rows.append(("time left", self._time_left(step)))
        rows.append(("written", time.strftime("%Y-%m-%d %H:%M:%S")))
        charts = [chart(title, self._curves(names)) for title, names in _CHARTS.items()]
        body = table(("now", "value"), rows, state) + f'<div class="figures">{"".join(charts)}</div>'
        return page(f"Training {self._prefix}", body, refresh)

    def _curves(self, names: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
        """Return the points of each metric of these names, for ACCURACY those of all sets."""
        curves: dict[str, list[tuple[float, float]]] = {}
        for point in self._points:
            for name, value in point.items():
                if math.isfinite(value) and any(
                    name == one or (one[-1] == "/" and name.startswith(one)) for one in names
                ):
                    curves.setdefault(name.replace(ACCURACY, ""), []).append((point["step"], value))
        return curves

    def _time_left(self, step: int) -> str:
        done = step - self._first_step
        if self._end is None or done <= 0:
            return "unknown"
        seconds = int((self._clock() - self._start) / done * max(0, self._end - step))
        days, rest = divmod(seconds, 86400)
        clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
        return f"{days} days {clock}" if days else clock


def read_points(path: str) -> list[Point]:
    """Read the points of a page; a file that is missing or holds something else has none, which is logged."""
    try:
        content = read_json(path, MAX_MANIFEST_BYTES)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        logging.warning("the curves of the report begin again: %s: %s", path, error)
        return []
    points = content.get("points") if isinstance(content, dict) else None
    if not isinstance(points, list) or not all(map(_is_point, points)):
        logging.warning("the curves of the report begin again: %s holds no points", path)
        return []
    return points


def _is_point(entry: Any) -> bool:
    numbers = isinstance(entry, dict) and all(
        type(value) in (int, float) and math.isfinite(value) for value in entry.values()
    )
    return numbers and "step" in entry


def _thinned(points: list[Point]) -> list[Point]:
    """Leave out every second point of the older half where there are too many."""
    half = len(points) // 2
    return points if len(points) <= MAX_POINTS else points[:half:2] + points[half:]


def chart(title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return a figure with lines over the batches; '' where there is no point.

    Args:
        title: Of the figure.
        curves: Points (batch, value) by name.
    """
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return ""
    x_ticks, y_ticks = (ticks(min(values), max(values)) for values in zip(*points))
    (x0, x1), (y0, y1) = ((steps[0], steps[-1]) for steps in (x_ticks, y_ticks))

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - x0) / (x1 - x0) * (_WIDTH - _LEFT - _RIGHT)
        return round(across, 1), round(_HEIGHT - _BOTTOM - (y - y0) / (y1 - y0) * (_HEIGHT - _TOP - _BOTTOM), 1)

    parts = [_grid(place, x_ticks, y_ticks)]
    for index, curve in enumerate(curves.values()):
        line = " ".join("{},{}".format(*place(*point)) for point in curve)
        shape = (
            f'points="{line}" fill="none" stroke="{colour_of(index)}" stroke-width="2" '
            f'stroke-dasharray="{dashes_of(index)}"'
        )
        parts.append(f"<polyline {shape}/>")
        across, down = place(*curve[-1])
        parts.append(f'<circle cx="{across}" cy="{down}" r="3" fill="{colour_of(index)}"/>')
    newest = ", ".join(f"{name} {curve[-1][1]:g}" for name, curve in curves.items())
    drawing = (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text(f"{title} by batch; newest: {newest}")}" '
        f'font-size="15" fill="currentColor">{"".join(parts)}</svg>'
    )
    names = key(list(curves)) if len(curves) > 1 else ""
    caption = f"<figcaption>by batch; newest: {text(newest)}</figcaption>"
    return f"<figure><h3>{text(title)}</h3>{names}{drawing}{caption}</figure>"


def _grid(
    place: Callable[[float, float], tuple[float, float]], x_ticks: Sequence[float], y_ticks: Sequence[float]
) -> str:
    """Return the lines and numbers of the axes."""
    left, bottom = place(x_ticks[0], y_ticks[0])
    right, top = place(x_ticks[-1], y_ticks[-1])
    parts = []
    for value in y_ticks:
        _, down = place(x_ticks[0], value)
        parts.append(f'<path d="M{left} {down}H{right}" stroke="#808080" stroke-opacity=".35"/>')
        parts.append(f'<text x="{left - 6}" y="{down + 5}" text-anchor="end">{value:g}</text>')
    for value in x_ticks:
        across, _ = place(value, y_ticks[0])
        parts.append(f'<path d="M{across} {bottom}V{top}" stroke="#808080" stroke-opacity=".2"/>')
        anchor = "end" if value == x_ticks[-1] else "middle"
        parts.append(f'<text x="{across}" y="{bottom + 22}" text-anchor="{anchor}">{value:g}</text>')
    return "".join(parts)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round numbers around a range, about `count` steps of 1, 2 or 5 times a power of ten apart."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # one value, whatever its size
        margin = abs(low) / 10 or 1.0
        low, high = low - margin, high + margin
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]
