"""Sum up how a network does on a verification set: the numbers of a report, and their JSON and CSV files."""

from __future__ import annotations

import csv
import math
from typing import Any, NamedTuple, Sequence

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.eval import curves, intervals, roc
from insightface_mx.eval.intervals import Interval
from insightface_mx.files.atomic import atomic_path
from insightface_mx.photos.lists import write_text

FARS = (1e-3, 1e-4, 1e-5)
FORMAT = "insightface-mx verification 1"  # of the JSON file


class Pairs(NamedTuple):
    """The scores of n pairs, and what is known of them.

    Attributes:
        distance: (n,) squared distances of unit embeddings.
        issame: (n,) whether a pair shows one identity.
        threshold: (n,) squared distance that judges each pair in the accuracy: that of its fold.
        people: (n, 2) the identities of each pair; None: not known.
        groups: (n,) the group of each pair; None: there are none.
    """

    distance: np.ndarray
    issame: np.ndarray
    threshold: np.ndarray
    people: np.ndarray | None = None
    groups: np.ndarray | None = None

    @property
    def cosine(self) -> np.ndarray:
        """The scores, (n,)."""
        return 1 - self.distance / 2

    @property
    def genuine(self) -> np.ndarray:
        """Scores of pairs of one identity."""
        return self.cosine[self.issame]

    @property
    def impostor(self) -> np.ndarray:
        """Scores of pairs of two identities."""
        return self.cosine[~self.issame]

    @property
    def usual_threshold(self) -> float:
        """The median of the folds' thresholds, a squared distance."""
        return float(np.median(self.threshold))

    @property
    def correct(self) -> np.ndarray:
        """Whether each pair is judged right, (n,)."""
        return (self.distance < self.threshold) == self.issame


class TarRow(NamedTuple):
    """The true accept rate at a false accept rate; `accepted` and `false_accepts` are counts of pairs."""

    far: float
    tar: float
    accepted: int
    far_reached: float
    false_accepts: int
    cosine: float
    squared_distance: float
    interval: Interval


class GroupRow(NamedTuple):
    """How a group of pairs does: accuracy with folds of its own, error rates at the threshold of the whole set."""

    name: str
    pairs: int
    accuracy: float
    std: float
    fmr: float
    fnmr: float
    errors: int


class Groups(NamedTuple):
    """All groups: mean and standard deviation of their accuracies, and the largest error over the smallest (RFW)."""

    rows: list[GroupRow]
    mean: float
    std: float
    skew: float


class Summary(NamedTuple):
    """The numbers of a network on a set; thresholds are squared distances, except where they are called cosine."""

    genuine: int
    impostor: int
    accuracy: float
    std: float
    accuracy_interval: Interval
    threshold: float
    threshold_cosine: float
    tar_at_far: list[TarRow]
    eer: float
    eer_cosine: float
    auc: float
    decidability: float
    thresholds: list[curves.FmrRow]
    groups: Groups | None


