"""The arithmetic of MTCNN's boxes: pyramid, proposals, suppression, squares, landmarks and crops."""

import cv2
import numpy as np
import pytest

from insightface_mx.detection import boxes as mtcnn_boxes


def overlap(one, other, mode):
    """Count the overlap of two boxes, whose ends belong to them, pixel by pixel."""
    cells = [
        {(x, y) for x in range(int(b[0]), int(b[2]) + 1) for y in range(int(b[1]), int(b[3]) + 1)} for b in (one, other)
    ]
    shared = len(cells[0] & cells[1])
    return shared / (min(map(len, cells)) if mode == "min" else len(cells[0] | cells[1]))


@pytest.mark.parametrize("mode", ["union", "min"])
def test_suppression_pixel_by_pixel(mode):
    random = np.random.RandomState(1)
    corners = random.randint(0, 25, (40, 2))
    boxes = np.hstack([corners, corners + random.randint(4, 16, (40, 2)), random.permutation(40)[:, None] / 40])
    kept = []
    for index in sorted(range(40), key=lambda index: -boxes[index, 4]):
        if all(overlap(boxes[index], boxes[other], mode) <= 0.4 for other in kept):
            kept.append(index)
    assert 3 < len(kept) < 30
    assert mtcnn_boxes.nms(boxes, 0.4, mode).tolist() == kept
    assert mtcnn_boxes.nms(boxes[:0], 0.4, mode).tolist() == []


def test_the_pyramid():
    scales = mtcnn_boxes.scales(100, 300, minsize=20, factor=0.709)
    np.testing.assert_allclose(scales, [0.6, 0.4254, 0.3016086, 0.2138405, 0.1516129], rtol=1e-6)
    assert mtcnn_boxes.scales(20, 300, 20, 0.709) == []
    assert mtcnn_boxes.scaled(np.zeros((100, 301, 3), np.uint8), 0.6).shape == (60, 181, 3)


def test_proposals_in_pixels_of_the_image():
    probability = np.zeros((3, 4))
    probability[[0, 2], [1, 3]] = 0.7, 0.6
    regression = np.arange(48.0).reshape(4, 3, 4)
    found = mtcnn_boxes.proposals(probability, regression, 0.5, 0.6)
    assert found.tolist() == [[6, 2, 30, 26, 0.7, 1, 13, 25, 37]]


def test_boxes_are_moved_and_squared():
    boxes = np.array([[10.0, 20, 29, 59, 0.5]])
    moved = mtcnn_boxes.calibrated(boxes, np.array([[0.1, -0.1, 0.2, 0.5]]))
    assert moved.tolist() == [[12, 16, 33, 79, 0.5]]
    assert mtcnn_boxes.squared(moved).tolist() == [[-9, 16, 54, 79, 0.5]]
    fractions = np.array([[0, 0.5, 1, 0.25, 0.1, 0, 0.5, 1, 0.25, 0.1]])
    assert mtcnn_boxes.landmark_places(boxes, fractions).tolist() == [[10, 20, 30, 15, 12, 20, 40, 60, 30, 24]]


def test_landmark_patches_and_places_in_them():
    boxes = np.array([[0.0, 0, 75, 99, 1]])
    points = np.array([[30.0, 60, 45, 33, 57, 40, 40, 60, 80, 80]])
    patches = mtcnn_boxes.landmark_patches(boxes, points)
    assert patches[0].tolist() == [
        [17, 27, 42, 52],
        [47, 27, 72, 52],
        [32, 47, 57, 72],
        [20, 67, 45, 92],
        [44, 67, 69, 92],
    ]
    np.testing.assert_allclose(mtcnn_boxes.patch_places(patches, np.full((1, 5, 2), 0.5)), points)


@pytest.mark.parametrize(
    "box", [(3, 4, 12, 11), (-5, -2, 8, 9), (15, 10, 26, 33), (-3, -3, 22, 18), (30, 5, 40, 15), (5, 5, 4, 9)]
)
def test_a_crop_is_black_outside(box):
    image = np.random.RandomState(2).randint(1, 256, (16, 20, 3)).astype(np.uint8)
    x1, y1, x2, y2 = box
    patch = np.zeros((max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1), 3), np.uint8)
    for y in range(max(y1, 0), min(y2 + 1, 16)):
        for x in range(max(x1, 0), min(x2 + 1, 20)):
            patch[y - y1, x - x1] = image[y, x]
    assert np.array_equal(mtcnn_boxes.crop(image, box, 24), cv2.resize(patch, (24, 24)))
