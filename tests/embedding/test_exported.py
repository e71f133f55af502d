"""Checkpoints as ONNX files in the cache folder: written once, and again where they are damaged or somebody else's."""

import logging
import os
import stat
import time

import numpy as np
import pytest
import small_network

from insightface_mx.embedding import backends, exported
from insightface_mx.engine.network_input import USUAL_INPUT

own_cache = pytest.fixture(autouse=True)(small_network.own_cache)
SIZE = (56, 56)
IMAGES = np.random.RandomState(6).randint(0, 256, (3, 3, *SIZE)).astype(np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_network.save(tmp_path_factory.mktemp("model") / "net")


@pytest.fixture(scope="module")
def expected(model):
    return small_network.plain_mxnet(model, IMAGES)


@pytest.fixture
def stored(model):
    """The path of the stored files, without an ending, and their content."""
    path = exported.export_once(model, SIZE, USUAL_INPUT).path[: -len(".onnx")]
    return path, contents(path)


def contents(path):
    found = {}
    for ending in (".onnx", ".npy"):
        with open(path + ending, "rb") as file:
            found[ending] = file.read()
    return found


def assert_embeds(model, expected, name="auto"):
    backend = backends.load(model, SIZE, name)
    np.testing.assert_allclose(backend.embed(IMAGES), expected, atol=2e-5 * np.abs(expected).max())
    return backend.name


def test_stored_files_are_this_users_alone(stored, monkeypatch):
    path, _ = stored
    folder = os.path.join(os.environ["XDG_CACHE_HOME"], "insightface-mx")
    assert os.path.dirname(path) == os.path.join(folder, "networks")
    for place, mode in ((folder, 0o700), (f"{folder}/networks", 0o700), *((path + end, 0o600) for end in ENDINGS)):
        assert stat.S_IMODE(os.stat(place).st_mode) == mode
    assert sorted(os.listdir(f"{folder}/networks")) == sorted(os.path.basename(path) + end for end in ENDINGS)


ENDINGS = (".onnx", ".npy", ".json")


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("damage", [cut, flipped, lambda _: b"", lambda _: b"<html>", None])
def test_damaged_files_are_made_again(model, expected, stored, caplog, ending, damage):
    path, before = stored
    with open(path + ending, "rb") as file:
        content = file.read()
    os.remove(path + ending)
    if damage:
        with open(path + ending, "wb") as file:
            file.write(damage(content))
        os.chmod(path + ending, 0o600)
    assert assert_embeds(model, expected) == "openvino"
    assert contents(path) == before
    messages = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(messages) == (0 if damage is None and ending == ".json" else 1)  # without a seal nothing was stored yet
    assert all(message.startswith(path) and message.endswith(": made again") for message in messages)
    caplog.clear()
    assert_embeds(model, expected)
    assert not caplog.records


def a_pipe(path):
    os.remove(path)
    os.mkfifo(path)


def another_owner(path):
    os.chown(path, 12345, 12345)


def a_link(path):
    os.rename(path, f"{path}.other")
    os.symlink(f"{path}.other", path)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "change", [lambda path: os.chmod(path, 0o666), lambda path: os.chmod(path, 0o620), a_link, a_pipe, another_owner]
)
def test_files_that_others_may_have_written_are_made_again(model, expected, stored, caplog, ending, change):
    if change is another_owner and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    path, before = stored
    change(path + ending)
    assert_embeds(model, expected)
    assert f"{path}{ending}: not a file of this user that nobody else can change: made again" in caplog.text
    status = os.lstat(path + ending)
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.geteuid(), 0o600)
    assert contents(path) == before


def test_a_folder_that_others_can_open_is_closed(model, expected, stored):
    folder = os.path.dirname(stored[0])
    os.chmod(folder, 0o777)
    assert_embeds(model, expected)
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


@pytest.mark.slow
@pytest.mark.parametrize("place", ["insightface-mx", "insightface-mx/networks"])
@pytest.mark.parametrize("kind", ["another owner", "link", "file"])
def test_a_folder_of_somebody_else_leaves_mxnet(model, expected, tmp_path, monkeypatch, caplog, place, kind):
    if kind == "another owner" and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    (tmp_path / "elsewhere").mkdir()
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        path.write_bytes(b"precious")
    else:
        path.mkdir()
        os.chown(path, 12345, 12345)
    assert assert_embeds(model, expected) == "mxnet"
    assert caplog.text.count("skipped a faster back end: no folder for ONNX files") == 1
    assert f"'{path}'): set XDG_CACHE_HOME to one of your own" in caplog.text
    assert not os.listdir(tmp_path / "elsewhere")
    with pytest.raises(exported.Unfit, match="no folder for ONNX files"):
        backends.load(model, SIZE, "onnxruntime")


def test_intact_files_are_used_as_they_are(model, stored):
    path, _ = stored
    before = os.stat(f"{path}.onnx").st_mtime_ns
    time.sleep(0.01)
    backends.load(model, SIZE)
    assert os.stat(f"{path}.onnx").st_mtime_ns == before
