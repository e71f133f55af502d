"""Write the pages that follow from the code.

    python tools/write_reference.py

docs/reference/options.md, all training options, comes from the options dataclasses and the presets; the table of limits
in SECURITY.md from src/base/limits.py. A test fails while a page in the repository is not the one that this writes.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Iterator, get_type_hints

from insightface_mx import losses, options
from insightface_mx.base import limits
from insightface_mx.cli.fields import option_name, value_type
from insightface_mx.cli.types import Range, Size
from insightface_mx.presets import PRESETS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "options.md"
SECURITY, LIMITS = ROOT / "SECURITY.md", ROOT / "src" / "base" / "limits.py"
BEGIN, END = "<!-- limits: written by tools/write_reference.py -->\n", "<!-- end of the limits -->\n"
COMMANDS = {"train_softmax.py": options.SoftmaxOptions, "train_triplet.py": options.TripletTrainingOptions}
TYPES = {int: "whole number", float: "number", str: "text", bool: "flag", Size: "height,width"}

HEAD = """\
# Options of the training commands

<!-- Written by tools/write_reference.py from the options dataclasses: change those, not this page. -->

`train_softmax.py` (`insightface-train`) and `train_triplet.py` (`insightface-train-triplet`) share most options.

"On resume" says what `--resume` does with a value that differs from the saved run's: *must match* is an error, unless
`--override` is given; *may change* uses the new value. The seed, the total batch and the size of the training set must
match, too. A saved run that is older than an option counts as having its default.
"""

CONFIG = """\
## Files and presets: `--config FILE|PRESET`

A file takes the place of the defaults, and options on the command line override it. Its keys are names of options, with
dashes or underscores; a list stands for values separated by commas; a flag is `true` or `false`. A flag that the file
sets cannot be unset on the command line.

| File | Content |
|---|---|
| `NAME.json` | an object: `{"network": "r100", "lr_steps": [100000, 140000]}` |
| `NAME.yml`, `NAME.yaml` | a mapping: `network: r100`; loaded as plain data |
| `NAME.py` | Python that sets `config`, an EasyDict. **The file is executed: use only files that you trust.** |

Every run but one with `--ckpt 0` writes `PREFIX-config.json` with all of its options, the seed that it really used
included and `resume` and `override` left out: `--config PREFIX-config.json` repeats the run. Paths in it are relative
to the current folder, as on the command line.

Presets of `train_softmax.py`, from `src/presets.py`, which names the sources:

| Preset | Recipe | Options |
|---|---|---|
"""


def page() -> str:
    """Return the text of the page."""
    groups: dict[tuple[str, type[Any]], list[str]] = {}  # (name of the group, its class) -> commands
    for command, cls in COMMANDS.items():
        for name, group in get_type_hints(cls).items():
            groups.setdefault((name, group), []).append(command)
    sections = [_section(options.TITLES[name], group, commands) for (name, group), commands in groups.items()]
    rows = [
        f"| `{name}` | {preset.description} | {_preset_options(preset.values)} |" for name, preset in PRESETS.items()
    ]
    return "\n".join([HEAD, *sections, CONFIG + "\n".join(rows)]) + "\n"


def _section(title: str, group: type[Any], commands: list[str]) -> str:
    """Return the section of one group of options."""
    only = f" (only `{commands[0]}`)" if len(commands) < len(COMMANDS) else ""
    kinds = get_type_hints(group)
    rows = [_row(field, kinds[field.name]) for field in dataclasses.fields(group)]
    heading = [f"## {title.capitalize()}{only}", "", (group.__doc__ or "").splitlines()[0], ""]
    head = ["| Option | Meaning | Type | Default | Allowed | On resume |", "|---|---|---|---|---|---|"]
    by_loss = _ranges_by_loss() if group is options.LossOptions else []
    return "\n".join([*heading, *head, *rows, "", *by_loss])


def _ranges_by_loss() -> list[str]:
    """Return the lines of the table that says which values each --loss-type allows."""
    rows = [f"| `{loss_type}` {loss.name} | {_allowed_by(loss.ranges)} |" for loss_type, loss in losses.LOSSES.items()]
    return ["| Value of `--loss-type` | Allowed |", "|---|---|", *rows, ""]


def _allowed_by(ranges: dict[str, Range]) -> str:
    """Write the ranges of one loss type."""
    return "; ".join(f"`{option_name(name)}` {allowed.text}" for name, allowed in ranges.items()) or "no margin"


def _row(field: dataclasses.Field[Any], kind: Any) -> str:
    """Return the row of one option."""
    declared = field.metadata
    allowed = ", ".join(map(str, declared["choices"] or ())) or (
        declared["allowed"].text if declared["allowed"] else ""
    )
    resume = "may change" if declared["may_change"] else "must match"
    cells = [f"`{option_name(field.name)}`", declared["help"], _type(kind), _default(field.default), allowed, resume]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _type(kind: Any) -> str:
    """Name a type, that of the value for an Optional."""
    return TYPES[value_type(kind)]


def _default(value: object) -> str:
    """Write a default as on the command line."""
    if value is None or value == "":
        return "none"
    if value is False:
        return "off"
    return f"`{','.join(map(str, value))}`" if isinstance(value, tuple) else f"`{value}`"


def _preset_options(values: Any) -> str:
    """Write the options of a preset as a command line."""
    return " ".join(f"`{option_name(name)} {value}`" for name, value in values.items())


def security_page() -> str:
    """Return the text of SECURITY.md with today's limits in its table."""
    head, _, rest = SECURITY.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    lines = ["", "| limit | value | of what |", "|---|--:|---|"]
    section = ""
    for title, name, comment in _limits(LIMITS.read_text(encoding="utf-8")):
        if title != section:
            lines.append(f"| **{title}** | | |")
            section = title
        lines.append(f"| `{name}` | {getattr(limits, name):,} | {comment} |")
    return head + BEGIN + "\n".join([*lines, "", END]) + tail


def _limits(source: str) -> Iterator[tuple[str, str, str]]:
    """Yield section, name and comment of each limit in the module's source.

    Raises:
        ValueError: A name is given twice: the second value would count for both readers.
    """
    section, seen = "", set()
    for line in source.splitlines():
        title = re.fullmatch(r"# (.+)", line)
        limit = re.fullmatch(r"([A-Z][A-Z0-9_]*) = [^#]+?(?:  # (.+))?", line)
        if title:
            section = title.group(1)
        elif limit:
            name, comment = limit.groups(default="")
            if name in seen:
                raise ValueError(f"{LIMITS.name}: {name} is given twice")
            seen.add(name)
            yield section, name, comment


def main() -> None:
    """Write the pages."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    SECURITY.write_text(security_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
