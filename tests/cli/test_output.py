"""What a command prints next to a progress bar."""

from __future__ import annotations

import io
import logging
import subprocess
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


COMMANDS = {
    "a report": "from insightface_mx.cli.output import say\n"
    "def main(): run(lambda args: [say('line') for _ in range(9999)] and None)",
    "a log": "import logging\ndef main(): run(log)\n"
    "def log(args):\n    start_logging()\n    for _ in range(9999): logging.info('x')",
    "help": "import sys\ndef main():\n    sys.argv[1:] = ['--help']\n    run(None)",
}
FRAME = """
import subprocess
import sys
sys.path.insert(0, sys.argv.pop(1))
from insightface_mx.cli import start
start._start("command")
"""
HEAD = """
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import start_logging
def run(work): run_command(work, make_parser("It. " * 9999, "it"), None)
"""
LOST = "cannot write on standard output: No space left on device. Is the disk full?"
GOES_ON = "standard output ends here: it cannot be written any more ({}); the work goes on"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command, output, status, message",
    [
        ("a report", "pipe", 141, ""),
        ("a log", "pipe", 0, GOES_ON.format("Broken pipe")),
        ("a report", "/dev/full", 2, f"error: {LOST}"),
        ("help", "/dev/full", 2, f"error: {LOST}"),
        ("a log", "/dev/full", 0, GOES_ON.format("No space left on device")),
        ("a report", "closed", 0, ""),
        ("a log", "closed", 0, ""),
        ("help", "closed", 0, ""),
    ],
)
def test_standard_output_that_cannot_be_written(tmp_path, command, output, status, message):
    (tmp_path / "command.py").write_text(HEAD + COMMANDS[command])
    behind = {"pipe": "| head -c 1 > /dev/null", "closed": ">&-"}.get(output, f"> {output}")
    script = f'{{ "$0" -c "$1" "$2"; echo "$?" > "$2/status"; }} {behind}'
    done = subprocess.run(["bash", "-c", script, sys.executable, FRAME, tmp_path], stderr=subprocess.PIPE, text=True)
    assert (int((tmp_path / "status").read_text()), done.stderr.strip()) == (status, message)
