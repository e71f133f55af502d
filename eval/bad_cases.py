"""The pairs that a network judges wrongly, and contact sheets of them."""

import cv2
import numpy as np

from insightface_mx.eval import roc

_GAP, _CAPTION = 10, 20  # pixels between two pairs, and for the line under each
_WHITE, _RED = 255, (0, 0, 153)


def wrong_pairs(embeddings, issame, nfolds=10):
    """The pairs that count as wrong in the accuracy, worst first: (false negatives, false positives).

    embeddings: (2n, d), unit length. Both are lists of (pair number, squared distance, threshold): the same person at
    the threshold or beyond, two persons below it, the threshold being that of the pair's own fold.
    """
    issame = np.asarray(issame, bool)
    distances = roc.pair_distances(embeddings)
    thresholds = roc.held_out_thresholds(distances, issame, nfolds)
    wrong = (distances < thresholds) != issame
    worst_first = np.argsort(-np.abs(distances - thresholds), kind="stable")

    def chosen(flags):
        return [(int(pair), distances[pair], thresholds[pair]) for pair in worst_first if flags[pair]]

    return chosen(wrong & issame), chosen(wrong & ~issame)


def write_sheet(path, images, pairs):
    """Draw pairs side by side over their number, distance and threshold, four or more in a row.

    images: (2n, 3, height, width) NDArray, RGB. pairs: a list, not empty, as `wrong_pairs` returns it.
    """
    cells = [_cell(images, *pair) for pair in pairs]
    columns = max(4, int(np.sqrt(len(cells) / 2)))  # a cell being twice as wide as high
    cells += [np.full_like(cells[0], _WHITE)] * (-len(cells) % columns)
    rows = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    with open(path, "wb") as file:
        file.write(cv2.imencode(".png", np.vstack(rows))[1])


def _cell(images, pair, distance, threshold):
    both = images[2 * pair : 2 * pair + 2].asnumpy().transpose(0, 2, 3, 1)[:, :, :, ::-1]
    height, width = both.shape[1], 2 * both.shape[2]
    cell = np.full((height + _CAPTION, width + _GAP, 3), _WHITE, np.uint8)
    cell[:height, :width] = np.hstack(both)
    caption = f"{pair}: {distance:.3f} ({threshold:.2f})"
    cv2.putText(cell, caption, (2, height + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _RED, 1, cv2.LINE_AA)
    return cell
