"""Alignment: the transform against textbook least squares, the crops against plain slices, and what is refused."""

import cv2
import numpy as np
import pytest

from insightface_mx.photos import alignment, decode

FACE = np.array([(130, 95), (170, 100), (148, 122), (130, 140), (162, 144)], np.float64)


def moved(points, matrix):
    return points @ matrix[:, :2].T + matrix[:, 2]


def umeyama(source, target):
    """Umeyama's similarity as his paper has it, by a singular value decomposition."""
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    covariance = (target - target_mean).T @ (source - source_mean) / len(source)
    u, d, vt = np.linalg.svd(covariance)
    signs = np.array([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(signs) @ vt
    scale = (d * signs).sum() / ((source - source_mean) ** 2).sum(axis=1).mean()
    return np.column_stack([scale * rotation, target_mean - scale * rotation @ source_mean])


def test_the_reference_points():
    narrow = [(30.2946, 51.6963), (65.5318, 51.5014), (48.0252, 71.7366), (33.5493, 92.3655), (62.7299, 92.2041)]
    assert alignment.reference((112, 96)).tolist() == [list(point) for point in narrow]
    np.testing.assert_allclose(alignment.reference((112, 112)), np.array(narrow) + np.array([8, 0]), atol=1e-12)


def test_a_similarity_is_found_again():
    angle, scale, shift = 0.6, 1.7, (12.0, -40.0)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])
    np.testing.assert_allclose(alignment.similarity(FACE, moved(FACE, matrix)), matrix, atol=1e-10)


@pytest.mark.parametrize("mirrored", [False, True])
def test_noisy_points_as_umeyama_without_reflection(mirrored):
    source = FACE + np.random.RandomState(3).normal(0, 4, FACE.shape)
    target = alignment.reference((112, 112)) * ([-1, 1] if mirrored else [1, 1])
    matrix = alignment.similarity(source, target)
    np.testing.assert_allclose(matrix, umeyama(source, target), atol=1e-9)
    assert np.linalg.det(matrix[:, :2]) > 0
    error = ((moved(source, matrix) - target) ** 2).sum()
    for change in np.random.RandomState(4).normal(0, 1e-3, (20, 2)):
        a, b = matrix[0, 0] + change[0], matrix[1, 0] + change[1]
        other = np.array([[a, -b, 0], [b, a, 0]])
        other[:, 2] = target.mean(axis=0) - moved(source, other).mean(axis=0)
        assert ((moved(source, other) - target) ** 2).sum() > error


@pytest.mark.parametrize("size", [(112, 112), (112, 96), "112,96", "112, 96"])
def test_landmarks_come_to_lie_on_the_reference(size):
    image = np.zeros((240, 300, 3), np.uint8)
    for x, y in FACE.astype(int):
        cv2.circle(image, (int(x), int(y)), 2, (255, 255, 255), -1)
    aligned = alignment.preprocess(image, bbox=[0, 0, 5, 5], landmark=FACE, image_size=size)
    height, width = (112, 96) if isinstance(size, str) else size
    assert aligned.shape == (height, width, 3)
    expected = moved(FACE, alignment.similarity(FACE, alignment.reference((height, width))))
    for x, y in expected:
        left, top = round(x) - 8, round(y) - 8
        rows, columns = np.nonzero(aligned[top : top + 17, left : left + 17, 0] > 100)
        np.testing.assert_allclose((left + columns.mean(), top + rows.mean()), (x, y), atol=0.5)


def test_what_lies_outside_the_image_is_black():
    image = np.full((112, 112, 3), 200, np.uint8)
    aligned = alignment.preprocess(image, landmark=alignment.reference((112, 112)) - [56, 0])
    assert (aligned[:, 57:] == 200).all()
    assert (aligned[:, :55] == 0).all()


@pytest.fixture
def photo():
    return np.random.RandomState(0).randint(0, 256, (120, 160, 3)).astype(np.uint8)


def test_a_box_gets_the_margin_and_ends_at_the_image(photo):
    inside = alignment.preprocess(photo, bbox=[50.7, 40.2, 90.9, 70.5, 0.99], margin=20)
    assert np.array_equal(inside, cv2.resize(photo[30:80, 40:100], (112, 112)))
    cut = alignment.preprocess(photo, bbox=[10, 30, 150, 110], image_size=(112, 96))
    assert np.array_equal(cut, cv2.resize(photo[8:120, 0:160], (96, 112)))


