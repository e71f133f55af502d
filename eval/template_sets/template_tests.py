"""Compare templates, 1:1 and 1:N, and write down the results."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.embedding.vectors import pair_products
from insightface_mx.eval.features.face_features import Features, Part
from insightface_mx.eval.identification import Identification, Searches, search_each
from insightface_mx.eval.search_intervals import SearchIntervals, search_intervals
from insightface_mx.eval.template_sets.ijb_files import Images, Subjects
from insightface_mx.eval.template_sets.pair_scores import MOST_SCORES, PairScores, Verification
from insightface_mx.eval.template_sets.template_set import GalleryList, Pairs, TemplateSet
from insightface_mx.eval.templates import (
    CancelledTemplate,
    UnknownTemplate,
    UnusableImage,
    aggregate,
    image_features,
    places_of,
)

FPIRS = (0.01, 0.1)
RANKS = (1, 5, 10)
_ROWS = 1 << 10  # templates that are compared at once with all others
_PAIRS = 1 << 20  # pairs that are compared at once


class Setting(NamedTuple):
    """How templates are made of image features; the public scripts' names are N, D and F."""

    keep_norm: bool
    detector_score: bool
    mirror: bool

    @property
    def words(self) -> str:
        """The setting in words."""
        norm = "norm kept" if self.keep_norm else "normalised"
        score = "weighted by the detector's score" if self.detector_score else "not weighted"
        return f"{norm}, {score}, {'mirror image added' if self.mirror else 'no mirror image'}"

    @property
    def notebook_name(self) -> str:
        """The name in IJBC_Evaluation_MS1MV2.ipynb, ijb_11.py, ijb_1n.py and eval_ijbc.py."""
        return f"N{int(self.keep_norm)}D{int(self.detector_score)}F{2 if self.mirror else 0}"

    @property
    def evals_name(self) -> str:
        """The name in ijb_evals.py, where N is the other way round."""
        return f"N{int(not self.keep_norm)}D{int(self.detector_score)}F{int(self.mirror)}"


class Gallery(NamedTuple):
    """The result of a 1:N test in one gallery.

    Attributes:
        name: Of the gallery.
        subjects: Number of subjects in it.
        mated: Number of probes with a mate in it.
        others: Number of probes without.
        searches: What each search finds.
        found: The rates.
        intervals: Theirs.
        published_tpir: TPIR at the threshold that ijb_evals.py takes; None where it was not asked for.
    """

    name: str
    subjects: int
    mated: int
    others: int
    searches: Searches
    found: Identification
    intervals: SearchIntervals
    published_tpir: np.ndarray | None


class Result(NamedTuple):
    """What one setting gives.

    Attributes:
        setting: The setting.
        verification: 1:1; None where the set has no pairs.
        galleries: 1:N, for each gallery.
        mean: 1:N, over all galleries; None where there is none.
        templates: (t,) the templates, rising.
        reason: Why the subjects of the templates in pairs are not known; ''.
    """

    setting: Setting
    verification: Verification | None
    galleries: list[Gallery]
    mean: Mean | None
    templates: np.ndarray
    reason: str = ""


def test_templates(templates: TemplateSet, features: Features, setting: Setting, as_published: bool = False) -> Result:
    """Make the templates of one setting and test them, 1:1 and 1:N.

    Args:
        templates: The set.
        features: The network's outputs for its images.
        setting: How templates are made of them.
        as_published: Also read the results as the public scripts do.

    Raises:
        UserError: The network's output for an image cannot be used, or the set lacks a kind of pairs.
    """
    images = templates.images
    vectors = features.all(lambda part: _vectors(images, part, setting))
    try:
        ids, rows = aggregate(vectors, images.templates, images.media)
    except CancelledTemplate as error:
        raise UserError(f"{images.path}: the images of template {images.name(error.template)} cancel out") from error
    del vectors
    verification, people = None, _numbers(ids, templates.people)
    if templates.pairs is not None:
        verification = _verify_pairs(ids, rows, templates.pairs, people, as_published)
    elif people is not None:
        verification = verify_all_pairs(rows, people, as_published)
    galleries = [_search(ids, rows, gallery, templates.probes, as_published) for gallery in templates.galleries]
    mean = mean_of_galleries(galleries, list(templates.probes.values())) if galleries else None
    return Result(setting, verification, galleries, mean, ids, templates.reason)


test_templates.__test__ = False  # type: ignore[attr-defined]  # not one of pytest's


def _vectors(images: Images, part: Part, setting: Setting) -> np.ndarray:
    """Return the vectors of some images. UserError: an image or the network's output for it cannot be used."""
    for index, problem in enumerate(part.problems, part.start):
        if problem:
            raise UserError(f"{images.place(index)}: {problem}")
    chosen = slice(part.start, part.start + len(part.plain))
    scores = images.scores[chosen] if setting.detector_score and images.scores is not None else None
    try:
        return image_features(part.plain, part.mirrored if setting.mirror else None, scores, setting.keep_norm)
    except UnusableImage as error:
        place = images.place(part.start + error.image)
        raise UserError(f"{place}: {images.photos[part.start + error.image].path}: {error.problem}") from error


def _numbers(ids: np.ndarray, people: Subjects | None) -> np.ndarray | None:
    """Return the number of each template's subject, (t,); None where subjects are not known."""
    if people is None:
        return None
    return np.unique([people.get(template, "") for template in ids.tolist()], return_inverse=True)[1].reshape(-1)


