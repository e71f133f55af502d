"""Compute with embeddings as vectors, in numpy alone."""

from __future__ import annotations

import numpy as np

_PAIRS = 1 << 9  # pairs of rows that are multiplied at once: their copies stay in the CPU's cache


def normalize(embeddings: np.ndarray) -> np.ndarray:
    """Scale the rows of (n, d) to unit length; zero rows stay zero, infinite ones become NaN, which is near nothing."""
    norms = np.sqrt(np.einsum("ij,ij->i", embeddings, embeddings))
    norms[norms == 0] = 1
    with np.errstate(invalid="ignore"):
        return embeddings / norms[:, np.newaxis]


def unit_with_mirror(plain: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Return unit(f(x) + f(mirror x)), the embedding by which ArcFace (arXiv 1801.07698) compares faces.

    Args:
        plain: f(x), the network's outputs for n images, (n, d).
        mirrored: f(mirror x), its outputs for the same images with left and right exchanged, (n, d).
    """
    return normalize(plain + mirrored)


def mirror(images: np.ndarray) -> np.ndarray:
    """Exchange left and right of images (n, 3, height, width); the result is a view."""
    return images[..., ::-1]


def pair_products(rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the inner products of pairs of rows.

    Args:
        rows: (n, d).
        first: (p,) indices of rows.
        second: (p,) indices of rows.

    Returns:
        (p,) of the type of the rows.
    """
    products = np.empty(len(first), rows.dtype)
    for start in range(0, len(first), _PAIRS):
        part = slice(start, start + _PAIRS)
        np.einsum("ij,ij->i", rows[first[part]], rows[second[part]], out=products[part])
    return products
