"""Read JSON files from strangers: any fault is a ValueError, and memory is bounded by the file's size."""

from __future__ import annotations

import json

from insightface_mx.files.regular_file import open_regular
from insightface_mx.files.wrong_file import LENGTH, name_of_wrong_file

_DIGITS = 20  # of a whole number; longer ones take time that grows with the square of their length


def read_json(path: str, max_bytes: int) -> object:
    """Read a JSON file in UTF-8.

    Args:
        path: The file.
        max_bytes: The largest size that is read.

    Returns:
        What it holds; NaN and infinity are allowed, as Python writes them.

    Raises:
        OSError: The file cannot be opened, or is a pipe or a device.
        ValueError: It is too large, or holds no JSON; the message says why.
    """
    with open_regular(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it has more than the {max_bytes} bytes that are read")
    wrong = name_of_wrong_file(content[:LENGTH], certain=True)
    if wrong:
        raise ValueError(f"it is {wrong}")
    try:
        return json.loads(content.decode("utf-8-sig"), parse_int=_whole_number)
    except UnicodeDecodeError as error:
        raise ValueError("it is no text in UTF-8") from error
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error


def _whole_number(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"it holds a number of {len(text)} digits")
    return int(text)
