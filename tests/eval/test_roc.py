"""Accuracy, ROC and VAL against the same definitions written as plain loops, digit for digit."""

import numpy as np
import pytest
from sklearn.model_selection import KFold
from sklearn.preprocessing import normalize

from insightface_mx.eval import roc

ACCURACY_GRID = np.arange(0, 4, 0.01)
VAL_GRID = np.arange(0, 4, 0.001)


def loop_rates(threshold, distances, issame):
    accepted = distances < threshold
    same, different = np.count_nonzero(issame), np.count_nonzero(~issame)
    true_accepts, false_accepts = np.count_nonzero(accepted & issame), np.count_nonzero(accepted & ~issame)
    tpr = 0 if same == 0 else float(true_accepts) / float(same)
    fpr = 0 if different == 0 else float(false_accepts) / float(different)
    return tpr, fpr, float(true_accepts + different - false_accepts) / len(distances)


def loop_folds(pairs, nrof_folds):
    if nrof_folds == 1:
        return [(np.arange(pairs), np.arange(pairs))]
    return list(KFold(nrof_folds).split(np.arange(pairs)))


def loop_roc(distances, issame, nrof_folds):
    tprs, fprs, accuracies = [], [], []
    for train, test in loop_folds(len(issame), nrof_folds):
        training = [loop_rates(threshold, distances[train], issame[train])[2] for threshold in ACCURACY_GRID]
        best = training.index(max(training))
        tpr, fpr, accuracy = zip(*[loop_rates(threshold, distances[test], issame[test]) for threshold in ACCURACY_GRID])
        tprs.append(tpr)
        fprs.append(fpr)
        accuracies.append(accuracy[best])
    return np.mean(tprs, 0), np.mean(fprs, 0), np.array(accuracies)


def loop_threshold(distances, issame, far_target, grid=VAL_GRID):
    far = [loop_rates(threshold, distances, issame)[1] for threshold in grid]
    if max(far) < far_target:
        return 0.0
    for j in range(len(grid) - 1):
        if far[j] <= far_target < far[j + 1]:
            return (grid[j + 1] - grid[j]) / (far[j + 1] - far[j]) * (far_target - far[j]) + grid[j]
    return grid[-1]


def loop_val(distances, issame, far_target, nrof_folds):
    results = []
    for train, test in loop_folds(len(issame), nrof_folds):
        threshold = loop_threshold(distances[train], issame[train], far_target)
        results.append(loop_rates(threshold, distances[test], issame[test])[:2])
    val, far = np.array(results).T
    return np.mean(val), np.std(val), np.mean(far)


def embeddings_at(quarters):
    """Pairs whose squared distances are exactly so many quarters, each a threshold of both grids."""
    second = np.array([[0.5] * quarter + [0.0] * (16 - quarter) for quarter in quarters])
    return np.stack([np.zeros_like(second), second], axis=1).reshape(-1, 16)


