"""insightface-identify: searches against loops, MegaFace's files and lists, and sets that are wrong."""

import csv
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import small_network
from harness import error_of, run, status_of

from insightface_mx.eval.searches import candidates, identify
from insightface_mx.eval.searches.candidates import find_candidates
from insightface_mx.formats.megaface import read_feature, write_feature

own_cache = pytest.fixture(autouse=True, scope="module")(small_network.own_cache)
LENGTH = 8


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def people(random, identities, each, spread=0.35):
    """Unit embeddings (identities * each, LENGTH) float32, and the identities' names."""
    centres = random.normal(size=(identities, LENGTH)).repeat(each, axis=0)
    rows = unit(centres + spread * np.sqrt(LENGTH) * random.normal(size=centres.shape))
    return rows.astype(np.float32), [f"p{index}" for index in range(identities) for _ in range(each)]


def by_loops(probes, subjects, gallery, owners, distractors, any_mate=False):
    """Rank, mate's similarity, the best other's, and the best three (similarity, identity), of every probe."""
    found = []
    for probe, subject in zip(probes, subjects):
        own = [probe @ row for row, owner in zip(gallery, owners) if owner == subject]
        best = {name: max(probe @ row for row, owner in zip(gallery, owners) if owner == name) for name in set(owners)}
        ranked = [(value, name) for name, value in best.items()] + [(probe @ row, "") for row in distractors]
        rivals = [value for value, name in ranked if name != subject]
        images = [probe @ row for row, owner in zip(gallery, owners) if owner != subject]
        images += [probe @ row for row in distractors]
        rank = 1 + sum(value > max(own) for value in (images if any_mate else rivals)) if own else 0
        found.append((rank, max(own) if own else -np.inf, max(rivals), sorted(ranked, reverse=True)[:3]))
    return found


@pytest.mark.parametrize("any_mate", [False, True])
@pytest.mark.parametrize("block", [5, 1000])
def test_candidates(monkeypatch, any_mate, block):
    monkeypatch.setattr(candidates, "_BLOCK", block)
    monkeypatch.setattr(candidates, "_CELLS", 30 * block)
    random = np.random.RandomState(3)
    rows, names = people(random, 12, 5)
    order = random.permutation(len(rows))
    known = [place for place in order if names[place] not in ("p3", "p7") and place % 5 > 1]
    asked = [place for place in order if place % 5 <= 1]
    others = unit(random.normal(size=(40, LENGTH))).astype(np.float32)
    sets = rows[asked], [names[p] for p in asked], rows[known], [names[p] for p in known]
    found = find_candidates(*sets, iter(np.array_split(others, 3)), any_mate)
    expected = by_loops(*sets, others, any_mate)
    assert found.rank.tolist() == [each[0] for each in expected]
    assert len(set(found.rank.tolist())) > 3 and (found.rank == 0).sum() == 4
    np.testing.assert_allclose(found.mate, [each[1] for each in expected], atol=1e-6)
    np.testing.assert_allclose(found.stranger, [each[2] for each in expected], atol=1e-6)
    np.testing.assert_allclose(found.similarities, [[s for s, _ in each[3]] for each in expected], atol=1e-6)
    everybody = [*sets[3], *[""] * len(others)]
    for probe, places, each in zip(sets[0], found.places, expected):
        assert [everybody[place] for place in places] == [name for _, name in each[3]]
        np.testing.assert_allclose(np.vstack([sets[2], others])[places] @ probe, [s for s, _ in each[3]], atol=1e-6)
    mated = found.rank > 0
    np.testing.assert_allclose(
        np.einsum("ij,ij->i", sets[0][mated], sets[2][found.mate_place[mated]]), found.mate[mated], atol=1e-6
    )


def test_a_small_gallery_has_fewer_candidates():
    found = find_candidates(np.eye(2), ["a", "b"], np.eye(2)[:1], ["a"])
    assert found.places.tolist() == [[0, -1, -1], [0, -1, -1]]
    assert found.rank.tolist() == [1, 0] and found.stranger.tolist() == [-np.inf, 0]


def write_features(folder, rows, names, ending="png_r50"):
    for index, (row, name) in enumerate(zip(rows, names)):
        write_feature(str(folder / name / f"{name}_{index}.{ending}.bin"), 3 * row)


