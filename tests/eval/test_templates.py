"""Templates of several images, against loops that follow the definition."""

import numpy as np
import pytest

from insightface_mx.eval import templates


def images(count=60, length=8, seed=0):
    random = np.random.RandomState(seed)
    return (
        random.normal(size=(count, length)).astype(np.float32),
        random.normal(size=(count, length)).astype(np.float32),
        random.uniform(0.5, 1, count).astype(np.float32),
        random.choice([7, 3, 900000, 12], count),
        random.choice([5, 1, 2], count),
    )


@pytest.mark.parametrize("keep_norm", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("flip", [True, False])
def test_all_eight_settings(keep_norm, weighted, flip):
    features, mirrored, scores, ids, media = images()
    vectors = templates.image_features(features, mirrored if flip else None, scores if weighted else None, keep_norm)
    expected = []
    for template in sorted(set(ids)):
        total = np.zeros(8)
        for medium in set(media[ids == template]):
            rows = []
            for i in np.flatnonzero((ids == template) & (media == medium)):
                row = features[i].astype(float) + (mirrored[i] if flip else 0)
                row = row if keep_norm else row / np.linalg.norm(row)
                rows.append(row * (scores[i] if weighted else 1))
            total += np.mean(rows, axis=0)
        expected.append(total / np.linalg.norm(total))
    names, rows = templates.aggregate(vectors, ids, media)
    assert names.tolist() == [3, 7, 12, 900000]
    assert rows.dtype == np.float64
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_the_same_medium_in_two_templates_is_two_media():
    features = np.array([[1.0, 0.0], [0.0, 1.0]])
    _, rows = templates.aggregate(features, np.array([1, 2]), np.array([9, 9]))
    assert rows.tolist() == [[1, 0], [0, 1]]


def test_a_medium_counts_once_however_many_images_it_has():
    features = np.array([[2.0, 0.0], [4.0, 0.0], [0.0, 3.0]])
    _, rows = templates.aggregate(features, np.array([1, 1, 1]), np.array([1, 1, 2]))
    np.testing.assert_allclose(rows, [[np.sqrt(0.5), np.sqrt(0.5)]])


def test_blocks_give_what_one_piece_gives(monkeypatch):
    features, _, _, ids, media = images(1000)
    whole = templates.aggregate(features, ids, media)[1]
    monkeypatch.setattr(templates, "_ROWS", 64)
    np.testing.assert_allclose(templates.aggregate(features, ids, media)[1], whole, atol=1e-14)


def test_scores_of_pairs():
    ids, rows = np.array([2, 5, 9]), np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    assert templates.pair_scores(ids, rows, [2, 9, 5], [5, 2, 9]).tolist() == [0.0, 0.6, 0.8]
    with pytest.raises(ValueError, match="pair 1 names template 10, which has no image"):
        templates.pair_scores(ids, rows, [2, 10], [5, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.ones(3)}, "features have the shape"),
        ({"mirrored": np.ones((3, 3))}, r"mirrored have the shape \(3, 3\), not \(3, 2\)"),
        ({"scores": np.ones(2)}, r"scores have the shape \(2,\), not \(3,\)"),
        ({"scores": np.array([1, np.nan, 1])}, "image 1: its score is not finite"),
        ({"features": np.array([[1, 1], [1, 1], [np.inf, 0]])}, "image 2: its feature is not finite"),
        ({"features": np.array([[1, 1], [0, 0], [1, 0]]), "keep_norm": False}, "image 1: its feature is 0"),
    ],
)
def test_images_that_cannot_be_used(change, message):
    with pytest.raises(ValueError, match=message):
        templates.image_features(**{"features": np.ones((3, 2)), **change})


def test_templates_that_cannot_be_made():
    with pytest.raises(ValueError, match="images of template 4 cancel out"):
        templates.aggregate(np.array([[1.0], [-1.0]]), np.array([4, 4]), np.array([1, 2]))
    with pytest.raises(ValueError, match="media have the shape"):
        templates.aggregate(np.ones((2, 2)), np.array([4, 4]), np.array([1]))
