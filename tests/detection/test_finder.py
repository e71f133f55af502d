"""Faces that one look with MTCNN misses are found by all commands alike."""

import math

import cv2
import numpy as np
import pytest
import small_network
from harness import run, status_of

from insightface_mx.datasets import build, orl_faces
from insightface_mx.deploy import compare
from insightface_mx.deploy.face_model import FaceModel
from insightface_mx.detection import detector as mtcnn_detector
from insightface_mx.detection import finder
from insightface_mx.formats.training_set import TrainingSet
from insightface_mx.photos.decode import to_bgr

MISSED = ((31, 2), (32, 4), (37, 4), (37, 5), (37, 6))  # identity and photo, from 1: of 400 those that fill the photo


@pytest.fixture(scope="module")
def missed():
    photos = orl_faces.read_photos()
    return [photos[identity - 1][number - 1] for identity, number in MISSED]


@pytest.fixture(scope="module")
def model():
    return FaceModel()


@pytest.mark.slow
def test_get_input_finds_the_faces_that_build_set_finds(missed, model, tmp_path):
    assert [model.detector.detect_face(photo) for photo in missed] == [None] * 5
    (tmp_path / "photos").mkdir()
    for index, photo in enumerate(missed):
        cv2.imwrite(str(tmp_path / "photos" / f"{index}.png"), photo)
    run(build, tmp_path / "photos", "--flat", "--output", tmp_path / "set", "--workers", 1, "--png")
    data_set = TrainingSet(str(tmp_path / "set"))
    for index, photo in enumerate(missed):
        _, encoded = data_set.records.read(int(data_set.identities[index][0]))
        stored = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        # several photos together have landmarks that differ in the last digits
        assert np.abs(model.get_input(photo).astype(int) - stored[:, :, ::-1].transpose(2, 0, 1)).max() <= 2


@pytest.mark.slow
def test_boxes_and_landmarks_are_in_pixels_of_the_photo(missed, model):
    for photo in missed:
        (face,) = model.get_faces([photo])[0]
        assert 30 < np.ptp(face.box[::2]) < 92 and 40 < np.ptp(face.box[1::2]) < 112
        assert ((face.landmarks > 0) & (face.landmarks < (92, 112))).all()
        expected = [(30.3, 52.1), (63.9, 52.6), (46.8, 70.3), (31.7, 85.7), (61.1, 86.3)]  # mean of 40 photos
        assert np.abs(face.landmarks - expected).max() < 25


def test_a_border_of_a_quarter():
    small = finder.add_border(np.full((80, 40, 3), 9, np.uint8))
    assert (small.image.shape, small.border, small.zoom) == ((240, 120, 3), (10, 20), 2)
    assert small.to_photo(np.array([[20.0, 40.0], [100.0, 200.0]])).tolist() == [[0, 0], [40, 80]]
    large = finder.add_border(np.full((400, 200, 3), 9, np.uint8))
    assert (large.image.shape, large.border, large.zoom) == ((600, 300, 3), (50, 100), 1)
    assert large.image[99, 150, 0] == 0 and large.image[100, 150, 0] == 9


class Recorder(mtcnn_detector.MtcnnDetector):
    """A detector that finds one face in images of one width, and remembers the shapes that it saw."""

    def __init__(self, width):
        self.minsize, self.width, self.seen = 20, width, []

    def detect_faces(self, images, det_type=0):
        self.seen += [image.shape[:2] for image in images]
        face = np.array([[2.0, 4, 6, 8, 0.9]]), np.arange(10.0).reshape(1, 10)
        return [face if image.shape[1] == self.width else None for image in images]


@pytest.mark.parametrize(
    ("longest", "width", "seen", "corner", "zoom"),
    [
        (math.inf, 2400, [(3200, 2400)], (2, 4), 1),
        (math.inf, 1200, [(3200, 2400), (1600, 1200)], (4, 8), 1),
        (1600, 1200, [(1600, 1200)], (4, 8), 1),
        (math.inf, 0, [(3200, 2400), (1600, 1200), (1600, 1200)], None, 1),
        (1600, 0, [(1600, 1200), (1600, 1200)], None, 1),
    ],
)
def test_where_faces_are_looked_for(longest, width, seen, corner, zoom):
    recorder = Recorder(width)
    (found,) = finder.find_faces(recorder, [np.zeros((3200, 2400, 3), np.uint8)], longest)
    assert recorder.seen == seen
    if corner is None:
        assert found is None
    else:
        assert tuple(found.boxes[0, :2]) == corner and found.boxes[0, 4] == 0.9
        assert found.points[0, 1] == corner[0] / 2


@pytest.mark.slow
def test_a_photo_that_is_too_large_for_the_detector_is_made_smaller(missed, model, monkeypatch):
    photo = cv2.copyMakeBorder(missed[0], 900, 900, 900, 900, cv2.BORDER_CONSTANT, value=0)
    assert model.get_input(photo) is not None
    monkeypatch.setattr(mtcnn_detector, "MAX_PIXELS", 1 << 20)
    assert model.detector.is_too_large(*photo.shape)
    assert model.get_input(photo) is not None


@pytest.mark.parametrize("shape", [(1, 20000), (20000, 2), (1, 1)])
def test_photos_too_thin_for_a_face(model, shape):
    assert finder.find_faces(model.detector, [to_bgr(np.full(shape, 90, np.uint8))]) == [None]


@pytest.mark.slow
def test_compare_finds_them(missed, tmp_path, capsys):
    network = small_network.save(tmp_path / "net")
    paths = [str(tmp_path / f"{index}.png") for index in range(2)]
    for path, photo in zip(paths, missed):
        cv2.imwrite(path, photo)
    run(compare, *paths, "--model", network, "--backend", "mxnet")
    assert "face 1 of 1 at" in capsys.readouterr().out
    cv2.imwrite(paths[1], np.zeros((60, 50), np.uint8))
    assert status_of(compare, *paths, "--model", network, "--backend", "mxnet") == 2
    assert f"{paths[1]}: no face found" in capsys.readouterr().err
