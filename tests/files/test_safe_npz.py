"""The reader of .npz and .npy files from others: what numpy writes comes back, hostile files are refused."""

import re
import resource
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from insightface_mx.base.limits import MAX_ARRAYS
from insightface_mx.files import safe_npz
from insightface_mx.files.safe_npz import BadArrays, read_npy, read_npz

ARRAYS = {
    "embeddings": np.random.RandomState(0).normal(size=(600, 512)).astype(np.float32),
    "issame": np.array([True, False, True]),
    "names": np.array(["", "Zoë", "\udce9.jpg"]),
    "bytes": np.array([b"a", b"bc"]),
    "columns": np.asfortranarray(np.arange(12, dtype=">i4").reshape(3, 4)),
    "number": np.float64(2.5),
    "nothing": np.zeros((0, 4), np.int64),
    "half": np.array([1.5], np.float16),
}


def save(folder, **arrays):
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_what_numpy_writes_comes_back(tmp_path, write):
    write(tmp_path / "a.npz", **ARRAYS)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == np.asarray(array).dtype
        assert found[name].shape == np.shape(array)
        assert np.array_equal(found[name], array)
    found["embeddings"][0] = 0  # it can be changed


def test_one_array_of_every_version(tmp_path):
    for version in ((1, 0), (2, 0), (3, 0)):
        with open(tmp_path / "a.npy", "wb") as file:
            np.lib.format.write_array(file, ARRAYS["embeddings"], version=version)
        assert np.array_equal(read_npy(tmp_path / "a.npy"), ARRAYS["embeddings"])
    (tmp_path / "double.npy").write_bytes(npy('{"descr":"<f8","fortran_order":False,"shape":(1,)}', b"\0" * 8))
    assert read_npy(tmp_path / "double.npy").tolist() == [0]


def npy(header, content=b"", version=1):
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(header)) + header.encode() + content


def header(descr, shape):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no array in .npy format"),
        (b"\x93NUMPY\x01", "no array in .npy format"),
        (b"\x93NUMPY\x09\x00" + b"x" * 90, "no array in .npy format"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "its header is not that"),
        (npy("{" * 9000), "its header is not that"),
        (npy(header("'|O'", "(1,)"), b"cos\nsystem\n"), "its header is not that"),
        (npy(header("[('a', '<f4')]", "(1,)"), b"1234"), "its header is not that"),
        (npy(header("__import__('os')", "(1,)"), b"1234"), "its header is not that"),
        (npy(header("'<U0'", "(99999999,)")), "its header is not that"),
        (npy(header("'<f4'", "(1000000000, 1000000000)"), b"1234"), "which is not what follows"),
        (npy(header("'<f4'", "(1,)"), b"123"), "which is not what follows"),
        (npy(header("'<f4'", "(1,)"), b"12345"), "which is not what follows"),
        (npy(header("'<f4'", "(-1,)"), b"1234"), "its header is not that"),
        (npy(header("'<f4'", f"({'1, ' * 40})"), b"1234"), "says 40 dimensions"),
        (npy(header("'<f4'", "(0, 999999999999999999, 99)")), "a size that no memory holds"),
        (npy(header("'|b1'", "(2,)"), b"\x01\x02"), "neither true nor false"),
        (npy(header("'<U1'", "(1,)"), b"\xff\xff\xff\xff"), "characters that do not exist"),
    ],
)
def test_an_array_that_is_none(tmp_path, content, message):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(BadArrays, match=re.escape(message)):
        read_npy(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(BadArrays, match=f"^array 'a': .*{re.escape(message)}"):
        read_npz(tmp_path / "a.npz")


def write_entries(path, *entries, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)


def encrypted(path):
    write_entries(path, ("a.npy", npy(header("'<f4'", "(1,)"), b"1234")))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)


def many_entries(path):
    write_entries(path, *((f"{i}.npy", b"") for i in range(MAX_ARRAYS + 1)))


def long_directory(path):
    write_entries(path, *((f"{i}{'a' * 60000}.npy", b"") for i in range(20)))


def wrong_checksum(path):
    write_entries(path, ("a.npy", npy(header("'<f4'", "(1,)"), b"1234")))
    path.write_bytes(path.read_bytes().replace(b"1234", b"1235"))


def bomb(path):
    content = npy(header("'<f4'", "(1000000,)")) + bytes(4_000_000)
    write_entries(path, ("a.npy", content), method=zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b""), "it is empty: the download or the copy went wrong"),
        (lambda path: path.write_text("<html>"), "it is an HTML page: the download went wrong"),
        (lambda path: path.write_text("text"), "no .npz file, or damaged: File is not a zip file"),
        (lambda path: path.write_bytes(npy(header("'<f4'", "(1,)"), b"1234")), "one array (.npy), not a .npz file"),
        (lambda path: write_entries(path, ("a.txt", b"a")), "it holds 'a', which is no array"),
        (lambda path: write_entries(path, ("\x1b[2J" + "é" * 999, b"a")), r"it holds '\x1b[2Jé"),
        (lambda path: write_entries(path, ("a.npy", b""), method=zipfile.ZIP_LZMA), "packed by another method"),
        (lambda path: write_entries(path, ("a.npy", b""), method=zipfile.ZIP_BZIP2), "packed by another method"),
        (encrypted, "is encrypted"),
        (many_entries, "it holds 1001 arrays"),
        (long_directory, "its directory takes 12"),
        (wrong_checksum, "Bad CRC-32"),
        (bomb, "would become 40000"),
    ],
)
def test_a_zip_file_that_holds_no_arrays(tmp_path, monkeypatch, write, message):
    monkeypatch.setattr(safe_npz, "SMALL_ARRAYS", 3_000_000)
    path = tmp_path / "a.npz"
    write(path)
    tracemalloc.start()
    try:
        with pytest.raises(BadArrays, match=re.escape(message)) as error:
            read_npz(path)
        assert tracemalloc.get_traced_memory()[1] < 2.5e6
    finally:
        tracemalloc.stop()
    assert len(str(error.value)) < 300


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name(tmp_path):
    content = npy(header("'<f4'", "(1,)"), b"1234")
    write_entries(tmp_path / "a.npz", ("a.npy", content), ("a.npy", content))
    with pytest.raises(BadArrays, match="it holds 'a' twice"):
        read_npz(tmp_path / "a.npz")


def test_files_that_cannot_be_opened(tmp_path):
    for path in (tmp_path / "none.npz", tmp_path, "/dev/null"):
        for read in (read_npz, read_npy):
            with pytest.raises(OSError):
                read(path)


@pytest.mark.slow
@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_damaged_files_are_read_or_refused(tmp_path, write):
    """Bit flips and cuts, among them in compressed data: arrays with a right checksum, or BadArrays."""
    random, path = np.random.RandomState(5), tmp_path / "a.npz"
    write(path, **{**ARRAYS, "embeddings": ARRAYS["embeddings"][:2]})
    good = path.read_bytes()
    before, refused = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    for trial in range(800):
        content = bytearray(good)
        for place in random.randint(0, len(content), random.randint(1, 4)):
            content[place] = random.randint(256)
        path.write_bytes(content[: random.randint(len(content))] if trial % 5 == 0 else content)
        try:
            read_npz(path)
        except BadArrays:
            refused += 1
    assert refused > 500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
