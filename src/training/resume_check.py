"""Compare a run that is to resume with the run that saved the state: same options, same data, same batches."""

from __future__ import annotations

import logging
import os
from typing import Any, Dict

from insightface_mx.base.errors import UserError
from insightface_mx.cli.fields import group_fields
from insightface_mx.cli.types import size_text
from insightface_mx.files import manifest
from insightface_mx.training.batches import ImageIterator
from insightface_mx.training.state import Metadata

OptionValues = Dict[str, Any]  # option name with underscores -> value, in JSON's types

_COMPARED = {  # besides the options: entry of the metadata -> words of the message
    "command": "command",
    "seed": "--seed",
    "batch_size": "a total batch of",
    "images": "images in train.rec:",
    "bytes": "bytes in train.rec:",
    "classes": "classes in property:",
}


def run_metadata(command: str, options: object, seed: int, images: ImageIterator, contexts: int) -> Metadata:
    """Return what a saved state remembers of its run.

    Args:
        command: The name of the command.
        options: A dataclass of groups of options, such as `options.SoftmaxOptions`.
        seed: The seed that is really used.
        images: The images.
        contexts: Number of contexts.
    """
    return {
        "command": command,
        "options": fixed_options(options),
        "seed": seed,
        "batch_size": images.batch_size,
        "images": len(images.images),
        "bytes": os.path.getsize(images.records.path),
        "classes": images.num_classes,
        "contexts": contexts,
    }


def fixed_options(options: object) -> OptionValues:
    """Return the values of the options that a resumed run must not change."""
    return {
        field.name: _in_json(getattr(getattr(options, group), field.name))
        for group, field in group_fields(type(options))
        if not field.metadata["may_change"]
    }


def check_resume(saved: Metadata, given: Metadata, defaults: OptionValues, override: bool) -> None:
    """Check that the options and the data of a run are those of the saved run.

    Args:
        saved: Metadata of the saved state.
        given: Metadata of this run.
        defaults: Values of the options of this run that are not given. An option that the saved run did not know yet
            counts as its default.
        override: Log differences as warnings instead.

    Raises:
        UserError: They differ; the message names all differences.
    """
    differing = _differences(saved, given, defaults)
    if differing and not override:
        raise UserError(
            f"--resume: the saved run had {'; '.join(differing)}. Give its values, or --override to go on with the new "
            "ones, or another --prefix"
        )
    for text in differing:
        logging.warning("--override: the saved run had %s", text)


def log_environment(saved: Metadata, given: Metadata) -> None:
    """Log what may always differ from the saved run: the number of contexts, and versions of packages."""
    if saved["contexts"] != given["contexts"]:
        logging.info(
            "saved on %d contexts, going on with %d: the same batches in the same order",
            saved["contexts"],
            given["contexts"],
        )
    for name, version in manifest.versions().items():
        if saved["versions"].get(name) != version:
            logging.info("saved with %s %s, going on with %s", name, saved["versions"].get(name), version)


def _differences(saved: Metadata, given: Metadata, defaults: OptionValues) -> list[str]:
    """Return one line for each value that differs."""
    before = {words: saved[name] for name, words in _COMPARED.items()}
    now = {words: given[name] for name, words in _COMPARED.items()}
    before.update(_by_option({**defaults, **saved["options"]}))
    now.update(_by_option(given["options"]))
    return [
        f"{words} {before.get(words)} (now {now.get(words)})"
        for words in {**before, **now}
        if before.get(words) != now.get(words)
    ]


def _by_option(values: OptionValues) -> dict[str, Any]:
    return {f"--{name.replace('_', '-')}": value for name, value in values.items()}


def _in_json(value: Any) -> Any:
    """Return an option's value as JSON holds it: a size as its text."""
    return size_text(value) if isinstance(value, tuple) else value
