"""Messages that show what a stranger's file holds."""

import pytest

from insightface_mx.base.errors import printable, shorten


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("name of a person", "name of a person"),
        (b"fc1_weight", "fc1_weight"),
        (("a", 1), "('a', 1)"),
        ("\x1b[31mred\x9b0m\x07", "\\x1b[31mred\\x9b0m\\x07"),
        ("two\nlines\r\t\0", "two\\nlines\\r\\t\\x00"),
        ("\u202efile.exe\u2028", "\\u202efile.exe\\u2028"),
        (b"M\xe4rz", "M\\udce4rz"),
        ("März 三月 \u3000", "März 三月 \u3000"),
        ("a" * 81, "a" * 57 + "..." + "a" * 20),
        ("start" + "x" * (1 << 20) + "end", "start" + "x" * 52 + "..." + "x" * 17 + "end"),
    ],
)
def test_a_text_from_a_file_is_short_and_on_one_line(text, shown):
    assert shorten(text) == shown


def test_a_text_of_control_characters_is_short_too():
    assert len(shorten("\x1b" * 100)) == 80
    assert len(shorten("\0" * 100, 20)) == 20


def test_lines_stay_lines():
    assert printable("a.bin: \x1b]0;title\x07\ntwo") == "a.bin: \\x1b]0;title\\x07\ntwo"
    assert printable("tabs\tand\r") == "tabs\tand\\r"


def test_overlong_words_and_messages_are_cut():
    assert printable("it names " + "x" * 1000 + " no") == "it names " + "x" * 372 + "..." + "x" * 125 + " no"
    path = "/" + "p" * 400
    assert printable(f"cannot open {path}") == f"cannot open {path}"
    assert len(printable("word " * 1000, 200)) == 200
