"""Parse the values of options: each function takes the text of a command line and returns the value.

They are argparse's `type` functions, so that an option means the same in every command. For a wrong text they raise
ArgumentTypeError, or ValueError if it is no number at all. A Range says which numbers an option may have.
"""

from __future__ import annotations

import argparse
import math
from typing import Callable, NamedTuple, Tuple

from insightface_mx.base.limits import MAX_DIGITS, MAX_SIDE

Size = Tuple[int, int]  # height and width in pixels

USUAL_SIZE: Size = (112, 112)  # of images, where neither the user nor the model gives a size


def image_size(text: str) -> Size:
    """Parse 'HEIGHT,WIDTH' in pixels; spaces are allowed.

    Returns:
        Height and width, both from 1 to MAX_SIDE.
    """
    sides = [_whole_number(side.strip()) for side in text.split(",")]
    if len(sides) != 2 or not all(sides):
        raise argparse.ArgumentTypeError(f"'{text}' is not an image size: write height,width, for example 112,112")
    if max(sides) > MAX_SIDE:
        raise argparse.ArgumentTypeError(f"'{text}' is no size of a face image: a side has at most {MAX_SIDE} pixels")
    return sides[0], sides[1]


def _whole_number(text: str) -> int:
    """Return a whole number above 0; 0 where a text is none, or is one of more than MAX_DIGITS digits."""
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else 0


def size_text(size: Size) -> str:
    """Return a size as `image_size` reads it: '112,96' for (112, 96)."""
    return f"{size[0]},{size[1]}"


def positive(text: str) -> int:
    """Parse a whole number above 0."""
    value = _whole_number(text)
    if not value:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return value


def positive_list(text: str) -> list[int]:
    """Parse whole numbers above 0, separated by commas."""
    return [positive(part.strip()) for part in text.split(",")]


class Range(NamedTuple):
    """The numbers that an option may have: in words, and as a test of a finite number."""

    text: str
    holds: Callable[[float], bool]


FINITE = Range("any number", math.isfinite)
NOT_NEGATIVE = Range("0 or more", lambda value: value >= 0)
POSITIVE = Range("more than 0", lambda value: value > 0)
AT_LEAST_ONE = Range("1 or more", lambda value: value >= 1)
ZERO_OR_ONE = Range("0 or 1", lambda value: value in (0, 1))
ZERO_TO_TWO = Range("0, 1 or 2", lambda value: value in (0, 1, 2))
ZERO_TO_LESS_THAN_ONE = Range("from 0 to less than 1", lambda value: 0 <= value < 1)
ZERO_TO_ONE = Range("from 0 to 1", lambda value: 0 <= value <= 1)


def number(kind: Callable[[str], float], allowed: Range) -> Callable[[str], float]:
    """Make a parser of finite numbers in a range.

    Args:
        kind: int or float.
        allowed: The range.
    """

    def parse(text: str) -> float:
        value = kind(text)
        if not (math.isfinite(value) and allowed.holds(value)):
            raise argparse.ArgumentTypeError(f"{text} is not {allowed.text}")
        return value

    parse.__name__ = kind.__name__  # argparse names it if the text is no number at all
    return parse


def fraction(text: str) -> float:
    """Parse a number between 0 and 1, both excluded."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
