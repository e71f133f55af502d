"""What reports are read back from: the points of a run, the thresholds of verify, names of pairs; and AgeDB's .mat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterator

import numpy as np
from hostile.mutations import LONG, file_cases, with_file
from hostile.rule import EITHER, ERROR, VALUE, Case, Group

from insightface_mx.base.errors import UserError
from insightface_mx.eval.curves import fmr_table
from insightface_mx.eval.report_thresholds import is_report, reported_threshold
from insightface_mx.eval.summary import FORMAT, plain
from insightface_mx.formats.mat_file import read_splits
from insightface_mx.photos.pair_table import find_table
from insightface_mx.training.report_page import read_points

RUN, VERIFY, MODEL, MAT, TABLE = "m-report.json", "verify.json", "net.onnx", "splits.mat", "lfw-pairs.csv"
HUGE = "1" + "0" * 400  # a whole number that no float holds
DEEP = "[" * 100_000
NUMBERS = {"a huge number": HUGE, "more digits than int takes": LONG, "infinity": "Infinity", "NaN": "NaN",
           "a text": '"a"', "null": "null", "a list": "[1]", "true": "true", "negative": "-1"}  # fmt: skip


def prepare_run(folder: Path) -> None:
    points = [{"step": 2.0 * step, "accuracy/lfw": 0.5, "lr": 0.1} for step in range(1, 6)]
    (folder / RUN).write_text(json.dumps({"points": points}))


def run_cases(good: Path) -> Iterator[Case]:
    yield from file_cases(good, RUN, flips=30, cuts=8, words=10, expect_foreign=VALUE)
    text = (good / RUN).read_text()
    for kind, number in NUMBERS.items():
        for old in ("2.0", "0.5"):
            content = text.replace(old, number, 1).encode()
            yield Case(f"{kind} for {old}", with_file(good, RUN, content), VALUE)
    for kind, content in {
        "deep": DEEP,
        "no points": "{}",
        "a point of nothing": '{"points": [{}]}',
        "points of lists": '{"points": [[1, 2]]}',
        "points is a number": '{"points": 7}',
        "a list": "[]",
        "step is missing": '{"points": [{"lr": 0.1}]}',
    }.items():
        yield Case(kind, with_file(good, RUN, content.encode()), VALUE)


def read_run(folder: Path) -> None:
    """A run begins its curves again where the points cannot be read: never an error."""
    for point in read_points(str(folder / RUN)):
        assert all(np.isfinite(value) for value in point.values()) and "step" in point


def prepare_thresholds(folder: Path) -> None:
    import hashlib

    (folder / MODEL).write_bytes(b"a network")
    scores = np.random.RandomState(0).uniform(0, 1, (2, 2000))
    result = {
        "set": "lfw",
        "parameters_sha256": hashlib.sha256(b"a network").hexdigest(),
        "impostor": 2000,
        "thresholds": plain(fmr_table(*scores)),
    }
    (folder / VERIFY).write_text(json.dumps({"format": FORMAT, "results": [result]}, indent=1))


def threshold_cases(good: Path) -> Iterator[Case]:
    yield from file_cases(good, VERIFY, flips=40, cuts=8, words=12)
    content = json.loads((good / VERIFY).read_text())

    def changed(**values: Any) -> bytes:
        return json.dumps({**content, "results": [{**content["results"][0], **values}]}).encode()

    text = (good / VERIFY).read_text()
    for kind, number in NUMBERS.items():
        expect = EITHER if kind == "true" else ERROR
        yield Case(f"impostor: {kind}", with_file(good, VERIFY, text.replace("2000", number, 1).encode()), EITHER)
        spoiled = changed(thresholds=[{"target": 0.01, "squared_distance": "X"}]).replace(b'"X"', number.encode())
        yield Case(f"a threshold: {kind}", with_file(good, VERIFY, spoiled), expect)
    for kind, values in {
        "no thresholds": {"thresholds": []},
        "thresholds of text": {"thresholds": "abc"},
        "a threshold of 5": {"thresholds": [{"target": 0.01, "squared_distance": 5}]},
        "another network": {"parameters_sha256": "0" * 64},
        "a set of control characters": {"set": "\x1b[31m" * 100},
        "a set of lists": {"set": [[]]},
        "no pairs": {"impostor": 0},
    }.items():
        yield Case(kind, with_file(good, VERIFY, changed(**values)))
    yield Case("deep", with_file(good, VERIFY, DEEP.encode()), ERROR)
    yield Case(
        "two results",
        with_file(good, VERIFY, json.dumps({**content, "results": content["results"] * 2}).encode()),
        ERROR,
    )


def read_thresholds(folder: Path) -> None:
    """The threshold is that of unit embeddings."""
    path = str(folder / VERIFY)
    if not is_report(path):
        raise UserError("it is no report")
    assert 0 <= reported_threshold(path, 0.01, str(folder / MODEL)) <= 4 + 1e-6


def prepare_table(folder: Path) -> None:
    rows = [f"a{i}/1.jpg,b{i}/2.jpg,{i % 2},a{i},{'a' if i % 2 else 'b'}{i},g" for i in range(8)]
    (folder / TABLE).write_text("one,other,same,identity_one,identity_other,group\n" + "\n".join(rows) + "\n")


def table_cases(good: Path) -> Iterator[Case]:
    yield from file_cases(good, TABLE, flips=30, cuts=8, words=10, expect_foreign=VALUE)
    text = (good / TABLE).read_text()
    for kind, content in {
        "many rows": text * 5000,
        "an open quote": text.replace("a3", '"a3', 1),
        "a long field": text.replace("a3", LONG * 100, 1),
        "many fields": text.replace("a3", "," * 10_000, 1),
        "control characters": text.replace("a3", "\x1b[31m\x07", 1),
    }.items():
        yield Case(kind, with_file(good, TABLE, content.encode()), VALUE)


def read_table(folder: Path) -> None:
    """Names that cannot be had are left out, with a reason: never an error."""
    found, reason = find_table(str(folder / "lfw.bin"), [i % 2 == 1 for i in range(8)])
    assert (found is not None and len(found.names) == 8) or reason


def prepare_mat(folder: Path) -> None:
    from scipy.io import savemat

    splits = np.empty((1, 2), object)
    for split in range(2):
        names = np.array([[f"{split}_a{row}.jpg", f"{split}_b{row}.jpg"] for row in range(6)], object)
        splits[0, split] = {"pairs": names, "labels": np.where(np.arange(6) % 2, 1, -1)[:, None]}
    savemat(folder / MAT, {"splits": splits})
    savemat(folder / "packed.mat", {"splits": splits}, do_compression=True)


def mat_cases(good: Path) -> Iterator[Case]:
    yield from file_cases(good, MAT, flips=80, cuts=20, words=60)
    yield from file_cases(good, "packed.mat", flips=60, cuts=10, words=20, odd=False)


def read_mat(folder: Path) -> None:
    """Every pair has two names."""
    for name in (MAT, "packed.mat"):
        assert all(one and other for one, other, _ in read_splits(str(folder / name)))


GROUPS = [
    Group("report of a run", prepare_run, run_cases, read_run),
    Group("thresholds of a report", prepare_thresholds, threshold_cases, read_thresholds),
    Group("table of pairs", prepare_table, table_cases, read_table),
    Group("mat files", prepare_mat, mat_cases, read_mat),
]
