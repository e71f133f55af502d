"""Read text files of whole numbers, a row a line with spaces or tabs between them, at millions of lines a second."""

from __future__ import annotations

import re
from typing import BinaryIO, Iterator

import numpy as np

from insightface_mx.base.errors import UserError, shorten
from insightface_mx.files.regular_file import open_regular
from insightface_mx.files.wrong_file import refuse_wrong_file

_BLOCK = 1 << 23  # bytes that are parsed at a time
_LARGEST = (1 << 31) - 1
_DIGITS = 10  # of the largest number


def read_whole_numbers(path: str, columns: int, grammar: str) -> np.ndarray:
    """Read whole numbers from 0 to 2^31 - 1; empty lines are skipped.

    Args:
        path: The file.
        columns: Numbers in a line.
        grammar: What a line is, for the error's message.

    Returns:
        (n, columns) int32.

    Raises:
        UserError: The file cannot be opened, or a line holds something else; the message names file and line.
    """
    parts = [np.empty((0, columns), np.int32)]
    line = 1
    try:
        with open_regular(path) as file:
            for block in _blocks(file):
                numbers = _parse(block, columns)
                if numbers is None:
                    refuse_wrong_file(path, certain=True)
                    raise UserError(_first_problem(path, block, line, columns, grammar))
                parts.append(numbers)
                line += block.count(b"\n")
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error
    return np.concatenate(parts)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file in pieces that end with a line."""
    rest = b""
    for block in iter(lambda: file.read(_BLOCK), b""):
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
            rest = block[end:]
        else:
            rest += block
            if len(rest) > _BLOCK:  # no line has so many characters
                rest += b"..."  # so it is named as a problem
                break
    if rest:
        yield rest + b"\n"


def _parse(block: bytes, columns: int) -> np.ndarray | None:
    """Return the numbers of complete lines, (n, columns) int32; None where a line is no row of numbers."""
    if block.translate(None, b"0123456789 \t\r\n"):
        return None
    characters = np.frombuffer(block, np.uint8)
    is_digit = characters >= ord("0")
    edges = np.flatnonzero(is_digit[1:] != is_digit[:-1]) + 1  # where a number begins or ends; the last character is \n
    if is_digit[0]:
        edges = np.append(0, edges)
    starts, ends = edges[::2], edges[1::2]
    if len(starts) % columns or (ends - starts).max(initial=0) > _DIGITS:
        return None
    breaks = np.flatnonzero(characters == 10)
    if len(breaks) * columns != len(starts):  # empty lines
        breaks = breaks[np.diff(np.searchsorted(starts, breaks), prepend=0) > 0]
    firsts, lasts = starts[::columns], ends[columns - 1 :: columns]
    if len(breaks) != len(firsts) or (lasts > breaks).any() or (firsts[1:] < breaks[:-1]).any():
        return None
    numbers = np.fromstring(block, np.int64, sep=" ") if len(starts) else np.empty(0, np.int64)
    if numbers.max(initial=0) > _LARGEST:
        return None
    return numbers.astype(np.int32).reshape(-1, columns)


def _first_problem(path: str, block: bytes, line: int, columns: int, grammar: str) -> str:
    """Name the first line of a block that is no row of numbers; `line`: number of its first one."""
    row = re.compile(rb"\s*" + rb"\s+".join([rb"\d{1,%d}" % _DIGITS] * columns) + rb"\s*")
    for number, text in enumerate(block.split(b"\n"), line):
        is_row = row.fullmatch(text) and max(map(int, text.split())) <= _LARGEST
        if text.strip(b" \t\r") and not is_row:
            return f"{path}:{number}: '{shorten(text.strip())}' is not {grammar}"
    return f"{path}:{line}: the file holds other characters than {grammar}"
