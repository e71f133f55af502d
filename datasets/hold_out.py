"""Pairs of photos of people who are held out of training, for a verification set."""

from itertools import combinations

from insightface_mx.base.errors import UserError

FOLDS = 10


def choose(groups, count, rng):
    """Numbers of `count` people to hold out, those with several photos first as only they make same pairs.

    groups: for every person the photos. rng: a numpy RandomState. Raises UserError where nobody would be left.
    """
    if not 1 < count < len(groups):
        raise UserError(f"--hold-out {count}: of {len(groups)} people two at least, and not all, can be held out")
    order = rng.permutation(len(groups)).tolist()
    return sorted(sorted(order, key=lambda number: len(groups[number]) < 2)[:count])


def draw_pairs(groups, most, rng):
    """Pairs (a, b, same) in ten folds, each with as many same as different pairs: `most` of them at the most.

    groups: for every person a list of photos, of which a and b are two. Raises UserError for too few photos.
    """
    same = _same_pairs(groups, most // 2, rng)
    photos = [(number, photo) for number, group in enumerate(groups) for photo in group]
    possible = (len(photos) ** 2 - sum(len(group) ** 2 for group in groups)) // 2
    half = min(len(same), possible, most // 2) // FOLDS
    if not half:
        raise UserError(
            f"--hold-out: the people held out give {len(same)} pairs of one person and {possible} of two; ten folds "
            "need 10 of each: hold out more people, with several photos of some"
        )
    same = [same[i] for i in sorted(rng.choice(len(same), half * FOLDS, replace=False))]
    different = _different_pairs(photos, half * FOLDS, rng)
    folds = [slice(fold * half, (fold + 1) * half) for fold in range(FOLDS)]
    return [pair for fold in folds for pair in same[fold] + different[fold]]


def _same_pairs(groups, most, rng):
    """Pairs within the groups, group after group so that a fold has few people; `most` a group at the most."""
    pairs = []
    for group in groups:
        found = list(combinations(group, 2))
        chosen = sorted(rng.choice(len(found), min(len(found), most), replace=False)) if found else []
        pairs += [(*found[i], True) for i in chosen]
    return pairs


def _different_pairs(photos, count, rng):
    found = {}
    while len(found) < count:
        a, b = sorted(rng.randint(len(photos), size=2).tolist())
        if photos[a][0] != photos[b][0]:
            found[a, b] = photos[a][1], photos[b][1], False
    return list(found.values())
