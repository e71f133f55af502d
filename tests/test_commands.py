"""Every command: its options with their defaults, its --help and its --version."""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from insightface_mx.base import __version__
from insightface_mx.base.machine import cpu_count
from insightface_mx.cli import start

ROOT = Path(__file__).parents[1]
SCRIPTS = re.findall(
    r'^(insightface-[\w-]+) = "insightface_mx\.cli\.start:(\w+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
)
COMMANDS = {name: getattr(start, function).args[0] for name, function in [*SCRIPTS, ("demo.py", "demo")]}
RECORDED = [
    re.split(r"\s{2,}", line)
    for line in (ROOT / "tests" / "golden" / "options.txt").read_text().splitlines()
    if not line.startswith("#")
]
HEAVY = ("mxnet", "onnx", "onnxruntime", "openvino", "nncf", "torch", "sklearn", "scipy", "tensorboardX", "matplotlib")


class Parsed(Exception):
    """Carries the parser of a command out of its main()."""


def parser_of(command: str) -> argparse.ArgumentParser:
    def stop(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        raise Parsed(parser)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed) as parsed:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        importlib.import_module(COMMANDS[command]).main([])
    return parsed.value.args[0]


def actions_of(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """Every option as ('COMMAND OPTION', action), those of sub-commands included."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub, of_sub in action.choices.items():
                yield from actions_of(f"{name} {sub}", of_sub)
        else:
            yield f"{name} {' '.join(action.option_strings) or action.dest}", action


def default_text(action: argparse.Action) -> str:
    """The default as the table has it: a size or a list as its text."""
    default = action.default
    if default is None:
        return "-"
    if isinstance(default, tuple) or (isinstance(default, list) and default):
        return ",".join(map(str, default))
    return str(default) if default != "" else "''"


def test_the_table_covers_every_command():
    assert len(COMMANDS) == 21
    assert {fields[0].split()[0] for fields in RECORDED} == set(COMMANDS)
    assert len(RECORDED) == 279


@pytest.mark.parametrize("command", COMMANDS)
def test_options_keep_their_names_and_defaults(command):
    actions = dict(actions_of(command, parser_of(command)))
    rows = [fields for fields in RECORDED if fields[0].split()[0] == command]
    assert rows
    for name, option, default, *rest in rows:
        action = actions[f"{name} {option}"]
        if option == "--image-size" and action.default is None:
            assert f"{name} --model" in actions  # the size is the checkpoint's
        elif option == "--gpu" and default == "0":
            assert actions[f"{name} --ctx"].default == "gpu-or-cpu:0"
        else:
            assert default_text(action) == default.replace("CPUs", str(cpu_count())), option
        choices = next((text[len("choices=") :] for text in rest if text.startswith("choices=")), "")
        assert ",".join(map(str, action.choices or ())) == choices, option
        assert action.required == ("required" in rest), option


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_an_example_and_loads_nothing_heavy(command):
    code = (
        f"import sys; import {COMMANDS[command]} as command\n"
        "try:\n    command.main(['--help'])\n"
        "except SystemExit as stop:\n    print(stop.code, [name for name in sys.argv[1:] if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True)
    *text, last = done.stdout.splitlines()
    assert last == "0 []"
    example = text[text.index("example:") + 1 :]
    assert example
    script = COMMANDS[command].rpartition(".")[2]
    assert any(f"{script}.py" in line or command in line for line in example)


@pytest.mark.parametrize("command", COMMANDS)
def test_version(command, capsys):
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(COMMANDS[command]).main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"insightface-mx {__version__}\n"


@pytest.mark.parametrize("name", ["merge", "filter", "clean", "exclude"])
def test_sub_commands_know_version_and_show_their_own_examples(name, capsys):
    command = importlib.import_module(COMMANDS["insightface-edit-set"])
    with pytest.raises(SystemExit) as stop:
        command.main([name, "--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"insightface-mx {__version__}\n"
    with pytest.raises(SystemExit):
        command.main([name, "--help"])
    examples = capsys.readouterr().out.partition("example:\n")[2].splitlines()
    assert len(examples) == (2 if name == "merge" else 1)
    assert all(line.startswith(f"  insightface-edit-set {name} ") for line in examples)
