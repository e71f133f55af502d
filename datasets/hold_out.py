"""Pairs of photos of identities that are held out of training, for a verification set."""

from __future__ import annotations

from itertools import combinations
from typing import Sequence, Tuple

import numpy as np

from insightface_mx.base.errors import UserError

FOLDS = 10

Pair = Tuple[int, int, bool]  # two photos, and whether they are of the same identity


def choose_identities(groups: Sequence[Sequence[int]], count: int, rng: np.random.RandomState) -> list[int]:
    """Choose identities to hold out, those with several photos first because only they make same pairs.

    Args:
        groups: The photos of every identity.
        count: How many identities to choose.
        rng: Source of random numbers.

    Returns:
        Indexes of `groups`, in rising order.

    Raises:
        UserError: Fewer than two identities are to be held out, or none would be left.
    """
    if not 1 < count < len(groups):
        raise UserError(f"--hold-out {count}: of {len(groups)} identities at least 2 and not all can be held out")
    order = rng.permutation(len(groups)).tolist()
    return sorted(sorted(order, key=lambda index: len(groups[index]) < 2)[:count])


def draw_pairs(groups: Sequence[Sequence[int]], most: int, rng: np.random.RandomState) -> list[Pair]:
    """Draw pairs in ten folds, each with as many same pairs as different ones.

    Args:
        groups: The photos of every identity.
        most: The largest number of pairs.
        rng: Source of random numbers.

    Returns:
        Pairs of photos, fold after fold.

    Raises:
        UserError: There are too few photos for ten folds.
    """
    same = _same_pairs(groups, most // 2, rng)
    photos = [(index, photo) for index, group in enumerate(groups) for photo in group]
    possible = (len(photos) ** 2 - sum(len(group) ** 2 for group in groups)) // 2
    half = min(len(same), possible, most // 2) // FOLDS
    if not half:
        raise UserError(
            f"--hold-out: the identities held out give {len(same)} same pairs and {possible} different ones; ten folds "
            "need 10 of each: hold out more identities, with several photos of some"
        )
    same = [same[i] for i in sorted(rng.choice(len(same), half * FOLDS, replace=False))]
    different = _different_pairs(photos, half * FOLDS, rng)
    folds = [slice(fold * half, (fold + 1) * half) for fold in range(FOLDS)]
    return [pair for fold in folds for pair in same[fold] + different[fold]]


def _same_pairs(groups: Sequence[Sequence[int]], most: int, rng: np.random.RandomState) -> list[Pair]:
    """Draw pairs within the groups, at most `most` in each; group after group, so that a fold has few identities."""
    pairs: list[Pair] = []
    for group in groups:
        found = list(combinations(group, 2))
        chosen = sorted(rng.choice(len(found), min(len(found), most), replace=False)) if found else []
        pairs += [(*found[i], True) for i in chosen]
    return pairs


def _different_pairs(photos: list[tuple[int, int]], count: int, rng: np.random.RandomState) -> list[Pair]:
    """Draw `count` pairs of two groups. photos: (group, photo)."""
    found: dict[tuple[int, int], Pair] = {}
    while len(found) < count:
        a, b = sorted(rng.randint(len(photos), size=2).tolist())
        if photos[a][0] != photos[b][0]:
            found[a, b] = photos[a][1], photos[b][1], False
    return list(found.values())
