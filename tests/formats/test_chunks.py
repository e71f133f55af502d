"""A store of chunks: what it holds, which run it belongs to, and that a chunk is there completely or not at all."""

import os
import pickle

import numpy as np
import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.formats.chunks import ChunkStore


@pytest.fixture
def store(tmp_path):
    store = ChunkStore(str(tmp_path / "partial"), "the settings")
    store.begin()
    return store


def test_chunks_come_back_and_the_others_are_missing(store):
    arrays = {"values": np.arange(6.0).reshape(2, 3), "reasons": np.array(["", "no face"])}
    store.save(1, arrays)
    loaded = store.load(1)
    assert sorted(loaded) == ["reasons", "values"]
    assert np.array_equal(loaded["values"], arrays["values"])
    assert loaded["reasons"].tolist() == ["", "no face"]
    assert store.missing(3) == [0, 2]
    assert sorted(os.listdir(store.folder)) == ["000001.npz", "settings"]
    store.remove()
    assert not os.path.exists(store.folder)


def test_a_store_knows_its_run(store):
    store.save(0, {"values": np.zeros(1)})
    assert not ChunkStore(store.folder, "the settings").of_another_run()
    assert ChunkStore(store.folder, "other settings").of_another_run()
    assert not ChunkStore(f"{store.folder}.none", "other settings").of_another_run()


def test_chunks_without_settings_are_of_an_unknown_run(store):
    os.remove(os.path.join(store.folder, "settings"))
    assert not store.of_another_run()
    store.save(0, {"values": np.zeros(1)})
    assert store.of_another_run()


@pytest.mark.parametrize("name", ["holiday.jpg", "000000.npz"])
def test_a_folder_of_the_user_s_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(UserError, match="was not made by this command"):
        ChunkStore(str(tmp_path), "the settings").begin()
    assert os.listdir(tmp_path) == [name]


def test_an_interrupted_save_leaves_the_chunk_before(store, monkeypatch):
    def write_half(file, **_):
        file.write(b"half")
        raise KeyboardInterrupt

    store.save(0, {"values": np.arange(3)})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(np, "savez", write_half)
        store.save(0, {"values": np.zeros(9)})
    assert store.load(0)["values"].tolist() == [0, 1, 2]
    assert sorted(os.listdir(store.folder)) == ["000000.npz", "settings"]


def test_objects_are_not_unpickled(store):
    np.savez(os.path.join(store.folder, "000000.npz"), values=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        store.load(0)


def test_a_worker_process_can_have_a_copy(store):
    pickle.loads(pickle.dumps(store)).save(2, {"values": np.arange(2)})
    assert store.load(2)["values"].tolist() == [0, 1]
