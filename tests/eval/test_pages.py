"""The pages of ijb and identify: figures read back, faces, settings, and how browsers show them."""

import base64
import hashlib
import json
import re

import browser
import cv2
import numpy as np
import pytest
import small_network
import template_files
from harness import error_of, no_file_over, run

from insightface_mx.eval.searches import identify
from insightface_mx.eval.template_sets import ijb
from insightface_mx.eval.template_sets.pair_scores import FARS

pytestmark = pytest.mark.slow

own_cache = pytest.fixture(autouse=True, scope="module")(small_network.own_cache)


def face(identity, number):
    own = np.random.RandomState(identity).randint(60, 196, (4, 4, 3))
    change = np.random.RandomState(1000 + 50 * identity + number).randint(-60, 60, (4, 4, 3))
    return cv2.resize((own + change).astype(np.uint8), (112, 112), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A network, photos in gallery/, probes/ and others/, an IJB folder, and the pages with their JSON files."""
    folder = tmp_path_factory.mktemp("pages")
    small_network.save(folder / "net")
    for name, identities, numbers in (("gallery", range(6), 2), ("probes", range(46), 3), ("others", range(90, 96), 1)):
        for identity in identities:
            (folder / name / f"id{identity}").mkdir(parents=True)
            for number in range(numbers):
                image = face(identity, number + 10 * (name == "probes"))
                cv2.imwrite(str(folder / name / f"id{identity}" / f"{number}.png"), image)
    template_files.write_folder(folder / "IJBC", template_files.make_images())
    sets = {name: f"--{name}={folder / name}" for name in ("gallery", "probes")}
    others = f"--distractors={folder / 'others'}"
    run(identify, *sets.values(), others, "--aligned", *options(folder, "search"), "--sheet", folder / "errors.png")
    run(identify, sets["probes"], others, "--aligned", *options(folder, "mates"))
    run(ijb, folder / "IJBC", "--all-settings", "--as-published", *options(folder, "ijb"))
    return folder


def options(folder, name):
    network = ["--model", f"{folder}/net,1", "--backend", "mxnet", "--features", f"{folder}/features"]
    return [*network, "--report", folder / f"{name}.html", "--json", folder / f"{name}.json"]


def read(folder, name):
    return (folder / f"{name}.html").read_text(), json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize(("name", "figures"), [("search", 5), ("mates", 5)])
def test_the_page_of_a_search_shows_the_rates(work, name, figures):
    page, found = read(work, name)
    rates = found["rates"]
    assert browser.cells(page, "rate") == [f"{rate['metric']} {rate['target']:g}" for rate in rates]
    assert browser.cells(page, "value")[: len(rates)] == [f"{rate['value']:.5f}" for rate in rates]
    marks = ["†" if rate["few_errors"] else "" for rate in rates]
    ends = [f"[{rate['low']:.5f}, {rate['high']:.5f}]{mark}" for rate, mark in zip(rates, marks)]
    assert browser.cells(page, "95 % interval") == ends
    assert browser.cells(page, "cosine above") == [
        "" if r["metric"] == "rank" else f"{r['threshold']:.5f}" for r in rates
    ]
    assert page.count('<svg role="img"') == figures
    assert "Intervals: identities drawn with replacement, 1000 times" in page
    digest = hashlib.sha256((work / "net-0001.params").read_bytes()).hexdigest()
    settings = dict(zip(browser.cells(page, "setting"), browser.cells(page, "value")[len(rates) :]))
    assert (settings["parameters sha256"], settings["backend"], settings["image size"]) == (digest, "mxnet", "112,112")
    assert settings["mirror"] == "on" and "numpy" in settings["versions"]
    assert found["parameters_sha256"] == digest and found["backend"] == "mxnet"


def test_the_page_of_a_search_shows_its_errors(work):
    """Probe, first candidate and mate, worst first, as on the sheet."""
    page, _ = read(work, "search")
    missed = page[page.index("Missed mates: the worst") : page.index("False alarms: the worst")]
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)"', missed)
    assert [text.split(":")[0] for _, text in pictures[:3]] == ["probe", "first candidate", "mate"]
    drawn = [cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR) for data, _ in pictures]
    np.testing.assert_array_equal(np.hstack(drawn[:3]), cv2.imread(str(work / "errors.png"))[:112, : 3 * 112])
    names = [text.split(": ")[1] for _, text in pictures[:3]]
    np.testing.assert_array_equal(drawn[0], cv2.imread(str(work / "probes" / names[0])))
    assert names[0].split("/")[0] == names[2].split("/")[0] != names[1].split("/")[0]
    alarms = page[page.index("False alarms: the worst") :]
    assert len(re.findall("no mate: ", alarms)) == 1 and len(re.findall("<img ", alarms)) == 2


def test_the_page_of_templates_shows_all_settings(work):
    page, found = read(work, "ijb")
    results = found["results"]
    assert len(results) == len(browser.cells(page, "1:1, setting")) == 8
    for index, far in enumerate(FARS):
        rows = [result["1:1"]["tar_at_far"][index] for result in results]
        expected = [
            f"{row['tar']:.5f} ({row['false_accepts']}), [{row['low']:.5f}, {row['high']:.5f}]"
            f"{'†' if row['few_errors'] else ''}; as published {row['published_tar']:.5f} ({row['published_far']:.2e})"
            for row in rows
        ]
        assert browser.cells(page, f"TAR at FAR {far:g}") == expected
    assert browser.cells(page, "gallery") == ["G1", "G2", "all"] * 8
    first = results[0]["1:N"][0]
    ends = first["rank_intervals"]["1"]
    shown = f"{first['rank_rates']['1']:.5f}, [{ends['low']:.5f}, {ends['high']:.5f}]†"
    assert browser.cells(page, "rank 1")[0] == shown
    assert browser.cells(page, "cosine above")[0] == f"{results[0]['1:1']['thresholds'][0]['cosine']:.5f}"
    assert page.count('<svg role="img"') == 4 + 2 * 5
    assert "norm kept, not weighted, no mirror image (N1D0F0; ijb_evals.py: N0D0F0)" in page


def test_the_page_of_templates_shows_the_worst_pairs(work):
    page, found = read(work, "ijb")
    images = template_files.make_images()
    subject = template_files.subjects_of(images)
    start = page.index("<h4>False matches: the worst")
    section = page[start : page.index("</div>", start)]
    pairs = re.findall(r"template (\d+), template (\d+): cosine ([\d.]+)", section)
    assert pairs and all(subject[int(one)] != subject[int(other)] for one, other, _ in pairs)
    scores = [float(score) for _, _, score in pairs]
    assert scores == sorted(scores, reverse=True)
    row = next(row for row in found["results"][0]["1:1"]["tar_at_far"] if row["false_accepts"])
    assert len(pairs) == min(8, row["false_accepts"]) and min(scores) > row["threshold"] - 1e-4
    data, text = re.search(r'base64,([^"]+)" alt="template (\d+): ([^"]+)"', section).group(1, 3)
    (image,) = [image for image in images if image.name == text]
    drawn = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(drawn[:, :, ::-1].transpose(2, 0, 1), template_files.aligned(image))


@pytest.mark.parametrize("name", ["search", "mates", "ijb"])
def test_a_page_needs_nothing_else(work, name):
    assert browser.needs_nothing_else(read(work, name)[0])


@browser.BROWSER_ONLY
@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", browser.WIDTHS)
@pytest.mark.parametrize("name", ["search", "mates", "ijb"])
def test_the_pages_in_a_browser(work, name, width, dark):
    browser.refuse_faults(work / f"{name}.html", width, dark)


@browser.BROWSER_ONLY
@pytest.mark.slow
def test_a_browser_shows_the_figures_of_the_json_file(work):
    found = json.loads((work / "search.json").read_text())
    dom = browser.dom_of(work / "search.html")
    assert browser.cells(dom, "value")[: len(found["rates"])] == [f"{rate['value']:.5f}" for rate in found["rates"]]


@pytest.mark.parametrize("kind", ["report", "json", "csv"])
@pytest.mark.parametrize("command", [identify, ijb])
def test_outputs_replace_their_own_kind_only(work, tmp_path, capsys, command, kind):
    source = [work / "IJBC"] if command is ijb else [f"--probes={work / 'probes'}", f"--gallery={work / 'gallery'}"]
    (tmp_path / "mine").write_text("notes of mine")
    argv = [*source, "--model", f"{work}/net,1", "--features", work / "features", f"--{kind}", tmp_path / "mine"]
    message = error_of(capsys, command, *argv)
    assert "mine is there already and is no " in message and "--force" in message
    assert (tmp_path / "mine").read_text() == "notes of mine"


def test_a_full_disk_leaves_the_old_page(work, tmp_path, capsys):
    (tmp_path / "a.html").write_text("<!DOCTYPE html>old")
    argv = [*options(work, "search"), "--report", tmp_path / "a.html", "--json", tmp_path / "a.json"]
    with no_file_over(3000):
        message = error_of(
            capsys, identify, f"--probes={work / 'probes'}", f"--gallery={work / 'gallery'}", "--aligned", *argv
        )
    assert "cannot save " in message
    assert (tmp_path / "a.html").read_text() == "<!DOCTYPE html>old"