@pytest.fixture
def sets(tmp_path):
    """Feature files: gallery/, probes/ and others/ (A/B), and the arrays."""
    random = np.random.RandomState(4)
    rows, names = people(random, 30, 4)
    place = np.arange(len(rows))
    in_gallery = (place % 4 < 2) & (place < 80)
    others = unit(random.normal(size=(50, LENGTH))).astype(np.float32)
    write_features(tmp_path / "gallery", rows[in_gallery], np.array(names)[in_gallery])
    write_features(tmp_path / "probes", rows[~in_gallery], np.array(names)[~in_gallery])
    for index, row in enumerate(others):
        write_feature(str(tmp_path / "others" / str(index % 3) / "x@N00" / f"{index}.jpg_r50.bin"), row)
    return tmp_path, rows, np.array(names), in_gallery, others


def test_rates_of_feature_files(sets, capsys):
    folder, rows, names, in_gallery, others = sets
    argv = ["--gallery", folder / "gallery", "--probes", folder / "probes", "--distractors", folder / "others"]
    run(identify, *argv, "--json", folder / "a.json", "--csv", folder / "a.csv", "--ranks", "1,5")
    found = json.loads((folder / "a.json").read_text())
    expected = by_loops(rows[~in_gallery], names[~in_gallery], rows[in_gallery], names[in_gallery], others)
    ranks, mates = (np.array([each[i] for each in expected if each[0]]) for i in (0, 1))
    strangers = np.sort([each[2] for each in expected if not each[0]])[::-1]
    assert (found["mated"], found["non_mated"]) == (len(ranks), len(strangers)) == (40, 40)
    assert (found["gallery"], found["identities"], found["distractors"], found["not_usable"]) == (40, 20, 50, 0)
    rates = {(rate["metric"], rate["target"]): rate for rate in found["rates"]}
    assert 0 < np.mean(ranks <= 1) < np.mean(ranks <= 5)
    for rank in (1, 5):
        assert rates["rank", rank]["value"] == pytest.approx(np.mean(ranks <= rank))
    for fpir, threshold in ((0.003, strangers[0]), (0.01, strangers[0]), (0.1, strangers[4])):
        rate = rates["TPIR at FPIR", fpir]
        assert rate["threshold"] == pytest.approx(threshold, abs=1e-6)
        assert rate["value"] == pytest.approx(np.mean((ranks == 1) & (mates > threshold + 1e-7)))
        assert rate["fpir_reached"] == pytest.approx({strangers[0]: 0, strangers[4]: 0.1}[threshold])
        assert rate["low"] <= rate["value"] <= rate["high"]
    lines = list(csv.DictReader((folder / "a.csv").read_text().splitlines()))
    assert len(lines) == 80
    by_name = {line["probe"]: line for line in lines}
    assert sum(line["rank"] == "1" for line in lines) == np.sum(ranks == 1)
    for line in lines:
        assert line["identity"] == line["probe"].split(os.sep)[0]
        assert float(line["similarity1"]) >= float(line["similarity2"]) >= float(line["similarity3"])
        assert (line["identity1"] == line["identity"]) == (line["rank"] == "1")
    assert all(name.endswith(".png") for name in by_name)
    said = capsys.readouterr().out
    assert f"rank 1               {np.mean(ranks <= 1):.4f}" in said
    assert "*: fewer than 30 errors (missed mates, false alarms)" in said
    assert rates["rank", 1]["errors"] == sum(ranks > 1) and rates["TPIR at FPIR", 0.1]["errors"] == 4
    assert all(
        rate["interval_by"] == "people" and rate["few_errors"] == (rate["errors"] < 30) for rate in found["rates"]
    )


def test_without_gallery_every_mate_is_ranked_among_the_distractors(sets, capsys):
    folder, rows, names, in_gallery, others = sets
    argv = ["--probes", folder / "probes", "--distractors", folder / "others", "--json", folder / "a.json"]
    run(identify, *argv, "--csv", folder / "a.csv")
    probes, owners = rows[~in_gallery], names[~in_gallery]
    pairs = [(j, i) for j in range(80) for i in range(80) if i != j and owners[i] == owners[j]]
    ranks = np.array([1 + np.sum(others @ probes[j] > probes[j] @ probes[i]) for j, i in pairs])
    found = json.loads((folder / "a.json").read_text())
    assert found["mated"] == len(pairs)
    assert [rate["value"] for rate in found["rates"][:3]] == pytest.approx([np.mean(ranks <= k) for k in (1, 5, 10)])
    lines = list(csv.DictReader((folder / "a.csv").read_text().splitlines()))
    assert sorted(int(line["rank"]) for line in lines) == sorted(ranks)


