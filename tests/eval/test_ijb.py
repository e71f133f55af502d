"""insightface-ijb on small files as IJB publishes them, against loops; and files that are wrong."""

import csv
import json
import os
import shutil

import cv2
import numpy as np
import pytest
import small_network
import template_files
from harness import error_of, no_file_over, run

from insightface_mx.embedding import backends
from insightface_mx.eval.features import face_features
from insightface_mx.eval.intervals import tar_intervals
from insightface_mx.eval.template_sets import ijb, pair_scores, template_tests
from insightface_mx.eval.template_sets.pair_scores import FARS
from insightface_mx.eval.template_sets.template_tests import FPIRS, RANKS

own_cache = pytest.fixture(autouse=True, scope="module")(small_network.own_cache)
SETTINGS = [(norm, score, flip) for norm in (True, False) for score in (True, False) for flip in (True, False)]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a network, IJBC/ and templates.csv of the same images; and the network's outputs for them."""
    folder = tmp_path_factory.mktemp("ijb")
    small_network.save(folder / "net")
    images = template_files.make_images()
    template_files.write_folder(folder / "IJBC", images)
    points = [f"{axis}{n}" for n in range(1, 6) for axis in "xy"]
    with open(folder / "templates.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["subject", "image", "template", "medium", "score", *points])
        for image in images:
            names = [f"s{image.subject}", f"IJBC/loose_crop/{image.name}", f"t{image.template}", f"m{image.medium}"]
            rows.writerow([*names, image.score, *image.points.ravel()])
    return folder


@pytest.fixture(scope="module")
def outputs(work):
    """Images, and what MXNet alone says of them and of the mirror images."""
    images = template_files.make_images()
    faces = np.stack([template_files.aligned(image) for image in images])
    return images, *(small_network.plain_mxnet(f"{work}/net,1", view) for view in (faces, faces[..., ::-1]))


def command(work, source, *more):
    return [source, "--model", f"{work}/net,1", "--backend", "mxnet", "--features", f"{work}/features", *more]


def strict(genuine, impostor, far):
    """TAR at the largest FAR that is not above `far`, and that FAR, by trying every threshold."""
    best = (0.0, 0.0)
    for threshold in [-np.inf, *impostor]:
        reached = np.mean(impostor > threshold)
        if reached <= far + 1e-12:
            best = max(best, (np.mean(genuine > threshold), reached))
    return best


def searches(rows, templates, subject, gallery, probes):
    """Rank rates, TPIRs and published TPIRs of a gallery, by loops."""
    vector = dict(zip(templates, rows))
    ranks, mates, others, strangers = [], [], [], []
    for probe in probes:
        similarity = {subject[one]: vector[probe] @ vector[one] for one in gallery}
        if subject[probe] in similarity:
            mates.append(similarity.pop(subject[probe]))
            others.append(max(similarity.values()))
            ranks.append(1 + sum(value > mates[-1] for value in similarity.values()))
        else:
            strangers.append(max(similarity.values()))
    ranks, mates, others = map(np.array, (ranks, mates, others))
    falling = np.sort(strangers)[::-1]
    found = {"mated": len(ranks), "non_mated": len(strangers)}
    found["rank_rates"] = {f"{rank:g}": np.mean(ranks <= rank) for rank in RANKS}
    thresholds = [falling[int(len(falling) * fpir + 1e-9)] for fpir in FPIRS]
    found["tpir"] = {f"{f:g}": np.mean((ranks == 1) & (mates > th)) for f, th in zip(FPIRS, thresholds)}
    published = [falling[max(int(len(falling) * fpir) - 1, 0)] for fpir in FPIRS]
    found["published"] = {f"{f:g}": np.mean((mates > others) & (mates > th)) for f, th in zip(FPIRS, published)}
    return found


@pytest.mark.slow
def test_all_settings_against_loops(work, outputs, tmp_path, capsys):
    from sklearn.metrics import roc_curve

    images, plain, mirrored = outputs
    run(ijb, *command(work, work / "IJBC", "--all-settings", "--as-published", "--json", tmp_path / "a.json"))
    results = json.loads((tmp_path / "a.json").read_text())["results"]
    assert [(one["keep_norm"], one["detector_score"], one["mirror"]) for one in results] == SETTINGS
    subject = template_files.subjects_of(images)
    for one, setting in zip(results, SETTINGS):
        templates, rows = template_files.template_rows(images, plain, mirrored, *setting)
        upper = np.triu_indices(len(rows), 1)
        scores = (rows @ rows.T)[upper]
        same = np.array([subject[templates[i]] == subject[templates[j]] for i, j in zip(*upper)])
        assert (one["1:1"]["genuine_pairs"], one["1:1"]["impostor_pairs"]) == (same.sum(), (~same).sum())
        fpr, tpr, _ = (array[::-1] for array in roc_curve(same, scores))
        for far, found in zip(FARS, one["1:1"]["tar_at_far"]):
            assert (found["tar"], found["far_reached"]) == pytest.approx(strict(scores[same], scores[~same], far))
            nearest = np.argmin(np.abs(fpr - far))
            assert (found["published_tar"], found["published_far"]) == pytest.approx((tpr[nearest], fpr[nearest]))
            assert found["low"] <= found["tar"] <= found["high"]
        probes = [template for template in templates if template % 10 != 1 or subject[template] == 7]
        expected = []
        for gallery, rest in zip(one["1:N"], (0, 1)):
            in_it = [t for t in templates if subject[t] % 2 == rest and t % 10 == 1 and subject[t] < 7]
            expected.append(searches(rows, templates, subject, in_it, probes))
            assert (gallery["mated"], gallery["non_mated"]) == (expected[-1]["mated"], expected[-1]["non_mated"])
            assert gallery["rank_rates"] == pytest.approx(expected[-1]["rank_rates"])
            assert gallery["tpir_at_fpir"] == pytest.approx(expected[-1]["tpir"])
            assert gallery["published_tpir"] == pytest.approx(expected[-1]["published"])
        mean = one["1:N mean"]
        weights = [each["mated"] for each in expected]
        assert mean["mated"] == sum(weights) == 21
        for key, value in mean["rank_rates"].items():
            assert value == pytest.approx(np.average([each["rank_rates"][key] for each in expected], weights=weights))
        for key, value in mean["tpir_at_fpir"].items():
            assert value == pytest.approx(np.mean([each["tpir"][key] for each in expected]))
    assert 0 < results[0]["1:1"]["tar_at_far"][-1]["tar"] < 1  # the synthetic faces are neither trivial nor hopeless
    said = capsys.readouterr().out
    assert (
        "norm kept, weighted by the detector's score, mirror image added (notebook N1D1F2, ijb_evals.py N0D1F1)" in said
    )
    assert "normalised, not weighted, no mirror image (notebook N0D0F0, ijb_evals.py N1D0F0)" in said


@pytest.mark.slow
def test_own_list_gives_the_same_as_the_meta_files(work, tmp_path, capsys):
    run(ijb, *command(work, work / "IJBC", "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv"))
    capsys.readouterr()
    run(ijb, *command(work, work / "templates.csv", "--json", tmp_path / "b.json"))
    said = capsys.readouterr().out
    one, other = (json.loads((tmp_path / name).read_text())["results"][0] for name in ("a.json", "b.json"))
    for mine, own in zip(one["1:1"].pop("tar_at_far"), other["1:1"].pop("tar_at_far")):
        assert own.pop("threshold") == pytest.approx(mine["threshold"])
        assert own == {name: value for name, value in mine.items() if name != "threshold"}
    for row, other_row in zip(one["1:1"].pop("thresholds"), other["1:1"].pop("thresholds")):
        assert row == pytest.approx(other_row)
    assert one["1:1"] == other["1:1"]
    assert other["1:N"][0]["mated"] == 24 and other["1:N"][0]["subjects"] == 8
    assert other["1:N"][0]["tpir_at_fpir"] == {"0.01": None, "0.1": None}
    assert "TPIR at FPIR 0.01: no search can tell" in said
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    tars = [row for row in rows if row["metric"] == "TAR at FAR"]
    assert [float(row["target"]) for row in tars] == list(FARS)
    assert float(tars[-1]["value"]) == mine["tar"]
    assert [row["test"] for row in rows if row["metric"] == "rank rate"] == [
        test for test in ("1:N G1", "1:N G2", "1:N mean") for _ in RANKS
    ]


@pytest.mark.slow
def test_intervals_by_people(work, outputs, tmp_path, capsys):
    """The subjects of templates follow from galleries and probes; the library draws them for all pairs."""
    images, plain, mirrored = outputs
    run(ijb, *command(work, work / "IJBC", "--json", tmp_path / "a.json"))
    assert "pairs; 95 % intervals by people" in capsys.readouterr().out
    result = json.loads((tmp_path / "a.json").read_text())["results"][0]
    templates, rows = template_files.template_rows(images, plain, mirrored, True, True, True)
    subject = template_files.subjects_of(images)
    first, second = np.triu_indices(len(rows), 1)
    people = np.array([[subject[templates[i]], subject[templates[j]]] for i, j in zip(first, second)])
    expected = tar_intervals((rows @ rows.T)[first, second], people[:, 0] == people[:, 1], FARS, people)
    for found, one in zip(result["1:1"]["tar_at_far"], expected):
        assert found["interval_by"] == one.method == "people"
        assert (found["low"], found["high"], found["false_accepts"]) == pytest.approx((one.low, one.high, one.errors))
    for gallery in (*result["1:N"], result["1:N mean"]):
        for rates, ends in (("rank_rates", "rank_intervals"), ("tpir_at_fpir", "tpir_intervals")):
            for target, rate in gallery[rates].items():
                one = gallery[ends][target]
                assert one["low"] <= rate <= one["high"] and one["method"] == "people" and one["few_errors"]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "template_pair_label.txt",
            lambda text: text.replace("1 2 1", "1 2 0", 1),
            "ijbc_template_pair_label.txt:1 has the label 0, but galleries and probes say otherwise (1 such lines)",
        ),
        ("1N_probe_mixed.csv", lambda text: "".join(f"{line}\n" for line in text.split() if line[:3] != "74,"), ""),
    ],
)
def test_without_certain_subjects_intervals_are_by_pairs(work, tmp_path, capsys, name, change, message):
    shutil.copytree(work / "IJBC" / "meta", tmp_path / "IJBC" / "meta")
    edit(tmp_path / "IJBC" / "meta" / f"ijbc_{name}", change)
    argv = command(work, tmp_path / "IJBC", "--images", work / "IJBC" / "loose_crop", "--json", tmp_path / "a.json")
    run(ijb, *argv)
    said = capsys.readouterr()
    assert "95 % intervals by pairs (Wilson)" in said.out and message in said.err
    result = json.loads((tmp_path / "a.json").read_text())["results"][0]
    assert {one["interval_by"] for one in result["1:1"]["tar_at_far"]} == {"pairs"}
    assert result["1:1"]["intervals"].startswith("Wilson's")
    assert (message[:40] or "has template 74") in result["1:1"]["intervals"]


