"""Saved states from strangers: a manifest with a right hash and wrong content is a damaged state."""

import json

import pytest

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.files import manifest
from insightface_mx.training import state

TESTS = {"count": 2, "best": [0.5, 0.25], "best_number": 1, "saved": [1, 2], "saved_step": 4}
METADATA = {
    "command": "train_softmax",
    "options": {"lr": 0.1},
    "seed": 7,
    "learning_rate": 0.1,
    "classes": 4,
    **dict.fromkeys(("batch_size", "images", "bytes", "contexts", "step", "epoch", "batch", "rewinds", "updates"), 4),
    "tests": TESTS,
}


def saved(tmp_path, metadata):
    prefix = str(tmp_path / "m")
    state.save(prefix, metadata, {"arg:a": mx.nd.ones(3)}, None)
    return prefix


def test_what_is_saved_comes_back(tmp_path):
    number, metadata, arrays = state.newest(saved(tmp_path, METADATA))
    assert number == 1
    assert {name: metadata[name] for name in METADATA} == METADATA
    assert arrays["arg:a"].asnumpy().tolist() == [1, 1, 1]
    state.newest(saved(tmp_path, {**METADATA, "classes": None}))
    state.newest(saved(tmp_path, {**METADATA, "tests": {**TESTS, "best_number": None, "saved_step": None}}))


COUNTS = [
    "seed",
    "batch_size",
    "images",
    "bytes",
    "contexts",
    "step",
    "epoch",
    "batch",
    "rewinds",
    "updates",
]


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [None, -1, 1.5, float("nan"), True, "4", [1], 1 << 62])
def test_counts_that_are_none(tmp_path, name, value):
    prefix = saved(tmp_path, {**METADATA, name: value})
    with pytest.raises(UserError, match=rf"m-state-1\.json: '{name}' is .*, not a whole number of 0 or more"):
        state.newest(prefix)


@pytest.mark.parametrize("name", [*COUNTS, "classes", "command", "options", "tests"])
def test_missing_entries(tmp_path, name):
    prefix = saved(tmp_path, {key: value for key, value in METADATA.items() if key != name})
    with pytest.raises(UserError, match=r"no training state under .* is complete \(.*m-state-1\.json: "):
        state.newest(prefix)


@pytest.mark.parametrize(
    "change",
    [
        {"best": [0.5]},
        {"best": [0.5, float("nan")]},
        {"best": "ab"},
        {"count": "2"},
        {"saved": [1, "2"]},
        {"saved": 3},
        {"best_number": -1},
        {"saved_step": [4]},
    ],
)
def test_forged_tests(tmp_path, change):
    with pytest.raises(UserError, match=r"m-state-1\.json: .*(best accuracies|whole number|which tests)"):
        state.newest(saved(tmp_path, {**METADATA, "tests": {**TESTS, **change}}))
    incomplete = {name: value for name, value in TESTS.items() if name not in change}
    with pytest.raises(UserError, match="it does not say which tests there were"):
        state.newest(saved(tmp_path, {**METADATA, "tests": incomplete}))


def test_a_forged_state_is_skipped_for_the_one_before(tmp_path, caplog):
    prefix = saved(tmp_path, METADATA)
    state.save(prefix, {**METADATA, "batch_size": 0}, {"arg:a": mx.nd.ones(3)}, 1)
    assert state.newest(prefix).number == 1
    assert "skipped a damaged training state" in caplog.text


def test_a_manifest_nested_deeply(tmp_path):
    prefix = saved(tmp_path, METADATA)
    (tmp_path / "m-state-1.json").write_text("[" * 100000)
    with pytest.raises(UserError, match=r"m-state-1\.json: its values are nested too deeply"):
        state.newest(prefix)


def test_metadata_of_this_version_is_what_manifests_hold(tmp_path):
    """The file has the metadata and nothing that is not checked but the learning rate, versions and files."""
    saved(tmp_path, METADATA)
    content = json.loads((tmp_path / "m-state-1.json").read_text())
    assert content.keys() - METADATA.keys() == {"versions", "files", "sha256"}
    assert manifest.read(str(tmp_path / "m-state-1.json"))["learning_rate"] == 0.1
