"""Manifests: what they store, and that a change of them or of the files that they name shows."""

import hashlib
import json
import subprocess
import sys

import pytest

from insightface_mx.base import __version__
from insightface_mx.files import manifest


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a.params").write_bytes(b"content")
    manifest.write(str(tmp_path / "a.json"), [str(tmp_path / "a.params")], {"step": 3, "accuracies": {"lfw": 0.5}})
    return tmp_path / "a.json"


def test_a_manifest_describes_its_files(path):
    content = manifest.read(str(path))
    assert content["step"] == 3
    assert content["accuracies"] == {"lfw": 0.5}
    sha256 = hashlib.sha256(b"content").hexdigest()
    assert content["files"] == {"a.params": {"bytes": 7, "sha256": sha256}}
    assert content["versions"]["insightface-mx"] == __version__
    assert "sha256" not in content


def test_the_hash_is_that_of_all_earlier_versions(path):
    """Manifests that exist must stay valid: the hash is of the content as JSON with sorted keys."""
    content = json.loads(path.read_text())
    saved = content.pop("sha256")
    assert saved == hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"contend", "not what was saved"), (b"cont", r"not what was saved \(4 bytes, then 7\)"), (None, "missing")],
)
def test_a_changed_file(path, content, reason):
    file = path.with_name("a.params")
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(manifest.Damaged, match=rf"a\.params: {reason}"):
        manifest.read(str(path))
    assert manifest.read(str(path), check_files=False)["step"] == 3


@pytest.mark.parametrize(("old", "new"), [('"step": 3', '"step": 4'), ("{", ""), ('"sha256"', '"hash"')])
@pytest.mark.parametrize("check_files", [True, False])
def test_a_changed_manifest(path, old, new, check_files):
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(manifest.Damaged, match=r"a\.json: "):
        manifest.read(str(path), check_files)


@pytest.mark.parametrize("content", ["[]", "3", "{}", "null"])
def test_json_that_is_no_manifest(path, content):
    path.write_text(content)
    with pytest.raises(manifest.Damaged, match="changed since it was saved"):
        manifest.read(str(path))


@pytest.mark.slow
def test_the_version_of_mxnet_is_stored_once_mxnet_is_loaded():
    """In a process of its own, as MXNet cannot be unloaded."""
    code = (
        "import sys; from insightface_mx.files import manifest; before = manifest.versions(); "
        "loaded = 'mxnet' in sys.modules; from insightface_mx.base.compat import mx; "
        "print(loaded, 'mxnet' in before, manifest.versions()['mxnet'] == mx.__version__, list(manifest.versions()))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False False True ['insightface-mx', 'mxnet', 'numpy', 'opencv', 'python']"


@pytest.mark.parametrize(
    "change",
    [
        {"files": None},
        {"files": []},
        {"files": {"a.params": 3}},
        {"files": {"a.params": {"bytes": 7}}},
        {"files": {"../a.params": {"bytes": 7, "sha256": ""}}},
        {"files": {"a\0": {"bytes": 7, "sha256": ""}}},
        {"versions": "1.9.1"},
    ],
)
def test_a_forged_manifest_with_a_right_hash(path, change):
    content = {**json.loads(path.read_text()), **change}
    del content["sha256"]
    content["sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(content))
    with pytest.raises(manifest.Damaged, match=r"a\.json: it does not say"):
        manifest.read(str(path))


@pytest.mark.parametrize("content", ["[" * 100000, '{"a": ' * 100000, "[" + "9" * 5000 + "]"])
def test_json_that_python_does_not_read(path, content):
    path.write_text(content)
    with pytest.raises(manifest.Damaged, match=r"a\.json: it(s values are nested too deeply| holds a number of 5000)"):
        manifest.read(str(path))