def test_a_gallery_without_any_mate_is_said(work, tmp_path, capsys):
    shutil.copytree(work / "IJBC" / "meta", tmp_path / "IJBC" / "meta")
    probes = tmp_path / "IJBC" / "meta" / "ijbc_1N_probe_mixed.csv"
    probes.write_text("TEMPLATE_ID,SUBJECT_ID\n2,0\n")
    argv = command(work, tmp_path / "IJBC", "--images", work / "IJBC" / "loose_crop", "--json", tmp_path / "a.json")
    run(ijb, *argv)
    message = f"{probes}: no template of it has a subject of {tmp_path}/IJBC/meta/ijbc_1N_gallery_G2.csv"
    assert message in capsys.readouterr().err
    result = json.loads((tmp_path / "a.json").read_text())["results"][0]
    assert [gallery["mated"] for gallery in result["1:N"]] == [1, 0]
    assert result["1:N mean"]["rank_rates"]["1"] == result["1:N"][0]["rank_rates"]["1"]
    assert result["1:N"][1]["rank_intervals"] == {"1": None, "5": None, "10": None}


def test_many_pairs_go_through_a_histogram(monkeypatch):
    random = np.random.RandomState(0)
    subjects = np.repeat(np.arange(40), 5)
    rows = random.normal(size=(40, 16))[subjects] + 0.8 * random.normal(size=(200, 16))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    exact = template_tests.verify_all_pairs(rows, subjects, False)
    monkeypatch.setattr(pair_scores, "MOST_SCORES", 100)
    monkeypatch.setattr(template_tests, "MOST_SCORES", 100)
    monkeypatch.setattr(template_tests, "_ROWS", 64)
    found = template_tests.verify_all_pairs(rows, subjects, False)
    assert (found.genuine, found.impostor) == (exact.genuine, exact.impostor) == (400, 19500)
    np.testing.assert_allclose(found.strict.tar, exact.strict.tar, atol=0.003)
    np.testing.assert_allclose(found.strict.threshold, exact.strict.threshold, atol=3e-6)
    with pytest.raises(Exception, match="--as-published needs the scores of all 19900 pairs"):
        template_tests.verify_all_pairs(rows, subjects, True)


