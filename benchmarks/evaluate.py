"""Accuracy and VAL@FAR of a verification set from its embeddings: roc.evaluate against a loop over the thresholds.

python benchmarks/evaluate.py --pairs 6000
"""

from __future__ import annotations

import argparse

import numpy as np
from interleaved import HEADINGS, Subjects, measure, print_headings, print_machine, print_rows

from insightface_mx.eval import roc


def random_set(pairs: int, length: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Return unit embeddings (2 pairs, length) and the flags (pairs,) of the pairs of one identity, which are half."""
    draw = np.random.RandomState(0)
    issame = np.arange(pairs) % 2 == 0
    first, other = draw.normal(size=(2, pairs, length))
    second = np.where(issame[:, np.newaxis], first + 1.2 * other, other)
    return roc.normalize(np.stack([first, second], axis=1).reshape(2 * pairs, length)), issame


def by_loops(embeddings: np.ndarray, issame: np.ndarray, nrof_folds: int = 10) -> tuple:
    """Return the same as roc.evaluate, with a loop over all thresholds on every fold."""
    distances = roc.pair_distances(embeddings)
    results = [_fold(distances, issame, train, test) for train, test in roc.folds(len(issame), nrof_folds)]
    tprs, fprs, accuracies, vals, fars = zip(*results)
    return np.mean(tprs, 0), np.mean(fprs, 0), np.array(accuracies), np.mean(vals), np.std(vals), np.mean(fars)


def _fold(distances: np.ndarray, issame: np.ndarray, train: np.ndarray, test: np.ndarray) -> tuple:
    """Return the rates of one fold: at all thresholds, then those that are chosen on the other folds."""
    best = np.argmax([_rates(t, distances[train], issame[train])[2] for t in roc.THRESHOLDS])
    tpr, fpr, accuracy = zip(*(_rates(t, distances[test], issame[test]) for t in roc.THRESHOLDS))
    fars = [_rates(t, distances[train], issame[train])[1] for t in roc.VAL_THRESHOLDS]
    threshold = float(np.interp(roc.FAR_TARGET, fars, roc.VAL_THRESHOLDS)) if max(fars) >= roc.FAR_TARGET else 0.0
    val, far, _ = _rates(threshold, distances[test], issame[test])
    return tpr, fpr, accuracy[best], val, far


def _rates(threshold: float, distances: np.ndarray, issame: np.ndarray) -> tuple[float, float, float]:
    """Return the true and false positive rate and the accuracy at a threshold."""
    accepted = distances < threshold
    true_accepts = int(np.sum(accepted & issame))
    false_accepts = int(np.sum(accepted & ~issame))
    different = int(np.sum(~issame))
    correct = true_accepts + different - false_accepts
    return true_accepts / (len(issame) - different), false_accepts / different, correct / len(issame)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6000, help="pairs, in ten folds (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, after two to warm up (default: %(default)s)")
    args = parser.parse_args()
    embeddings, issame = random_set(args.pairs)
    subjects: Subjects = {
        "loops over thresholds": lambda: by_loops(embeddings, issame),
        "roc.evaluate": lambda: roc.evaluate(embeddings, issame),
    }
    for found, expected in zip(*(run() for run in subjects.values())):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    print_headings("pairs", "by", headings=(HEADINGS[0], HEADINGS[2]))
    print_rows((str(args.pairs),), measure(subjects, args.repeats))
    print_machine()


if __name__ == "__main__":
    main()