def test_an_image_too_long_to_align():
    image = np.zeros((4, 32766, 3), np.uint8)
    assert alignment.preprocess(image, landmark=FACE).shape == (112, 112, 3)
    with pytest.raises(ValueError, match="32767x4 pixels is too long to align"):
        alignment.preprocess(np.zeros((4, 32767, 3), np.uint8), landmark=FACE)


def test_without_a_box_the_centre(photo):
    assert np.array_equal(alignment.preprocess(photo), cv2.resize(photo[7:113, 10:150], (112, 112)))
    assert alignment.preprocess(photo[:1, :1], image_size=(56, 40)).shape == (56, 40, 3)


def test_formats_become_bgr(photo):
    grey = photo[:, :, 0]
    three = np.dstack([grey] * 3)
    for same in (grey, grey[:, :, None], grey.astype(np.uint16) * 257):
        assert np.array_equal(decode.to_bgr(same), three)
    assert np.array_equal(decode.to_bgr(photo), photo)
    assert np.array_equal(decode.to_bgr(np.dstack([photo, grey])), photo)
    assert np.array_equal(decode.to_bgr(photo[:, ::-1]), photo[:, ::-1])
    assert alignment.preprocess(grey, landmark=FACE - 60).shape == (112, 112, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "not NoneType"),
        ([[0]], "not list"),
        (np.zeros((0, 4, 3), np.uint8), r"not \(0, 4, 3\)"),
        (np.zeros(9, np.uint8), r"not \(9,\)"),
        (np.zeros((4, 4, 2), np.uint8), r"not \(4, 4, 2\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"not \(1, 4, 4, 3\)"),
        (np.zeros((4, 4, 3), np.float32), "not float32"),
        (np.zeros((4, 4), bool), "not bool"),
    ],
)
def test_what_is_no_image(image, message):
    with pytest.raises(ValueError, match=message):
        decode.to_bgr(image)
    with pytest.raises(ValueError, match=message):
        alignment.preprocess(image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"landmark": np.zeros(10)}, r"reshape\(2, 5\)\.T"),
        ({"landmark": FACE[:4]}, "4 points cannot be taken to 5"),
        ({"landmark": np.full((5, 2), np.nan)}, "finite"),
        ({"landmark": np.ones((5, 2))}, "all lie in one place"),
        ({"landmark": FACE, "image_size": (128, 128)}, "112,112 or 112,96"),
        ({"image_size": "112"}, "not '112'"),
        ({"image_size": (112, 0)}, r"not \(112, 0\)"),
        ({"image_size": "112,96.5"}, "not '112,96.5'"),
        ({"image_size": (112, 96, 3)}, r"not \(112, 96, 3\)"),
        ({"bbox": [1, 2, 3]}, "four numbers"),
        ({"bbox": [1, 2, np.inf, 3]}, "four numbers"),
        ({"bbox": [300, 10, 400, 90]}, "outside the image of 160x120"),
        ({"bbox": [-90, 10, -30, 90]}, "outside the image of 160x120"),
    ],
)
def test_what_is_refused(photo, options, message):
    with pytest.raises(ValueError, match=message):
        alignment.preprocess(photo, **options)


@pytest.mark.parametrize("far", [1e7, -1e200, 1e300])
def test_landmarks_far_away_are_refused(far):
    points = alignment.REFERENCE.copy()
    points[3, 1] = far
    with pytest.raises(ValueError, match=r"points are in pixels, none of which is .* pixels away"):
        alignment.preprocess(np.zeros((112, 112, 3), np.uint8), landmark=points)


@pytest.mark.parametrize("box", [(1e300, 0, 1e301, 5), (-1e300, -1e300, -1e299, -1e299), (5, 5, -1e300, 1e300)])
def test_boxes_far_away_are_refused(box):
    with pytest.raises(ValueError, match="lies outside the image"):
        alignment.preprocess(np.zeros((112, 112, 3), np.uint8), bbox=box)