@pytest.mark.slow
def test_features_are_computed_once_and_continued(work, tmp_path, monkeypatch):
    monkeypatch.setattr(face_features, "CHUNK", 16)
    argv = command(work, work / "IJBC", "--features", tmp_path / "f")
    embedded = []
    embed = backends.Backend.embed

    def counting(backend, images, *more):
        embedded.append(len(images))
        if len(embedded) == 4:
            raise KeyboardInterrupt
        return embed(backend, images, *more)

    monkeypatch.setattr(backends.Backend, "embed", counting)
    with pytest.raises(SystemExit) as stop:
        run(ijb, *argv, "--mirror", "off")
    assert stop.value.code == 130 and embedded == [16] * 4
    run(ijb, *argv, "--mirror", "off")
    count = len(template_files.make_images())
    assert sum(embedded[4:]) == count - 48
    before = len(embedded)
    run(ijb, *argv, "--mirror", "off", "--normalise")
    assert len(embedded) == before
    run(ijb, *argv)  # with the mirror images
    assert sum(embedded[before:]) == 2 * count
    before = len(embedded)
    run(ijb, *argv, "--mirror", "off")
    assert len(embedded) == before
    assert len(os.listdir(tmp_path / "f")) == 2


def edit(path, change):
    path.write_text(change(path.read_text()))