def draw(seed, pairs, same_share=0.5, steps=400):
    """Distances with many ties, on the grid of the accuracy's thresholds or on one of `steps`, and flags."""
    random = np.random.RandomState(seed)
    issame = random.rand(pairs) < same_share
    place = np.clip(random.normal(np.where(issame, 0.35, 0.6), 0.15), 0, 0.999)
    return ACCURACY_GRID[(place * steps).astype(int) * (400 // steps)], issame


@pytest.mark.slow
@pytest.mark.parametrize("same_share", [0, 0.5, 0.9, 1])
@pytest.mark.parametrize(("pairs", "nrof_folds"), [(10, 10), (23, 5), (37, 2), (12, 1), (2, 2)])
def test_equals_the_loops_where_distances_lie_on_thresholds(same_share, pairs, nrof_folds):
    random = np.random.RandomState(pairs)
    issame = random.rand(pairs) < same_share
    embeddings = embeddings_at(np.where(issame, random.randint(0, 9, pairs), random.randint(5, 17, pairs)))
    distances = np.sum((embeddings[::2] - embeddings[1::2]) ** 2, axis=1)
    tpr, fpr, accuracy, val, val_std, far = roc.evaluate(embeddings, issame.tolist(), nrof_folds)
    for result, expected in zip((tpr, fpr, accuracy), loop_roc(distances, issame, nrof_folds)):
        np.testing.assert_array_equal(result, expected)
    assert len(accuracy) == nrof_folds
    assert (val, val_std, far) == loop_val(distances, issame, 1e-3, nrof_folds)


@pytest.mark.parametrize("steps", [400, 50])
@pytest.mark.parametrize("far_target", [0.001, 0.03, 0.25, 1.0])
def test_val_equals_the_loops_with_repeated_far_values(steps, far_target):
    distances, issame = draw(steps, 60, steps=steps)
    assert roc.calculate_val(distances, issame, far_target, 3) == loop_val(distances, issame, far_target, 3)


@pytest.mark.parametrize(
    ("near", "rest", "expected"),
    [
        ([], 3.0, 3.000001),  # FAR goes from 0 to 1 between 3.000 and 3.001
        ([1.0], 3.0, 3.0),  # FAR is the target itself from 1.001 to 3.000
        ([2.0, 2.0], 3.0, 2.0005),  # FAR goes from 0 to 0.002
        ([1.0], 4.0, 3.999),  # FAR reaches the target and never passes it
        ([], 4.0, 0.0),  # FAR never reaches the target
    ],
)
def test_threshold_at_far_among_1000_different_pairs(near, rest, expected):
    distances = np.array(near + [rest] * (1000 - len(near)))
    result = roc.threshold_at_far(distances, np.zeros(1000, bool))
    assert result == loop_threshold(distances, np.zeros(1000, bool), 1e-3)
    assert result == pytest.approx(expected, abs=1e-9)


def test_a_worked_example():
    """Two folds of four pairs: the second's best threshold, 0.51, misses the first's 0.75; the first's misses none."""
    embeddings = embeddings_at([1, 3, 6, 8, 2, 2, 5, 9])
    issame = [True, True, False, False, True, True, False, False]
    tpr, fpr, accuracy, val, val_std, far = roc.evaluate(embeddings, issame, 2)
    assert accuracy.tolist() == [0.75, 1.0]
    assert tpr[[0, 25, 26, 51, 76]].tolist() == [0, 0, 0.25, 0.75, 1]
    assert fpr[[125, 126, 151, 201, 226]].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert (val, val_std, far) == (1.0, 0.0, 0.25)
    distances = roc.pair_distances(embeddings)
    np.testing.assert_allclose(roc.held_out_thresholds(distances, np.array(issame), 2), [0.51] * 4 + [0.76] * 4)


def test_pairs_of_one_kind():
    same = roc.evaluate(embeddings_at([1, 2, 3, 4]), [True] * 4, 2)
    assert (same[1].max(), same[2].tolist(), same[5]) == (0, [1, 0], 0)
    different = roc.evaluate(embeddings_at([1, 2, 3, 4]), [False] * 4, 2)
    assert (different[0].max(), different[2].tolist(), different[3]) == (0, [1, 1], 0)


def test_fewer_pairs_than_folds_are_one_fold_each():
    embeddings, issame = embeddings_at([1, 2, 8, 9, 3]), [True, True, False, False, True]
    few, one_each = roc.evaluate(embeddings, issame, 10), roc.evaluate(embeddings, issame, 5)
    assert len(few[2]) == 5
    for result, expected in zip(few, one_each):
        np.testing.assert_array_equal(result, expected)
    assert roc.evaluate(embeddings[:2], issame[:1], 10)[2].tolist() == [1.0]


@pytest.mark.parametrize(("pairs", "nrof_folds"), [(10, 10), (23, 10), (11, 3)])
def test_folds_are_those_of_scikit_learn(pairs, nrof_folds):
    for ours, theirs in zip(roc.folds(pairs, nrof_folds), loop_folds(pairs, nrof_folds)):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_held_out_thresholds_give_the_accuracy():
    distances, issame = draw(3, 57)
    thresholds = roc.held_out_thresholds(distances, issame, 10)
    right = (distances < thresholds) == issame
    _, _, accuracies = loop_roc(distances, issame, 10)
    assert [right[held_out].mean() for _, held_out in roc.folds(57, 10)] == accuracies.tolist()
    assert 0.5 < right.mean() < 1


def test_pca_is_fitted_on_each_training_part():
    random = np.random.RandomState(0)
    issame = random.rand(40) < 0.5
    first = random.randn(40, 12)
    second = np.where(issame[:, np.newaxis], first + 0.6 * random.randn(40, 12), random.randn(40, 12))
    embeddings = normalize(np.stack([first, second], axis=1).reshape(80, 12))
    tpr, fpr, accuracy, *val = roc.evaluate(embeddings, issame, 5, pca=4)
    assert val == list(roc.evaluate(embeddings, issame, 5)[3:])
    expected = []
    for train, test in loop_folds(40, 5):
        fitted = np.concatenate((embeddings[0::2][train], embeddings[1::2][train]))
        centre = fitted.mean(axis=0)
        axes = np.linalg.svd(fitted - centre, full_matrices=False)[2][:4].T
        first, second = (normalize((embeddings[side::2] - centre) @ axes) for side in (0, 1))
        distances = np.sum((first - second) ** 2, axis=1)
        training = [loop_rates(threshold, distances[train], issame[train])[2] for threshold in ACCURACY_GRID]
        rates = [loop_rates(threshold, distances[test], issame[test]) for threshold in ACCURACY_GRID]
        expected.append((*zip(*rates), rates[int(np.argmax(training))][2]))
    expected_tpr, expected_fpr, _, expected_accuracy = zip(*expected)
    np.testing.assert_array_equal(tpr, np.mean(expected_tpr, 0))
    np.testing.assert_array_equal(fpr, np.mean(expected_fpr, 0))
    np.testing.assert_array_equal(accuracy, expected_accuracy)


def test_normalize_equals_scikit_learn_and_keeps_zero_rows():
    rows = np.random.RandomState(1).randn(9, 33) * 20
    rows[4] = 0
    np.testing.assert_array_equal(roc.normalize(rows), normalize(rows))


def test_a_diverged_network_accepts_nothing():
    rows = np.full((8, 3), np.nan)
    rows[:4] = np.inf
    tpr, _, accuracy, val, _, far = roc.evaluate(roc.normalize(rows), [True, False] * 2, 2)
    assert (tpr.max(), accuracy.tolist(), val, far) == (0, [0.5, 0.5], 0, 0)


@pytest.mark.parametrize(("rows", "flags"), [(6, 2), (0, 0)])
def test_refuses_flags_that_do_not_match(rows, flags):
    with pytest.raises(ValueError, match=f"{rows} embeddings for {flags} pairs"):
        roc.evaluate(np.zeros((rows, 4)), [True] * flags)
