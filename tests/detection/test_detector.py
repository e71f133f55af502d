"""Faces and landmarks that MTCNN finds in the ORL photos, one by one and together, and what the options do."""

import os

import cv2
import numpy as np
import pytest
from harness import MODEL_ZOO, ZOO_ONLY, orl_photo

from insightface_mx.base.errors import UserError
from insightface_mx.detection import detector as mtcnn_detector
from insightface_mx.detection.detector import MtcnnDetector
from insightface_mx.photos import alignment


@pytest.fixture(scope="module")
def detector():
    return MtcnnDetector()


def assert_sane(points):
    """Eyes above the nose above the mouth, left left of right; points (10,)."""
    (left, right, nose, mouth_left, mouth_right) = points.reshape(2, 5).T
    assert left[0] < right[0] and mouth_left[0] < mouth_right[0]
    assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
    assert 25 < np.hypot(*(right - left)) < 110


@pytest.mark.slow
def test_one_photo_of_each_of_the_40_identities(detector):
    found = detector.detect_faces([orl_photo(identity, 1) for identity in range(1, 41)])
    assert [None if faces is None else len(faces[0]) for faces in found] == [1] * 40
    aligned = []
    for boxes, points in found:
        assert boxes.shape == (1, 5) and points.shape == (1, 10)
        assert 0.8 < boxes[0, 4] <= 1
        assert_sane(points[0])
        aligned.append(points[0].reshape(2, 5).T / 2 - 32)
    expected = [(30.34, 52.1), (63.86, 52.55), (46.75, 70.26), (31.73, 85.72), (61.05, 86.26)]
    np.testing.assert_allclose(np.mean(aligned, axis=0), expected, atol=0.05)


def test_where_the_first_face_is(detector):
    boxes, points = detector.detect_face(orl_photo(1, 1))
    np.testing.assert_allclose(boxes, [[81.779, 90.292, 223.244, 283.654, 0.9967]], atol=0.01)
    np.testing.assert_allclose(
        points, [[119.54, 190.09, 155.4, 128.59, 182.61, 167.23, 166.23, 208.15, 243.64, 243.73]], atol=0.02
    )


def test_images_together_as_one_by_one(detector):
    images = [
        orl_photo(1, 1),
        np.zeros((50, 60), np.uint8),
        orl_photo(2, 3),
        orl_photo(3, 1)[:, :200],
        np.ones((1, 1), np.uint8),
    ]
    together = detector.detect_faces(images)
    alone = [detector.detect_face(image) for image in images]
    assert (
        [faces is None for faces in together] == [faces is None for faces in alone] == [False, True, False, False, True]
    )
    for one, other in zip(together, alone):
        if one is not None:
            np.testing.assert_allclose(one[0], other[0], atol=1e-3)
            np.testing.assert_allclose(one[1], other[1], atol=1e-3)
    assert detector.detect_faces([]) == []


