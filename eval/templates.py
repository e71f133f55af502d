"""Make templates of several images: the IJB-B and IJB-C protocol as the public InsightFace scripts compute it.

A template is what is known of a person: images of some media, a video or a photo each. The frames of a video are
averaged first, so that a long video does not outweigh a photo.

The public scripts name the same settings differently: "norm kept" is N1 in IJBC_Evaluation_MS1MV2.ipynb, ijb_11.py and
eval_ijbc.py, and N0 in ijb_evals.py; "detector score as weight" is D1, "mirror image added" is F2 in the notebook and
F1 in ijb_evals.py.
"""

from __future__ import annotations

import numpy as np

from insightface_mx.embedding.vectors import pair_products

_ROWS = 1 << 14  # images that are summed at once


class UnusableImage(ValueError):
    """An image has no vector.

    Attributes:
        image: Its index.
        problem: Why.
    """

    def __init__(self, image: int, problem: str) -> None:
        super().__init__(f"image {image}: {problem}")
        self.image, self.problem = image, problem


class CancelledTemplate(ValueError):
    """The images of a template add up to nothing.

    Attributes:
        template: Its id.
    """

    def __init__(self, template: int) -> None:
        super().__init__(f"the images of template {template} cancel out: it has no direction")
        self.template = template


class UnknownTemplate(ValueError):
    """A pair names a template that has no image.

    Attributes:
        pair: Its index.
        template: The template.
    """

    def __init__(self, pair: int, template: int) -> None:
        super().__init__(f"pair {pair} names template {template}, which has no image")
        self.pair, self.template = pair, template


def image_features(
    features: np.ndarray,
    mirrored: np.ndarray | None = None,
    scores: np.ndarray | None = None,
    keep_norm: bool = True,
) -> np.ndarray:
    """Return the vector of each image that templates are made of.

    Args:
        features: (n, d) embeddings, not scaled to unit length.
        mirrored: (n, d) embeddings of the mirror images, which are added; None: without.
        scores: (n,) weights of the images, the detector's scores; None: all alike.
        keep_norm: Keep the vectors' lengths, so that an image with a longer embedding, a clearer one, has more weight.
            Otherwise every vector has unit length before it is weighted.

    Returns:
        (n, d).

    Raises:
        UnusableImage: A number is not finite, or a vector of length 0 cannot be scaled.
        ValueError: The shapes do not fit.
    """
    vectors = np.asarray(features)
    if mirrored is not None:
        _check_shape(mirrored, vectors.shape, "mirrored")
        vectors = vectors + mirrored
    if vectors.ndim != 2:
        raise ValueError(f"features have the shape (n, d), not {vectors.shape}")
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))  # np.linalg.norm would copy all vectors
    _refuse(~np.isfinite(lengths), "its feature is not finite")
    if not keep_norm:
        _refuse(lengths == 0, "its feature is 0: it has no direction")
        vectors = vectors / lengths[:, None]
    if scores is not None:
        _check_shape(scores, vectors.shape[:1], "scores")
        _refuse(~np.isfinite(scores), "its score is not finite")
        vectors = vectors * np.asarray(scores, vectors.dtype)[:, None]
    return vectors


def aggregate(features: np.ndarray, templates: np.ndarray, media: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit vector of each template: mean over the images of a medium, sum over the template's media.

    Args:
        features: (n, d), as `image_features` returns them.
        templates: (n,) template id of each image.
        media: (n,) medium id of each image; the same id in two templates means two media.

    Returns:
        (t,) template ids, rising, and (t, d) float64 rows of unit length.

    Raises:
        CancelledTemplate: The images of a template cancel out.
        ValueError: The shapes do not fit.
    """
    from scipy.sparse import csr_matrix  # takes longer to import than --help may take

    features = np.asarray(features)
    for ids, name in ((templates, "templates"), (media, "media")):
        _check_shape(ids, features.shape[:1], name)
    ids, rows = np.unique(templates, return_inverse=True)
    rows = rows.reshape(-1)
    _, medium = np.unique(media, return_inverse=True)
    _, group, counts = np.unique(
        rows * (medium.max(initial=0) + 1) + medium.reshape(-1), return_inverse=True, return_counts=True
    )
    weights = 1.0 / counts[group.reshape(-1)]
    total = np.zeros((len(ids), features.shape[1]))
    for start in range(0, len(features), _ROWS):
        part = slice(start, start + _ROWS)
        block = features[part].astype(np.float64)
        places = (rows[part], np.arange(len(block)))
        total += csr_matrix((weights[part], places), shape=(len(ids), len(block))) @ block
    lengths = np.linalg.norm(total, axis=1)
    if not (lengths > 0).all():
        raise CancelledTemplate(int(ids[np.argmin(lengths > 0)]))
    return ids, total / lengths[:, None]


def pair_scores(ids: np.ndarray, rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of templates.

    Args:
        ids: (t,) template ids, rising.
        rows: (t, d) unit vectors.
        first: (p,) template ids.
        second: (p,) template ids.

    Returns:
        (p,) float64.

    Raises:
        UnknownTemplate: A pair names a template that has no image.
    """
    return pair_products(rows, places_of(ids, first), places_of(ids, second))


def places_of(ids: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Return the index of each name in the rising ids. Raises UnknownTemplate if one is missing."""
    names = np.asarray(names)
    found = np.searchsorted(ids, names).clip(max=len(ids) - 1)
    missing = np.flatnonzero(ids[found] != names)
    if missing.size:
        raise UnknownTemplate(int(missing[0]), int(names[missing[0]]))
    return found


def _check_shape(array: np.ndarray, shape: tuple[int, ...], name: str) -> None:
    """Raise ValueError if an array has another shape."""
    if np.shape(array) != shape:
        raise ValueError(f"{name} have the shape {np.shape(array)}, not {shape}")


def _refuse(wrong: np.ndarray, problem: str) -> None:
    """Raise UnusableImage for the first image that is wrong."""
    if np.any(wrong):
        raise UnusableImage(int(np.argmax(wrong)), problem)
