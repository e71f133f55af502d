"""Samples of very many scores: the highest themselves, the others evenly, and intervals from them."""

import numpy as np
import pytest

from insightface_mx.eval import intervals
from insightface_mx.eval.score_sample import Sample, ScoreSample


def collected(scores, people, kept, pieces=7):
    sample = ScoreSample(len(scores), kept)
    for places in np.array_split(np.arange(len(scores)), pieces):
        sample.add(scores[places], lambda chosen, places=places: people[places[chosen]])
    return sample.finish()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("pieces", [1, 7, 400])
def test_the_highest_are_there_and_the_others_evenly(ties, pieces):
    scores = np.random.RandomState(1).normal(size=50_000)
    scores = np.round(scores, 2) if ties else scores
    people = np.stack([np.arange(50_000), -np.arange(50_000)], axis=1)
    found = collected(scores, people, 1000, pieces)
    falling = np.sort(scores)[::-1]
    single = found.times == 1
    assert 1000 - 50 <= single.sum() <= 1000
    assert found.scores[single].tolist() == falling[: single.sum()].tolist()
    assert (np.diff(found.scores) <= 0).all()
    assert 800 < (~single).sum() <= 1000
    assert found.times.sum() == pytest.approx(50_000)
    assert (scores[found.people[:, 0]] == found.scores).all()
    assert (found.people.sum(axis=1) == 0).all()
    for quantile in (0.1, 0.5, 0.9):
        threshold = np.quantile(scores, quantile)
        assert found.times[found.scores > threshold].sum() == pytest.approx((scores > threshold).sum(), abs=2500)


def test_few_scores_are_all_there():
    scores = np.array([0.1, 0.5, 0.3])
    found = collected(scores, np.array([[0, 1], [1, 2], [2, 3]]), 3, 2)
    assert found.scores.tolist() == [0.5, 0.3, 0.1]
    assert found.people.tolist() == [[1, 2], [2, 3], [0, 1]]
    assert found.times.tolist() == [1, 1, 1]


def test_intervals_of_a_sample_are_nearly_those_of_all_scores():
    random = np.random.RandomState(0)
    people = random.randint(0, 60, (40_000, 2))
    skill = random.normal(0, 1, 60)
    scores = 0.3 * skill[people].sum(axis=1) + random.normal(size=40_000)
    own = np.repeat(np.arange(60), 10)
    genuine = Sample.of(skill[own] + 1 + random.normal(size=600), np.stack([own, own], axis=1))
    every = Sample.of(scores, people)
    some = collected(scores, people, 2000)
    fars = [0.3, 0.1, 0.01]
    exact, found = (intervals.sampled_tar_ends(genuine, each, fars, samples=200) for each in (every, some))
    np.testing.assert_allclose(found, exact, atol=0.02)
    assert all(high - low > 0.04 for low, high in exact)