def _verify_pairs(
    ids: np.ndarray, rows: np.ndarray, pairs: Pairs, people: np.ndarray | None, as_published: bool
) -> Verification:
    genuine = int(pairs.genuine.sum())
    scores = PairScores(genuine, len(pairs.genuine) - genuine, people)
    for start in range(0, len(pairs.genuine), _PAIRS):
        part = slice(start, start + _PAIRS)
        try:
            places = np.stack([places_of(ids, names[part]) for names in (pairs.first, pairs.second)], axis=1)
        except UnknownTemplate as error:
            line = start + error.pair + 1
            raise UserError(f"{pairs.path}:{line} names template {error.template}, which has no image") from error
        scores.add(pair_products(rows, *places.T), pairs.genuine[part], places.__getitem__)
    return scores.finish(as_published)


def _search(ids: np.ndarray, rows: np.ndarray, gallery: GalleryList, probes: Subjects, as_published: bool) -> Gallery:
    places = [np.searchsorted(ids, list(subjects)) for subjects in (gallery.subjects, probes)]
    names = [list(subjects.values()) for subjects in (gallery.subjects, probes)]
    return search_gallery(gallery.name, rows[places[0]], names[0], rows[places[1]], names[1], as_published)


def verify_all_pairs(rows: np.ndarray, subjects: np.ndarray, as_published: bool) -> Verification:
    """Compare every template with every other one.

    Args:
        rows: (t, d) unit vectors.
        subjects: (t,) number of each template's subject.
        as_published: Also read the nearest points; UserError: there are too many pairs for it.
    """
    count = len(rows) * (len(rows) - 1) // 2
    if count > MOST_SCORES and as_published:
        raise UserError(f"--as-published needs the scores of all {count} pairs in memory: {MOST_SCORES} at most")
    genuine = int(sum(number * (number - 1) // 2 for number in np.bincount(subjects).tolist()))
    scores = PairScores(genuine, count - genuine, subjects)
    for start in range(0, len(rows), _ROWS):
        similarity = rows[start : start + _ROWS] @ rows[start:].T
        upper = np.flatnonzero(np.triu(np.ones(similarity.shape, bool), 1))
        same = subjects[start : start + _ROWS, None] == subjects[None, start:]

        def templates(chosen: np.ndarray, upper: np.ndarray = upper, start: int = start) -> np.ndarray:
            return np.stack(np.divmod(upper[chosen], len(rows) - start), axis=1) + start

        scores.add(similarity.ravel()[upper], same.ravel()[upper], templates)
    return scores.finish(as_published)


def search_gallery(
    name: str,
    rows: np.ndarray,
    subjects: Sequence[str],
    probes: np.ndarray,
    probe_subjects: Sequence[str],
    as_published: bool,
) -> Gallery:
    """Search probe templates in a gallery of templates.

    Args:
        name: Of the gallery.
        rows: (g, d) unit vectors of the gallery.
        subjects: Their subjects.
        probes: (p, d) unit vectors.
        probe_subjects: Their subjects.
        as_published: Also take the threshold of ijb_evals.py.
    """
    similarity = probes @ rows.T
    searches = search_each(similarity, np.asarray(probe_subjects), np.asarray(subjects))
    found = searches.rates(np.array(FPIRS), np.array(RANKS))
    intervals = search_intervals([searches], probe_subjects, FPIRS, RANKS)
    mated = searches.rank > 0
    published = _published_tpir(similarity, mated, probe_subjects, subjects) if as_published else None
    counts = len(set(subjects)), int(mated.sum()), int((~mated).sum())
    return Gallery(name, *counts, searches, found, intervals, published)


class Mean(NamedTuple):
    """Rates over several galleries: ranks over all mated searches, TPIR as the mean of the galleries' rates."""

    mated: int
    rank_rates: np.ndarray
    tpir: np.ndarray
    intervals: SearchIntervals


def mean_of_galleries(galleries: Sequence[Gallery], probe_subjects: Sequence[str]) -> Mean:
    """Return the rates over all galleries, in which the same probes were searched."""
    mated = np.array([gallery.mated for gallery in galleries])
    ranks = np.array([gallery.found.rank_rates for gallery in galleries])
    hits = np.nansum(ranks * mated[:, None], axis=0)
    total = int(mated.sum())
    rates = hits / total if total else np.full(len(RANKS), np.nan)
    tpir = np.mean([gallery.found.tpir for gallery in galleries], axis=0)
    intervals = search_intervals([gallery.searches for gallery in galleries], probe_subjects, FPIRS, RANKS)
    return Mean(total, rates, tpir, intervals)


def _published_tpir(
    similarity: np.ndarray, mated: np.ndarray, probe_subjects: Sequence[str], subjects: Sequence[str]
) -> np.ndarray:
    """Return TPIR as ijb_evals.py has it: a threshold of one false alarm fewer, and ties against the mate."""
    strangers = np.sort(similarity[~mated].max(axis=1))[::-1]
    if not len(strangers) or not mated.any():
        return np.full(len(FPIRS), np.nan)
    own = np.asarray(probe_subjects)[mated, None] == np.asarray(subjects)[None]
    mate = np.where(own, similarity[mated], -np.inf).max(axis=1)
    other = np.where(own, -np.inf, similarity[mated]).max(axis=1)
    thresholds = [strangers[max(int(len(strangers) * fpir) - 1, 0)] for fpir in FPIRS]
    return np.array([np.mean((mate > other) & (mate > threshold)) for threshold in thresholds])
