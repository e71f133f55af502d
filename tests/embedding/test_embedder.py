"""Embedder: unit embeddings of pixels, files and encoded images, with and without the mirror image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import small_network

from insightface_mx.base.errors import UserError
from insightface_mx.embedding import embedder as embedder_module
from insightface_mx.embedding.embedder import Embedder
from insightface_mx.embedding.vectors import mirror, normalize, unit_with_mirror

own_cache = pytest.fixture(autouse=True, scope="module")(small_network.own_cache)
COUNT = 6
IMAGES = np.random.RandomState(3).randint(0, 256, (COUNT, 3, 112, 112)).astype(np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_network.save(tmp_path_factory.mktemp("model") / "net")


@pytest.fixture(scope="module")
def embedder(model):
    return Embedder(model, device="cpu", backend="mxnet", batch_size=4)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def expected(model, flip=True):
    rows = small_network.plain_mxnet(model, IMAGES)
    return unit(rows + small_network.plain_mxnet(model, IMAGES[..., ::-1])) if flip else unit(rows)


def png(image):
    return cv2.imencode(".png", image.transpose(1, 2, 0)[:, :, ::-1])[1].tobytes()


def test_the_embedding_is_the_unit_sum_of_image_and_mirror_image(embedder, model):
    found = embedder(IMAGES)
    assert found.shape == (COUNT, embedder.length) == (COUNT, small_network.LENGTH)
    assert found.dtype == np.float64
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    np.testing.assert_allclose(found, expected(model), atol=1e-5)
    np.testing.assert_allclose(embedder(mirror(IMAGES)), found, atol=1e-6)
    assert np.abs(found - expected(model, flip=False)).max() > 1e-3


@pytest.mark.parametrize("backend", ["mxnet", "openvino"])
def test_without_the_mirror_image(model, backend):
    found = Embedder(model, device="cpu", flip=False, backend=backend)(IMAGES)
    np.testing.assert_allclose(found, expected(model, flip=False), atol=1e-5)


@pytest.mark.parametrize("at_once", [4, 1024])
def test_files_and_encoded_images_in_chunks(embedder, model, tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(embedder_module, "_DECODED_AT_ONCE", at_once)
    encoded = [png(image) for image in IMAGES]
    paths = [str(tmp_path / f"{index}.png") for index in range(COUNT)]
    for path, content in zip(paths, encoded):
        with open(path, "wb") as file:
            file.write(content)
    np.testing.assert_allclose(embedder.files(paths), expected(model), atol=1e-5)
    np.testing.assert_allclose(embedder.encoded(iter(encoded)), expected(model), atol=1e-5)


def test_no_image_gives_no_row(embedder):
    assert embedder.files([]).shape == embedder.encoded([]).shape == (0, small_network.LENGTH)


def test_several_contexts_share_a_batch(model):
    found = Embedder(model, device="cpu:2", backend="mxnet", batch_size=4)(IMAGES[:5])
    np.testing.assert_allclose(found, expected(model)[:5], atol=1e-5)


def test_repeated_images_are_computed_once(embedder):
    batches = []
    run = embedder.backend.run
    embedder.backend.run = lambda images: batches.append(len(images)) or run(images)
    found = embedder(IMAGES[[0, 1, 0, 0, 1, 2, 0]])
    embedder.backend.run = run
    assert batches == [3, 3]
    np.testing.assert_allclose(found, embedder(IMAGES)[[0, 1, 0, 0, 1, 2, 0]], atol=1e-6)


def test_the_last_batch_is_filled_up_with_the_images_before_it(embedder):
    batches = []
    run = embedder.backend.run
    embedder.backend.run = lambda images: batches.append(images) or run(images)
    embedder(IMAGES)
    embedder.backend.run = run
    assert [len(batch) for batch in batches] == [4, 4, 4, 4]
    np.testing.assert_array_equal(batches[1], IMAGES[2:])
    np.testing.assert_array_equal(batches[3], IMAGES[2:, :, :, ::-1])


def test_images_that_cannot_be_embedded(embedder, tmp_path):
    with pytest.raises(ValueError, match=r"images must be \(n, 3, 112, 112\), not \(2, 112, 112\)"):
        embedder(np.zeros((2, 112, 112)))
    with pytest.raises(UserError, match="image 1 of the set cannot be decoded"):
        embedder.encoded([png(IMAGES[0]), b"no image"])
    with pytest.raises(UserError, match=r"cannot open .*none\.jpg"):
        embedder.files([str(tmp_path / "none.jpg")])


def test_the_rule_of_the_mirror_image():
    plain, mirrored = np.array([[3.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 4.0], [-1.0, -1.0]])
    np.testing.assert_allclose(unit_with_mirror(plain, mirrored), [[0.6, 0.8], [0.0, 0.0]])
    np.testing.assert_allclose(normalize(plain), [[1, 0], [0.5**0.5, 0.5**0.5]])
