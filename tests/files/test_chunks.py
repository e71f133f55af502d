"""A store of chunks: what it holds, which run it belongs to, and that a chunk is there completely or not at all."""

import os
import pickle
import shutil

import numpy as np
import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.files.chunks import ChunkStore, DamagedChunk


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
    open(os.path.join(store.folder, f"000002.npz.tmp9999999-{'0' * 16}"), "w").close()  # of a killed worker
    store.remove()
    assert not os.path.exists(store.folder)


def test_a_store_knows_its_run(store):
    store.save(0, {"values": np.zeros(1)})
    assert not ChunkStore(store.folder, "the settings").of_another_run()
    assert ChunkStore(store.folder, "other settings").of_another_run()
    assert not ChunkStore(f"{store.folder}.none", "other settings").of_another_run()


@pytest.mark.parametrize("name", ["holiday.jpg", "000000.npz", "settings"])
def test_a_folder_of_the_user_s_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"precious")
    store = ChunkStore(str(tmp_path), "the settings")
    for use in (store.begin, store.of_another_run):
        with pytest.raises(UserError, match="was not made by this command"):
            use()
    assert os.listdir(tmp_path) == [name]


def test_a_file_of_the_user_s_in_the_folder_stays(store):
    store.save(0, {"values": np.zeros(1)})
    with open(os.path.join(store.folder, "holiday.jpg"), "wb") as file:
        file.write(b"precious")
    store.begin()
    store.remove()
    assert os.listdir(store.folder) == ["holiday.jpg"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out.part").write_bytes(b"precious")
    with pytest.raises(UserError, match="was not made by this command"):
        ChunkStore(str(tmp_path / "out.part"), "the settings").begin()
    assert (tmp_path / "out.part").read_bytes() == b"precious"


def test_an_interrupted_save_leaves_the_chunk_before(store, monkeypatch):
    def write_half(file, *_, **__):
        file.write(b"half")
        raise KeyboardInterrupt

    store.save(0, {"values": np.arange(3)})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(np.lib.format, "write_array", write_half)
        store.save(0, {"values": np.zeros(9)})
    assert store.load(0)["values"].tolist() == [0, 1, 2]
    assert sorted(os.listdir(store.folder)) == ["000000.npz", "settings"]


def test_objects_are_not_unpickled(store):
    np.savez(os.path.join(store.folder, "000000.npz"), values=np.array([print], dtype=object))
    with pytest.raises(DamagedChunk, match="its header is not that of an array"):
        store.load(0)


def swap_values(path):
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "values": arrays["values"] + 1})


def drop_values(path):
    np.savez(path, checksum=np.load(path)["checksum"])


def other_index(path):
    shutil.copyfile(os.path.join(os.path.dirname(path), "000001.npz"), path)


def write(content):
    def damage(path):
        with open(path, "rb") as file:
            old = file.read()
        with open(path, "wb") as file:
            file.write(content(old))

    return damage


DAMAGES = {
    "empty": write(lambda old: b""),
    "cut": write(lambda old: old[: len(old) // 2]),
    "end lost": write(lambda old: old[:-1]),
    "zeros": write(lambda old: bytes(len(old))),
    "one bit": write(lambda old: old[:200] + bytes([old[200] ^ 1]) + old[201:]),
    "text": write(lambda old: b"none"),
    "a pickle": write(lambda old: pickle.dumps([1])),
    "one array": lambda path: np.save(open(path, "wb"), np.zeros(3)),  # noqa: SIM115
    "other values": swap_values,
    "no values": drop_values,
    "another chunk": other_index,
    "no checksum": lambda path: np.savez(path, values=np.arange(3)),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_chunk_is_missing(store, damage, caplog):
    for index in range(3):
        store.save(index, {"values": np.arange(3) + index})
    path = os.path.join(store.folder, "000002.npz")
    DAMAGES[damage](path)
    with pytest.raises(DamagedChunk, match=r"000002\.npz"):
        store.load(2)
    assert store.missing(4) == [2, 3]
    (line,) = caplog.messages
    assert line.startswith(f"{path} ")
    assert line.endswith("; a run that continues makes it again")
    store.save(2, {"values": np.arange(3)})
    assert store.missing(3) == []


def test_a_pipe_in_the_place_of_a_chunk_is_replaced(store):
    os.mkfifo(os.path.join(store.folder, "000000.npz"))
    assert store.missing(1) == [0]
    store.save(0, {"values": np.zeros(1)})
    assert store.missing(1) == []


def test_a_folder_in_the_place_of_a_chunk_stays(store):
    os.mkdir(os.path.join(store.folder, "000000.npz"))
    with pytest.raises(UserError, match=r"000000\.npz is a folder: move it away"):
        store.missing(1)
    assert os.path.isdir(os.path.join(store.folder, "000000.npz"))


def test_a_worker_process_can_have_a_copy(store):
    pickle.loads(pickle.dumps(store)).save(2, {"values": np.arange(2)})
    assert store.load(2)["values"].tolist() == [0, 1]
