"""Error rates of scores, against counts by hand and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from insightface_mx.eval import curves, score_histogram


def scores(seed, genuine=200, impostor=1000, ties=False):
    random = np.random.RandomState(seed)
    drawn = random.normal(1, 1, genuine), random.normal(0, 1, impostor)
    return tuple(np.round(part, 1) for part in drawn) if ties else drawn


def best_by_hand(genuine, impostor, far):
    """Try every threshold: the largest FAR that is not above the target, and the largest TAR there."""
    points = [
        ((impostor > threshold).sum() / len(impostor), (genuine > threshold).sum() / len(genuine))
        for threshold in [-np.inf, *genuine, *impostor]
    ]
    return max((point for point in points if point[0] <= far + 1e-12), key=lambda point: (point[0], point[1]))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_strict_reading_is_the_best_of_all_thresholds(seed, ties):
    genuine, impostor = scores(seed, ties=ties)
    fars = [0.1, 0.29, 0.001, 0.0005, 0.0, 1.0, 0.01]
    found = curves.tar_at_far(genuine, impostor, fars)
    for far, tar, reached, threshold in zip(fars, *found):
        assert (reached, tar) == best_by_hand(genuine, impostor, far)
        assert reached == (impostor > threshold).mean()
        assert tar == (genuine > threshold).mean()


def test_a_known_case():
    genuine, impostor = [0.9, 0.6, 0.5, 0.2], [0.6, 0.5, 0.5, 0.1]
    found = curves.tar_at_far(genuine, impostor, [0, 0.25, 0.5, 0.75, 1])
    assert found.threshold.tolist() == [0.6, 0.5, 0.5, 0.1, -np.inf]
    assert found.tar.tolist() == [0.25, 0.5, 0.5, 1.0, 1.0]
    assert found.far_reached.tolist() == [0, 0.25, 0.25, 0.75, 1]


@pytest.mark.parametrize("ties", [False, True])
def test_the_nearest_reading_is_that_of_the_public_scripts(ties):
    genuine, impostor = scores(7, ties=ties)
    labels = np.concatenate((np.ones(len(genuine)), np.zeros(len(impostor))))
    fpr, tpr, _ = roc_curve(labels, np.concatenate((genuine, impostor)))
    fpr, tpr = np.flipud(fpr), np.flipud(tpr)  # as ijb_11.py does
    fars = [1e-6, 1e-4, 1e-3, 1e-2, 1e-1]
    found = curves.tar_at_far(genuine, impostor, fars, reading="nearest")
    for far, tar, reached in zip(fars, found.tar, found.far_reached):
        _, index = min(zip(abs(fpr - far), range(len(fpr))))
        assert (tar, reached) == (tpr[index], fpr[index])


def nearest_by_hand(genuine, impostor, far, every_point):
    """The point of scikit-learn's ROC that is nearest to a FAR; of several the one with the largest TAR."""
    labels = np.concatenate((np.ones(len(genuine)), np.zeros(len(impostor))))
    fpr, tpr, _ = roc_curve(labels, np.concatenate((genuine, impostor)), drop_intermediate=not every_point)
    distance = np.abs(fpr - far)
    return max(zip(tpr[distance == distance.min()], fpr[distance == distance.min()]))


@pytest.mark.parametrize("decimals", [0, 1, 2, 12])
@pytest.mark.parametrize("seed", range(5))
def test_the_nearest_reading_with_ties(seed, decimals):
    """Equal scores within a kind and between the kinds; the public scripts drop intermediate points, as here."""
    genuine, impostor = (np.round(part, decimals) for part in scores(100 + seed, 150, 900))
    fars = [1e-6, 1e-4, 1e-3, 0.0015, 1e-2, 0.1, 0.5, 1.0]
    found = curves.tar_at_far(genuine, impostor, fars, reading="nearest")
    for far, tar, reached, threshold in zip(fars, *found):
        assert (tar, reached) == nearest_by_hand(genuine, impostor, far, every_point=False)
        assert (tar, reached) == ((genuine >= threshold).mean(), (impostor >= threshold).mean())
        every = nearest_by_hand(genuine, impostor, far, every_point=True)
        assert abs(every[1] - far) <= abs(reached - far)  # a dropped point may have been nearer
        if abs(every[1] - far) == abs(reached - far):
            assert tar <= every[0]


@pytest.mark.parametrize("decimals", [0, 1, 2, 12])
def test_the_strict_reading_is_on_the_roc_with_every_point(decimals):
    genuine, impostor = (np.round(part, decimals) for part in scores(11, 150, 900))
    labels = np.concatenate((np.ones(150), np.zeros(900)))
    fpr, tpr, _ = roc_curve(labels, np.concatenate((genuine, impostor)), drop_intermediate=False)
    for far in (1e-6, 1e-3, 0.0015, 0.01, 0.1, 0.5, 1.0):
        inside = fpr <= far + 1e-12
        found = curves.tar_at_far(genuine, impostor, far)
        assert found.far_reached[0] == pytest.approx(fpr[inside].max())
        assert found.tar[0] == pytest.approx(tpr[inside].max())


def test_29_of_100_false_accepts_are_29():
    impostor = np.arange(100.0)
    assert curves.tar_at_far([0.0], impostor, 0.29).far_reached.tolist() == [0.29]


