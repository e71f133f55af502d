"""From embeddings and pairs to accuracy, ROC and VAL@FAR: numpy alone, and no loop over thresholds.

A pair is two images; pair i's embeddings are rows 2i and 2i + 1. The distance is the squared Euclidean one, and a pair
counts as the same person where its distance is strictly below the threshold.
"""

import numpy as np

from insightface_mx.embedding.vectors import normalize

THRESHOLDS = np.arange(0, 4, 0.01)
VAL_THRESHOLDS = np.arange(0, 4, 0.001)
FAR_TARGET = 1e-3


def evaluate(embeddings, issame, nrof_folds=10, pca=0):
    """ROC, accuracy and VAL@FAR=1e-3 by cross-validation over the pairs in their order.

    embeddings: (2n, d), unit length. issame: n booleans. pca: where above 0, the ROC and the accuracy are those of the
    embeddings projected on so many principal components of each fold's training part, scaled to unit length again.

    Returns tpr and fpr at every one of THRESHOLDS (means over the folds), accuracy (one a fold), and val, val_std, far:
    mean and standard deviation of the true accept rate, and mean false accept rate, at each fold's training threshold.
    """
    embeddings = np.asarray(embeddings)
    issame = np.asarray(issame, bool)
    if len(embeddings) != 2 * len(issame) or not len(issame):
        raise ValueError(f"{len(embeddings)} embeddings for {len(issame)} pairs")
    tpr, fpr, accuracy = calculate_roc(embeddings, issame, nrof_folds, pca)
    val, val_std, far = calculate_val(pair_distances(embeddings), issame, FAR_TARGET, nrof_folds)
    return tpr, fpr, accuracy, val, val_std, far


def calculate_roc(embeddings, issame, nrof_folds=10, pca=0):
    """Mean tpr and fpr at every one of THRESHOLDS and the accuracy of each fold; arguments as for `evaluate`."""
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


def calculate_val(distances, issame, far_target=FAR_TARGET, nrof_folds=10):
    """Mean and standard deviation of VAL over the folds, and mean FAR, at the training parts' thresholds."""
    vals, fars = [], []
    for train, held_out in folds(len(issame), nrof_folds):
        threshold = threshold_at_far(distances[train], issame[train], far_target)
        val, far, _ = rates(distances[held_out], issame[held_out], threshold)
        vals.append(val)
        fars.append(far)
    return np.mean(vals), np.std(vals), np.mean(fars)


def held_out_thresholds(distances, issame, nrof_folds=10):
    """The threshold that judges each pair: the best one on the folds that the pair is not part of; (n,)."""
    thresholds = np.empty(len(distances))
    for train, held_out in folds(len(issame), nrof_folds):
        thresholds[held_out] = THRESHOLDS[_best(distances[train], issame[train])]
    return thresholds


def threshold_at_far(distances, issame, far_target=FAR_TARGET):
    """The threshold with this false accept rate, interpolated between VAL_THRESHOLDS; 0 where none reaches it.

    The bracket is far[j] <= far_target < far[j + 1]; where the last FAR is the target itself, the last threshold.
    """
    _, far, _ = rates(distances, issame, VAL_THRESHOLDS)
    return np.interp(far_target, far, VAL_THRESHOLDS) if far[-1] >= far_target else 0.0


def rates(distances, issame, thresholds):
    """True positive rate, false positive rate and accuracy at every threshold; a rate without any pair is 0."""
    different = np.count_nonzero(~issame)
    true_accepts = np.searchsorted(np.sort(distances[issame]), thresholds)  # the number strictly below
    false_accepts = np.searchsorted(np.sort(distances[~issame]), thresholds)
    tpr = true_accepts / max(len(issame) - different, 1)
    fpr = false_accepts / max(different, 1)
    return tpr, fpr, (true_accepts + different - false_accepts) / len(issame)


def folds(pairs, nrof_folds):
    """(training, held-out) pair numbers of each fold, unshuffled; the first pairs % nrof_folds folds are one longer.

    With fewer pairs than folds every pair is a fold. A single fold is trained and tested on all pairs.
    """
    numbers = np.arange(pairs)
    count = min(nrof_folds, pairs)
    if count < 2:
        return [(numbers, numbers)]
    return [(np.setdiff1d(numbers, held_out), held_out) for held_out in np.array_split(numbers, count)]


def pair_distances(embeddings):
    """Squared Euclidean distance of each pair; (2n, d) to (n,)."""
    return np.sum(np.square(embeddings[0::2] - embeddings[1::2]), axis=1)


def _best(distances, issame):
    """Number of the first of THRESHOLDS that judges most pairs right."""
    return np.argmax(rates(distances, issame, THRESHOLDS)[2])


def _project(embeddings, train, components):
    """Unit vectors of the projections on the principal components of the pairs `train`."""
    fitted = embeddings[np.concatenate((2 * train, 2 * train + 1))]
    centre = fitted.mean(axis=0)
    _, axes = np.linalg.eigh((fitted - centre).T @ (fitted - centre))  # in rising order of variance
    return normalize((embeddings - centre) @ axes[:, -components:])
