"""Find the identities that several training sets have in common, and embed the images of other sources."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Callable, Iterable, NamedTuple, Sequence

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.formats.training_set import LazyImages, TrainingSet

if TYPE_CHECKING:
    from insightface_mx.embedding.embedder import Embedder

Embed = Callable[[Iterable[bytes]], np.ndarray]  # encoded images -> unit embeddings (n, d)

_AT_ONCE = 1024  # photos in memory
_BLOCK = 1 << 24  # cosines that are computed at a time


class Member(NamedTuple):
    """An identity of a set: indexes of the set and of the identity in it."""

    data: int
    identity: int


class Joined(NamedTuple):
    """Two identities of different sets that are one, and the cosine between their centres."""

    member: Member
    other: Member
    cosine: float


def centre(embeddings: np.ndarray) -> np.ndarray:
    """Return the mean of unit embeddings (n, d), scaled to length 1."""
    mean = embeddings.mean(axis=0)
    return mean / max(np.linalg.norm(mean), np.finfo(np.float64).tiny)


def centres(data: TrainingSet, embed: Embed) -> np.ndarray:
    """Return the centre of every identity of a set, (identities, d) float32."""
    found = [centre(embed(LazyImages(data.image, images.tolist()))) for images in data.identities]
    return np.stack(found).astype(np.float32)


def join_identities(set_centres: Sequence[np.ndarray], min_cosine: float) -> tuple[list[list[Member]], list[Joined]]:
    """Join each identity with the nearest one of the sets before its own, if it is near enough.

    Identities of one set stay apart, unless both are near the same one of an earlier set.

    Args:
        set_centres: For every set the centres of its identities, (n, d) of unit length.
        min_cosine: The smallest cosine between the centres of identities that are joined.

    Returns:
        The identities that make up each new one, and which ones were joined.
    """
    groups = [[Member(0, identity)] for identity in range(len(set_centres[0]))]
    known = set_centres[0]  # the centre of the first member of every group
    joined: list[Joined] = []
    for data, own in enumerate(set_centres[1:], 1):
        nearest, cosines = _nearest(own, known)
        alone = cosines < min_cosine
        for identity in np.flatnonzero(~alone).tolist():
            group = groups[nearest[identity]]
            joined.append(Joined(Member(data, identity), group[0], float(cosines[identity])))
            group.append(Member(data, identity))
        groups += [[Member(data, identity)] for identity in np.flatnonzero(alone).tolist()]
        known = np.concatenate([known, own[alone]])
    return groups, joined


def _nearest(own: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for every row of `own` the index of the row of `known` with the largest cosine, and that cosine."""
    indexes, cosines = np.empty(len(own), np.int64), np.empty(len(own))
    rows = max(1, _BLOCK // len(known))
    for start in range(0, len(own), rows):
        part = slice(start, start + rows)
        found = own[part] @ known.T
        indexes[part] = found.argmax(axis=1)
        cosines[part] = found.max(axis=1)
    return indexes, cosines


def embed_others(path: str, embedder: Embedder) -> np.ndarray:
    """Embed what `path` names: the images of a source, or the centres of the identities of a training set.

    Args:
        path: A verification set, folder of images, list or .rec file, as `photos.sources.open_source` takes it; or the
            folder of a training set.
        embedder: The network.

    Returns:
        (n, d) float32 of unit length.

    Raises:
        UserError: The source, a line of a list or an image cannot be read.
    """
    from insightface_mx.photos.decode import fit, network_input
    from insightface_mx.photos.sources import open_source

    if os.path.isfile(os.path.join(path, "property")):
        return centres(TrainingSet(path), embedder.encoded)
    source = open_source(path)
    if source.left_out:
        raise UserError(": ".join(source.left_out[0]))
    places = [index for index in range(len(source)) if index not in source.repeated]
    found = []
    for start in range(0, len(places), _AT_ONCE):
        images = [fit(source.image(index)[0], embedder.image_size) for index in places[start : start + _AT_ONCE]]
        found.append(embedder(np.stack([network_input(image) for image in images])).astype(np.float32))
    return np.concatenate(found)
