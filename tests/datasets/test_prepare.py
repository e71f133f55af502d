"""From photos to faces: the face that a photo is of, found in photos of any size."""

import os

import cv2
import numpy as np
import pytest
from harness import run

from insightface_mx.datasets import build, orl_faces, prepare
from insightface_mx.datasets.face_options import FaceOptions
from insightface_mx.formats.training_set import TrainingSet
from insightface_mx.photos.lists import Photo


def test_the_main_face_is_large_and_central():
    boxes = np.array([[0, 0, 40, 40, 0.99], [80, 80, 115, 115, 0.9], [0, 0, 10, 10, 1.0]])
    points = np.arange(30, dtype=np.float64).reshape(3, 10)
    assert prepare.main_face(boxes, points, (200, 200, 3)).tolist() == points[1].reshape(2, 5).T.tolist()


@pytest.fixture
def photos(tmp_path):
    """Two photos of a person and one of nobody: at its own size, in a corner of a large one, and a blank one."""
    photo = orl_faces.read_photos()[0][0]
    large = np.full((2000, 1800), 90, np.uint8)
    large[300:1420, 200:1120] = cv2.resize(photo, (920, 1120), interpolation=cv2.INTER_CUBIC)
    images = {"small": photo, "large": large, "blank": np.full((200, 200), 90, np.uint8)}
    for name, image in images.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    return [Photo(str(tmp_path / f"{name}.png")) for name in images]


@pytest.mark.slow
def test_faces_are_found_and_aligned(photos):
    (small, _), (large, _), blank = prepare.Preparer(FaceOptions(png=True))(photos)
    assert blank == (b"", "no face found")
    small, large = (cv2.imdecode(np.frombuffer(face, np.uint8), 0) for face in (small, large))
    assert large.shape == (112, 112)
    assert np.corrcoef(large[20:100, 20:92].ravel(), small[20:100, 20:92].ravel())[0, 1] > 0.8


@pytest.mark.slow
def test_a_photo_without_a_face_can_be_cropped(photos):
    ((face, reason),) = prepare.Preparer(FaceOptions(png=True, no_face="crop"))(photos[2:])
    assert reason == ""
    assert cv2.imdecode(np.frombuffer(face, np.uint8), 0).tolist() == np.full((112, 112), 90).tolist()


@pytest.mark.slow
def test_build_set_lists_photos_without_a_face(photos, tmp_path):
    for photo in photos:
        os.makedirs(tmp_path / "photos" / "s1", exist_ok=True)
        os.rename(photo.path, tmp_path / "photos" / "s1" / os.path.basename(photo.path))
    run(build, tmp_path / "photos", "--output", tmp_path / "set", "--workers", 1, "--png")
    assert (tmp_path / "set" / "skipped.csv").read_text().splitlines()[1:] == [
        f"{tmp_path}/photos/s1/blank.png,no face found"
    ]
    assert [len(images) for images in TrainingSet(str(tmp_path / "set")).identities] == [2]
    run(build, tmp_path / "photos", "--output", tmp_path / "crop", "--workers", 1, "--no-face", "crop")
    assert [len(images) for images in TrainingSet(str(tmp_path / "crop")).identities] == [3]


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
def test_a_photo_is_encoded_only_where_it_must_be(tmp_path, ending):
    image = np.random.RandomState(0).randint(0, 256, (112, 112, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / f"a.{ending}"), image)
    ((face, _),) = prepare.Preparer(FaceOptions(aligned=True, png=True))([Photo(str(tmp_path / f"a.{ending}"))])
    if ending == "bmp":
        assert face.startswith(b"\x89PNG")
        assert np.array_equal(cv2.imdecode(np.frombuffer(face, np.uint8), 1), image)
    else:
        assert face == (tmp_path / f"a.{ending}").read_bytes()
