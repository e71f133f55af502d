"""Tables of large sets, stored next to them: used while the set is unchanged, whatever happens to the file."""

import hashlib
import logging
import os

import numpy as np
import pytest

from insightface_mx.files import cache
from insightface_mx.formats.face_records import FaceRecords


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").write_bytes(b"12345")
    return str(tmp_path / "source")


class Maker:
    def __init__(self, size=cache.MIN_CACHED_BYTES):
        self.calls, self.size = 0, size

    def __call__(self):
        self.calls += 1
        numbers = np.arange(self.size // 8)
        return {"numbers": numbers, "classes": numbers.astype(np.int32) % 7}


def cached(path, sources, make):
    return cache.cached(path, sources, sources[-1], {"numbers": np.int64, "classes": np.int32}, make)


def test_kept_until_the_source_changes(tmp_path, source):
    make, path = Maker(), str(tmp_path / "table.npz")
    for _ in range(3):
        arrays = cached(path, [source], make)
        assert sorted(arrays) == ["classes", "numbers"]
        assert arrays["classes"].tolist() == [number % 7 for number in range(make.size // 8)]
        assert np.array_equal(arrays["numbers"], np.arange(make.size // 8))
    assert make.calls == 1
    os.utime(source, ns=(1, 1))
    cached(path, [source], make)
    assert make.calls == 2
    with open(source, "ab") as file:
        file.write(b"6")
    os.utime(source, ns=(1, 1))
    cached(path, [source], make)
    cached(path, [source], make)
    assert make.calls == 3


def test_stamp_and_hash_of_a_file(source):
    os.utime(source, ns=(5, 7))
    status = os.stat(source)
    assert cache.file_stamp(source) == (status.st_ino, 5, 7, status.st_ctime_ns)
    with open(source, "wb") as file:
        file.write(bytes(range(256)) * 10000)  # more than one block
    expected = hashlib.sha256(b"before" + bytes(range(256)) * 10000).hexdigest()
    assert cache.hash_file(hashlib.sha256(b"before"), source).hexdigest() == expected
    for function in (cache.file_stamp, lambda path: cache.hash_file(hashlib.sha256(), path)):
        with pytest.raises(FileNotFoundError):
            function(f"{source}.none")


@pytest.mark.parametrize(
    ("variable", "expected"), [("/some/cache", "/some/cache"), ("relative", "HOME/.cache"), ("", "HOME/.cache")]
)
def test_cache_folder(monkeypatch, tmp_path, variable, expected):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert str(cache.cache_folder()) == os.path.join(expected.replace("HOME", str(tmp_path)), "insightface-mx")


def test_small_tables_are_not_kept(tmp_path, source):
    cached(str(tmp_path / "table.npz"), [source], Maker(8000))
    assert os.listdir(tmp_path) == ["source"]


def flip(position):
    """Return a function that changes one byte of a file's content."""
    return lambda content: content[:position] + bytes([content[position] ^ 255]) + content[position:][1:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:100],
        lambda content: content[:-30],
        lambda content: b"",
        lambda content: b"no file of numpy",
        lambda content: np.zeros(3).tobytes(),
        *map(flip, (0, 200, 5000, -20)),
    ],
)
def test_a_damaged_file_is_made_again(tmp_path, source, caplog, damage):
    make, path = Maker(), tmp_path / "table.npz"
    cached(str(path), [source], make)
    complete = path.read_bytes()
    path.write_bytes(damage(complete))
    assert len(path.read_bytes()) <= len(complete)
    arrays = cached(str(path), [source], make)
    assert np.array_equal(arrays["numbers"], np.arange(make.size // 8))
    assert path.read_bytes()[:100] == complete[:100]
    assert make.calls == 2
    assert "is damaged" in caplog.text


def test_another_file_of_equal_size_and_time_is_not_believed(tmp_path, source):
    """As cp -p and rsync -t leave it; and changed in place, with its times set back."""
    make, path = Maker(), str(tmp_path / "table.npz")
    cached(path, [source], make)
    status = os.stat(source)
    (tmp_path / "other").write_bytes(b"54321")
    os.utime(tmp_path / "other", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(tmp_path / "other", source)
    cached(path, [source], make)
    assert make.calls == 2
    with open(source, "r+b") as file:
        file.write(b"6")
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    cached(path, [source], make)
    cached(path, [source], make)
    assert make.calls == 3


def test_the_content_of_the_index_counts_whatever_its_stamp(tmp_path, source, monkeypatch):
    make, path = Maker(), str(tmp_path / "table.npz")
    monkeypatch.setattr(cache, "file_stamp", lambda path: (1, 2, 3, 4))
    cached(path, [source], make)
    cached(path, [source], make)
    assert make.calls == 1
    with open(source, "wb") as file:
        file.write(b"54321")
    cached(path, [source], make)
    assert make.calls == 2


@pytest.mark.parametrize(
    "change",
    [
        {"numbers": np.arange(5)},
        {"numbers": np.arange(cache.MIN_CACHED_BYTES // 8) + 1},
        {"numbers": np.arange(cache.MIN_CACHED_BYTES // 8, dtype=np.float64)},
        {"numbers": np.arange(cache.MIN_CACHED_BYTES // 8)[np.newaxis]},
        {"classes": np.zeros(0, np.int32)},
        {"other": np.zeros(3)},
    ],
)
def test_forged_arrays_are_made_again(tmp_path, source, caplog, change):
    make, path = Maker(), str(tmp_path / "table.npz")
    cached(path, [source], make)
    with np.load(path) as stored:
        np.savez(path, **{**stored, **change})
    arrays = cached(path, [source], make)
    assert arrays["numbers"].tolist() == [*range(make.size // 8)]
    assert caplog.messages == [f"{path} holds other arrays than it should and is made again"]
    cached(path, [source], make)
    assert make.calls == 2


def test_what_is_no_file_is_made_again(tmp_path, source, caplog):
    make, path = Maker(), str(tmp_path / "table.npz")
    caplog.set_level(logging.INFO)
    os.mkfifo(path)
    cached(path, [source], make)
    assert make.calls == 1
    assert "it is a pipe, not a file" in caplog.text
    os.remove(path)
    os.mkdir(path)
    cached(path, [source], make)
    assert make.calls == 2
    assert "it is a folder, not a file" in caplog.text
    assert caplog.text.count("cannot be stored") == 2


def test_objects_are_not_unpickled(tmp_path, source):
    make, path = Maker(), str(tmp_path / "table.npz")
    np.savez(path, numbers=np.array([print], dtype=object), stamp=np.zeros(3))
    assert cached(path, [source], make)["numbers"].dtype == np.int64
    assert make.calls == 1


def test_a_folder_that_cannot_be_written(tmp_path, source, caplog):
    caplog.set_level(logging.INFO)
    make = Maker()
    cached(str(tmp_path / "none" / "table.npz"), [source], make)
    assert make.calls == 1
    assert caplog.text.count("cannot be stored") == 1


def test_a_sets_tables_are_used_and_follow_it(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "MIN_CACHED_BYTES", 0)
    for name in ("train.rec", "train.idx"):
        (tmp_path / name).write_bytes((data_dir / name).read_bytes())
    expected = [[*range(first, first + 6)] for first in (1, 7, 13, 19)]
    for _ in range(2):
        found = FaceRecords(str(tmp_path / "train.rec")).identities
        assert [images.tolist() for images in found.images] == expected
    assert sorted(os.listdir(tmp_path)) == ["train.idx", "train.idx.npz", "train.rec", "train.table.npz"]
    monkeypatch.setattr("insightface_mx.formats.recordio._parse_index", None)
    monkeypatch.setattr(FaceRecords, "_read_classes", None)
    found = FaceRecords(str(tmp_path / "train.rec")).identities
    assert [images.tolist() for images in found.images] == expected
