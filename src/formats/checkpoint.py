"""Checkpoints in MXNet's own format: PREFIX-symbol.json and PREFIX-NNNN.params, written completely or not at all.

Only the functions that read and write MXNet's arrays and graphs load MXNet.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
from typing import Any, Callable, Collection, Mapping, Tuple

from insightface_mx.base.compat import NDArray, Params, Symbol
from insightface_mx.base.errors import UserError
from insightface_mx.base.quiet import quiet_mxnet
from insightface_mx.cli.types import Size, image_size
from insightface_mx.files import manifest
from insightface_mx.files.atomic import atomic_path, report_write_errors, save_text
from insightface_mx.files.wrong_file import refuse_wrong_file
from insightface_mx.formats.params_file import Shape, check_arrays, map_arrays
from insightface_mx.formats.params_writer import Rows, write_arrays
from insightface_mx.formats.symbol_file import read_graph

Network = Tuple[Symbol, Params, Params]  # graph, arguments, auxiliary states

_EPOCH = "[0-9]{1,9}"  # a number that names a checkpoint


def params_path(prefix: str, epoch: int) -> str:
    """Return the path of a checkpoint's parameters, PREFIX-NNNN.params."""
    return f"{prefix}-{epoch:04d}.params"


def symbol_path(prefix: str) -> str:
    """Return the path of a checkpoint's graph, PREFIX-symbol.json."""
    return f"{prefix}-symbol.json"


def manifest_path(prefix: str, epoch: int) -> str:
    """Return the path of a checkpoint's manifest, PREFIX-NNNN.json."""
    return f"{prefix}-{epoch:04d}.json"


def parse_epochs(text: str) -> tuple[str, list[int]]:
    """Split 'PREFIX,EPOCH', 'PREFIX,EPOCH|EPOCH|...' or 'PREFIX'; the prefix itself may hold commas.

    Returns:
        The prefix and the epochs; no epochs where the text names none.
    """
    match = re.fullmatch(rf"(.+),({_EPOCH}(?:\|{_EPOCH})*)", text, re.DOTALL)
    if not match:
        return text, []
    return match.group(1), [int(epoch) for epoch in match.group(2).split("|")]


def parse(text: str) -> tuple[str, int]:
    """Split 'PREFIX,EPOCH' into prefix and epoch. Raises UserError for other text."""
    prefix, epochs_named = parse_epochs(text)
    if len(epochs_named) != 1:
        raise UserError(f"'{text}' is not a checkpoint: write PREFIX,EPOCH, for example ../model/model,1")
    return prefix, epochs_named[0]


def epochs(prefix: str) -> list[int]:
    """Return the epochs of all checkpoints saved under a prefix, in rising order."""
    return find_ids(prefix, r"-(\d{4,})\.params")


def find_ids(prefix: str, pattern: str) -> list[int]:
    """Return the numbers in the names of files under a prefix, in rising order.

    Args:
        prefix: Path that the files' paths begin with.
        pattern: Regular expression of the rest of the name; its one group is the number.

    Raises:
        UserError: There is no such folder.
    """
    folder, name = os.path.split(prefix)
    expression = re.compile(re.escape(name) + pattern, re.ASCII)
    try:
        matches = [expression.fullmatch(entry) for entry in os.listdir(folder or ".")]
    except OSError as error:
        raise UserError(f"cannot look for checkpoints of {prefix}: {error.strerror}") from error
    return sorted(int(match.group(1)) for match in matches if match)


def saved_image_size(prefix: str, epoch: int) -> Size | None:
    """Return the image size in pixels that a checkpoint's network was trained with, from its manifest.

    Returns:
        Height and width; None if there is no manifest, it does not hold a size, or it is damaged (with a warning).
    """
    return image_size_in(saved_metadata(prefix, epoch))


def saved_metadata(prefix: str, epoch: int) -> dict[str, Any]:
    """Return what a checkpoint's manifest says; nothing if there is none, or it is damaged (with a warning)."""
    path = manifest_path(prefix, epoch)
    if not os.path.isfile(path):
        return {}
    try:
        return manifest.read(path, check_files=False)
    except manifest.Damaged as error:
        logging.warning("the image size is not taken from a damaged manifest: %s", error)
        return {}


def image_size_in(metadata: Mapping[str, Any]) -> Size | None:
    """Return the image size in a manifest; None if it holds none."""
    options = metadata.get("options")
    text = options.get("image_size") if isinstance(options, dict) else None
    try:
        return image_size(text) if isinstance(text, str) else None
    except argparse.ArgumentTypeError:
        return None