def test_cleaning_lists_leave_faces_out(sets, capsys):
    folder, _rows, _names, _in_gallery, _others = sets
    probes = sorted(os.listdir(folder / "probes" / "p25"))
    list_text = "Noisy faces\n# a comment\n" + f"{probes[0][: -len('.png_r50.bin')]}\n{probes[1][: -len('_r50.bin')]}\n"
    (folder / "faces.txt").write_text(list_text)
    (folder / "others.txt").write_text("1\t0/x@N00/3.jpg\n2\t1/x@N00/4.jpg\n3\t7/nobody.jpg\n")
    argv = ["--gallery", folder / "gallery", "--probes", folder / "probes", "--distractors", folder / "others"]
    argv += ["--exclude", folder / "faces.txt", "--exclude", folder / "others.txt", "--csv", folder / "a.csv"]
    run(identify, *argv, "--json", folder / "a.json")
    found = json.loads((folder / "a.json").read_text())
    assert (found["mated"], found["non_mated"], found["distractors"], found["gallery"]) == (40, 38, 48, 40)
    assert [name for name in probes[:2] if name[: -len("_r50.bin")] in (folder / "a.csv").read_text()] == []
    said = capsys.readouterr().err
    assert "2 of 80 faces left out by" in said and "2 of 50 faces left out by" in said
    assert f"{folder}/others.txt:3: 7/nobody.jpg is no face of any set (1 such lines)" in said
    assert "faces.txt:1" not in said


def test_exported_features_are_unit_embeddings(sets, capsys):
    folder, _rows, _names, _in_gallery, _ = sets
    argv = ["--gallery", folder / "gallery", "--probes", folder / "probes"]
    run(identify, *argv, "--export-features", folder / "out", "--algorithm", "mine", "--json", folder / "a.json")
    files = sorted(Path(folder, "out", "gallery").rglob("*.bin"))
    assert len(files) == 40
    original = folder / "gallery" / "p7" / "p7_14.png_r50.bin"
    np.testing.assert_allclose(
        read_feature(str(folder / "out" / "gallery" / "p7" / "p7_14.png_mine.bin")),
        unit(read_feature(str(original))),
        atol=1e-6,
    )
    run(identify, "--gallery", folder / "out/gallery", "--probes", folder / "out/probes", "--json", folder / "b.json")
    one, other = (json.loads((folder / name).read_text())["rates"] for name in ("a.json", "b.json"))
    for mine, again in zip(one, other):
        assert again["value"] == mine["value"] and again["threshold"] == pytest.approx(mine["threshold"], abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "probes/p25/p25_60.png_r50.bin").write_bytes(b"x"),
            "p25_60.png_r50.bin is no feature",
        ),
        (lambda folder: write_feature(str(folder / "probes/p25/z_r.bin"), np.ones(3)), "z_r.bin has 3 numbers"),
        (lambda folder: write_feature(str(folder / "probes/p25/z_r.bin"), np.zeros(8)), "z_r.bin: its embedding is 0"),
        (
            lambda folder: write_feature(str(folder / "probes/stray_r.bin"), np.ones(8)),
            "stray is in no identity's folder",
        ),
        (lambda folder: (folder / "probes/lfw.bin").write_bytes(b""), "lfw.bin is not called IMAGE_ALGORITHM.bin"),
        (lambda folder: (folder / "list.txt").write_text(""), "list.txt names no face"),
        (lambda folder: (folder / "list.txt").write_text("\nx_1\nq\n"), None),
        (lambda folder: write_feature(str(folder / "gallery/p0/a_r.bin"), np.ones(8, ">f4")), None),
    ],
)
def test_wrong_files_are_named(sets, capsys, change, message):
    folder = sets[0]
    (folder / "list.txt").write_text("x\n")
    change(folder)
    argv = ["--gallery", folder / "gallery", "--probes", folder / "probes", "--exclude", folder / "list.txt"]
    if message is None:
        run(identify, *argv)
        return
    assert message in error_of(capsys, identify, *argv, "--json", folder / "a.json")
    assert not (folder / "a.json").exists()


