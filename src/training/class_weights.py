"""Take the class weights of a checkpoint as one row a class, however the program that trained it stores them.

Three programs of InsightFace store them in another way:
    * train_parall.py gives each device a part of the classes, the same number to all: fc7_0_weight, fc7_1_weight, ...
      The last part may have rows that are no class.
    * Sub-centre ArcFace (Deng et al., ECCV 2020) has K rows for each class, one after another.
    * Partial FC (arXiv 2010.05222) writes the part of each process beside the checkpoint: 0_centers.param,
      1_centers.param, ... in MXNet, rank_0_softmax_weight.pt, rank_1_softmax_weight.pt, ... in PyTorch.
"""

from __future__ import annotations

import logging
import os
import re

import numpy as np

from insightface_mx.base.compat import NDArray, Params, Symbol, mx
from insightface_mx.base.errors import UserError
from insightface_mx.base.limits import MAX_CENTRES
from insightface_mx.conversion import iresnet
from insightface_mx.engine.symbol_graph import Shape, SymbolGraph, infer_shapes
from insightface_mx.formats import checkpoint

NAME = "fc7_weight"
_PART = re.compile(r"fc7_(\d{1,5})_weight")
_RANK_FILES = (  # of Partial FC: for MXNet, for PyTorch
    re.compile(r"(\d{1,5})_centers\.param", re.ASCII),
    re.compile(r"rank[_:](\d{1,5})_softmax_weight\.pt", re.ASCII),
)


def with_one_row_a_class(prefix: str, saved: Symbol, params: Params, wanted: Shape, data_shape: Shape) -> Params:
    """Return parameters with the class weights as NAME, where they are stored in one of the ways above.

    Args:
        prefix: Of the checkpoint.
        saved: Its graph.
        params: Its parameters.
        wanted: The shape of NAME: classes x length of the embedding.
        data_shape: Of the input `data`.

    Returns:
        The parameters. They are as given where the stored rows cannot be those of so many classes.

    Raises:
        UserError: A file of Partial FC cannot be read, or a part is missing.
    """
    parts = _parts(prefix, params)
    if not parts or any(len(part.shape) != 2 or part.shape[1] != wanted[1] for part in parts.values()):
        return params
    classes = wanted[0]
    stored = _stored_classes([part.shape[0] for part in parts.values()], classes)
    rows = sum(part.shape[0] for part in parts.values())
    if rows % stored or rows == classes == stored == len(params.get(NAME, ())):
        return params
    centres = rows // stored
    if centres > 1 and (centres > MAX_CENTRES or _classes_in_graph(saved, data_shape) == rows):
        return params  # the weights of another training set
    weights = np.concatenate([part.asnumpy().astype(np.float32, copy=False) for part in parts.values()])
    if len(parts) > 1 or NAME not in parts:
        more = f"; its last {stored - classes} rows are no class" if stored > classes else ""
        logging.info("--pretrained %s: %s joined to %d rows%s", prefix, _shown(list(parts)), rows, more)
    if centres > 1:
        logging.info(
            "--pretrained %s: %d rows a class (sub-centres), of which the longest is taken: images lengthen the centre "
            "that they are nearest to, weight decay shortens the others",
            prefix,
            centres,
        )
        weights = longest_of(weights.reshape(stored, centres, -1))
    others = {name: array for name, array in params.items() if not _PART.fullmatch(name)}
    return {**others, NAME: mx.nd.array(weights[:classes])}


def longest_of(centres: np.ndarray) -> np.ndarray:
    """Return the longest of the rows of each class; centres: classes x K x length of the embedding."""
    lengths = np.linalg.norm(centres, axis=2)
    return centres[np.arange(len(centres)), lengths.argmax(axis=1)]


def _parts(prefix: str, params: Params) -> Params:
    """Return the parts of the class weights by their names, in the order of the classes; none where there are none."""
    if NAME in params:
        return {NAME: params[NAME]}
    numbered = {int(match.group(1)): name for name in params for match in [_PART.fullmatch(name)] if match}
    if numbered:
        _check_numbers(numbered, checkpoint.symbol_path(prefix))
        return {numbered[number]: params[numbered[number]] for number in sorted(numbered)}
    return _rank_files(os.path.dirname(prefix) or ".")


def _rank_files(folder: str) -> Params:
    """Return the arrays of the rank files in a folder by their names, in the order of the ranks."""
    for pattern in _RANK_FILES:
        names = {
            int(match.group(1)): name for name in os.listdir(folder) for match in [pattern.fullmatch(name)] if match
        }
        if names:
            _check_numbers(names, folder)
            return {names[rank]: _array_in(os.path.join(folder, names[rank])) for rank in sorted(names)}
    return {}


def _check_numbers(names: dict[int, str], place: str) -> None:
    """Raise UserError where parts are missing: their numbers are not 0, 1, 2, ..."""
    missing = sorted(set(range(max(names, default=-1) + 1)) - set(names))
    if missing:
        raise UserError(
            f"{place}: of the parts of the class weights, {_shown(list(names.values()))}, there is no part {missing[0]}"
        )


def _array_in(path: str) -> NDArray:
    """Return the array of a file that holds one. Raises UserError for another file."""
    if path.endswith(".pt"):
        return mx.nd.array(iresnet.load_array(path))
    arrays = checkpoint.load_arrays(path)
    found = list(arrays.values()) if isinstance(arrays, dict) else list(arrays)
    if len(found) != 1:
        raise UserError(f"{path} holds {len(found)} arrays, not the one of a rank of Partial FC: move it away")
    return found[0]


def _stored_classes(rows: list[int], classes: int) -> int:
    """Return the number of classes that parts of so many rows have room for: parts of equal size end with padding."""
    if len(set(rows)) > 1:
        return classes
    return -(-classes // len(rows)) * len(rows)


def _classes_in_graph(saved: Symbol, data_shape: Shape) -> int:
    """Return how many classes the softmax of a graph tells apart; 0 where that is unknown."""
    graph = SymbolGraph(saved)
    softmaxes = graph.nodes_of("SoftmaxOutput")
    if not softmaxes:
        return 0
    try:
        shape = infer_shapes(graph, {"data": data_shape}).get(softmaxes[-1].output.name, ())
    except mx.base.MXNetError:
        return 0
    return shape[1] if len(shape) == 2 else 0


def _shown(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
