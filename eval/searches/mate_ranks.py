"""Rank each mate by itself among distractors, and compare every probe with every distractor: MegaFace's challenge 1."""

from __future__ import annotations

import json
import os
from typing import Iterator, NamedTuple, Sequence

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.embedding.vectors import pair_products
from insightface_mx.eval.curves import Det, allowed_errors
from insightface_mx.eval.identification import distractor_ranks, ordered_pairs
from insightface_mx.eval.intervals import BY_PEOPLE, Interval, rate_intervals, sampled_tar_ends
from insightface_mx.eval.score_sample import Sample, ScoreSample
from insightface_mx.eval.searches.face_sets import Faces
from insightface_mx.eval.searches.rates import Rate

FARS = (1e-6, 1e-5, 1e-4)
_POINTS = 1 << 14  # first points of the devkit's ROC; of the rest one in a hundred


class MateRanks(NamedTuple):
    """Searches for each mate by itself among distractors.

    Attributes:
        probes: The faces.
        distractors: Those of others.
        pairs: (n, 2) indices of probe and mate.
        rank: (n,) of the mate.
        ranks: The ranks k that were asked for.
        genuine: Similarities of the pairs; `people` are the numbers of the identities.
        impostor: Similarities of every probe to every distractor; `people` are the probe's identity, twice.
    """

    probes: Faces
    distractors: Faces
    pairs: np.ndarray
    rank: np.ndarray
    ranks: Sequence[int]
    genuine: Sample
    impostor: Sample

    def counts(self) -> dict[str, int]:
        """Return how many faces and searches there are."""
        return {
            "probes": len(self.probes.photos),
            "distractors": len(self.distractors.photos),
            "mated": len(self.pairs),
            "impostor_pairs": self.impostors,
        }

    @property
    def impostors(self) -> int:
        """Number of pairs of a probe and a distractor."""
        return len(self.probes.photos) * len(self.distractors.photos)

    def rates(self) -> list[Rate]:
        """Return the rank rates, then TAR at FAR, strictly and as the devkit's files are read."""
        hits = self.rank[:, None] <= np.asarray(self.ranks)
        identities = np.array(self.probes.identities)[self.pairs]
        rows = zip(self.ranks, hits.mean(axis=0).tolist(), rate_intervals(hits, identities))
        ends = sampled_tar_ends(self.genuine, self.impostor, FARS)
        return [*(Rate("rank", *row) for row in rows), *map(self._tar, FARS, ends)]

    def _tar(self, far: float, ends: tuple[float, float]) -> Rate:
        threshold = self.impostor.threshold(allowed_errors(self.impostors, far))
        accepted, false = self.genuine.count(threshold), self.impostor.count(threshold)
        interval = Interval(*ends, BY_PEOPLE, false)
        published = self.genuine.count(threshold, with_ties=True) / len(self.pairs)
        published_far = self.impostor.count(threshold, with_ties=True) / self.impostors
        tar, reached = accepted / len(self.pairs), false / self.impostors
        return Rate("TAR at FAR", far, tar, interval, threshold, reached, published, published_far)

    def rows(self) -> Iterator[Sequence[object]]:
        """Yield the title and a row for every search."""
        yield ("probe", "identity", "rank", "mate")
        for (probe, mate), rank in zip(self.pairs.tolist(), self.rank.tolist()):
            yield (self.probes.names[probe], self.probes.photos[probe].identity, rank, self.probes.names[mate])

    def det(self) -> Det:
        """Return the DET curve at the impostors' similarities that are kept."""
        thresholds = np.append(np.unique(self.impostor.scores), np.inf)
        false = np.append(0.0, np.cumsum(self.impostor.times))[_at_least(self.impostor.scores, thresholds)]
        accepted = _at_least(self.genuine.scores, thresholds)
        return Det(false / self.impostors, 1 - accepted / len(self.pairs), thresholds)

    def devkit_text(self) -> str:
        """Return the rates as the devkit writes them: "cmc", ranks from 0 and recalls, and "roc", FARs and TARs."""
        most = int(self.rank.max())
        recalls = np.cumsum(np.bincount(self.rank - 1, minlength=most)) / len(self.rank)
        far, fnmr, _ = (values[::-1] for values in self.det())
        kept = np.append(np.arange(min(_POINTS, len(far))), np.arange(_POINTS, len(far), 100))
        found = {
            "cmc": [list(range(most)), recalls.tolist()],
            "roc": [[*far[kept].tolist(), 1.0], [*(1 - fnmr[kept]).tolist(), 1.0]],
        }
        return json.dumps(found) + "\n"

    def devkit_name(self, algorithm: str) -> str:
        """Return what the devkit calls this file."""
        names = [os.path.basename(os.path.normpath(faces.path)) for faces in (self.probes, self.distractors)]
        return f"cmc_{names[0]}_{names[1]}_{algorithm}_{len(self.distractors.photos)}_1.json"


def rank_mates(
    probes: Faces, rows: np.ndarray, others: Iterator[np.ndarray], distractors: Faces, ranks: Sequence[int]
) -> MateRanks:
    """Rank every mate of a probe, by itself, among the distractors.

    Args:
        probes: The faces.
        rows: (p, d) their unit embeddings.
        others: Blocks of the distractors' unit embeddings.
        distractors: All faces of them, also those without embedding.
        ranks: The ranks k.

    Raises:
        UserError: No identity has two faces.
    """
    pairs = ordered_pairs(probes.identities)
    if not len(pairs):
        raise UserError(f"{probes.path} holds no identity with two faces: without --gallery there is no mate")
    identity = np.unique(probes.identities, return_inverse=True)[1].reshape(-1)
    collected = ScoreSample(len(rows) * len(distractors.photos))

    def add(similarity: np.ndarray) -> None:
        width = similarity.shape[1]
        collected.add(similarity.ravel(), lambda chosen: np.repeat(identity[chosen // width, None], 2, axis=1))

    rank = distractor_ranks(rows, probes.identities, others, add)
    genuine = Sample.of(pair_products(rows, pairs[:, 0], pairs[:, 1]), identity[pairs])
    return MateRanks(probes, distractors, pairs, rank, ranks, genuine, collected.finish())


def _at_least(falling: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return how many of falling scores are a threshold or more."""
    return len(falling) - np.searchsorted(falling[::-1], thresholds, side="left")