def test_sets_that_do_not_go_together(sets, capsys):
    folder = sets[0]
    gallery, probes = ["--gallery", folder / "gallery"], ["--probes", folder / "probes"]
    others = ["--distractors", folder / "others"]
    assert "give --gallery, or --distractors" in error_of(capsys, identify, *probes)
    same = ["--probes", folder / "gallery", *gallery]
    assert "is in the gallery and among the probes" in error_of(capsys, identify, *same)
    twice = ["--distractors", folder / "probes", *gallery, *probes]
    assert "is in the distractors and among the probes" in error_of(capsys, identify, *twice)
    run(identify, "--gallery", folder / "gallery" / "p0", *probes, "--identity-from", "name")
    assert "p0 holds the identity p0 alone: its searches can only end at rank 1" in capsys.readouterr().err
    assert "--sheet: " in error_of(capsys, identify, *gallery, *probes, "--sheet", folder / "a.png")
    write_features(folder / "short", np.ones((2, 3)), ["a", "b"])
    wrong = ["--distractors", folder / "short"]
    assert "embeddings have 3 numbers, the probes' 8" in error_of(capsys, identify, *gallery, *probes, *wrong)
    assert "embeddings have 3 numbers, those of" in error_of(capsys, identify, "--gallery", folder / "short", *probes)
    single = ["--probes", folder / "short", *others]
    assert "holds no identity with two faces" in error_of(capsys, identify, *single)
    write_features(folder / "others" / "2", np.ones((1, 8)), ["7"], ending="jpg_x")
    (folder / "list.txt").write_text("Title\n7_0\n3\n")
    os.rename(folder / "others/2/7", folder / "others/7")
    write_feature(str(folder / "others" / "8" / "7_0.jpg_x.bin"), np.ones(8))
    cleaned = [*gallery, *probes, *others, "--exclude", folder / "list.txt"]
    assert "list.txt:2: 7_0 is 7/7_0.jpg and 8/7_0.jpg: write its folder, too" in error_of(capsys, identify, *cleaned)
    (folder / "list.txt").write_text("".join(f"{name}\n" for name in ("7/7_0.jpg", "8/7_0")))
    run(identify, *cleaned)
    (folder / "list.txt").write_text("7_0.jpg\n")
    seventh = ["--distractors", folder / "others/7"]
    only = [*gallery, *probes, *seventh, "--exclude", folder / "list.txt"]
    assert "list.txt leaves no face of" in error_of(capsys, identify, *only)
    (folder / "empty").mkdir()
    assert "empty holds no image files" in error_of(
        capsys, identify, *gallery, *probes, "--distractors", folder / "empty"
    )
    assert "nothing" in error_of(capsys, identify, "--gallery", folder / "nothing", *probes, *others)


def test_probes_without_any_mate_and_with_mates_alone_are_said(sets, capsys):
    folder, rows, _names, _, _ = sets
    for name, owner in (("strangers", "q"), ("known", "p0")):
        write_features(folder / name, rows[:1], [owner])
    argv = ["--gallery", folder / "gallery", "--json", folder / "a.json"]
    run(identify, *argv, "--probes", folder / "strangers")
    said = capsys.readouterr()
    assert f"{folder}/strangers: no identity of it is in {folder}/gallery (q; there p0): rank rates" in said.err
    assert "rank 1               no search can tell" in said.out
    assert {rate["value"] for rate in json.loads((folder / "a.json").read_text())["rates"]} == {None}
    run(identify, *argv, "--probes", folder / "known")
    assert f"known: every identity of it is in {folder}/gallery: TPIR at FPIR needs probes" in capsys.readouterr().err
    inside = [*argv, "--probes", folder / "known", "--export-features", folder / "known" / "out"]
    assert "known/out is in the set " in error_of(capsys, identify, *inside)
    assert not (folder / "known" / "out").exists()


