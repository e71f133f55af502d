"""Give every command the same frame: its parser, and how it ends."""

from __future__ import annotations

import argparse
import contextlib
import re
from typing import Any, Callable, Iterator, Sequence, TypeVar, overload

from insightface_mx.base import __version__
from insightface_mx.base.errors import UserError, printable
from insightface_mx.base.limits import MAX_MESSAGE
from insightface_mx.cli.output import start_logging
from insightface_mx.cli.parser import USER_ERROR, CommandParser
from insightface_mx.cli.signals import Watch, stop_line
from insightface_mx.cli.streams import OutputLost, write_error

NO_MEMORY = (
    "not enough memory: take smaller batches, fewer classes or a part of the images, or end other programs; "
    "in training --memory-report says what is needed"
)
_NO_MEMORY = re.compile(r"failed to allocate|out of memory|bad_alloc", re.IGNORECASE)  # MXNet, CUDA, ONNX Runtime

Parser = TypeVar("Parser", bound=argparse.ArgumentParser)


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description and of the example, and shows defaults that are values."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        help_text = action.help or ""
        if isinstance(action.default, tuple):  # a size: as it is given
            return f"{help_text} (default: {','.join(map(str, action.default))})"
        if action.default is False or action.default in ("", None, argparse.SUPPRESS, []) or "(default" in help_text:
            return help_text
        return super()._get_help_string(action)


@overload
def make_parser(description: str | None, example: str, **settings: Any) -> argparse.ArgumentParser: ...


@overload
def make_parser(description: str | None, example: str, kind: Callable[..., Parser], **settings: Any) -> Parser: ...


def make_parser(
    description: str | None,
    example: str,
    kind: Callable[..., argparse.ArgumentParser] = CommandParser,
    **settings: Any,
) -> argparse.ArgumentParser:
    """Make the parser of a command.

    Args:
        description: What the command does; the docstring of its module.
        example: Command lines to show at the end of --help, one or more lines.
        kind: CommandParser or a subclass.
        settings: Further arguments of `kind`.

    Returns:
        A parser that knows --help and --version.
    """
    parser = kind(**parser_settings(description, example), **settings)
    add_version(parser)
    return parser


def parser_settings(description: str | None, example: str) -> dict[str, Any]:
    """Return how the --help of a command or sub-command looks, as arguments of its parser.

    Args:
        description: What the command does.
        example: Command lines to show at the end, one or more lines.
    """
    lines = "\n".join(f"  {line}" for line in example.strip().splitlines())
    return {"description": description, "epilog": f"example:\n{lines}", "formatter_class": _HelpFormatter}


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add --version to a command or sub-command."""
    parser.add_argument("--version", action="version", version=f"insightface-mx {__version__}")


def run_command(
    run: Callable[[argparse.Namespace], int | None],
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None = None,
) -> None:
    """Parse the command line and run the command; its log goes to standard error unless it says otherwise.

    Args:
        run: Function from the parsed options to the exit status, None for 0; it does the work.
        parser: The command's parser, as `make_parser` makes it.
        argv: Words of the command line; None: those of this process.

    Raises:
        SystemExit: With the command's status if it is not 0; with status 2 for a UserError, whose message is printed
            on standard error without a traceback; with 130 for Ctrl-C and 143 for SIGTERM; with 141 where the reader of
            standard output wants no more, and 2 where it cannot be written for another reason.
    """
    with command_errors():
        args = parser.parse_args(argv)
        start_logging(to_stderr=True)
        status = run(args)
    if status:
        raise SystemExit(status)


@contextlib.contextmanager
def command_errors() -> Iterator[None]:
    """End the process as `run_command` says, without a traceback, for what is no fault of the program."""
    try:
        with Watch():
            yield
    except UserError as error:
        write_error(printable(f"error: {error}", MAX_MESSAGE))
        raise SystemExit(USER_ERROR) from None
    except OutputLost as lost:
        if str(lost):
            write_error(f"error: {lost}")
        raise SystemExit(lost.status) from None
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        write_error(f"error: {NO_MEMORY}")
        raise SystemExit(USER_ERROR) from None
    except KeyboardInterrupt as interrupt:
        line, status = stop_line(interrupt)
        write_error(line)
        raise SystemExit(status) from None
