"""The page PREFIX-report.html of a run: its points, resumed, on a full disk, and in a browser."""

import html
import json
import math
import re

import browser
import harness
import pytest
from harness import no_file_over
from small_training import scores, small_network

from insightface_mx import train_softmax
from insightface_mx.training import report_page
from insightface_mx.training.report_page import ReportPage, read_points, ticks

SMALL = "--emb-size 8 --image-size 32,32 --per-batch-size 5 --lr 0.02 --ckpt 2 --seed 1 --verbose 2".split()


def train(data_dir, prefix, *more, test):
    argv = [*SMALL, "--data-dir", data_dir, "--prefix", prefix, *more]
    harness.run(train_softmax, *argv, network=small_network, test=test)


def points(prefix):
    return json.loads(prefix.with_name(f"{prefix.name}-report.json").read_text())["points"]


def page_of(prefix):
    return prefix.with_name(f"{prefix.name}-report.html").read_text()


def shown(prefix):
    return dict(re.findall(r'<td data-label="now">(.*?)</td><td data-label="value">(.*?)</td>', page_of(prefix)))


def test_a_run_writes_its_page_and_a_resumed_run_continues_it(data_dir, tmp_path, capsys):
    train(data_dir, tmp_path / "m", "--max-steps", "4", test=scores(0.5, 0.75))
    first = points(tmp_path / "m")
    assert [(point["step"], point["accuracy/toy"], point["lr"]) for point in first] == [(2, 0.5, 0.02), (4, 0.75, 0.02)]
    norms = [float(value) for value in re.findall(r"Train-XNorm: ([\d.]+)", capsys.readouterr().out)]
    assert [point["Train-XNorm"] for point in first] == pytest.approx(norms, abs=1e-6)
    assert all(80 < point["Train-Angle"] < 100 and point["images/s"] > 0 and point["loss"] > 0 for point in first)
    assert shown(tmp_path / "m")["batch"] == "4 of 4"
    assert shown(tmp_path / "m")["accuracy toy"] == "0.75"
    assert "http-equiv" not in page_of(tmp_path / "m")  # the run has ended
    train(data_dir, tmp_path / "m", "--max-steps", "6", "--resume", test=scores(0.25))
    assert points(tmp_path / "m")[:2] == first
    assert [point["accuracy/toy"] for point in points(tmp_path / "m")] == [0.5, 0.75, 0.25]
    (line,) = re.findall(r'<polyline points="([^"]+)"', page_of(tmp_path / "m"))[:1]
    assert len(line.split()) == 3
    train(data_dir, tmp_path / "m", "--max-steps", "2", test=scores(1.0))
    assert [point["accuracy/toy"] for point in points(tmp_path / "m")] == [1.0]  # a new run under the prefix


def clocked(prefix, step=0, total=100):
    """A page of batches of 8 images that take a second; tests take none."""
    now = [100.0]
    page = ReportPage(str(prefix), 8, step, total, clock=lambda: now[0])

    def tested(at, **metrics):
        now[0] = 100.0 + at - step
        page.trained()
        page.tested(at, {"loss": 9.0}, 0.1, metrics)

    return page, tested


def test_points_are_means_and_rates_of_the_batches_since_the_last_test(tmp_path):
    page, tested = clocked(tmp_path / "m")
    page.line({"loss": 4.0})
    page.line({"loss": 2.0})
    tested(20, **{"accuracy/lfw": 0.5})
    tested(40, **{"accuracy/lfw": 0.75})
    first, second = points(tmp_path / "m")
    assert first == {"step": 20, "loss": 3, "lr": 0.1, "accuracy/lfw": 0.5, "images/s": 8}
    assert second["loss"] == 9  # there was no line
    assert shown(tmp_path / "m")["time left"] == "00:01:00"
    assert '<meta http-equiv="refresh" content="60">' in page_of(tmp_path / "m")
    page.close()
    assert "http-equiv" not in page_of(tmp_path / "m") and "time left" not in shown(tmp_path / "m")


def test_points_after_the_saved_state_are_done_again(tmp_path):
    _, tested = clocked(tmp_path / "m")
    for step in (10, 20, 30):
        tested(step)
    _, tested = clocked(tmp_path / "m", step=20)
    tested(40)
    assert [point["step"] for point in points(tmp_path / "m")] == [10, 20, 40]
    tested(30)  # back to a saved state, --on-nan rewind
    assert [point["step"] for point in points(tmp_path / "m")] == [10, 20, 30]


def test_nan_is_left_out(tmp_path):
    _, tested = clocked(tmp_path / "m")
    tested(10, **{"Train-XNorm": math.nan})
    tested(20, **{"Train-XNorm": math.inf})
    assert all("Train-XNorm" not in point for point in points(tmp_path / "m"))
    assert "NaN" not in page_of(tmp_path / "m")


@pytest.mark.parametrize(
    "content", ["", "[]", '{"points": 3}', '{"points": [{"loss": 1}]}', '{"points": [{"step": "a"}]}', "{" * 9999]
)
def test_a_damaged_file_of_points_begins_again(tmp_path, caplog, content):
    (tmp_path / "m-report.json").write_text(content)
    assert read_points(str(tmp_path / "m-report.json")) == []
    assert "the curves of the report begin again" in caplog.text
    _, tested = clocked(tmp_path / "m", step=20)
    tested(40)
    assert [point["step"] for point in points(tmp_path / "m")] == [40]


def test_a_full_disk_is_one_warning(tmp_path, caplog):
    page, tested = clocked(tmp_path / "m")
    tested(10)
    before = page_of(tmp_path / "m")
    with no_file_over(50):
        tested(20)
        tested(30)
        page.close()
    assert len([line for line in caplog.messages if "m-report.html ends here: cannot save" in line]) == 1
    assert page_of(tmp_path / "m") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m-report.html", "m-report.json"]


def test_long_runs_keep_every_second_point_of_their_older_half(tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "MAX_POINTS", 6)
    _, tested = clocked(tmp_path / "m")
    for step in range(1, 8):
        tested(step)
    assert [point["step"] for point in points(tmp_path / "m")] == [1, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 50, 100]),
        (0.91, 0.99, [0.9, 0.92, 0.94, 0.96, 0.98, 1.0]),
        (3, 3, [2.6, 2.8, 3.0, 3.2, 3.4]),
        (0, 0, [-1, -0.5, 0, 0.5, 1]),
        (2000, 180000, [0, 50000, 100000, 150000, 200000]),
    ],
)
def test_ticks_are_round_and_around_the_values(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


@browser.BROWSER_ONLY
@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", browser.WIDTHS)
def test_the_page_in_a_browser(tmp_path, width, dark):
    page, tested = clocked(tmp_path / "a<b>", total=200000)
    for step in range(2000, 180001, 2000):
        metrics = {"Train-XNorm": 11 + step / 1e5, "Train-Angle": 90 - step / 4000}
        tested(step, **metrics, **{f"accuracy/{name}": 1 - 100 / step for name in ("lfw", "cfp_fp", "agedb_30")})
    path = tmp_path / "a<b>-report.html"
    seen = browser.look(path, width, dark)
    assert seen["scroll"] <= width
    assert (seen["over"], seen["wide"], seen["outside"], seen["nameless"]) == ([], [], [], 0)
    assert (seen["back"] < 0.05) == dark
    assert seen["contrast"] > 4.5
    page.close()
    dom = html.unescape(browser.dom_of(path))
    assert "newest: lfw 0.999444, cfp_fp 0.999444, agedb_30 0.999444" in dom
    assert "180000 of 200000" in dom