@pytest.mark.parametrize(
    ("genuine", "impostor", "fars", "reading", "message"),
    [
        ([], [0.1], 0.1, "strict", "there is no genuine score"),
        ([0.1], [], 0.1, "strict", "there is no impostor score"),
        ([0.1], [0.2, np.nan], 0.1, "strict", "an impostor score is NaN"),
        ([0.1], [0.2], -0.1, "strict", "a rate is a number from 0 to 1"),
        ([0.1], [0.2], np.nan, "strict", "a rate is a number from 0 to 1"),
        ([0.1], [0.2], 0.1, "exact", "choose one of strict, nearest"),
    ],
)
def test_what_cannot_be_read(genuine, impostor, fars, reading, message):
    with pytest.raises(ValueError, match=message):
        curves.tar_at_far(genuine, impostor, fars, reading)


def test_det_counts_at_every_score():
    curve = curves.det([0.9, 0.6, 0.6], [0.6, 0.1])
    assert curve.threshold.tolist() == [0.1, 0.6, 0.9, np.inf]
    assert curve.fmr.tolist() == [1, 0.5, 0, 0]
    assert curve.fnmr == pytest.approx([0, 0, 2 / 3, 1])


def test_eer_lies_where_the_rates_cross():
    genuine, impostor = scores(3, 4000, 4000)
    rate, threshold = curves.eer(genuine, impostor)
    assert (genuine < threshold).mean() == pytest.approx(rate, abs=5e-4)
    assert (impostor >= threshold).mean() == pytest.approx(rate, abs=5e-4)
    assert rate == pytest.approx(0.3085, abs=0.01)  # of two normal distributions, one standard deviation apart
    assert curves.eer([2.0, 3.0], [0.0, 1.0]).rate == 0
    assert curves.eer([0.0], [1.0]).rate == 1


@pytest.mark.parametrize("ties", [False, True])
def test_auc(ties):
    genuine, impostor = scores(5, ties=ties)
    pairs = (genuine[:, None] > impostor).mean() + (genuine[:, None] == impostor).mean() / 2
    assert curves.auc(genuine, impostor) == pytest.approx(pairs)
    assert curves.auc(genuine, impostor) == roc_auc_score([1] * 200 + [0] * 1000, np.concatenate((genuine, impostor)))


def test_the_table_of_thresholds():
    genuine, impostor = np.linspace(0.3, 0.9, 100), np.linspace(-0.4, 0.5, 1000)
    rows = curves.fmr_table(genuine, impostor, [0.01, 0.001])
    assert [row.name for row in rows] == ["FMR 0.01", "FMR 0.001", "ZeroFMR"]
    assert [row.false_matches for row in rows] == [10, 1, 0]
    for row in rows:
        assert row.fmr <= row.target
        assert row.fnmr == pytest.approx((genuine <= row.cosine).mean())
        assert row.squared_distance == 2 - 2 * row.cosine
    assert rows[-1].cosine == 0.5


@pytest.mark.parametrize("seed", range(3))
def test_a_histogram_agrees_within_its_resolution(seed):
    genuine, impostor = (np.tanh(part) for part in scores(seed, 500, 5000))
    fars = [1.0, 0.1, 0.01, 0.001, 0.0]
    exact = curves.tar_at_far(genuine, impostor, fars)
    counted = [score_histogram.ScoreHistogram() for _ in range(2)]
    for histogram, part in zip(counted, (genuine, impostor)):
        for piece in np.array_split(part, 7):
            histogram.add(piece)
    found = score_histogram.tar_at_far_of_histograms(*counted, fars)
    assert found.far_reached.tolist() == exact.far_reached.tolist()
    assert found.tar.tolist() == exact.tar.tolist()
    finite = np.isfinite(exact.threshold)
    assert np.isfinite(found.threshold).tolist() == finite.tolist()
    assert found.threshold[finite] == pytest.approx(exact.threshold[finite], abs=counted[0].width, rel=0)


def test_a_coarse_histogram_never_passes_the_far():
    genuine, impostor = (np.tanh(part) for part in scores(9, 500, 5000))
    coarse = [score_histogram.ScoreHistogram(bins=50) for _ in range(2)]
    for histogram, part in zip(coarse, (genuine, impostor)):
        histogram.add(part)
    found = score_histogram.tar_at_far_of_histograms(*coarse, [0.1, 0.01])
    assert (found.far_reached <= [0.1, 0.01]).all()
    for tar, reached, threshold in zip(*found):
        assert (tar, reached) == ((genuine > threshold).mean(), (impostor > threshold).mean())


def test_scores_outside_a_histogram_are_in_its_last_bins():
    histogram = score_histogram.ScoreHistogram(0.0, 1.0, bins=4)
    histogram.add(np.array([-3.0, 0.0, 0.25, 0.26, 1.0, 7.0]))
    assert histogram.counts.tolist() == [3, 1, 0, 2]
    assert histogram.above().tolist() == [6, 3, 2, 2]
    with pytest.raises(ValueError, match="NaN"):
        histogram.add(np.array([np.nan]))
    with pytest.raises(ValueError, match="no impostor score"):
        score_histogram.tar_at_far_of_histograms(histogram, score_histogram.ScoreHistogram(0.0, 1.0, bins=4), 0.1)
    with pytest.raises(ValueError, match="different bins"):
        score_histogram.tar_at_far_of_histograms(histogram, score_histogram.ScoreHistogram(0.0, 1.0, bins=5), 0.1)
