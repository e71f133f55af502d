"""The report page of verify, its JSON and CSV: numbers, faces, settings, and how browsers show them."""

import base64
import csv
import hashlib
import importlib.util
import json
import re

import browser
import cv2
import numpy as np
import pytest
from harness import error_of, no_file_over, run
from toy_verification import FOLDS, ISSAME, PAIRS, expected_embeddings, options, photos, write_folder

from insightface_mx.base.errors import UserError
from insightface_mx.embedding.vectors import unit_with_mirror
from insightface_mx.eval import curves, report, roc, summary, verification
from insightface_mx.eval.intervals import accuracy_interval, tar_intervals
from insightface_mx.formats.verification_set import write_bin

IDENTITIES = [(f"p{pair}", f"p{pair}" if same else f"q{pair}") for pair, same in enumerate(ISSAME)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("report")
    write_folder(path)
    return path


@pytest.fixture(scope="module")
def written(folder):
    """page.html, page.json and page.csv of net,1 and net,2; toy.csv names the identities, as of --hold-out."""
    rows = [f"set/{one}/1.jpg,set/{other}/<2>.jpg,{int(same)}" for (one, other), same in zip(IDENTITIES, ISSAME)]
    (folder / "toy.csv").write_text("\n".join(rows) + "\n")
    files = [f"--{kind}={folder / 'page'}.{kind.replace('report', 'html')}" for kind in ("report", "json", "csv")]
    run(verification, *options(folder, *files, "--also", folder / "net,2"))
    (folder / "toy.csv").unlink()
    return folder


def pairs_of(seed):
    distances = roc.pair_distances(unit_with_mirror(*expected_embeddings(seed)))
    return distances, 1 - distances / 2


@pytest.fixture(scope="module")
def results(written):
    return json.loads((written / "page.json").read_text())["results"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_numbers_in_the_json_file_are_those_of_the_library(results, seed):
    flags, (distances, cosine) = np.array(ISSAME), pairs_of(seed)
    result = results[seed - 1]
    people = np.array(IDENTITIES)
    thresholds = roc.held_out_thresholds(distances, flags, FOLDS)
    correct = (distances < thresholds) == flags
    tar = curves.tar_at_far(cosine[flags], cosine[~flags], summary.FARS)
    assert (result["set"], result["genuine"], result["impostor"], result["folds"]) == ("toy", 6, 6, FOLDS)
    assert result["accuracy"] == pytest.approx(correct.reshape(FOLDS, -1).mean())
    assert result["std"] == pytest.approx(correct.reshape(FOLDS, -1).mean(axis=1).std())
    assert result["accuracy_interval"] == summary.plain(accuracy_interval(correct, people))
    assert [row["tar"] for row in result["tar_at_far"]] == tar.tar.tolist()
    assert [row["cosine"] for row in result["tar_at_far"]] == tar.threshold.tolist()
    expected = [summary.plain(one) for one in tar_intervals(cosine, flags, summary.FARS, people)]
    assert [row["interval"] for row in result["tar_at_far"]] == expected
    assert expected[0]["method"] == "people"
    assert result["eer"] == curves.eer(cosine[flags], cosine[~flags]).rate
    assert result["auc"] == curves.auc(cosine[flags], cosine[~flags])
    assert result["thresholds"] == [summary.plain(row) for row in curves.fmr_table(cosine[flags], cosine[~flags])]
    spread = np.sqrt((cosine[flags].var() + cosine[~flags].var()) / 2)
    assert result["decidability"] == pytest.approx(abs(cosine[flags].mean() - cosine[~flags].mean()) / spread)


@pytest.mark.slow
def test_the_json_file_says_what_was_run(written, results):
    assert [result["model"] for result in results] == [str(written / "net,1"), str(written / "net,2")]
    digest = hashlib.sha256((written / "net-0001.params").read_bytes()).hexdigest()
    assert results[0]["parameters_sha256"] == digest
    assert (results[0]["backend"], results[0]["image_size"]) == ("mxnet", [16, 16])
    about = json.loads((written / "page.json").read_text())
    assert about["format"] == "insightface-mx verification 1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", about["date"])
    assert {"insightface-mx", "mxnet", "numpy", "python"} <= set(about["versions"])


def test_the_csv_file_holds_every_score(written):
    with open(written / "page.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * PAIRS
    distances, cosine = pairs_of(2)
    assert [float(row["cosine"]) for row in rows[PAIRS:]] == cosine.tolist()
    assert [float(row["squared_distance"]) for row in rows[PAIRS:]] == distances.tolist()
    assert [row["same"] for row in rows[:PAIRS]] == [str(int(same)) for same in ISSAME]
    assert (rows[3]["pair"], rows[3]["one"], rows[3]["other"]) == ("3", "set/p3/1.jpg", "set/q3/<2>.jpg")


def test_the_page_shows_the_numbers(written, results):
    page = (written / "page.html").read_text()
    row = results[1]["tar_at_far"][0]
    low, high = row["interval"]["low"], row["interval"]["high"]
    shown = f"{row['tar']:.5f} ({row['accepted']} of 6; 0 false accepts), [{low:.5f}, {high:.5f}]†"
    assert browser.cells(page, "TAR at FAR 0.001")[1] == shown
    assert browser.cells(page, "EER") == [f"{result['eer']:.5f}" for result in results]
    assert browser.cells(page, "model")[:2] == ["net,1", "net,2"]
    first = results[0]["thresholds"][0]
    assert browser.cells(page, "cosine above")[0] == f"{first['cosine']:.5f}"
    assert browser.cells(page, "squared distance below")[0] == f"{first['squared_distance']:.5f}"
    assert "Intervals on toy: identities drawn with replacement" in page
    assert results[0]["parameters_sha256"] in browser.cells(page, "value")


def test_the_page_shows_the_worst_pairs(written, results):
    """The faces are those of the set, in PNG, worst first."""
    page = (written / "page.html").read_text()
    distances, _ = pairs_of(1)
    thresholds = roc.held_out_thresholds(distances, np.array(ISSAME), FOLDS)
    worst_first = np.argsort(-np.abs(distances - thresholds))
    wrong = [pair for pair in worst_first if (distances < thresholds)[pair] != ISSAME[pair]]
    section = page[page.index("net,1 on toy</h3>") : page.index("net,2 on toy</h3>")]
    expected = [pair for pair in wrong if not ISSAME[pair]] + [pair for pair in wrong if ISSAME[pair]]
    assert [int(pair) for pair in re.findall(r"pair (\d+): cosine", section)] == expected
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)"', section)
    first = cv2.imdecode(np.frombuffer(base64.b64decode(found[0][0]), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(first[:, :, ::-1], photos()[2 * expected[0]])
    assert found[1][1] == f"second face of pair {expected[0]}: set/{IDENTITIES[expected[0]][1]}/&lt;2&gt;.jpg"


def test_the_page_needs_nothing_else(written):
    page = (written / "page.html").read_text()
    assert browser.needs_nothing_else(page)
    assert page.count("<svg") - page.count('class="key"') * 2 == 4


@browser.BROWSER_ONLY
@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", browser.WIDTHS)
def test_the_page_in_a_browser(written, width, dark):
    browser.refuse_faults(written / "page.html", width, dark)


@browser.BROWSER_ONLY
@pytest.mark.slow
def test_a_browser_sees_what_is_wrong(tmp_path):
    bad = """<body style="margin:0;background:#fff;color:#777"><p style="width:2000px">a</p>
    <p style="position:absolute;top:0;left:0">b</p><img src="none.png"></body>"""
    (tmp_path / "bad.html").write_text(bad)
    seen = browser.look(tmp_path / "bad.html", 400)
    assert seen["scroll"] == 2000
    assert seen["over"] and seen["wide"] and seen["nameless"] == seen["broken"] == 1
    assert seen["contrast"] < 4.5


def test_without_names_the_intervals_are_wilsons(folder, tmp_path):
    run(verification, *options(folder, "--json", tmp_path / "a.json"))
    (result,) = json.loads((tmp_path / "a.json").read_text())["results"]
    assert result["accuracy_interval"]["method"] == "pairs"
    assert "no " + str(folder / "toy-pairs.csv") in result["intervals"]


@pytest.mark.slow
def test_groups_of_a_table_have_rows_of_their_own(folder, tmp_path):
    (tmp_path / "toy.bin").write_bytes((folder / "toy.bin").read_bytes())
    title = "one,other,same,identity_one,identity_other,group\n"
    groups = ["north", "south"]
    rows = [f"a,b,{int(same)},{i},{i if same else -i},{groups[i // 6]}" for i, same in enumerate(ISSAME, 1 - 1)]
    (tmp_path / "toy-pairs.csv").write_text(title + "\n".join(rows).replace("0,0,0", "0,9,0") + "\n")
    settings = options(tmp_path, "--json", tmp_path / "a.json", "--report", tmp_path / "a.html")
    settings[settings.index("--model") + 1] = folder / "net,1"
    run(verification, *settings)
    (result,) = json.loads((tmp_path / "a.json").read_text())["results"]
    distances, _ = pairs_of(1)
    flags = np.array(ISSAME)
    north, south = result["groups"]["rows"]
    assert (north["name"], north["pairs"], south["name"], south["pairs"]) == ("north", 6, "south", 6)
    means = [
        float(roc.fold_accuracies(distances[half], flags[half], FOLDS).mean()) for half in (slice(6), slice(6, 12))
    ]
    assert [north["accuracy"], south["accuracy"]] == means
    accepted = distances[:6] < result["threshold"]
    assert (north["fmr"], north["fnmr"]) == (accepted[~flags[:6]].mean(), pytest.approx(1 - accepted[flags[:6]].mean()))
    assert result["groups"]["mean"] == pytest.approx(np.mean(means))
    assert browser.cells((tmp_path / "a.html").read_text(), "group") == groups


def test_a_set_of_one_kind_makes_no_report(folder, tmp_path, capsys):
    encoded = [cv2.imencode(".png", photo)[1] for photo in photos()]
    write_bin(str(tmp_path / "toy.bin"), encoded, [True] * PAIRS)
    settings = options(tmp_path, "--json", tmp_path / "a.json")
    settings[settings.index("--model") + 1] = folder / "net,1"
    message = error_of(capsys, verification, *settings)
    assert f"all 12 pairs of {tmp_path / 'toy.bin'} show one identity: a report needs pairs of both kinds" in message
    assert not (tmp_path / "a.json").exists()


def test_nan_embeddings_name_the_pair():
    embeddings = np.ones((4, 2)) / np.sqrt(2)
    embeddings[3] = np.nan
    with pytest.raises(UserError, match="embedding of pair 1 is NaN"):
        summary.score_pairs(embeddings, [True, False])


def test_outputs_replace_their_own_kind_only(folder, tmp_path, capsys):
    (tmp_path / "a.json").write_text("notes of mine")
    message = error_of(capsys, verification, *options(folder, "--json", tmp_path / "a.json"))
    assert "a.json is there already and is no JSON file" in message
    assert (tmp_path / "a.json").read_text() == "notes of mine"
    for _ in range(2):
        run(verification, *options(folder, "--json", tmp_path / "a.json", "--force"))


def test_a_full_disk_leaves_the_old_page(folder, tmp_path, capsys):
    (tmp_path / "a.csv").write_text("set,model\n")
    with no_file_over(100):
        message = error_of(capsys, verification, *options(folder, "--csv", tmp_path / "a.csv"))
    assert "cannot save" in message
    assert (tmp_path / "a.csv").read_text() == "set,model\n"


def test_without_matplotlib_nothing_runs(folder, tmp_path, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "matplotlib" else find(name))
    message = error_of(capsys, verification, *options(folder, "--report", tmp_path / "a.html"))
    assert "matplotlib must be installed for this: pip install '.[plot]'" in message
    assert not (tmp_path / "a.html").exists()
    run(verification, *options(folder, "--json", tmp_path / "a.json"))


def test_worst_pairs_are_the_farthest_from_their_threshold():
    distances = np.array([0.1, 3.0, 0.5, 2.0, 1.9, 1.0])
    flags = np.array([False, True, False, True, False, True])
    pairs = summary.Pairs(distances, flags, np.full(6, 1.5))
    images = np.zeros((12, 3, 4, 4), np.uint8)
    matches, non_matches = report.worst_pairs(pairs, images, None)
    assert [wrong.lines for wrong in matches] == [
        ["pair 0: cosine 0.9500, threshold 0.2500"],
        ["pair 2: cosine 0.7500, threshold 0.2500"],
    ]
    assert [wrong.lines[0].split(":")[0] for wrong in non_matches] == ["pair 1", "pair 3"]