def first_line(old, new):
    return lambda text: text.replace(old, new, 1)


def second_line(line):
    return lambda text: "\n".join([text.splitlines()[0], line, *text.splitlines()[2:]]) + "\n"


WRONG = [
    (
        "face_tid_mid.txt",
        second_line("2.png one 1"),
        "ijbc_face_tid_mid.txt:2: the template 'one' is no number",
    ),
    ("face_tid_mid.txt", second_line("2.png 1"), "ijbc_face_tid_mid.txt:2 has 2 fields"),
    ("face_tid_mid.txt", lambda text: "", "ijbc_face_tid_mid.txt names no image"),
    ("face_tid_mid.txt", first_line("3.png", "9.png"), "face_tid_mid.txt:3 has the image 9.png"),
    ("face_tid_mid.txt", lambda text: text + "99.png 1 1\n", "has the image 99.png"),
    ("name_5pts_score.txt", lambda text: text + text.splitlines()[-1], "names an image more than"),
    (
        "name_5pts_score.txt",
        lambda text: text.replace(text.split()[1], "nan", 1),
        "score.txt:1: 'nan' is no finite number",
    ),
    ("name_5pts_score.txt", lambda text: text.replace(text.split()[1], "1e9", 1), "points are in pixels"),
    ("template_pair_label.txt", first_line("1 2 1", "1 2 2"), "ijbc_template_pair_label.txt:1 has the label 2"),
    ("template_pair_label.txt", first_line("1 3 1", "1 3"), "ijbc_template_pair_label.txt:2: '1 3' is not template"),
    (
        "template_pair_label.txt",
        first_line("1 2 1", "1 5 1"),
        "ijbc_template_pair_label.txt:1 names template 5, which has",
    ),
    ("template_pair_label.txt", lambda text: text.replace(" 0\n", " 1\n"), "has no pair of two identities"),
    ("template_pair_label.txt", lambda text: "", "has no pair of one identity"),
    ("1N_gallery_G2.csv", lambda text: text + "1,0\n", "G2.csv: subject 0 of template 1 is also in "),
    ("1N_gallery_G1.csv", lambda text: text + "1,3\n", "template 1 is of subject 3, and above of 0"),
    ("1N_gallery_G1.csv", lambda text: text + "7,3\n", "G1.csv names template 7, which has no image"),
    ("1N_gallery_G1.csv", lambda text: "TEMPLATE_ID,SUBJECT_ID\n", "G1.csv has no template after its title"),
    ("1N_probe_mixed.csv", lambda text: text + "x\n", "is no row of template,subject"),
    ("1N_probe_mixed.csv", lambda text: text + "1,5\n", "template 1 is of subject 5, in gallery G1 of 0"),
    ("1N_probe_mixed.csv", None, "ijbc_1N_probe_mixed.csv: No such file"),
    ("name_5pts_score.txt", None, "ijbc_name_5pts_score.txt: No such file"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "change", "message"), WRONG)
