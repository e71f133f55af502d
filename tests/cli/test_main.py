"""The frame of every command: --help, --version, and the statuses that it ends with."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys

import pytest

from insightface_mx.base import __version__
from insightface_mx.base.errors import UserError
from insightface_mx.cli.main import NO_MEMORY, make_parser, run_command
from insightface_mx.cli.signals import Interrupted
from insightface_mx.cli.streams import OutputLost


def make() -> argparse.ArgumentParser:
    parser = make_parser("Do it.\n\n    do it\n", "do --size 1,2\ndo --fast")
    parser.add_argument("--size", default=(112, 96), help="in pixels")
    parser.add_argument("--rate", default=0.5, help="per second")
    parser.add_argument("--name", default="", help="of it")
    parser.add_argument("--seed", help="of numbers (default: random)")
    parser.add_argument("--sets", nargs="+", default=[], help="of pairs")
    parser.add_argument("--skip", type=int, default=0, help="of them")
    parser.add_argument("--fast", action="store_true", help="at once")
    return parser


def shown(capsys, option) -> str:
    with pytest.raises(SystemExit) as stop:
        run_command(lambda args: pytest.fail("must not run"), make(), [option])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_version(capsys):
    assert shown(capsys, "--version") == f"insightface-mx {__version__}\n"


def test_help_keeps_lines_shows_defaults_and_ends_with_the_example(capsys):
    text = shown(capsys, "--help")
    assert "Do it.\n\n    do it\n" in text
    assert "in pixels (default: 112,96)\n" in text
    assert "per second (default: 0.5)\n" in text
    assert "of it\n" in text
    assert "of pairs\n" in text
    assert "of them (default: 0)\n" in text
    assert "of numbers (default: random)\n" in text
    assert "at once\n" in text
    assert text.endswith("example:\n  do --size 1,2\n  do --fast\n")


def test_a_wrong_option_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        run_command(lambda args: pytest.fail("must not run"), make(), ["--rates", "1", "--sizes", "2"])
    assert stop.value.code == 2
    name = os.path.basename(sys.argv[0])
    assert capsys.readouterr().err == f"error: unrecognized arguments: --rates 1 --sizes 2 (see {name} --help)\n"


def test_a_wrong_option_is_short_and_cannot_steer_the_terminal(capsys):
    with pytest.raises(SystemExit):
        run_command(lambda args: pytest.fail("must not run"), make(), ["--\x1b[2J\n", "x" * 5000])
    error = capsys.readouterr().err
    assert error.startswith("error: unrecognized arguments: --\\x1b[2J\\n xxx")
    assert len(error) < 1000
    assert error.count("\n") == 1


@pytest.mark.parametrize("status", [None, 0])
def test_success_returns(status):
    seen = []

    def run(args):
        seen.append(args.rate)
        return status

    run_command(run, make(), ["--rate", "2"])
    assert seen == ["2"]


def test_a_status_is_the_exit_status():
    with pytest.raises(SystemExit) as stop:
        run_command(lambda args: 143, make(), [])
    assert stop.value.code == 143


@pytest.mark.parametrize(
    "error, status, message",
    [
        (UserError("a.lst: line 3 has no label"), 2, "error: a.lst: line 3 has no label\n"),
        (UserError("\x1b[2Ja.bin\nnames " + "x" * 999), 2, f"error: \\x1b[2Ja.bin\nnames {'x' * 372}...{'x' * 125}\n"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C; no file is left half written\n"),
        (Interrupted(signal.SIGTERM), 143, "stopped by SIGTERM; no file is left half written\n"),
        (MemoryError("Unable to allocate 9.0 TiB"), 2, f"error: {NO_MEMORY}\n"),
        (RuntimeError("simple_bind error.\nMXNetError: Failed to allocate CPU Memory"), 2, f"error: {NO_MEMORY}\n"),
        (RuntimeError("cudaMalloc retry failed: out of memory"), 2, f"error: {NO_MEMORY}\n"),
        (OutputLost(BrokenPipeError()), 141, ""),
        (
            OutputLost(OSError(errno.ENOSPC, "No space left on device")),
            2,
            "error: cannot write on standard output: No space left on device. Is the disk full?\n",
        ),
    ],
)
def test_errors_are_a_message_and_a_status(error, status, message, capsys):
    def run(args):
        raise error

    with pytest.raises(SystemExit) as stop:
        run_command(run, make(), [])
    assert stop.value.code == status
    assert capsys.readouterr() == ("", message)


def test_a_user_error_of_the_parser_is_a_message_too(capsys):
    def fail(text):
        raise UserError(f"{text} is missing")

    parser = make()
    parser.add_argument("--config", type=fail)
    with pytest.raises(SystemExit) as stop:
        run_command(lambda args: None, parser, ["--config", "c.yml"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: c.yml is missing\n"


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda args: 1 // 0, make(), [])

    def fail(args):
        raise RuntimeError("of another kind")

    with pytest.raises(RuntimeError, match="another kind"):
        run_command(fail, make(), [])
