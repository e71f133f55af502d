"""Thresholds from the JSON file of a report: the row of the rate, of this network and one set."""

import hashlib
import json

import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.eval.report_thresholds import is_report, reported_threshold


def result(content=b"parameters", **changes):
    rows = [
        {"target": target, "squared_distance": distance} for target, distance in ((0.01, 1.5), (1e-3, 1.25), (0, 1))
    ]
    digest = hashlib.sha256(content).hexdigest()
    return {"set": "lfw", "impostor": 3000, "parameters_sha256": digest, "thresholds": rows, **changes}


def write(folder, *results, **changes):
    (folder / "net-0001.params").write_bytes(b"parameters")
    about = {"format": "insightface-mx verification 1", "results": list(results), **changes}
    (folder / "r.json").write_text(json.dumps(about))
    return str(folder / "r.json"), f"{folder}/net,1"


@pytest.mark.parametrize(("far", "distance"), [(0.01, 1.5), (0.001, 1.25), (1e-3 * (1 + 1e-12), 1.25), (0, 1)])
def test_the_row_of_the_rate(tmp_path, far, distance):
    path, model = write(tmp_path, result(b"other"), result())
    assert is_report(path)
    assert reported_threshold(path, far, model) == distance


@pytest.mark.parametrize(
    ("results", "changes", "far", "words"),
    [
        ([result()], {}, 0.002, "has no threshold for --far 0.002, only for 0.01, 0.001, 0"),
        ([result(impostor=300)], {}, 1e-3, "has 300 pairs of different identities: --far must be at least 1/300"),
        ([result(b"other")], {}, 1e-3, "is a report of other networks: make one of .*net-0001.params"),
        ([result(), result(set="cfp")], {}, 1e-3, "has thresholds of several sets .lfw, cfp.: .* with --target"),
        ([result()], {"format": "mine"}, 1e-3, "is not what insightface-verify --json writes"),
        ([], {}, 1e-3, "is not what insightface-verify --json writes"),
        ([result(thresholds=[{"target": 0.1, "squared_distance": "1"}])], {}, 0.1, "is not what insightface-verify"),
        ([result(thresholds=[{"target": 0.1, "squared_distance": 1e9}])], {}, 0.1, "is not what insightface-verify"),
        ([result(impostor="3")], {}, 0.1, "is not what insightface-verify"),
    ],
)
def test_reports_that_give_no_threshold(tmp_path, results, changes, far, words):
    path, model = write(tmp_path, *results, **changes)
    with pytest.raises(UserError, match=words):
        reported_threshold(path, far, model)


def test_files_that_are_no_reports(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\3\4")
    (tmp_path / "b.json").write_text("{broken")
    assert not is_report(str(tmp_path / "a.npz")) and not is_report(str(tmp_path / "none"))
    assert not is_report(str(tmp_path))
    with pytest.raises(UserError, match=r"b\.json cannot be read: .*; see --calibration"):
        reported_threshold(str(tmp_path / "b.json"), 0.1, "m,1")
