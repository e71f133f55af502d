"""The parsers of option values."""

from __future__ import annotations

import argparse

import pytest

from insightface_mx.cli.types import (
    NOT_NEGATIVE,
    ZERO_TO_TWO,
    fraction,
    image_size,
    number,
    positive,
    positive_list,
    size_text,
)


@pytest.mark.parametrize("text", ["112,96", "112, 96", " 112 ,96 "])
def test_a_size_is_height_and_width(text):
    assert image_size(text) == (112, 96)
    assert size_text(image_size(text)) == "112,96"


@pytest.mark.parametrize(
    "text", ["112", "112x96", "112,96,3", "0,112", "-1,112", "112,", "", "1e2,112", "\u00b2,112", "9" * 5000 + ",112"]
)
def test_other_sizes_are_refused(text):
    with pytest.raises(
        argparse.ArgumentTypeError, match="is not an image size: write height,width, for example 112,11"
    ):
        image_size(text)


def test_a_size_that_no_face_image_has():
    assert image_size("4096,4096") == (4096, 4096)
    with pytest.raises(
        argparse.ArgumentTypeError, match=r"'99999999,99999999' is no size of a face image: .* at most 4096"
    ):
        image_size("99999999,99999999")


def test_whole_numbers_above_0():
    assert positive("7") == 7
    assert positive_list("3, 1,2") == [3, 1, 2]
    for text in ("0", "-1", "1.5", "", "x", "\u00b2", "9" * 5000):
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a whole number above 0"):
            positive(text)
    with pytest.raises(argparse.ArgumentTypeError, match="'' is not"):
        positive_list("1,")


@pytest.mark.parametrize(
    "kind, text, value", [(int, "0", 0), (int, "7", 7), (float, "0.5", 0.5), (float, "1e-9", 1e-9)]
)
def test_numbers_of_0_or_more(kind, text, value):
    assert number(kind, NOT_NEGATIVE)(text) == value


@pytest.mark.parametrize("text", ["-0.1", "nan", "inf"])
def test_negative_and_infinite_numbers_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text} is not 0 or more"):
        number(float, NOT_NEGATIVE)(text)


def test_a_range_names_its_numbers():
    assert [number(int, ZERO_TO_TWO)(text) for text in ("0", "1", "2")] == [0, 1, 2]
    with pytest.raises(argparse.ArgumentTypeError, match="3 is not 0, 1 or 2"):
        number(int, ZERO_TO_TWO)("3")


def test_what_is_no_number_is_named_by_its_type():
    parser = number(int, NOT_NEGATIVE)
    assert parser.__name__ == "int"
    with pytest.raises(ValueError):
        parser("many")


def test_a_fraction_lies_between_0_and_1():
    assert fraction("0.25") == 0.25
    for text in ("0", "1", "-0.5", "nan"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"{text} is not between 0 and 1"):
            fraction(text)
