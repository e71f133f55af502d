"""Files of Matlab that somebody else made: damaged, hostile, and of other kinds."""

import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from insightface_mx.base.errors import UserError
from insightface_mx.base.limits import MAX_MAT_BYTES
from insightface_mx.formats.mat_file import read_splits


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def matrix(kind, dimensions, *parts):
    flags = element(6, struct.pack("<II", kind, 0))
    return element(
        14, flags + element(5, struct.pack(f"<{len(dimensions)}i", *dimensions)) + element(1, b"s") + b"".join(parts)
    )


def header(name=b"MATLAB 5.0 MAT-file"):
    return name.ljust(124) + b"\x00\x01IM"


def nested(depth):
    inner = matrix(6, (1, 1), element(9, b"\0" * 8))
    for _ in range(depth):
        inner = matrix(1, (1, 1), inner)
    return inner


CASES = {
    "a word": (b"splits", "has not the header of Matlab 5"),
    "text": (b"a b 1\n" * 100, "has not the header of Matlab 5"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 200, "of Matlab 7.3: save it with -v7"),
    "7.3": (header(b"MATLAB 7.3 MAT-file"), "of Matlab 7.3"),
    "no variable": (header(), "holds no variable splits"),
    "cut": (header() + nested(1)[:-8], "an element is longer than the file"),
    "deep": (header() + nested(2000), "more than 8 in each other"),
    "huge cells": (header() + matrix(1, (1 << 30, 1)), "an array of dimensions (1073741824, 1) does not fit"),
    "huge array": (header() + matrix(6, (1 << 30, 1 << 30), element(9, b"\0" * 8)), "does not fit"),
    "negative": (header() + matrix(6, (-1, 1), element(9, b"\0" * 8)), "an array of dimensions (-1, 1) does not fit"),
    "object": (header() + matrix(3, (1, 1)), "holds objects, functions or sparse arrays"),
    "sparse": (header() + matrix(5, (1, 1)), "holds objects, functions or sparse arrays"),
    "bomb": (header() + element(15, zlib.compress(bytes(MAX_MAT_BYTES + 1000), 9)), "unpacks to more than"),
    "no zlib": (header() + element(15, b"no zlib at all"), "is no .mat file of pairs"),
}


@pytest.mark.parametrize("name", CASES)
def test_files_that_hold_no_pairs(tmp_path, name):
    content, words = CASES[name]
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_splits(str(tmp_path / "a.mat"))
    assert words in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/a.mat is no .mat file of pairs in splits: ")


def split(labels, names=("a", "b")):
    table = np.empty((2, 2), object)
    table[:] = names
    return {"names": table, "label": np.array(labels, float)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"x": 1.0, "y": 2.0}, "it holds no variable splits"),
        ({"splits": np.zeros((10, 1))}, "it holds no pair"),
        ({"splits": np.array([split([1, 1]), split([1, 2])], object)}, "a label of split 2 is neither 1 nor -1"),
        ({"splits": np.array([split([1, 1]), split([1])], object)}, "split 2 is not two lists of names and a list"),
        ({"splits": np.array([split([1, 1]), split([1, 1], ("a", " "))], object)}, "a name of split 2 is no text"),
    ],
)
def test_what_is_wrong_with_splits(tmp_path, content, words):
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(UserError, match=words):
        read_splits(str(tmp_path / "a.mat"))


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"cannot open .*none\.mat: No such file"):
        read_splits(str(tmp_path / "none.mat"))


@pytest.mark.slow
def test_damaged_files_end_with_a_message(tmp_path):
    """Every byte of a small file, changed."""
    savemat(tmp_path / "a.mat", {"splits": np.array([split([1, -1]), split([1, -1])], object)})
    good = (tmp_path / "a.mat").read_bytes()
    random = np.random.RandomState(0)
    for place in range(116, len(good)):
        damaged = bytearray(good)
        damaged[place] ^= random.randint(1, 256)
        (tmp_path / "b.mat").write_bytes(damaged)
        try:
            assert len(read_splits(str(tmp_path / "b.mat"))) in (2, 4)
        except UserError as error:
            assert "b.mat is no .mat file of pairs" in str(error)
