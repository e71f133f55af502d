"""Find the pairs that a network judges wrongly, and draw contact sheets of them."""

from __future__ import annotations

from typing import List, NamedTuple, Sequence

import cv2
import numpy as np

from insightface_mx.base.compat import NDArray
from insightface_mx.eval import roc
from insightface_mx.files.atomic import atomic_path

_GAP, _CAPTION = 10, 20  # pixels between two pairs, and for the line under each
_WHITE, _RED = 255, (0, 0, 153)


class WrongPair(NamedTuple):
    """A wrongly judged pair: its index, its squared distance, and the threshold of its fold."""

    pair: int
    distance: float
    threshold: float


WrongPairs = List[WrongPair]


def wrong_pairs(embeddings: np.ndarray, issame: Sequence[bool], nfolds: int = 10) -> tuple[WrongPairs, WrongPairs]:
    """Return the pairs that count as wrong in the accuracy, worst first.

    Args:
        embeddings: (2n, d), unit length.
        issame: n booleans.
        nfolds: Folds of the cross-validation.

    Returns:
        False negatives, the same identity at the threshold or beyond, and false positives, two identities below it.
    """
    flags = np.asarray(issame, bool)
    distances = roc.pair_distances(embeddings)
    thresholds = roc.held_out_thresholds(distances, flags, nfolds)
    wrong = (distances < thresholds) != flags
    worst_first = np.argsort(-np.abs(distances - thresholds), kind="stable")
    found = [WrongPair(int(pair), distances[pair], thresholds[pair]) for pair in worst_first if wrong[pair]]
    return [one for one in found if flags[one.pair]], [one for one in found if not flags[one.pair]]


def write_sheet(path: str, images: NDArray, pairs: WrongPairs) -> None:
    """Draw pairs side by side over their index, distance and threshold, four or more in a row.

    Args:
        path: The PNG file to write.
        images: (2n, 3, height, width) uint8, RGB.
        pairs: As `wrong_pairs` returns them; at least one.
    """
    save_sheet(path, [_cell(images, pair) for pair in pairs])


def save_sheet(path: str, cells: Sequence[np.ndarray]) -> None:
    """Write cells of one size, four or more in a row, to a PNG file, completely or not at all."""
    columns = max(4, int(np.sqrt(len(cells) / 2)))  # a cell being twice as wide as high
    filled = [*cells, *[np.full_like(cells[0], _WHITE)] * (-len(cells) % columns)]
    rows = [np.hstack(filled[start : start + columns]) for start in range(0, len(filled), columns)]
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(cv2.imencode(".png", np.vstack(rows))[1].tobytes())


def _cell(images: NDArray, wrong: WrongPair) -> np.ndarray:
    """Draw one pair, BGR."""
    both = images[2 * wrong.pair : 2 * wrong.pair + 2].asnumpy().transpose(0, 2, 3, 1)[:, :, :, ::-1]
    return draw_cell(list(both), f"{wrong.pair}: {wrong.distance:.3f} ({wrong.threshold:.2f})")


def draw_cell(faces: Sequence[np.ndarray], caption: str) -> np.ndarray:
    """Draw faces (height, width, 3), BGR, side by side over a caption."""
    height, width = faces[0].shape[0], sum(face.shape[1] for face in faces)
    cell = np.full((height + _CAPTION, width + _GAP, 3), _WHITE, np.uint8)
    cell[:height, :width] = np.hstack(faces)
    cv2.putText(cell, caption, (2, height + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _RED, 1, cv2.LINE_AA)
    return cell