def save(prefix: str, epoch: int, symbol: Symbol, arg_params: Params, aux_params: Params) -> None:
    """Write a checkpoint; a reader sees the old files or the new ones, never half of one.

    Raises:
        UserError: The folder cannot be written; the earlier files are untouched.
    """
    params = {f"arg:{name}": array for name, array in arg_params.items()}
    params.update((f"aux:{name}", array) for name, array in aux_params.items())
    path = params_path(prefix, epoch)
    with report_write_errors(path), atomic_path(path) as temporary:
        write_arrays(temporary, params)
        save_text(symbol_path(prefix), symbol.tojson())
        with contextlib.suppress(FileNotFoundError):
            os.remove(manifest_path(prefix, epoch))  # it describes the parameters that are replaced now


def save_arrays(path: str, arrays: Mapping[str, NDArray | Rows]) -> None:
    """Write arrays in MXNet's format, completely or not at all. Raises OSError if the file cannot be written."""
    with atomic_path(path) as temporary:
        write_arrays(temporary, arrays)


def load(prefix: str, epoch: int) -> Network:
    """Read a checkpoint.

    Returns:
        The graph, its arguments and its auxiliary states.

    Raises:
        UserError: A file is missing, damaged, not a checkpoint's, or not what the checkpoint's manifest describes.
    """
    path = params_path(prefix, epoch)
    _check_files(prefix, epoch)
    _check_manifest(manifest_path(prefix, epoch))
    symbol, arrays = load_symbol(symbol_path(prefix)), load_arrays(path)
    if not isinstance(arrays, dict) or not all(name.startswith(("arg:", "aux:")) for name in arrays):
        raise UserError(f"{path} holds no named parameters: it is not an MXNet checkpoint")
    return symbol, without_prefix(arrays, "arg:"), without_prefix(arrays, "aux:")


def load_shapes(prefix: str, epoch: int) -> tuple[Symbol, dict[str, Shape]]:
    """Read a checkpoint's graph, and the shapes of its parameters and moving averages without their values.

    Raises:
        UserError: A file is missing, damaged or not a checkpoint's.
    """
    _check_files(prefix, epoch)
    shapes = check_arrays(params_path(prefix, epoch))
    return load_symbol(symbol_path(prefix)), {name.partition(":")[2]: shape for name, shape in shapes.items()}


def _check_files(prefix: str, epoch: int) -> None:
    """Raise UserError if a file of a checkpoint is missing."""
    for file in (symbol_path(prefix), params_path(prefix, epoch)):
        if not os.path.exists(file):
            found = ", ".join(map(str, epochs(prefix))) if os.path.isdir(os.path.dirname(prefix) or ".") else ""
            exists = f"epochs found under this prefix: {found}" if found else "none found under this prefix"
            raise UserError(f"checkpoint file {file} does not exist; {exists}")


def _check_manifest(path: str) -> None:
    """Raise UserError if there is a manifest and a checkpoint's files are not what it describes."""
    if not os.path.lexists(path):
        return
    try:
        manifest.read(path)
    except manifest.Damaged as error:
        raise UserError(
            f"{error}. The checkpoint was changed or damaged after it was saved: get it again, or remove {path} to use "
            "it as it is"
        ) from error


def load_arrays(path: str) -> Params:
    """Read what `save_arrays` wrote. Raises UserError for a truncated or foreign file."""
    from insightface_mx.base.compat import mx

    check_arrays(path)
    return _read(mx.nd.load, path)


def load_small_arrays(path: str, by_rows: Collection[str]) -> dict[str, Any]:
    """Read what `save_arrays` wrote, some of it only when its rows are taken.

    Args:
        path: The file.
        by_rows: Names of float32 arrays to return as memory maps.

    Raises:
        UserError: The file is truncated or foreign.
    """
    from insightface_mx.base.compat import mx

    return {
        name: array if name in by_rows else mx.nd.array(array, dtype=array.dtype)
        for name, array in map_arrays(path).items()
    }


def load_symbol(path: str) -> Symbol:
    """Read a graph in MXNet's JSON format; see `symbol_file`. Raises UserError for a damaged or foreign file."""
    from insightface_mx.base.compat import mx

    with quiet_mxnet():
        return _read(lambda path: mx.sym.load_json(read_graph(path)), path)


def without_prefix(arrays: Mapping[str, NDArray], prefix: str) -> Params:
    """Return the arrays whose names begin with `prefix`, under the rest of their names."""
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


def _read(reader: Callable[[str], Any], path: str) -> Any:
    """Read a file by a function of MXNet. Raises UserError in place of MXNet's errors."""
    from insightface_mx.base.compat import mx

    try:
        return reader(path)
    except (mx.base.MXNetError, UnicodeDecodeError) as error:
        refuse_wrong_file(path)
        raise UserError(f"cannot read {path}: not an MXNet file, or damaged ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """Return the last line of an error's text: MXNet puts the reason there, after the lines of a C++ trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].replace("MXNetError: ", "") if lines else "no reason given"
