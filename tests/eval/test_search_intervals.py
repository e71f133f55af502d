"""Intervals of searches, against subjects drawn by a loop."""

import numpy as np
import pytest

from insightface_mx.eval import search_intervals as module
from insightface_mx.eval.identification import FOR, search_each
from insightface_mx.eval.intervals import SAMPLES, wilson
from insightface_mx.eval.search_intervals import search_intervals

FPIRS, RANKS = (0.05, 0.3), (1, 3)


def galleries(seed=0, subjects=24, each=4):
    """Probes' subjects, and the searches in two galleries, of subjects 0 to 7 and of 8 to 15."""
    random = np.random.RandomState(seed)
    probes = np.repeat(np.arange(subjects), each)
    found = []
    for first in (0, 8):
        gallery = np.arange(first, first + 8)
        similarity = random.normal(size=(len(probes), 8))
        similarity += (1.5 + 0.1 * probes[:, None]) * (probes[:, None] == gallery)
        found.append(search_each(similarity, probes, gallery, FOR))
    return probes, found


def by_loops(probes, found, drawn):
    """Rank rates over all galleries and the mean TPIRs, with the searches of a subject as often as it was drawn."""
    repeated = np.repeat(np.arange(len(probes)), drawn[probes])
    ranks = np.concatenate([each.rank[repeated] for each in found])
    ranks = ranks[ranks > 0]
    tpirs = []
    for each in found:
        rank, mate, best = (values[repeated] for values in each)
        strangers = np.sort(best[rank == 0])[::-1]
        allowed = [int(len(strangers) * fpir + 1e-9) for fpir in FPIRS]
        hits = [(rank == 1) & (mate > strangers[count]) for count in allowed]
        tpirs.append([hit.sum() / (rank > 0).sum() if rank.any() else np.nan for hit in hits])
    return [np.mean(ranks <= rank) for rank in RANKS] + np.mean(tpirs, axis=0).tolist()


@pytest.mark.parametrize("number", [1, 2])
def test_subjects_are_drawn(number):
    probes, found = galleries()
    found = found[:number]
    random = np.random.default_rng(0)
    values = [by_loops(probes, found, np.bincount(random.integers(24, size=24), minlength=24)) for _ in range(SAMPLES)]
    low, high = np.nanpercentile(values, [2.5, 97.5], axis=0)
    ends = search_intervals(found, probes, FPIRS, RANKS)
    for one, expected in zip([*ends.tpir], zip(low[2:], high[2:])):
        assert one[:2] == pytest.approx(expected, abs=1e-9)
    for one, expected in zip(ends.ranks, zip(low, high)):
        assert one[:2] == pytest.approx(expected, abs=0.06)  # only subjects with a mate are drawn
    assert {one.method for one in (*ends.ranks, *ends.tpir)} == {"people"}
    ranks = np.concatenate([each.rank for each in found])
    assert [one.errors for one in ends.ranks] == [int((ranks > rank).sum()) for rank in RANKS]
    strangers = [np.sort(each.best[each.rank == 0])[::-1] for each in found]
    assert [one.errors for one in ends.tpir] == [sum(int(len(s) * fpir + 1e-9) for s in strangers) for fpir in FPIRS]


def test_what_does_not_exist_has_no_interval():
    probes, (found, _) = galleries()
    mated = found.rank > 0
    closed = search_intervals([type(found)(*(values[mated] for values in found))], probes[mated], FPIRS, RANKS)
    assert closed.tpir == [None, None] and all(closed.ranks)
    nobody = search_intervals([type(found)(*(values[~mated] for values in found))], probes[~mated], FPIRS, RANKS)
    assert nobody == module.SearchIntervals([None, None], [None, None])


def test_one_subject_alone_says_little():
    found = search_each(np.ones((5, 1)), np.zeros(5, int), np.zeros(1, int))
    (one,) = search_intervals([found], np.zeros(5, int), (), (1,)).ranks
    assert one[:2] == wilson(1, 1)[:2]
