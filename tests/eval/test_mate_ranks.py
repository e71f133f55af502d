"""MegaFace's challenge: TAR at FAR over all probes and distractors, the devkit's file, and the published cleaning."""

import json

import numpy as np
import pytest
from harness import error_of, run

from insightface_mx.eval import score_sample
from insightface_mx.eval.searches import identify, mate_ranks, set_checks
from insightface_mx.eval.searches.face_sets import Faces, open_faces
from insightface_mx.eval.searches.mate_ranks import rank_mates
from insightface_mx.formats.megaface import write_feature
from insightface_mx.photos.lists import Photo


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def write_sets(folder, spread=0.9):
    """Features of 6 people with 1 to 5 faces in facescrub/, and of 3000 others in megaface/."""
    random = np.random.RandomState(5)
    owners = np.repeat(np.arange(6), [1, 2, 3, 4, 5, 5])
    probes = unit(random.normal(size=(6, 16))[owners] + spread * random.normal(size=(20, 16)))
    others = unit(random.normal(size=(3000, 16)))
    for index, (row, owner) in enumerate(zip(probes, owners)):
        write_feature(str(folder / "facescrub" / f"p{owner}" / f"{index:02d}.png_net.bin"), row)
    for index, row in enumerate(others):
        write_feature(str(folder / "megaface" / f"{index % 7}" / "x" / f"{index:04d}.jpg_net.bin"), row)
    return probes, owners, others


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("megaface")
    return folder, *write_sets(folder)


def by_loops(probes, owners, others):
    """Genuine similarities and ranks of all ordered pairs, and all impostor similarities."""
    pairs = [(j, i) for j in range(len(probes)) for i in range(len(probes)) if i != j and owners[i] == owners[j]]
    genuine = np.array([probes[j] @ probes[i] for j, i in pairs])
    impostor = probes @ others.T
    ranks = np.array([1 + np.sum(impostor[j] > probes[j] @ probes[i]) for j, i in pairs])
    return genuine, ranks, impostor.ravel()


def command(folder, *more):
    return ["--probes", folder / "facescrub", "--distractors", folder / "megaface", *more]


@pytest.mark.slow
@pytest.mark.parametrize("kept", [100, 1 << 19])
def test_tar_at_far(sets, tmp_path, monkeypatch, capsys, kept):
    """A probe without a mate is an impostor of every distractor, too; few scores are kept, the result is the same."""
    folder, probes, owners, others = sets
    init = score_sample.ScoreSample.__init__
    monkeypatch.setattr(score_sample.ScoreSample, "__init__", lambda self, total: init(self, total, kept))
    run(identify, *command(folder, "--json", tmp_path / "a.json", "--as-published"))
    genuine, ranks, impostor = by_loops(probes, owners, others)
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["mated"], found["impostor_pairs"]) == (len(genuine), 60_000)
    assert found["rates"][0]["value"] == pytest.approx(np.mean(ranks == 1))
    falling = np.sort(impostor)[::-1]
    rates = [rate for rate in found["rates"] if rate["metric"] == "TAR at FAR"]
    assert [rate["target"] for rate in rates] == [1e-6, 1e-5, 1e-4]
    for rate, allowed in zip(rates, (0, 0, 6)):
        threshold = falling[allowed]
        assert rate["threshold"] == pytest.approx(threshold, abs=1e-6)
        assert rate["value"] == pytest.approx(np.mean(genuine > threshold + 1e-6))
        assert rate["far_reached"] == pytest.approx(allowed / 60_000) and rate["errors"] == allowed
        assert rate["published"] == pytest.approx(np.mean(genuine >= threshold - 1e-6))
        assert rate["published_far"] == pytest.approx((allowed + 1) / 60_000)
        assert rate["low"] <= rate["value"] <= rate["high"] and rate["interval_by"] == "people" and rate["few_errors"]
    assert 0 < rates[2]["value"] < 1
    said = capsys.readouterr().out
    assert f"FAR reached 0.0001, 6 false alarms; as published {rates[2]['published']:.4f} (FAR 0.0001167)" in said


@pytest.mark.slow
def test_the_devkits_file(sets, tmp_path):
    folder, probes, owners, others = sets
    run(identify, *command(folder, "--devkit", tmp_path / "out", "--algorithm", "net"))
    found = json.loads((tmp_path / "out" / "cmc_facescrub_megaface_net_3000_1.json").read_text())
    genuine, ranks, impostor = by_loops(probes, owners, others)
    assert found["cmc"][0] == list(range(ranks.max()))
    assert found["cmc"][1] == pytest.approx([np.mean(ranks <= rank + 1) for rank in found["cmc"][0]])
    far, tar = map(np.array, found["roc"])
    assert far[0] == 0 and far[-1] == tar[-1] == 1 and (np.diff(far) >= 0).all() and (np.diff(tar) >= 0).all()
    for target in (1e-4, 1e-3, 1e-2):  # the first point above a FAR, as plots of the devkit's files take it
        place = int(np.argmax(far > target))
        threshold = np.sort(impostor)[::-1][round(far[place] * 60_000) - 1] - 1e-6
        assert far[place] == pytest.approx((round(target * 60_000) + 1) / 60_000)
        assert tar[place] == pytest.approx(np.mean(genuine >= threshold))


