"""Tables of whole numbers: what is read, and the line of what is not."""

import numpy as np
import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.files import number_table
from insightface_mx.files.number_table import read_whole_numbers


def read(tmp_path, content, columns=3):
    path = tmp_path / "table.txt"
    path.write_bytes(content)
    return read_whole_numbers(str(path), columns, "three numbers").tolist()


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"1 2 1\n3 4 0\n", [[1, 2, 1], [3, 4, 0]]),
        (b"1 2 1\r\n3\t4   0\r\n", [[1, 2, 1], [3, 4, 0]]),
        (b" 1 2 1 \n\n \n3 4 0", [[1, 2, 1], [3, 4, 0]]),
        (b"2147483647 0 0000000001\n", [[2147483647, 0, 1]]),
        (b"", []),
        (b"\n\n", []),
    ],
)
def test_rows(tmp_path, content, rows):
    assert read(tmp_path, content) == rows


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_give_what_one_piece_gives(tmp_path, monkeypatch, block):
    monkeypatch.setattr(number_table, "_BLOCK", max(block, 20))
    rows = np.random.RandomState(0).randint(0, 30000, (300, 3)).tolist()
    assert read(tmp_path, b"".join(b"%d %d %d\n" % tuple(row) for row in rows)) == rows


@pytest.mark.parametrize(
    ("content", "line", "text"),
    [
        (b"1 2 1\n3 4\n5 6 0 1\n", 2, "3 4"),
        (b"1 2 1\n3 4 0 5\n6 0\n", 2, "3 4 0 5"),
        (b"1 2 1\n3 4.5 0\n", 2, "3 4.5 0"),
        (b"1 2 1\n\n-3 4 0\n", 3, "-3 4 0"),
        (b"1 2 2147483648\n", 1, "1 2 2147483648"),
        (b"1 2 99999999999999999999\n", 1, "1 2 99999999999999999999"),
        (b"a,b,c\n", 1, "a,b,c"),
        (b"\x00\x01\x02", 1, r"\x00\x01\x02"),
    ],
)
def test_the_first_wrong_line_is_named(tmp_path, content, line, text):
    with pytest.raises(UserError) as error:
        read(tmp_path, content)
    assert str(error.value) == f"{tmp_path}/table.txt:{line}: '{text}' is not three numbers"


def test_a_wrong_line_of_a_later_block(tmp_path, monkeypatch):
    monkeypatch.setattr(number_table, "_BLOCK", 32)
    with pytest.raises(UserError, match=r"table\.txt:41: '1 x 1' is not"):
        read(tmp_path, b"1 2 1\n" * 40 + b"1 x 1\n" + b"1 2 1\n" * 3)


@pytest.mark.parametrize("content", [b"1 " * (1 << 20), b"1 2 3" + b" " * (1 << 20)])
def test_one_endless_line_is_not_read_to_its_end(tmp_path, monkeypatch, content):
    monkeypatch.setattr(number_table, "_BLOCK", 1 << 10)
    with pytest.raises(UserError, match=r"table\.txt:1: '1 (1 1|2 3)"):
        read(tmp_path, content)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match=r"cannot open .*nothing: No such file"):
        read_whole_numbers(str(tmp_path / "nothing"), 3, "")
