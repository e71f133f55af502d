"""Options as frozen dataclasses: a field is an option with its type, default, help and effect on --resume.

    @dataclasses.dataclass(frozen=True)
    class LossOptions:
        margin_s: float = option(64.0, "scale of the logits")

    parser = make_parser(__doc__, example)
    add_options(parser, "loss", LossOptions)
    loss = read_options(parser.parse_args(argv), LossOptions)

A field that a parser lacks fails when the options are read, in every test that runs the command.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, Callable, Sequence, TypeVar, get_type_hints

Options = TypeVar("Options")


def option(
    default: Any,
    help: str,
    *,
    parse: Callable[[str], Any] | None = None,
    choices: Sequence[Any] | None = None,
    metavar: str | None = None,
    may_change: bool = False,
    own_parser: bool = False,
    **argparse_settings: Any,
) -> Any:
    """Declare a field of an options dataclass.

    Args:
        default: The value where the command line does not give the option.
        help: One line for --help, with the unit.
        parse: Turns text into the value; None: the field's type does.
        choices: The values that there are.
        metavar: What --help calls the value.
        may_change: Whether a resumed run may have another value than the saved run.
        own_parser: Whether something else adds the option to the parser, `add_device_options` for example.
        argparse_settings: Further arguments of `add_argument`.
    """
    settings = {
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
        for field in (field for field in dataclasses.fields(cls) if not field.metadata["own_parser"]):
            group.add_argument(
                f"--{field.name.replace('_', '-')}", default=field.default, **_settings(field, kinds[field.name])
            )


def _settings(field: dataclasses.Field[Any], kind: Any) -> dict[str, Any]:
    """Arguments of `add_argument` for a field of type `kind`."""
    declared = field.metadata
    settings = {"help": declared["help"], **declared["argparse"]}
    if kind is bool:
        return {**settings, "action": "store_true"}
    settings["type"] = declared["parse"] or kind
    settings.update((name, declared[name]) for name in ("choices", "metavar") if declared[name] is not None)
    return settings


def read_options(args: argparse.Namespace, cls: type[Options]) -> Options:
    """Make an options dataclass from a parsed command line. Raises AttributeError where the parser lacks a field."""
    return cls(**{field.name: getattr(args, field.name) for field in dataclasses.fields(cls)})  # type: ignore[arg-type]


def group_fields(cls: type[Any]) -> list[tuple[str, dataclasses.Field[Any]]]:
    """List the options in a dataclass of groups, such as `options.SoftmaxOptions`: (name of the group, option)."""
    kinds = get_type_hints(cls)
    groups = [(field.name, kinds[field.name]) for field in dataclasses.fields(cls)]
    return [(name, option) for name, group in groups for option in dataclasses.fields(group)]