def score_pairs(
    embeddings: np.ndarray,
    issame: Sequence[bool],
    nfolds: int = 10,
    people: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> Pairs:
    """Score pairs by the cosine of their embeddings.

    Args:
        embeddings: (2n, d), unit length.
        issame: n booleans.
        nfolds: Folds of the cross-validation.
        people: (n, 2) the identities of each pair; None: not known.
        groups: (n,) the group of each pair; None: there are none.

    Raises:
        UserError: An embedding is NaN; the message names its pair.
    """
    flags, distances = np.asarray(issame, bool), roc.pair_distances(embeddings)
    bad = np.flatnonzero(~np.isfinite(distances))
    if len(bad):
        raise UserError(f"the network's embedding of pair {bad[0]} is NaN or infinite: no score can be computed")
    thresholds = roc.held_out_thresholds(distances, flags, nfolds)
    return Pairs(distances, flags, thresholds, people, groups)


def check_kinds(issame: Sequence[bool], path: str) -> None:
    """Raise UserError unless a set has pairs of one identity and pairs of two."""
    if len(set(map(bool, issame))) != 2:
        kind = "one identity" if issame[0] else "two identities"
        raise UserError(f"all {len(issame)} pairs of {path} show {kind}: a report needs pairs of both kinds")


def summarise(pairs: Pairs, accuracy: float, std: float, nfolds: int = 10) -> Summary:
    """Compute the numbers of a report; accuracy and std: as the test found them."""
    tar = curves.tar_at_far(pairs.genuine, pairs.impostor, FARS)
    ends = intervals.tar_intervals(pairs.cosine, pairs.issame, FARS, pairs.people)
    equal = curves.eer(pairs.genuine, pairs.impostor)
    return Summary(
        genuine=len(pairs.genuine),
        impostor=len(pairs.impostor),
        accuracy=float(accuracy),
        std=float(std),
        accuracy_interval=intervals.accuracy_interval(pairs.correct, pairs.people),
        threshold=pairs.usual_threshold,
        threshold_cosine=1 - pairs.usual_threshold / 2,
        tar_at_far=[_tar_row(pairs, *row) for row in zip(FARS, *(array.tolist() for array in tar), ends)],
        eer=equal.rate,
        eer_cosine=equal.threshold,
        auc=curves.auc(pairs.genuine, pairs.impostor),
        decidability=_decidability(pairs),
        thresholds=curves.fmr_table(pairs.genuine, pairs.impostor),
        groups=_groups(pairs, nfolds),
    )


def _tar_row(pairs: Pairs, far: float, tar: float, reached: float, cosine: float, interval: Interval) -> TarRow:
    accepted, false = round(tar * len(pairs.genuine)), round(reached * len(pairs.impostor))
    return TarRow(far, tar, accepted, reached, false, cosine, 2 - 2 * cosine, interval)


def _decidability(pairs: Pairs) -> float:
    """Return d', the distance of the two means over the mean spread (Daugman, IJCV 45, 2001); NaN without spread."""
    spread = math.sqrt((pairs.genuine.var() + pairs.impostor.var()) / 2)
    return float(abs(pairs.genuine.mean() - pairs.impostor.mean()) / spread) if spread else math.nan


def _groups(pairs: Pairs, nfolds: int) -> Groups | None:
    """Sum up every group, in the order of the set."""
    if pairs.groups is None:
        return None
    rows = []
    for name in dict.fromkeys(pairs.groups.tolist()):
        inside = pairs.groups == name
        flags, own = pairs.issame[inside], pairs.distance[inside]
        accuracies = roc.fold_accuracies(own, flags, nfolds)
        tpr, fpr, _ = roc.rates(own, flags, pairs.usual_threshold)
        errors = int(np.count_nonzero((own < pairs.usual_threshold) != flags))
        mean, std = float(np.mean(accuracies)), float(np.std(accuracies))
        fmr, fnmr = (float(rate) if flag in flags else math.nan for rate, flag in ((fpr, False), (1 - tpr, True)))
        rows.append(GroupRow(str(name) or "no group", len(flags), mean, std, fmr, fnmr, errors))
    means = np.array([row.accuracy for row in rows])
    wrong = 1 - means
    skew = float(wrong.max() / wrong.min()) if wrong.min() > 0 else math.nan
    return Groups(rows, float(means.mean()), float(means.std()), skew)


def plain(value: Any) -> Any:
    """Return named tuples as dicts, and numbers that JSON does not know as None."""
    if hasattr(value, "_asdict"):
        return {name: plain(part) for name, part in value._asdict().items()}
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_scores(path: str, results: Sequence[tuple[str, str, Pairs, Sequence[tuple[str, str]] | None]]) -> None:
    """Write a .csv file of all scores, completely or not at all.

    Args:
        path: The file.
        results: Name of the set, model, scores, and the photos' names or None.
    """
    with atomic_path(path) as temporary, write_text(temporary) as file:
        writer = csv.writer(file)
        writer.writerow(
            ("set", "model", "pair", "same", "cosine", "squared_distance", "fold_threshold", "one", "other")
        )
        for name, model, pairs, names in results:
            shown = names or [("", "")] * len(pairs.cosine)
            columns = (pairs.issame.astype(int), pairs.cosine, pairs.distance, pairs.threshold)
            rows = zip(*(column.tolist() for column in columns), shown)
            writer.writerows((name, model, index, *row[:-1], *row[-1]) for index, row in enumerate(rows))