@pytest.mark.slow
def test_the_published_cleaning_replaces_noisy_probes_by_their_mates(sets, tmp_path, capsys):
    folder, probes, owners, others = sets
    (tmp_path / "noises.txt").write_text("faces\n10.png\n1\t0/x/0000.jpg\n")
    argv = command(folder, "--exclude", tmp_path / "noises.txt", "--json", tmp_path / "a.json")
    run(identify, *argv, "--clean-as-published")
    clean = np.arange(20) != 10
    replaced = probes.copy()
    replaced[10] = unit(probes[clean & (owners == owners[10])].sum(axis=0, keepdims=True))[0]
    genuine, ranks, _ = by_loops(replaced, owners, others[1:])
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["mated"], found["distractors"], found["clean_as_published"]) == (len(genuine), 2999, True)
    assert found["rates"][0]["value"] == pytest.approx(np.mean(ranks == 1))
    run(identify, *argv)
    left_out = json.loads((tmp_path / "a.json").read_text())
    genuine, ranks, _ = by_loops(probes[clean], owners[clean], others[1:])
    assert (left_out["mated"], left_out["probes"]) == (len(genuine), 19)
    assert left_out["rates"][0]["value"] == pytest.approx(np.mean(ranks == 1))
    assert left_out["rates"][0]["value"] < found["rates"][0]["value"] / 2  # the answer leaks


def test_centres_have_unit_length_and_repeatable_noise():
    names = [f"{person}/{number}.png" for person in "ab" for number in range(3)]
    faces = Faces("set", [Photo(name, name[0]) for name in names], names, False)
    rows = unit(np.random.RandomState(0).normal(size=(6, 8)))
    found = set_checks.with_centres(faces, rows, {"a/1.png"})
    centre = rows[0] + rows[2]
    np.testing.assert_allclose(found[1], centre / np.linalg.norm(centre), atol=2e-3)
    assert np.linalg.norm(found[1]) == pytest.approx(1) and (found[[0, 2, 3, 4, 5]] == rows[[0, 2, 3, 4, 5]]).all()
    np.testing.assert_array_equal(found, set_checks.with_centres(faces, rows, {"a/1.png"}))
    with pytest.raises(Exception, match=r"b/0\.png: no face of b is left to replace it by"):
        set_checks.with_centres(faces, rows, {"b/0.png", "b/1.png", "b/2.png"})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--gallery", "facescrub", "--devkit", "out"], "--devkit goes with MegaFace's rule: leave the gallery out"),
        (["--gallery", "facescrub", "--as-published"], "--as-published goes with MegaFace's rule"),
        (["--clean-as-published"], "--clean-as-published replaces the probes that --exclude names"),
        (["--any-mate"], "--any-mate is a rule of searches in a gallery"),
        (["--devkit", "list.txt"], "list.txt is no folder"),
    ],
)
def test_options_that_do_not_go_together(sets, capsys, monkeypatch, more, message):
    monkeypatch.chdir(sets[0])
    (sets[0] / "list.txt").write_text("x")
    assert message in error_of(capsys, identify, *command(sets[0], *more))


def test_no_distractor_that_can_be_used(sets, tmp_path, capsys):
    (tmp_path / "list.txt").write_text("megaface\n0000.jpg\n")
    (tmp_path / "megaface/0").mkdir(parents=True)
    write_feature(str(tmp_path / "megaface/0/0000.jpg_net.bin"), np.ones(16))
    argv = ["--probes", sets[0] / "facescrub", "--distractors", tmp_path / "megaface"]
    assert "leaves no face of" in error_of(capsys, identify, *argv, "--exclude", tmp_path / "list.txt")


def test_the_same_in_blocks(sets, monkeypatch):
    folder, probes, owners, others = sets
    monkeypatch.setattr(mate_ranks, "ScoreSample", lambda total: score_sample.ScoreSample(total, 50))
    faces = [open_faces(str(folder / name), kind) for name, kind in (("facescrub", "folder"), ("megaface", None))]
    found = rank_mates(faces[0], probes, iter(np.array_split(others, 9)), faces[1], [1])
    genuine, ranks, impostor = by_loops(probes, owners, others)
    assert found.rank.tolist() == ranks.tolist()
    assert found.impostor.scores[:50] == pytest.approx(np.sort(impostor)[::-1][:50], abs=1e-6)
    assert found.impostor.times.sum() == pytest.approx(60_000)
    names = found.impostor.people[:50, 0]
    expected = owners[np.argsort(-impostor, kind="stable")[:50] // 3000]
    assert names.tolist() == expected.tolist()
    assert found.genuine.scores == pytest.approx(np.sort(genuine)[::-1], abs=1e-6)
