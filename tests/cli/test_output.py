"""What a command prints next to a progress bar."""

from __future__ import annotations

import io
import logging
import sys

import pytest
from tqdm import tqdm

from insightface_mx.cli import output


@pytest.fixture(autouse=True)
def root_logger():
    """The root logger as it was before the test."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def test_results_and_notes_go_to_their_streams(capsys):
    output.say("result")
    output.note("note")
    assert capsys.readouterr() == ("result\n", "note\n")


@pytest.mark.parametrize("to_stderr", [False, True])
def test_log_lines_go_to_the_stream_of_the_moment(to_stderr, capsys, monkeypatch):
    output.start_logging(to_stderr=to_stderr)
    logging.info("one %d", 1)
    logging.debug("hidden")
    captured = capsys.readouterr()
    assert (captured.err if to_stderr else captured.out) == "one 1\n"
    assert (captured.out if to_stderr else captured.err) == ""
    replaced = io.StringIO()
    monkeypatch.setattr(sys, "stderr" if to_stderr else "stdout", replaced)
    logging.warning("two")
    assert replaced.getvalue() == "two\n"


def test_names_cannot_steer_the_terminal(tmp_path, capsys):
    file = logging.FileHandler(tmp_path / "a.log")
    file.setFormatter(output.LogFormatter("> %(message)s"))
    output.start_logging(file)
    logging.info("%s", "\x1b[2J")
    file.close()
    output.say("\x1b[31m")
    output.note("\x9b0m")
    assert capsys.readouterr() == ("\\x1b[2J\n\\x1b[31m\n", "\\x9b0m\n")
    assert (tmp_path / "a.log").read_text() == "> \\x1b[2J\n"


def test_further_handlers_get_the_lines_too(tmp_path, capsys):
    file = logging.FileHandler(tmp_path / "a.log")
    file.setFormatter(logging.Formatter("> %(message)s"))
    output.start_logging(file)
    logging.info("line")
    file.close()
    assert (tmp_path / "a.log").read_text() == "> line\n"
    assert capsys.readouterr().out == "line\n"


def test_a_line_clears_the_bar_first(capsys):
    stream = io.StringIO()
    with tqdm(total=2, file=stream, ncols=40, mininterval=0) as bar:
        bar.update()
        output.say("result")
        shown = stream.getvalue()
    assert capsys.readouterr().out == "result\n"
    assert "50%" in shown
    assert not shown.endswith("result\n")
