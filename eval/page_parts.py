"""Write the parts that the pages of verify, ijb and identify have in common: intervals, figures, faces, settings."""

from __future__ import annotations

import base64
from typing import Mapping, NamedTuple, Sequence

import cv2
import numpy as np

from insightface_mx.eval.curves import FmrRow
from insightface_mx.eval.intervals import FEWEST_ERRORS, Interval
from insightface_mx.formats.html_page import key, table, text

MOST_FACES = 8  # figures of each kind of error
_FEW = "†"
FEW_NOTE = f"{_FEW} fewer than {FEWEST_ERRORS} errors carry this figure: it may be far off."


class Face(NamedTuple):
    """A face as a PNG file, and the text of its picture."""

    png: bytes
    described: str


class FaceFigure(NamedTuple):
    """Faces side by side over lines of text."""

    faces: Sequence[Face]
    lines: Sequence[str]


def png_of(image: np.ndarray) -> bytes:
    """Encode an image, (height, width, 3) uint8 BGR."""
    return cv2.imencode(".png", image)[1].tobytes()


def ends(interval: Interval | None) -> str:
    """Return an interval, with a mark where few errors carry the figure."""
    if interval is None:
        return ""
    return f"[{interval.low:.5f}, {interval.high:.5f}]{few(interval.errors)}"


def few(errors: int) -> str:
    """Return the mark of a figure that few errors carry, or nothing."""
    return _FEW if errors < FEWEST_ERRORS else ""


def notes(lines: Sequence[str]) -> str:
    """Return remarks, a paragraph each."""
    return "".join(f'<p class="note">{text(line)}</p>\n' for line in lines)


def figures(drawn: Sequence[tuple[str, str]], names: Sequence[str]) -> str:
    """Return figures, SVG and caption each, below the key to their lines."""
    pictures = [f"<figure>{svg}<figcaption>{text(caption)}</figcaption></figure>" for svg, caption in drawn]
    return f'{key(names)}<div class="figures">{"".join(pictures)}</div>\n'


def threshold_table(rows: Sequence[FmrRow], genuine: int, impostor: int, caption: str) -> str:
    """Return the table of the thresholds of false match rates.

    Args:
        rows: As `curves.fmr_table` returns them.
        genuine: Number of pairs of one identity.
        impostor: Number of pairs of two.
        caption: Of the table.
    """
    cells = []
    for row in rows:
        missed = round(row.fnmr * genuine)
        matches = f"{row.fmr:.6f} ({row.false_matches} of {impostor}){few(row.false_matches)}"
        misses = f"{row.fnmr:.5f} ({missed} of {genuine}){few(missed)}"
        cells.append((row.name, f"{row.cosine:.5f}", f"{row.squared_distance:.5f}", matches, misses))
    headings = ("rate wanted", "cosine above", "squared distance below", "FMR reached", "FNMR there")
    return table(headings, cells, caption)


def faces(title: str, meaning: str, wrong: Sequence[FaceFigure]) -> str:
    """Return the figures of errors of a kind, worst first."""
    if not wrong:
        return notes([f"{title}: none ({meaning})."])
    shown = "".join(map(_face_figure, wrong))
    return f'<h4>{text(f"{title}: the worst {len(wrong)} ({meaning})")}</h4>\n<div class="pairs">{shown}</div>\n'


def _face_figure(figure: FaceFigure) -> str:
    images = []
    for face in figure.faces:
        data = base64.b64encode(face.png).decode("ascii")
        images.append(f'<img src="data:image/png;base64,{data}" alt="{text(face.described)}">')
    kind = ' class="three"' if len(images) > 2 else ""
    caption = "<br>".join(map(text, figure.lines))
    return f"<figure{kind}>{''.join(images)}<figcaption>{caption}</figcaption></figure>"


def settings(tables: Sequence[tuple[str, Mapping[str, object]]]) -> str:
    """Return the tables of settings: title and entries of each."""
    parts = ["<h2>Settings</h2>\n"]
    parts += [table(("setting", "value"), list(entries.items()), title) for title, entries in tables]
    return "".join(parts)
