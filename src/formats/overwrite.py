"""Decide whether an output may replace what is there: another result of its kind may be, what others need may not."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING, Any, Mapping

from insightface_mx.base.errors import UserError
from insightface_mx.files import manifest
from insightface_mx.files.atomic import report_write_errors
from insightface_mx.files.regular_file import open_regular
from insightface_mx.formats import checkpoint
from insightface_mx.formats.symbol_file import read_graph

if TYPE_CHECKING:
    from insightface_mx.base.compat import Symbol

# how files of a kind begin
_KINDS = {
    "ONNX file": (b"\x08",),
    ".pth file": (b"PK\x03\x04", b"\x80"),
    "verification set": (b"\x80", b"(", b"]"),
    "table of embeddings": (b"PK\x03\x04", b"PAR1", b"name,label,face"),
    "PNG image": (b"\x89PNG",),
    "HTML page": (b"<!DOCTYP", b"<!doctyp", b"<html"),
    "JSON file": (b"{",),
    "table of pairs": (b"one,othe",),
    "table of scores": (b"set,mode",),
    "table of rates": (b"setting,",),
    "table of searches": (b"probe,id",),
}
_HEADS = {"BlockGrad", "MakeLoss", "Softmax", "SoftmaxOutput"}  # what only a graph to train has
_OTHER_OUTPUT = "name another output, or give --force to replace it"


def add_force_option(parser: argparse.ArgumentParser) -> None:
    """Add --force, which `refuse_other_kind` and `refuse_needed_checkpoint` take."""
    parser.add_argument(
        "--force", action="store_true", help="replace existing files of another kind at the output, too"
    )


def refuse_other_kind(path: str, kind: str, force: bool) -> None:
    """Raise UserError if a folder or a file of another kind than the output is there; empty files are of every kind.

    A symbolic link is replaced, and what it names stays.

    Args:
        path: The output.
        kind: What it will be, a key of _KINDS.
        force: Whether other files may be replaced.
    """
    if path.endswith(os.sep) or os.path.isdir(path) and not os.path.islink(path):
        raise UserError(f"{path} is a folder: name the {kind} to write")
    if force or os.path.islink(path):
        return
    with contextlib.suppress(OSError), open_regular(path) as file:  # what cannot be read fails when it is written
        first_bytes = file.read(16)
        if first_bytes and not first_bytes.startswith(_KINDS[kind]):
            raise UserError(f"{path} is there already and is no {kind}: {_OTHER_OUTPUT}")


def refuse_needed_checkpoint(prefix: str, epoch: int, force: bool) -> None:
    """Raise UserError if the graph of an output PREFIX,EPOCH would replace one that another checkpoint needs.

    Args:
        prefix: Of the output.
        epoch: Of the output.
        force: Whether it may be replaced.
    """
    path = checkpoint.symbol_path(prefix)
    if force or not os.path.lexists(path):
        return
    others = [number for number in checkpoint.epochs(prefix) if number != epoch]
    if others:
        needed = f"the graph of {checkpoint.params_path(prefix, others[-1])}"
    elif checkpoint.find_ids(prefix, r"-state-(\d+)\.json"):
        needed = f"the graph of the run whose states are {prefix}-state-*"
    elif _has_head(path):
        needed = "the graph of a training run"
    else:
        return
    raise UserError(f"{path} is {needed}: {_OTHER_OUTPUT}")


def refuse_foreign_graph(prefix: str, symbol: Symbol) -> None:
    """Raise UserError if a run's checkpoints would replace the graph of one that no run here has saved.

    Runs replace each other's checkpoints, as the original's did; an imported, slimmed or downloaded one stays.

    Args:
        prefix: Of the run.
        symbol: The graph of its checkpoints.
    """
    path = checkpoint.symbol_path(prefix)
    if not os.path.isdir(os.path.dirname(prefix) or "."):
        return
    foreign = [n for n in checkpoint.epochs(prefix) if "command" not in checkpoint.saved_metadata(prefix, n)]
    if foreign and os.path.lexists(path) and not _is_graph(path, symbol):
        params = checkpoint.params_path(prefix, foreign[-1])
        raise UserError(f"{path} is the graph of {params}, which no run here has saved: choose another --prefix")


def _is_graph(path: str, symbol: Symbol) -> bool:
    try:
        return checkpoint.load_symbol(path).tojson() == symbol.tojson()
    except UserError:  # no graph that is written here
        return False


def _has_head(path: str) -> bool:
    """Return whether a graph's outputs are those of training; also if the file is none that is written here."""
    try:
        return any(node["op"] in _HEADS for node in json.loads(read_graph(path))["nodes"])
    except UserError:
        return True


def save_checkpoint(
    prefix: str, epoch: int, network: checkpoint.Network, metadata: Mapping[str, Any], force: bool
) -> None:
    """Write a checkpoint and its manifest where no other graph is; call `refuse_needed_checkpoint` before the work.

    The manifests of other checkpoints under the prefix, which --force leaves, describe the new graph afterwards.

    Args:
        prefix: Of the checkpoint.
        epoch: Its number.
        network: Graph, arguments and auxiliary states.
        metadata: For its manifest.
        force: Whether another graph may be replaced.

    Raises:
        UserError: A file cannot be written, or there is another graph.
    """
    symbol_path = checkpoint.symbol_path(prefix)
    is_free = force or not os.path.lexists(symbol_path)
    if not is_free and not _is_graph(symbol_path, network[0]):
        raise UserError(f"{symbol_path} is the graph of other checkpoints: {_OTHER_OUTPUT}")
    checkpoint.save(prefix, epoch, *network)
    with report_write_errors(prefix):
        files = [symbol_path, checkpoint.params_path(prefix, epoch)]
        manifest.write(checkpoint.manifest_path(prefix, epoch), files, metadata)
        for other in checkpoint.epochs(prefix):
            path = checkpoint.manifest_path(prefix, other)
            if other != epoch and os.path.isfile(path):
                manifest.update(path, symbol_path)
                logging.warning("%s now describes the new %s", path, symbol_path)
