"""Declare options as frozen dataclasses: a field is an option with its type, default, help and effect on --resume.

    @dataclasses.dataclass(frozen=True)
    class LossOptions:
        margin_s: float = option(64.0, "scale of the logits", allowed=POSITIVE)

    parser = make_parser(__doc__, example)
    add_options(parser, "loss", LossOptions)
    loss = read_options(parser.parse_args(argv), LossOptions)

A field without an option in the parser is an error as soon as the options are read, in every test of the command.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, Callable, Sequence, TypeVar, Union, get_args, get_origin, get_type_hints

from insightface_mx.base.errors import UserError
from insightface_mx.cli.types import Range, number

Options = TypeVar("Options")


def option(
    default: Any,
    help: str,
    *,
    allowed: Range | None = None,
    parse: Callable[[str], Any] | None = None,
    choices: Sequence[Any] | None = None,
    metavar: str | None = None,
    may_change: bool = False,
    own_parser: bool = False,
    **argparse_settings: Any,
) -> Any:
    """Declare a field of an options dataclass.

    Args:
        default: The value if the command line does not give the option.
        help: One line for --help, with the unit.
        allowed: The range of a number.
        parse: Function from text to the value; None: the field's type, in its range.
        choices: The allowed values.
        metavar: The name of the value in --help.
        may_change: Whether a resumed run may have another value than the saved run.
        own_parser: Whether another function adds the option to the parser, `add_device_options` for example.
        argparse_settings: Further arguments of `add_argument`.

    Raises:
        TypeError: A number has neither a range nor choices nor a parser that knows them.
    """
    is_number = isinstance(default, (int, float)) and not isinstance(default, bool)
    if is_number and not (allowed or parse or choices or own_parser):
        raise TypeError(f"declare the range of the option '{help}': allowed=NOT_NEGATIVE, for example")
    settings = {
        "allowed": allowed,
        "parse": parse,
        "choices": choices,
        "metavar": metavar,
        "may_change": may_change,
        "own_parser": own_parser,
    }
    metadata = {"help": help, **settings, "argparse": argparse_settings}
    return dataclasses.field(default=default, metadata=metadata)


def add_options(parser: argparse.ArgumentParser, title: str, *classes: type[Any]) -> None:
    """Add the fields of options dataclasses to a parser, as a group with this title."""
    group = parser.add_argument_group(title)
    for cls in classes:
        kinds = get_type_hints(cls)
        for field in dataclasses.fields(cls):
            if not field.metadata["own_parser"]:
                settings = _argparse_settings(field, kinds[field.name])
                group.add_argument(option_name(field.name), default=field.default, **settings)


def option_name(field: str) -> str:
    """Return the option of a field: '--lr-steps' for 'lr_steps'."""
    return f"--{field.replace('_', '-')}"


def _argparse_settings(field: dataclasses.Field[Any], kind: Any) -> dict[str, Any]:
    """Return the arguments of `add_argument` for a field of type `kind`."""
    declared = field.metadata
    settings = {"help": declared["help"], **declared["argparse"]}
    if kind is bool:
        return {**settings, "action": "store_true"}
    settings["type"] = _parser(field, kind)
    settings.update((name, declared[name]) for name in ("choices", "metavar") if declared[name] is not None)
    return settings


def _parser(field: dataclasses.Field[Any], kind: Any) -> Callable[[str], Any]:
    """Return the function from the text of a field's option to its value."""
    if field.metadata["parse"]:
        return field.metadata["parse"]
    if field.metadata["allowed"]:
        return number(value_type(kind), field.metadata["allowed"])
    return kind


def value_type(kind: Any) -> Any:
    """Return the type of a field's value: int for int and for Optional[int]."""
    if get_origin(kind) is Union:
        return next(part for part in get_args(kind) if part is not type(None))
    return kind


def parse_value(field: dataclasses.Field[Any], kind: Any, text: str) -> Any:
    """Parse the text of an option as the command line does.

    Args:
        field: The option.
        kind: Its type.
        text: The text.

    Raises:
        ArgumentTypeError: It is not a value of this option; the message says what is wrong.
    """
    parse = _parser(field, kind)
    try:
        value = parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not of type {parse.__name__}") from None
    choices = field.metadata["choices"]
    if choices is not None and value not in choices:
        raise argparse.ArgumentTypeError(f"'{text}' is not one of {', '.join(map(str, choices))}")
    return value


def read_options(args: argparse.Namespace, cls: type[Options]) -> Options:
    """Make an options dataclass from a parsed command line. Raises AttributeError if the parser lacks a field."""
    return cls(**{field.name: getattr(args, field.name) for field in dataclasses.fields(cls)})  # type: ignore[arg-type]


def changed(options: Any, *names: str) -> list[str]:
    """Return the options of a dataclass that are not at their defaults: '--lr-steps' for 'lr_steps'.

    Args:
        options: The dataclass with its values.
        names: Of its fields only these; none: all.
    """
    fields = [field for field in dataclasses.fields(options) if not names or field.name in names]
    return [option_name(field.name) for field in fields if getattr(options, field.name) != field.default]


def refuse_idle(options: Sequence[str], reason: str) -> None:
    """Refuse options that would act on nothing.

    Args:
        options: Those that were given: '--quality'.
        reason: Why they cannot act, and what to do: 'with --png: leave it out'.

    Raises:
        UserError: There is one.
    """
    if options:
        verb = "has" if len(options) == 1 else "have"
        raise UserError(f"{' and '.join(options)} {verb} no effect {reason}")


def group_fields(cls: type[Any]) -> list[tuple[str, dataclasses.Field[Any]]]:
    """List the options in a dataclass of groups, such as `options.SoftmaxOptions`: (name of the group, option)."""
    kinds = get_type_hints(cls)
    groups = [(field.name, kinds[field.name]) for field in dataclasses.fields(cls)]
    return [(name, option) for name, group in groups for option in dataclasses.fields(group)]
