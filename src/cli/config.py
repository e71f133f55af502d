"""Read options from a file or a named preset: --config. Options on the command line override them.

The keys of a file are names of options, with dashes or underscores; a list stands for values separated by commas.
JSON (.json) and YAML (.yml, .yaml) files are data. A Python file (.py) is EXECUTED; it sets `config`, an EasyDict:

    from easydict import EasyDict
    config = EasyDict(network="r100", lr_steps=[100000, 140000, 160000])
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import os
import runpy
from pathlib import Path
from typing import Any, Callable, Collection, Mapping, NamedTuple, Sequence, get_type_hints

from insightface_mx.base.errors import UserError
from insightface_mx.cli.fields import group_fields, parse_value
from insightface_mx.cli.parser import CommandParser
from insightface_mx.files.wrong_file import refuse_wrong_file

Translate = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Preset(NamedTuple):
    """Options under a name, with one line that describes them."""

    description: str
    values: Mapping[str, Any]


class ConfigParser(CommandParser):
    """A parser with the option --config, whose file or preset takes the place of the defaults."""

    def __init__(
        self, *, options: type[Any], presets: Mapping[str, Preset], translate: Translate = dict, **settings: Any
    ) -> None:
        """Make a parser that knows --config and --help.

        Args:
            options: The dataclass of groups of the command's options, such as `options.SoftmaxOptions`.
            presets: Presets by name; their values are checked like those of a file.
            translate: Turns the keys and values of a file into options; raises ValueError for a file it cannot read.
            settings: Arguments of CommandParser.
        """
        super().__init__(**settings)
        self._options, self._presets, self._translate = options, presets, translate
        width = max(map(len, presets), default=0)
        lines = [f"{name:{width}}  {preset.description}" for name, preset in presets.items()]
        group = self.add_argument_group("config", "\n".join(["presets:", *lines]) if lines else None)
        group.add_argument(
            "--config",
            default="",
            metavar="FILE|PRESET" if presets else "FILE",
            help="read options from FILE (.json, .yml, or .py, which is executed), as a run writes PREFIX-config.json; "
            "options on the command line override them",
        )

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Parse a command line; see ArgumentParser.

        Raises:
            UserError: The file of --config cannot be used.
        """
        parsed, rest = super().parse_known_args(args, namespace)
        if parsed.config:
            values = read_config(parsed.config, self._options, self._presets, self._translate)
            parsed, rest = super().parse_known_args(args, argparse.Namespace(**values))
        return parsed, rest


def read_config(
    source: str, options: type[Any], presets: Mapping[str, Preset], translate: Translate = dict
) -> dict[str, Any]:
    """Read the values of a config file or preset.

    Args:
        source: Name of a preset, or path of a file.
        options: The dataclass of groups of the command's options.
        presets: Presets by name.
        translate: Turns the keys and values of a file into options, see ConfigParser.

    Returns:
        Values by field name, parsed as those of the command line.

    Raises:
        UserError: The file cannot be read, or a key or value is wrong; the message names file and key.
    """
    if source in presets:
        given: object = presets[source].values
    elif not os.path.isfile(source):
        problem = f"there is no such file{_near(source, presets, 'preset')}"
        raise UserError(f"--config {source}: {problem}; presets: {', '.join(presets) or 'none'}")
    else:
        given = _read_file(source)
    if not isinstance(given, Mapping):
        raise UserError(f"--config {source}: it must hold names of options with their values")
    try:
        given = translate(given)
    except ValueError as error:
        raise UserError(f"--config {source}: {error}") from None
    kinds = {name: kind for group in get_type_hints(options).values() for name, kind in get_type_hints(group).items()}
    fields = {field.name: field for _, field in group_fields(options)}
    values = {}
    for key, value in given.items():
        name = str(key).replace("-", "_")
        if name not in fields:
            raise UserError(f"--config {source}: there is no option '{key}'{_near(name, fields, 'option')}")
        try:
            values[name] = _parse(fields[name], kinds[name], value)
        except argparse.ArgumentTypeError as error:
            raise UserError(f"--config {source}: {key}: {error}") from None
    return values


def _near(name: str, known: Collection[str], what: str) -> str:
    """Return a hint with the most similar known names, '' if there is none."""
    near = difflib.get_close_matches(name, known)
    return f" (similar {what}s: {', '.join(near)})" if near else ""


def _read_file(path: str) -> object:
    """Read a file by its extension."""
    kind = Path(path).suffix.lower()
    if kind not in (".py", ".json", ".yml", ".yaml"):
        raise UserError(f"--config {path}: its name must end in .py, .json, .yml or .yaml")
    refuse_wrong_file(path, certain=True)
    if kind == ".py":
        return _run_python(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        return json.loads(text) if kind == ".json" else _load_yaml(text)
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"--config {path}: {' '.join(str(error).split())}") from error


def _run_python(path: str) -> object:
    """Execute a Python file and return its `config`."""
    try:
        names = runpy.run_path(path)
    except SyntaxError as error:
        raise UserError(f"--config {path}: {error}") from error
    if "config" not in names:
        raise UserError(f"--config {path}: it sets no `config`, for example config = EasyDict(network='r100')")
    return names["config"]


def _load_yaml(text: str) -> object:
    """Load YAML without executing anything. Raises ValueError if it is malformed."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _parse(field: dataclasses.Field[Any], kind: Any, value: object) -> Any:
    """Parse the value of a file like the text of a command line. Raises ArgumentTypeError if it is wrong."""
    if kind is bool:
        if not isinstance(value, bool):
            raise argparse.ArgumentTypeError(f"{value!r} is not true or false")
        return value
    if value is None and field.default is None:
        return None
    parts = value if isinstance(value, (list, tuple)) else [value]
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, (str, int, float)):
            raise argparse.ArgumentTypeError(f"{value!r} is not text, a number or a list of these")
    return parse_value(field, kind, ",".join(map(str, parts)))


def config_text(options: Any, leave_out: Collection[str] = ()) -> str:
    """Write options as a JSON file for --config.

    Args:
        options: A dataclass of groups with the values.
        leave_out: Names of fields to leave out.

    Returns:
        Every other option, also those at their default, so that the file means the same in later versions.
    """
    values = {field.name: getattr(getattr(options, group), field.name) for group, field in group_fields(type(options))}
    return json.dumps({name: value for name, value in values.items() if name not in leave_out}, indent=1) + "\n"