def draw(identity, number):
    own = np.random.RandomState(identity).randint(60, 196, (4, 4, 3))
    change = np.random.RandomState(1000 + 50 * identity + number).randint(-60, 60, (4, 4, 3))
    return cv2.resize((own + change).astype(np.uint8), (112, 112), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A network, gallery/ID/, probes/ID/ and, flat, tiny/ID_N.png of the probes; others/."""
    folder = tmp_path_factory.mktemp("identify")
    small_network.save(folder / "net")
    for name, identities, numbers in (("gallery", 6, 2), ("probes", 9, 3)):
        for identity in range(identities):
            (folder / name / f"id{identity}").mkdir(parents=True)
            for number in range(numbers):
                image = draw(identity, number + 10 * (name == "probes"))
                cv2.imwrite(str(folder / name / f"id{identity}" / f"{number}.png"), image)
    for name, source in (("tiny", "probes"), ("tiny_gallery", "gallery")):
        (folder / name).mkdir()
        for path in sorted((folder / source).rglob("*.png")):
            (folder / name / f"{path.parent.name}_{path.name}").write_bytes(path.read_bytes())
    (folder / "others").mkdir()
    for number in range(5):
        cv2.imwrite(str(folder / "others" / f"{number}.png"), draw(100 + number, 0))
    return folder


def command(folder, *more):
    network = ["--model", f"{folder}/net,1", "--backend", "mxnet", "--features", f"{folder}/features", "--aligned"]
    return [*network, *more]


def network_rows(folder, paths):
    faces = np.stack([cv2.imread(str(path))[:, :, ::-1].transpose(2, 0, 1) for path in paths])
    views = (small_network.plain_mxnet(f"{folder}/net,1", view) for view in (faces, faces[..., ::-1]))
    return unit(sum(views))


@pytest.mark.slow
def test_photos_are_embedded_with_their_mirror_images(photos, tmp_path, capsys):
    sets = ["--gallery", photos / "gallery", "--probes", photos / "probes", "--distractors", photos / "others"]
    outputs = ["--csv", tmp_path / "a.csv", "--json", tmp_path / "a.json", "--sheet", tmp_path / "a.png"]
    run(identify, *command(photos, *sets, *outputs, "--export-features", tmp_path / "out"))
    paths = {name: sorted((photos / name).rglob("*.png")) for name in ("gallery", "probes", "others")}
    rows = {name: network_rows(photos, files) for name, files in paths.items()}
    owners = {name: [path.parent.name for path in files] for name, files in paths.items()}
    expected = by_loops(rows["probes"], owners["probes"], rows["gallery"], owners["gallery"], rows["others"])
    lines = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [line["probe"] for line in lines] == [str(path.relative_to(photos / "probes")) for path in paths["probes"]]
    assert [int(line["rank"] or 0) for line in lines] == [each[0] for each in expected]
    first = [float(line["similarity1"]) for line in lines]
    np.testing.assert_allclose(first, [each[3][0][0] for each in expected], atol=1e-5)
    names = {name.relative_to(tmp_path / "out").as_posix() for name in (tmp_path / "out").rglob("*.bin")}
    assert "gallery/id0/1.png_insightface-mx.bin" in names and "distractors/4.png_insightface-mx.bin" in names
    assert len(names) == 12 + 27 + 5
    exported = read_feature(str(tmp_path / "out/probes/id8/2.png_insightface-mx.bin"))
    np.testing.assert_allclose(exported, rows["probes"][-1], atol=1e-5)
    said = capsys.readouterr().err
    threshold = json.loads((tmp_path / "a.json").read_text())["rates"][4]["threshold"]
    missed = [index for index, each in enumerate(expected) if each[0] > 1]
    alarms = [index for index, each in enumerate(expected) if not each[0] and each[2] > threshold + 1e-6]
    assert missed and f"{len(missed) + len(alarms)} errors, " in said
    worst = min(missed, key=lambda index: expected[index][1] - expected[index][3][0][0])
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"))[:112, :112], cv2.imread(str(paths["probes"][worst])))


@pytest.mark.slow
def test_tinyface_rule(photos, tmp_path, capsys):
    sets = ["--gallery", photos / "tiny_gallery", "--probes", photos / "tiny", "--distractors", photos / "others"]
    options = ["--identity-from", "name", "--any-mate", "--ranks", "1,2,20"]
    run(identify, *command(photos, *sets, *options, "--json", tmp_path / "a.json"))
    paths = {name: sorted((photos / name).glob("*.png")) for name in ("tiny_gallery", "tiny", "others")}
    rows = {name: network_rows(photos, files) for name, files in paths.items()}
    owners = {name: [path.name.split("_")[0] for path in files] for name, files in paths.items()}
    expected = by_loops(
        rows["tiny"], owners["tiny"], rows["tiny_gallery"], owners["tiny_gallery"], rows["others"], True
    )
    ranks = np.array([each[0] for each in expected if each[0]])
    rates = json.loads((tmp_path / "a.json").read_text())["rates"]
    assert [rate["value"] for rate in rates[:3]] == pytest.approx([np.mean(ranks <= k) for k in (1, 2, 20)])
    plain = by_loops(rows["tiny"], owners["tiny"], rows["tiny_gallery"], owners["tiny_gallery"], rows["others"])
    assert [each[0] for each in plain if each[0]] != ranks.tolist()


def test_photos_that_cannot_be_used_are_named_and_left_out(photos, tmp_path, capsys):
    (tmp_path / "probes" / "id0").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "probes" / "id0" / "a.png"), draw(0, 40))
    (tmp_path / "probes" / "id0" / "b.png").write_bytes(b"no image")
    sets = ["--gallery", photos / "gallery", "--probes", tmp_path / "probes"]
    assert status_of(identify, *command(photos, *sets, "--json", tmp_path / "a.json")) == 2
    said = capsys.readouterr().err
    assert f"error: {tmp_path}/probes/id0/b.png is not an image" in said
    assert "error: 1 photos could not be used; the results are those of the others" in said
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["mated"], found["not_usable"]) == (1, 1)
    (tmp_path / "probes" / "id0" / "a.png").unlink()
    assert "no face of it can be used" in error_of(capsys, identify, *command(photos, *sets), lines=2)


@pytest.mark.slow
def test_the_first_face_of_each_identity_as_gallery(photos, tmp_path, capsys):
    """The same as with two lists; identities with one face are non-mates."""
    folder = tmp_path / "set"
    for path in sorted((photos / "probes").rglob("*.png")):
        if path.parent.name < "id6" or path.name == "0.png":
            (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
            (folder / path.parent.name / path.name).write_bytes(path.read_bytes())
    lines = {"gallery": [f"set/id{i}/0.png,id{i}" for i in range(6)]}
    lines["probes"] = [f"set/id{i}/{n}.png,id{i}" for i in range(6) for n in (1, 2)]
    lines["probes"] += [f"set/id{i}/0.png,id{i}" for i in range(6, 9)]
    for name, rows in lines.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(rows) + "\n")
    lists = ["--gallery", tmp_path / "gallery.csv", "--probes", tmp_path / "probes.csv"]
    run(identify, *command(photos, *lists, "--json", tmp_path / "a.json"))
    split = ["--probes", folder, "--first-as-gallery"]
    run(identify, *command(photos, *split, "--json", tmp_path / "b.json", "--csv", tmp_path / "b.csv"))
    one, other = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert (other["mated"], other["non_mated"], other["gallery"], other["first_as_gallery"]) == (12, 3, 6, True)
    assert one["rates"] == other["rates"]
    rows = list(csv.DictReader((tmp_path / "b.csv").read_text().splitlines()))
    assert {row["mate"] for row in rows} == {"", *(f"id{i}/0.png" for i in range(6))}
    message = error_of(capsys, identify, *command(photos, *split, "--gallery", photos / "gallery"))
    assert "--first-as-gallery takes the gallery from the probes: leave --gallery out" in message
    for path in folder.rglob("[12].png"):
        path.unlink()
    assert "holds no identity with two faces" in error_of(capsys, identify, *command(photos, *split))


def test_a_list_that_names_a_missing_file(photos, tmp_path, capsys):
    (tmp_path / "probes.csv").write_text("nothing.png,id0\n")
    sets = ["--gallery", photos / "gallery", "--probes", tmp_path / "probes.csv"]
    message = error_of(capsys, identify, *command(photos, *sets))
    assert f"{tmp_path}/probes.csv: there is no file {tmp_path}/nothing.png" in message
    assert "holds photos: give --model" in error_of(capsys, identify, *sets)
