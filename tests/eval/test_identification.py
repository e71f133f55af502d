"""Searches in a gallery and ranks among distractors, against loops."""

import numpy as np
import pytest

from insightface_mx.eval import identification
from insightface_mx.eval.identification import distractor_ranks, ordered_pairs, search

SIMILARITY = np.array(
    [
        [0.9, 0.1, 0.3],  # mate a: rank 1
        [0.5, 0.4, 0.2],  # mate b: rank 2
        [0.2, 0.6, 0.6],  # mate c: a tie with b
        [0.7, 0.1, 0.1],  # no mate
        [0.1, 0.3, 0.2],  # no mate
    ]
)
PROBES, GALLERY = ["a", "b", "c", "x", "y"], ["a", "b", "c"]


def test_a_search_by_hand():
    found = search(SIMILARITY, PROBES, GALLERY, [0.0, 0.5, 1.0], [1, 2])
    assert found.rank_rates == pytest.approx([2 / 3, 1])
    assert found.thresholds.tolist() == [0.7, 0.3, -np.inf]
    assert found.fpir_reached.tolist() == [0, 0.5, 1]
    assert found.tpir == pytest.approx([1 / 3, 2 / 3, 2 / 3])


def test_ties_against_the_mate():
    found = search(SIMILARITY, PROBES, GALLERY, 0.5, [1, 2], ties="against")
    assert found.rank_rates == pytest.approx([1 / 3, 1])
    assert found.tpir == pytest.approx([1 / 3])


def test_several_images_of_a_subject_count_by_their_best():
    similarity = np.array([[0.2, 0.8, 0.5, 0.6], [0.9, 0.1, 0.3, 0.2]])
    found = search(similarity, [1, 2], [2, 1, 2, 1], 0.1, 1)
    assert found.rank_rates.tolist() == [1.0]  # 1 has 0.8 against 0.5, 2 has 0.9 against 0.2
    assert np.isnan(found.tpir).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_random_search(seed):
    random = np.random.RandomState(seed)
    probes, gallery = random.randint(0, 30, 200), random.randint(0, 20, 50)
    similarity = np.round(random.uniform(size=(200, 50)), 2)  # with ties
    found = search(similarity, probes, gallery, [0.3, 0.29, 0.01], [1, 5])
    ranks, mates, strangers = [], [], []
    for row, subject in zip(similarity, probes):
        best = {name: row[gallery == name].max() for name in set(gallery)}
        if subject in best:
            mates.append(best.pop(subject))
            ranks.append(1 + sum(other > mates[-1] for other in best.values()))
        else:
            strangers.append(max(best.values()))
    ranks, mates, strangers = map(np.array, (ranks, mates, strangers))
    assert found.rank_rates == pytest.approx([(ranks <= 1).mean(), (ranks <= 5).mean()])
    for fpir, tpir, threshold, reached in zip([0.3, 0.29, 0.01], *found[1:]):
        assert (strangers > threshold).mean() == reached <= fpir
        assert tpir == ((ranks == 1) & (mates > threshold)).mean()
        assert (strangers >= threshold).sum() > int(len(strangers) * fpir + 1e-9)  # no lower threshold would do


def test_without_mated_probes_there_is_no_rate():
    found = search(SIMILARITY[3:], ["x", "y"], GALLERY, 0.5, [1])
    assert np.isnan(found.rank_rates).all()
    assert np.isnan(found.tpir).all()
    assert found.fpir_reached.tolist() == [0.5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"similarity": SIMILARITY[:, :2]}, r"shape \(5, 2\) for 5 probes and a gallery of 3"),
        ({"similarity": np.where(SIMILARITY == 0.4, np.nan, SIMILARITY)}, "similarity of probe 1 is NaN"),
        ({"fpirs": [2]}, "a rate is a number from 0 to 1"),
        ({"ranks": [0]}, "a rank is 1 or more"),
        ({"ties": "random"}, "choose one of for, against"),
        ({"similarity": np.ones((5, 0)), "gallery_subjects": []}, "a gallery of 0"),
    ],
)
def test_what_cannot_be_searched(change, message):
    usual = {"similarity": SIMILARITY, "probe_subjects": PROBES, "gallery_subjects": GALLERY, "fpirs": 0.1, "ranks": 1}
    with pytest.raises(ValueError, match=message):
        search(**{**usual, **change})


def unit(random, count, length=16):
    rows = random.normal(size=(count, length))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [7, 1000])
def test_ranks_among_distractors(block, monkeypatch):
    monkeypatch.setattr(identification, "_BLOCK", block)
    random = np.random.RandomState(1)
    subjects = np.array([4, 1, 4, 4, 2, 1, 9])  # 2 and 9 have one image
    centres = unit(random, 10)
    probes = centres[subjects] + 0.25 * random.normal(size=(7, 16))
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    distractors = unit(random, 500)
    pairs = [(j, i) for j in range(7) for i in range(7) if i != j and subjects[i] == subjects[j]]
    assert ordered_pairs(subjects).tolist() == [list(pair) for pair in pairs]
    expected = [1 + sum(probes[j] @ other > probes[j] @ probes[i] for other in distractors) for j, i in pairs]
    assert max(expected) > 1
    assert distractor_ranks(probes, subjects, distractors).tolist() == expected
    assert distractor_ranks(probes, subjects, iter(np.array_split(distractors, 3))).tolist() == expected


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_ranks_with_ties_and_of_many_that_are_above(kind):
    random = np.random.RandomState(2)
    subjects = random.randint(0, 5, 40)
    probes, distractors = (random.randint(-3, 4, (count, 6)).astype(kind) for count in (40, 3000))  # not of unit length
    expected = [
        1 + np.count_nonzero(distractors @ probes[j] > probes[j] @ probes[i]) for j, i in ordered_pairs(subjects)
    ]
    assert len(set(expected)) > 100
    assert distractor_ranks(probes, subjects, distractors).tolist() == expected


def test_a_tie_goes_to_the_mate():
    probes = np.eye(2)[[0, 0]]
    assert distractor_ranks(probes, [1, 1], np.eye(2)).tolist() == [1, 1]


def test_nobody_has_a_mate():
    assert distractor_ranks(np.eye(3), [1, 2, 3], np.eye(3)).tolist() == []


def test_distractors_that_cannot_be_used():
    with pytest.raises(ValueError, match="distractor 3 is not finite"):
        distractor_ranks(np.eye(2), [1, 1], iter([np.eye(2), np.array([[1, 0], [np.nan, 0]])]))
    with pytest.raises(ValueError, match=r"distractors have the shape \(3, 3\), the probes 2 numbers"):
        distractor_ranks(np.eye(2), [1, 1], np.eye(3))
    with pytest.raises(ValueError, match="for 3 subjects"):
        distractor_ranks(np.eye(2), [1, 1, 2], np.eye(2))