def test_twelve_faces_in_one_image(detector):
    rows = [np.hstack([orl_photo(4 * row + column, 1) for column in range(1, 5)]) for row in range(3)]
    image = cv2.resize(np.vstack(rows), None, fx=0.5, fy=0.5)
    boxes, points = detector.detect_face(image)
    assert len(boxes) == len(points) == 12
    assert (np.diff(boxes[:, 4]) <= 0).all()
    middle = ((boxes[:, :2] + boxes[:, 2:4]) / 2 // [156, 176]).astype(int)
    assert sorted(map(tuple, middle.tolist())) == [(x, y) for x in range(4) for y in range(3)]


def test_a_part_of_a_face_is_no_second_one():
    """The network takes an eye for a face; it lies within the real one, and their union is much larger."""
    boxes, _ = MtcnnDetector(threshold=(0.3, 0.3, 0.3)).detect_face(orl_photo(4, 2))
    assert len(boxes) == 1
    assert boxes[0, 2] - boxes[0, 0] > 120


def test_colour_and_depth_make_no_difference(detector):
    grey = orl_photo(5, 2)
    boxes, points = detector.detect_face(grey)
    bgr = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    for same in (bgr, cv2.cvtColor(bgr, cv2.COLOR_BGR2BGRA), grey.astype(np.uint16) * 257):
        assert np.array_equal(detector.detect_face(same)[0], boxes)
        assert np.array_equal(detector.detect_face(same)[1], points)


def test_crops_need_only_the_last_network(detector):
    image = orl_photo(1, 1)
    boxes, points = detector.detect_face(image[80:293, 71:233], det_type=1)
    np.testing.assert_allclose(boxes, [[8.44, -0.36, 146.54, 210.39, 1]], atol=0.05)
    np.testing.assert_allclose(
        points, [[48.63, 116.38, 84.34, 56.19, 111.52, 88.24, 85.26, 130.32, 168.61, 166.92]], atol=0.05
    )
    in_the_image = detector.detect_face(image)[1]
    assert np.abs(points.reshape(2, 5).T + np.array([71, 80]) - in_the_image.reshape(2, 5).T).max() < 6
    assert detector.detect_face(np.zeros((112, 112, 3), np.uint8), det_type=1) is None
    with pytest.raises(ValueError, match="det_type"):
        detector.detect_face(image, det_type=2)


def test_the_face_is_aligned(detector):
    image = orl_photo(1, 1)
    _, points = detector.detect_face(image)
    aligned = alignment.preprocess(image, landmark=points[0].reshape(2, 5).T)
    _, again = detector.detect_face(aligned, det_type=1)
    distance = again[0].reshape(2, 5).T - alignment.reference((112, 112))
    assert np.hypot(*distance.T).mean() < 5


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (11, 11), (12, 12, 3), (21, 21), (400, 13, 4)])
def test_images_without_a_face(detector, shape):
    assert detector.detect_face(np.full(shape, 128, np.uint8)) is None
    assert detector.detect_face(np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)) is None


@pytest.mark.parametrize("image", [None, "face.jpg", np.zeros((0, 3), np.uint8), np.zeros((50, 50), np.float32)])
def test_what_is_no_image(detector, image):
    with pytest.raises(ValueError, match="an image"):
        detector.detect_faces([orl_photo(1, 1), image])


def test_an_image_that_is_too_large(detector, monkeypatch):
    monkeypatch.setattr(mtcnn_detector, "MAX_PIXELS", 10000)
    with pytest.raises(UserError, match=r"312x352 pixels is too large to look for faces of 20 pixels.* 40 or more"):
        detector.detect_face(orl_photo(1, 1))
    assert len(MtcnnDetector(minsize=40).detect_face(orl_photo(1, 1))[0]) == 1


@pytest.mark.parametrize("options", [{"minsize": 300}, {"threshold": (0.6, 0.7, 1.0)}, {"threshold": (0.6, 1.0, 0.8)}])
def test_the_options_act(checkpoints, options):
    image = orl_photo(1, 1)
    assert len(MtcnnDetector(str(checkpoints)).detect_face(image)[0]) == 1
    assert MtcnnDetector(str(checkpoints), **options).detect_face(image) is None


@pytest.mark.parametrize("options", [{"minsize": 0}, {"factor": 1.0}, {"threshold": (0.6, 0.7)}])
def test_options_that_make_no_sense(options):
    with pytest.raises(UserError, match="a minsize above 0, a factor between 0 and 1 and three thresholds"):
        MtcnnDetector(**options)


@pytest.mark.slow
@ZOO_ONLY
def test_accurate_landmarks_agree_better_with_the_mirror_image():
    images = [orl_photo(identity, 4) for identity in range(1, 21)]
    folder = os.path.join(MODEL_ZOO, "mtcnn-model")
    differences = []
    for accurate in (False, True):
        detector = MtcnnDetector(folder, accurate_landmark=accurate)
        found = zip(detector.detect_faces(images), detector.detect_faces([image[:, ::-1] for image in images]))
        pairs = np.array([(one[1][0], other[1][0]) for one, other in found]).reshape(-1, 2, 2, 5)
        mirrored = np.stack([images[0].shape[1] - 1 - pairs[:, 1, 0], pairs[:, 1, 1]], axis=1)[:, :, [1, 0, 2, 4, 3]]
        differences.append(np.abs(mirrored - pairs[:, 0]).mean())
    assert differences[1] < 0.6 * differences[0]
