"""MegaFace's feature files, byte for byte, and files that are none."""

import struct

import numpy as np
import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.formats.megaface import image_name, read_feature, write_feature


def header(rows, columns=1, size=4, kind=5):
    return struct.pack("<4i", rows, columns, size, kind)


def test_the_bytes_of_a_file(tmp_path):
    path = tmp_path / "new" / "a.jpg_r50.bin"
    write_feature(str(path), np.array([1.0, -2.5, 0.0]))
    assert path.read_bytes() == bytes.fromhex("03000000 01000000 04000000 05000000 0000803f 000020c0 00000000")
    found = read_feature(str(path))
    assert found.tolist() == [1, -2.5, 0] and found.dtype == np.float32
    assert [file.name for file in path.parent.iterdir()] == ["a.jpg_r50.bin"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: the download or the copy went wrong"),
        (header(2)[:15], "it has 15 bytes"),
        (header(2) + bytes(7), "has 23 bytes where its header says 24"),
        (header(2) + bytes(9), "has 25 bytes where its header says 24"),
        (header(0), "its header is 0, 1, 4, 5, not the length"),
        (header(-1), "its header is -1, 1, 4, 5"),
        (header(2**31 - 1), "its header is 2147483647, 1, 4, 5"),
        (header(2, columns=2) + bytes(16), "its header is 2, 2, 4, 5"),
        (header(2, size=8, kind=6) + bytes(16), "its header is 2, 1, 8, 6"),
        (struct.pack(">4i", 2, 1, 4, 5) + bytes(8), "its header is 33554432"),
        (header(2) + struct.pack("<2f", 1, np.nan), "holds a number that is not finite"),
        (header(1) + bytes(1 << 20), "has 262161 bytes or more where its header says 20"),
    ],
)
def test_files_that_are_none(tmp_path, content, message):
    path = tmp_path / "a_b.bin"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_feature(str(path))
    assert str(path) in str(error.value) and message in str(error.value)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="cannot open"):
        read_feature(str(tmp_path / "a_b.bin"))


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("Adam_Brody/Adam_Brody_277.png_model_r50.bin", "Adam_Brody/Adam_Brody_277.png"),
        ("1/2@N00/3.JPG_r100.bin", "1/2@N00/3.JPG"),
        ("p/face_1_algo.bin", "p/face_1"),
    ],
)
def test_names(name, image):
    assert image_name(name) == image


@pytest.mark.parametrize("name", ["lfw.bin", "a/b_c/d.bin", "x.txt"])
def test_names_of_other_files(name):
    with pytest.raises(UserError, match="is not called IMAGE_ALGORITHM"):
        image_name(name)