def test_wrong_meta_files_are_named(work, tmp_path, capsys, name, change, message):
    (tmp_path / "IJBC").mkdir()
    shutil.copytree(work / "IJBC" / "meta", tmp_path / "IJBC" / "meta")
    (tmp_path / "IJBC" / "loose_crop").symlink_to(work / "IJBC" / "loose_crop")
    path = tmp_path / "IJBC" / "meta" / f"ijbc_{name}"
    path.unlink() if change is None else edit(path, change)
    argv = command(work, tmp_path / "IJBC", "--json", tmp_path / "a.json")
    assert message in error_of(capsys, ijb, *argv)
    assert not (tmp_path / "a.json").exists()


OWN = "image,template,medium,subject\na.png,1,1,x\nb.png,2,1,x\nc.png,3,2,y\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,template,subject\na,1,x\n",
            "list.csv:1 is no title with the columns image, template, medium, subject: medium",
        ),
        (OWN, "list.csv:4: there is no file "),
        (OWN + "a.png,1,1,y\n", "list.csv:5: template 1 is of subject y, and above of x"),
        (OWN + "a.png,1,1\n", "list.csv:5 has 3 fields"),
        (OWN.replace("2,1,x", "1,1,x"), "holds no subject with two templates"),
        (OWN.replace(",y", ",x"), "holds the subject x alone"),
        (OWN.splitlines()[0], "names no image"),
        ("", "list.csv:1 is no title"),
    ],
)
def test_wrong_own_lists_are_named(work, tmp_path, capsys, text, message):
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((112, 112, 3), ord(name), np.uint8))
    (tmp_path / "list.csv").write_text(text)
    assert message in error_of(capsys, ijb, *command(work, tmp_path / "list.csv"))


@pytest.mark.slow
def test_images_and_outputs_that_cannot_be_used_are_named(work, tmp_path, capsys, monkeypatch):
    shutil.copytree(work / "IJBC", tmp_path / "IJBC")
    argv = command(work, tmp_path / "IJBC", "--features", tmp_path / "f")
    crops = tmp_path / "IJBC" / "loose_crop"
    (crops / "5.png").unlink()
    assert f"face_tid_mid.txt:5: there is no file {crops}/5.png" in error_of(capsys, ijb, *argv)
    (crops / "5.png").write_bytes(b"no image")
    assert f"ijbc_face_tid_mid.txt:5: {crops}/5.png is not an image" in error_of(capsys, ijb, *argv)
    shutil.copy(work / "IJBC" / "loose_crop" / "5.png", crops / "5.png")
    monkeypatch.setattr(backends.Backend, "embed", lambda *_: np.full((len(_[1]), small_network.LENGTH), np.nan))
    assert f"face_tid_mid.txt:1: {crops}/1.png: its feature is not finite" in error_of(capsys, ijb, *argv)


def test_folders_without_a_set(work, tmp_path, capsys):
    assert "must hold one *_face_tid_mid.txt, that of one set: it holds no" in error_of(
        capsys, ijb, *command(work, tmp_path)
    )


def test_a_full_disk_leaves_nothing_behind(work, tmp_path, capsys):
    run(ijb, *command(work, work / "IJBC"))
    capsys.readouterr()
    with no_file_over(50):
        message = error_of(capsys, ijb, *command(work, work / "IJBC", "--json", tmp_path / "a.json"))
    assert "cannot save " in message
    assert os.listdir(tmp_path) == []
