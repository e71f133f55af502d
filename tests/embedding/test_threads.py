"""Eight threads with one model, as a web server has them, get what one thread alone gets."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import small_network
from harness import orl_photo

from insightface_mx.deploy.face_model import FaceModel
from insightface_mx.detection.detector import MtcnnDetector
from insightface_mx.embedding import backends
from insightface_mx.embedding.embedder import Embedder

own_cache = pytest.fixture(autouse=True, scope="module")(small_network.own_cache)
THREADS, CALLS = 8, 10  # calls in each thread
IMAGES = np.random.RandomState(6).randint(0, 256, (THREADS * CALLS, 3, 112, 112)).astype(np.uint8)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    return small_network.save_for_face_model(tmp_path_factory.mktemp("networks"))


def in_threads(function, arguments):
    """Return function(argument) for each argument, computed in eight threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, arguments))


@pytest.mark.slow
@pytest.mark.parametrize("name", backends.PACKAGES)
def test_every_backend(name, networks):
    backend = backends.load(networks["model"], name=name)
    batches = [IMAGES[first : first + 1 + first % 3] for first in range(len(IMAGES) - 2)]  # of 1, 2 and 3 images
    alone = [backend.embed(batch) for batch in batches]
    assert len({embeddings[0].tobytes() for embeddings in alone}) == len(batches)
    for found, expected in zip(in_threads(backend.embed, batches), alone):
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.slow
def test_an_embedder_with_mirror_images(networks):
    embedder = Embedder(networks["model"], device="cpu", backend="mxnet")
    alone = [embedder(image[np.newaxis]) for image in IMAGES]
    np.testing.assert_allclose(in_threads(lambda image: embedder(image[np.newaxis]), IMAGES), alone, atol=1e-6)


@pytest.mark.slow
def test_the_detector():
    detector = MtcnnDetector()
    photos = [cv2.resize(orl_photo(1 + index % 40, 1 + index // 40), None, fx=0.5, fy=0.5) for index in range(32)]
    alone = [detector.detect_face(photo) for photo in photos]
    assert sum(faces is not None for faces in alone) > 27
    for found, expected in zip(in_threads(detector.detect_face, photos), alone):
        assert (found is None) == (expected is None)
        for one, other in zip(found or (), expected or ()):
            np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.slow
def test_a_face_model_that_all_threads_load_and_use(networks):
    def answers(model, photo):
        aligned = model.get_input(photo)
        return aligned, model.get_feature(aligned), model.get_ga(aligned)

    photos = [cv2.resize(orl_photo(1 + index, 1), None, fx=0.5, fy=0.5) for index in range(32)]
    model, other = (FaceModel(backend="mxnet", **networks) for _ in range(2))
    for photo, found in zip(photos, in_threads(lambda photo: answers(model, photo), photos)):
        aligned, feature, gender_age = answers(other, photo)
        assert np.array_equal(found[0], aligned)
        np.testing.assert_allclose(found[1], feature, atol=1e-6)
        assert found[2] == gender_age


def test_a_face_model_loads_each_network_once(networks, monkeypatch):
    loaded = []
    load = backends.load
    monkeypatch.setattr(backends, "load", lambda *args: loaded.append(args[0]) or load(*args))
    model = FaceModel(backend="mxnet", **networks)
    assert len(set(map(id, in_threads(lambda _: model.embedder, range(THREADS))))) == 1
    assert loaded == [networks["model"]]
