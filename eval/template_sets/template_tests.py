"""Compare templates, 1:1 and 1:N, and write down the results."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.eval.curves import (
    NEAREST,
    ScoreHistogram,
    TarAtFar,
    tar_at_far,
    tar_at_far_of_histograms,
)
from insightface_mx.eval.features.face_features import Features, Part
from insightface_mx.eval.identification import Identification, search
from insightface_mx.eval.intervals import Interval, wilson
from insightface_mx.eval.template_sets.ijb_files import Images, Subjects
from insightface_mx.eval.template_sets.template_set import GalleryList, Pairs, TemplateSet
from insightface_mx.eval.templates import (
    CancelledTemplate,
    UnknownTemplate,
    UnusableImage,
    aggregate,
    image_features,
    pair_scores,
)

FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
FPIRS = (0.01, 0.1)
RANKS = (1, 5, 10)
MOST_SCORES = 1 << 26  # of all pairs of one's own templates; more go through a histogram
_ROWS = 1 << 10  # templates that are compared at once with all others


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


class Verification(NamedTuple):
    """The result of a 1:1 test.

    Attributes:
        genuine: Number of pairs of one identity.
        impostor: Number of pairs of two.
        strict: TAR at the largest FAR that is not above each target.
        intervals: Of the strict TARs.
        published: TAR at the nearest FAR, as the public scripts print it; None where it was not asked for.
    """

    genuine: int
    impostor: int
    strict: TarAtFar
    intervals: list[Interval]
    published: TarAtFar | None


class Gallery(NamedTuple):
    """The result of a 1:N test in one gallery.

    Attributes:
        name: Of the gallery.
        subjects: Number of subjects in it.
        mated: Number of probes with a mate in it.
        others: Number of probes without.
        found: The rates.
        published_tpir: TPIR at the threshold that ijb_evals.py takes; None where it was not asked for.
    """

    name: str
    subjects: int
    mated: int
    others: int
    found: Identification
    published_tpir: np.ndarray | None


class Result(NamedTuple):
    """What one setting gives.

    Attributes:
        setting: The setting.
        verification: 1:1; None where the set has no pairs.
        galleries: 1:N, for each gallery.
    """

    setting: Setting
    verification: Verification | None
    galleries: list[Gallery]


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
    verification = None
    if templates.pairs is not None:
        verification = _verify_pairs(ids, rows, templates.pairs, as_published)
    elif templates.subjects is not None:
        _, numbers = np.unique([templates.subjects[template] for template in ids.tolist()], return_inverse=True)
        verification = verify_all_pairs(rows, numbers.reshape(-1), as_published)
    galleries = [_search(ids, rows, gallery, templates.probes, as_published) for gallery in templates.galleries]
    return Result(setting, verification, galleries)


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


def _verify_pairs(ids: np.ndarray, rows: np.ndarray, pairs: Pairs, as_published: bool) -> Verification:
    try:
        scores = pair_scores(ids, rows, pairs.first, pairs.second)
    except UnknownTemplate as error:
        raise UserError(f"{pairs.path}:{error.pair + 1} names template {error.template}, which has no image") from error
    return verify_pairs(scores, pairs.genuine, as_published)


def _search(ids: np.ndarray, rows: np.ndarray, gallery: GalleryList, probes: Subjects, as_published: bool) -> Gallery:
    places = [np.searchsorted(ids, list(subjects)) for subjects in (gallery.subjects, probes)]
    names = [list(subjects.values()) for subjects in (gallery.subjects, probes)]
    return search_gallery(gallery.name, rows[places[0]], names[0], rows[places[1]], names[1], as_published)


def verify_pairs(scores: np.ndarray, genuine: np.ndarray, as_published: bool) -> Verification:
    """Read the TARs of pairs; scores and genuine: (n,)."""
    return _verification(scores[genuine], scores[~genuine], as_published)


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
    histograms = ScoreHistogram(), ScoreHistogram()  # of two identities, of one
    lists: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        similarity = block @ rows[start:].T
        upper = np.triu(np.ones(similarity.shape, bool), 1)
        same = subjects[start : start + _ROWS, None] == subjects[None, start:]
        for kind, chosen in enumerate((~same, same)):
            scores = similarity[upper & chosen]
            if count > MOST_SCORES:
                histograms[kind].add(scores)
            else:
                lists[kind].append(scores)
    if count <= MOST_SCORES:
        return _verification(np.concatenate(lists[1]), np.concatenate(lists[0]), as_published)
    impostor, genuine = (int(histogram.counts.sum()) for histogram in histograms)
    _refuse_one_kind(genuine, impostor)
    strict = tar_at_far_of_histograms(histograms[1], histograms[0], FARS)
    return Verification(genuine, impostor, strict, _intervals(strict, genuine, impostor), None)


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
    found = search(similarity, probe_subjects, subjects, FPIRS, RANKS)
    known = set(subjects)
    mated = np.array([subject in known for subject in probe_subjects], bool)
    published = _published_tpir(similarity, mated, probe_subjects, subjects) if as_published else None
    return Gallery(name, len(known), int(mated.sum()), int((~mated).sum()), found, published)


class Mean(NamedTuple):
    """Rates over several galleries: ranks over all mated searches, TPIR as the mean of the galleries' rates."""

    mated: int
    rank_rates: np.ndarray
    tpir: np.ndarray


def mean_of_galleries(galleries: Sequence[Gallery]) -> Mean:
    """Return the rates over all galleries."""
    mated = np.array([gallery.mated for gallery in galleries])
    ranks = np.array([gallery.found.rank_rates for gallery in galleries])
    hits = np.nansum(ranks * mated[:, None], axis=0)
    total = int(mated.sum())
    rates = hits / total if total else np.full(len(RANKS), np.nan)
    return Mean(total, rates, np.mean([gallery.found.tpir for gallery in galleries], axis=0))


def _verification(genuine: np.ndarray, impostor: np.ndarray, as_published: bool) -> Verification:
    _refuse_one_kind(len(genuine), len(impostor))
    strict = tar_at_far(genuine, impostor, FARS)
    published = tar_at_far(genuine, impostor, FARS, NEAREST) if as_published else None
    intervals = _intervals(strict, len(genuine), len(impostor))
    return Verification(len(genuine), len(impostor), strict, intervals, published)


def _refuse_one_kind(genuine: int, impostor: int) -> None:
    """Raise UserError if pairs are of one kind."""
    for count, kind in ((genuine, "one subject"), (impostor, "two subjects")):
        if not count:
            raise UserError(f"there is no pair of templates of {kind}: without one there is no rate")


def _intervals(strict: TarAtFar, genuine: int, impostor: int) -> list[Interval]:
    """Return Wilson's intervals of TARs; the errors are the false accepts that a threshold stands on."""
    return [
        wilson(round(tar * genuine), genuine, round(far * impostor))
        for tar, far in zip(strict.tar.tolist(), strict.far_reached.tolist())
    ]


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
