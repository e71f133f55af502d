"""Compute accuracy, ROC and VAL@FAR from the embeddings of pairs, without a loop over thresholds.

A pair is two images; pair i's embeddings are rows 2i and 2i + 1. The distance is the squared Euclidean one, and a pair
counts as the same identity where its distance is strictly below the threshold.
"""

from __future__ import annotations

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from insightface_mx.embedding.vectors import normalize

THRESHOLDS = np.arange(0, 4, 0.01)
VAL_THRESHOLDS = np.arange(0, 4, 0.001)
FAR_TARGET = 1e-3

Rates = Tuple[np.ndarray, np.ndarray, np.ndarray]  # true positive rate, false positive rate, accuracy
Folds = List[Tuple[np.ndarray, np.ndarray]]  # indices of the training pairs and of the held-out pairs


class Evaluation(NamedTuple):
    """What `evaluate` returns, in the order of the original's tuple.

    Attributes:
        tpr: True positive rate at each of THRESHOLDS, mean over the folds.
        fpr: False positive rate at each of THRESHOLDS, mean over the folds.
        accuracy: One value for each fold, at the best threshold of the fold's training part.
        val: Mean true accept rate at the training part's threshold for FAR_TARGET.
        val_std: Its standard deviation over the folds.
        far: Mean false accept rate at these thresholds.
    """

    tpr: np.ndarray
    fpr: np.ndarray
    accuracy: np.ndarray
    val: float
    val_std: float
    far: float


def evaluate(embeddings: np.ndarray, issame: Sequence[bool], nrof_folds: int = 10, pca: int = 0) -> Evaluation:
    """Compute ROC, accuracy and VAL@FAR=1e-3 by cross-validation over the pairs in their order.

    Args:
        embeddings: (2n, d), unit length.
        issame: n booleans.
        nrof_folds: Folds of the cross-validation.
        pca: Where above 0, ROC and accuracy are those of the embeddings projected on this many principal components of
            each fold's training part, scaled to unit length again.

    Raises:
        ValueError: The numbers of embeddings and pairs do not fit.
    """
    embeddings = np.asarray(embeddings)
    flags = np.asarray(issame, bool)
    if len(embeddings) != 2 * len(flags) or not len(flags):
        raise ValueError(f"{len(embeddings)} embeddings for {len(flags)} pairs")
    tpr, fpr, accuracy = calculate_roc(embeddings, flags, nrof_folds, pca)
    val, val_std, far = calculate_val(pair_distances(embeddings), flags, FAR_TARGET, nrof_folds)
    return Evaluation(tpr, fpr, accuracy, val, val_std, far)


def calculate_roc(embeddings: np.ndarray, issame: np.ndarray, nrof_folds: int = 10, pca: int = 0) -> Rates:
    """Return mean tpr and fpr at each of THRESHOLDS and the accuracy of each fold; arguments as for `evaluate`."""
    distances = pair_distances(embeddings)
    tprs, fprs, accuracies = [], [], []
    for train, held_out in folds(len(issame), nrof_folds):
        if pca > 0:
            distances = pair_distances(_project(embeddings, train, pca))
        tpr, fpr, accuracy = rates(distances[held_out], issame[held_out], THRESHOLDS)
        tprs.append(tpr)
        fprs.append(fpr)
        accuracies.append(accuracy[_best(distances[train], issame[train])])
    return np.mean(tprs, axis=0), np.mean(fprs, axis=0), np.array(accuracies)


def calculate_val(
    distances: np.ndarray, issame: np.ndarray, far_target: float = FAR_TARGET, nrof_folds: int = 10
) -> tuple[float, float, float]:
    """Return mean and standard deviation of VAL over the folds, and mean FAR, at the training parts' thresholds."""
    vals, fars = [], []
    for train, held_out in folds(len(issame), nrof_folds):
        threshold = threshold_at_far(distances[train], issame[train], far_target)
        val, far, _ = rates(distances[held_out], issame[held_out], threshold)
        vals.append(val)
        fars.append(far)
    return np.mean(vals), np.std(vals), np.mean(fars)


def fold_accuracies(distances: np.ndarray, issame: np.ndarray, nrof_folds: int = 10) -> np.ndarray:
    """Return the accuracy of each fold at the best threshold of its training part, from squared distances (n,)."""
    correct = (distances < held_out_thresholds(distances, issame, nrof_folds)) == issame
    return np.array([correct[held_out].mean() for _, held_out in folds(len(issame), nrof_folds)])


def held_out_thresholds(distances: np.ndarray, issame: np.ndarray, nrof_folds: int = 10) -> np.ndarray:
    """Return the threshold that judges each pair, (n,): the best one on the folds without the pair."""
    thresholds = np.empty(len(distances))
    for train, held_out in folds(len(issame), nrof_folds):
        thresholds[held_out] = THRESHOLDS[_best(distances[train], issame[train])]
    return thresholds


def threshold_at_far(distances: np.ndarray, issame: np.ndarray, far_target: float = FAR_TARGET) -> float:
    """Return the threshold with this false accept rate, interpolated between VAL_THRESHOLDS; 0 where none reaches it.

    The bracket is far[j] <= far_target < far[j + 1]; where the last FAR is the target itself, the last threshold.
    """
    _, far, _ = rates(distances, issame, VAL_THRESHOLDS)
    return float(np.interp(far_target, far, VAL_THRESHOLDS)) if far[-1] >= far_target else 0.0


def rates(distances: np.ndarray, issame: np.ndarray, thresholds: np.ndarray | float) -> Rates:
    """Return true positive rate, false positive rate and accuracy at each threshold; a rate without any pair is 0."""
    different = np.count_nonzero(~issame)
    true_accepts = np.searchsorted(np.sort(distances[issame]), thresholds)  # the number strictly below
    false_accepts = np.searchsorted(np.sort(distances[~issame]), thresholds)
    tpr = true_accepts / max(len(issame) - different, 1)
    fpr = false_accepts / max(different, 1)
    return tpr, fpr, (true_accepts + different - false_accepts) / len(issame)


def folds(pairs: int, nrof_folds: int) -> Folds:
    """Return the indices of training and held-out pairs of each fold, unshuffled, as KFold of scikit-learn has them.

    With fewer pairs than folds every pair is a fold. A single fold is trained and tested on all pairs.
    """
    count = min(nrof_folds, pairs)
    indices = np.arange(pairs)
    if count < 2:
        return [(indices, indices)]
    from sklearn.model_selection import KFold  # takes longer to import than --help may take

    return list(KFold(count).split(indices))


def pair_distances(embeddings: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distance of each pair; (2n, d) to (n,)."""
    return np.sum(np.square(embeddings[0::2] - embeddings[1::2]), axis=1)


def _best(distances: np.ndarray, issame: np.ndarray) -> int:
    """Return the index of the first of THRESHOLDS that judges most pairs right."""
    return int(np.argmax(rates(distances, issame, THRESHOLDS)[2]))


def _project(embeddings: np.ndarray, train: np.ndarray, components: int) -> np.ndarray:
    """Return unit vectors of the projections on the principal components of the pairs `train`."""
    from sklearn.decomposition import PCA  # takes longer to import than --help may take

    fitted = embeddings[np.concatenate((2 * train, 2 * train + 1))]
    return normalize(PCA(components, svd_solver="full").fit(fitted).transform(embeddings))
