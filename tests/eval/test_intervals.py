"""95 % intervals: known values, and how often they hold the truth."""

import numpy as np
import pytest

from insightface_mx.eval import curves, intervals


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (81, 263, 0.25527, 0.36617), (1, 1, 0.20654, 1.0)],
)
def test_wilson(successes, trials, low, high):
    """The third line is the example of R. G. Newcombe, Statistics in Medicine 17, 1998."""
    found = intervals.wilson(successes, trials)
    assert found[:2] == pytest.approx((low, high), abs=1e-4)
    assert (found.method, found.errors) == ("pairs", trials - successes)
    assert found.few_errors == (trials - successes < 30)


def test_wilson_of_no_fraction():
    for successes, trials in [(2, 1), (-1, 3), (0, 0)]:
        with pytest.raises(ValueError, match="is no fraction"):
            intervals.wilson(successes, trials)


def test_wilson_ends_where_all_or_none_count():
    for trials in (7, 40, 41):
        assert intervals.wilson(0, trials).low == 0.0
        assert intervals.wilson(trials, trials).high == 1.0


def test_the_weights_of_a_draw():
    people = np.array([["a", "a"], ["a", "b"], ["b", "c"], ["c", "c"]])
    for weights in intervals.draws(people, 20, seed=3):
        a, c = weights[0], weights[3]
        b = 3 - a - c
        assert weights.tolist() == [a, a * b, b * c, c]


def pairs(seed, people=40, each=3):
    """Scores of all pairs of images of some people; the people differ in how alike their images are."""
    random = np.random.RandomState(seed)
    skill = np.repeat(random.normal(1.5, 1, people), each)
    names = np.repeat(np.arange(people), each)
    first, second = np.triu_indices(people * each, 1)
    same = names[first] == names[second]
    noise = random.normal(0, 0.3, len(first))
    scores = np.where(same, skill[first], 0.3 * (skill[first] + skill[second]) - 1) + noise
    return scores, same, np.stack([names[first], names[second]], axis=1)


def test_the_rate_itself_is_the_strict_tar():
    scores, same, people = pairs(0)
    fars = [0.1, 0.01, 0.001]
    exact = curves.tar_at_far(scores[same], scores[~same], fars)
    found = intervals.tar_intervals(scores, same, fars, people, samples=200)
    for tar, far, one in zip(exact.tar, exact.far_reached, found):
        assert one.low < tar < one.high
        assert one.method == "people"
        assert one.errors == round(far * (~same).sum())
    by_pairs = intervals.tar_intervals(scores, same, fars)
    assert {one.method for one in by_pairs} == {"pairs"}
    for tar, one in zip(exact.tar, by_pairs):
        assert one[:2] == intervals.wilson(round(tar * same.sum()), int(same.sum()))[:2]


def test_people_give_wider_intervals_than_pairs_where_people_differ():
    scores, same, people = pairs(1)
    wide = intervals.tar_intervals(scores, same, 0.01, people, samples=300)[0]
    narrow = intervals.tar_intervals(scores, same, 0.01)[0]
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)


@pytest.mark.slow
def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """The truth is the mean accuracy over many data sets; pairs taken as independent hold it too rarely."""
    right = [(scores > 0.5) == same for scores, same, _ in map(pairs, range(200))]
    genuine = [same for _, same, _ in map(pairs, range(200))]
    truth = np.mean([flags[same].mean() for flags, same in zip(right, genuine)])
    held = {"people": 0, "pairs": 0}
    for seed in range(60):
        _, same, people = pairs(seed)
        for given in (people[same], None):
            found = intervals.accuracy_interval(right[seed][same], given, samples=200)
            held[found.method] += found.low <= truth <= found.high
    assert held["people"] >= 51  # of 60; 57 are expected
    assert held["pairs"] < held["people"]


def test_draws_without_a_genuine_pair_are_left_out():
    people = np.array([[0, 0], [1, 2], [2, 3]])
    found = intervals.tar_intervals([0.9, 0.1, 0.2], [True, False, False], 0.5, people, samples=50)[0]
    assert found[:3] == (*intervals.wilson(1, 1)[:2], "people")


def test_rates_without_an_error_are_as_certain_as_there_are_people():
    hits = np.ones((60, 2), bool)
    hits[:, 1] = False
    people = np.repeat(np.arange(20), 3)
    best, worst = intervals.rate_intervals(hits, np.stack([people, people], axis=1), samples=50)
    assert best[:2] == intervals.wilson(20, 20)[:2] and (best.method, best.errors) == ("people", 0)
    assert worst[:2] == intervals.wilson(0, 20)[:2] and worst.errors == 60


def test_an_accuracy_without_an_error_is_not_certain():
    assert intervals.accuracy_interval([True] * 100)[:2] == pytest.approx((0.96301, 1.0), abs=1e-4)
