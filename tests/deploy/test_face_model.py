"""FaceModel on ORL photos with synthetic networks, and on the genuine gender-age checkpoint of 2018."""

import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import small_network
from harness import MODEL_ZOO, ZOO_ONLY, orl_photo

from insightface_mx.base.errors import UserError
from insightface_mx.deploy.face_model import FaceModel
from insightface_mx.photos import alignment

own_cache = pytest.fixture(autouse=True, scope="module")(small_network.own_cache)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    return small_network.save_for_face_model(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def model(networks):
    return FaceModel(backend="mxnet", **networks)


@pytest.fixture(scope="module")
def aligned(model):
    return np.stack([model.get_input(orl_photo(person, 1)) for person in (1, 2, 3)])


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_face_is_aligned_to_rgb(model):
    grey = orl_photo(1, 1)
    photo = cv2.merge([grey, grey // 2, grey // 4])
    _, points = model.detector.detect_face(photo)
    bgr = alignment.preprocess(photo, landmark=points[0].reshape(2, 5).T)
    face = model.get_input(photo)
    assert face.shape == (3, 112, 112) and face.dtype == np.uint8
    assert np.array_equal(face, bgr[:, :, ::-1].transpose(2, 0, 1))
    assert face[2].mean() > 1.5 * face[1].mean() > 2 * face[0].mean()


@pytest.mark.slow
def test_several_faces_in_several_images(model):
    two = np.hstack([orl_photo(1, 1), orl_photo(2, 1)])
    found = model.get_faces([two, np.zeros((60, 50), np.uint8), orl_photo(1, 1)])
    assert [len(faces) for faces in found] == [2, 0, 1]
    assert found[0][0].score >= found[0][1].score > 0.8
    left, right = sorted(found[0], key=lambda face: face.box[0])
    assert left.box[2] < 312 < right.box[0]
    assert np.abs(left.landmarks - found[2][0].landmarks).max() < 3
    assert left.landmarks.shape == (5, 2) and left.box.shape == (4,)
    assert np.array_equal(model.get_input(two), found[0][0].aligned)


def test_no_face_gives_none(model):
    for shape in ((1, 1), (60, 50, 4), (12, 20000)):
        assert model.get_input(np.full(shape, 90, np.uint8)) is None


def test_features_of_one_and_of_many(model, networks, aligned):
    expected = unit(small_network.plain_mxnet(networks["model"], aligned))
    features = model.get_feature(aligned)
    np.testing.assert_allclose(features, expected, atol=1e-5)
    np.testing.assert_allclose(model.get_feature(aligned[1]), expected[1], atol=1e-5)
    assert np.abs(features[0] - features[1]).max() > 1e-3


def test_flip_adds_the_mirror_image(networks, aligned):
    both = [small_network.plain_mxnet(networks["model"], view) for view in (aligned, aligned[:, :, :, ::-1])]
    features = FaceModel(model=networks["model"], backend="mxnet", flip=1).get_feature(aligned)
    np.testing.assert_allclose(features, unit(sum(both)), atol=1e-5)
    assert np.abs(features - unit(both[0])).max() > 1e-3


def gender_and_age(values):
    age = sum(1 for pair in range(100) if values[3 + 2 * pair] > values[2 + 2 * pair])
    return int(values[1] > values[0]), age


def test_gender_and_age(model, networks, aligned):
    expected = [gender_and_age(row) for row in small_network.plain_mxnet(networks["ga_model"], aligned)]
    genders, ages = model.get_ga(aligned)
    assert list(zip(genders, ages)) == expected
    assert [model.get_ga(face) for face in aligned] == expected
    assert all(0 < age < 100 for _, age in expected)


@ZOO_ONLY
def test_the_gender_age_checkpoint_of_2018(aligned):
    checkpoint = os.path.join(MODEL_ZOO, "gender-age", "model,0")
    values = small_network.plain_mxnet(checkpoint, aligned)
    for backend in ("mxnet", "auto"):
        model = FaceModel(ga_model=checkpoint, backend=backend)
        np.testing.assert_allclose(model.gender_age.embed(aligned), values, atol=2e-4 * np.abs(values).max())
        genders, ages = model.get_ga(aligned)
        assert list(zip(genders, ages)) == [gender_and_age(row) for row in values]
    assert genders.tolist() == [1, 1, 1]
    assert np.abs(ages - [24, 60, 44]).max() <= 2


@ZOO_ONLY
def test_the_originals_detector_places_landmarks_again():
    folder = os.path.join(MODEL_ZOO, "mtcnn-model")
    one, other = (FaceModel(detector=where).get_faces([orl_photo(1, 1)])[0][0] for where in ("", folder))
    assert 0.1 < np.abs(one.landmarks - other.landmarks).max() < 8


def test_options_by_name_or_from_a_parser(networks):
    args = SimpleNamespace(image_size="112,96", model=networks["model"], det=1, threshold=1.1, other=3)
    model = FaceModel(args, det=0)
    assert (model.threshold, model.image_size, model.options.det) == (1.1, (112, 96), 0)
    assert model.get_input(orl_photo(1, 1)).shape == (3, 112, 96)
    assert FaceModel().threshold == 1.24
    with pytest.raises(TypeError, match="no option treshold; there are model, image_size"):
        FaceModel(treshold=1)


def test_another_size_is_a_smaller_face(aligned):
    face = FaceModel(image_size="56,56").get_input(orl_photo(1, 1))
    assert face.shape == (3, 56, 56)
    assert np.abs(face.astype(int) - aligned[0].reshape(3, 56, 2, 56, 2).mean(axis=(2, 4))).mean() < 4


def test_a_crop_of_a_face(networks):
    crop = orl_photo(1, 1)[80:293, 71:233]
    assert FaceModel(det=1).get_input(crop).shape == (3, 112, 112)


@pytest.mark.parametrize(
    ("options", "use", "message"),
    [
        ({}, lambda model: model.embedder, "no network: give model as PREFIX,EPOCH"),
        ({}, lambda model: model.gender_age, "no network: give ga_model"),
        ({"det": 2}, lambda model: model.detector, "det is 0, the whole detector, or 1"),
        ({"model": "nothing"}, lambda model: model.embedder, "'nothing' is not a checkpoint"),
    ],
)
def test_options_that_cannot_be(options, use, message):
    with pytest.raises(UserError, match=message):
        use(FaceModel(**options))


def test_no_faces_at_all_give_empty_arrays(networks):
    model = FaceModel(**networks, backend="mxnet")
    assert model.get_feature([]).shape == (0, 32)
    assert [values.shape for values in model.get_ga([])] == [(0,), (0,)]


def test_more_that_cannot_be(networks):
    with pytest.raises(UserError, match="has 32 outputs, not the 202"):
        FaceModel(ga_model=networks["model"], backend="mxnet").get_ga(np.zeros((3, 112, 112)))
    with pytest.raises(UserError, match="'112' is not an image size"):
        FaceModel(image_size="112")


@pytest.mark.parametrize(
    ("aligned", "place"),
    [
        (None, "no face: get_input found none"),
        ([np.zeros((3, 112, 112), np.uint8), None], "no face in image 1: get_input found none"),
        (np.array([None, None]), "no face in image 0: "),
    ],
)
def test_a_photo_without_a_face_has_no_embedding_and_no_age(model, aligned, place):
    for answer in (model.get_feature, model.get_ga):
        with pytest.raises(UserError, match=place):
            answer(aligned)


def test_a_list_of_faces(model, aligned):
    assert np.array_equal(model.get_feature(list(aligned)), model.get_feature(aligned))
