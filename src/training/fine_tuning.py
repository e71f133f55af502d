"""Fine-tuning: start from the parameters of a checkpoint, and train only a part of them."""

from __future__ import annotations

import fnmatch
import logging
from typing import Callable, Collection, Dict, Tuple

from insightface_mx.base.compat import Params, Symbol
from insightface_mx.base.errors import UserError
from insightface_mx.engine.half_precision import to_float32
from insightface_mx.engine.network_input import EMBEDDING
from insightface_mx.engine.symbol_graph import SymbolGraph, pair_variables
from insightface_mx.formats import checkpoint
from insightface_mx.training import class_weights

Shape = Tuple[int, ...]
Shapes = Dict[str, Shape]  # parameter name -> shape

_CLASS_WEIGHTS = "fc7"  # their names start so; they belong to the identities of one training set
_NAMES_SHOWN = 3


def load_pretrained(
    text: str, symbol: Symbol, data_shape: Shape, inputs: Collection[str], strict_classes: bool = False
) -> tuple[Params, Params]:
    """Read the parameters of a checkpoint for `symbol`.

    A parameter with another name at the same place of an equal graph gets the name in `symbol`.

    Class weights in parts or with several rows a class are joined or reduced, see `class_weights`. Class weights that
    are missing (in a slimmed checkpoint) or have another number of classes are left out, so that training starts with
    random ones.

    Args:
        text: 'PREFIX,EPOCH' of the checkpoint.
        symbol: The original graph to train.
        data_shape: Shape of its input `data`.
        inputs: Names of its arguments that are no parameters.
        strict_classes: Do not leave out class weights.

    Returns:
        Parameters and moving averages.

    Raises:
        UserError: Another name or shape differs, or with `strict_classes` that of the class weights.
    """
    prefix, epoch = checkpoint.parse(text)
    saved, arg_params, aux_params = checkpoint.load(prefix, epoch)
    path = checkpoint.params_path(prefix, epoch)
    saved, (arg_params, aux_params) = to_float32(path, saved, arg_params, aux_params)
    expected, expected_aux = _shapes(symbol, data_shape, inputs)
    names = _new_names(saved, symbol, (arg_params, aux_params), (expected, expected_aux))
    if names:
        shown = ", ".join(f"{old} is {new} here" for old, new in [*names.items()][:_NAMES_SHOWN])
        more = f" (and {len(names) - _NAMES_SHOWN} others)" if len(names) > _NAMES_SHOWN else ""
        logging.info("--pretrained %s: %s%s; the checkpoints of this run have the name here", text, shown, more)
    arg_params, aux_params = _renamed(arg_params, names), _renamed(aux_params, names)
    if class_weights.NAME in expected:
        shape = expected[class_weights.NAME]
        arg_params = class_weights.with_one_row_a_class(prefix, saved, arg_params, shape, data_shape)
    differing = _differences(arg_params, expected, lambda name: _is_class_weight(name) and name in expected)
    if differing and strict_classes:
        raise UserError(
            f"--pretrained {text}: {differing[0]}; without --pretrained-fc7 strict the class weights start as random "
            "ones"
        )
    if differing:
        logging.info("--pretrained %s: %s; the class weights start as random ones", text, differing[0])
    if differing or not any(map(_is_class_weight, expected)):
        arg_params = {name: array for name, array in arg_params.items() if not _is_class_weight(name)}
    check_parameters(f"--pretrained {text}", (arg_params, aux_params), symbol, data_shape, inputs)
    return arg_params, aux_params


def check_parameters(
    origin: str,
    params: tuple[Params, Params],
    symbol: Symbol,
    data_shape: Shape,
    inputs: Collection[str],
    with_classes: bool = False,
) -> None:
    """Check that parameters and moving averages have the names and shapes of `symbol`.

    Args:
        origin: Where they come from, for the message.
        params: Parameters and moving averages.
        symbol: The graph to train.
        data_shape: Shape of its input `data`.
        inputs: Names of its arguments that are no parameters.
        with_classes: Check the class weights, too.

    Raises:
        UserError: Some differ; the message names the first of them.
    """
    differing = [
        line
        for arrays, shapes in zip(params, _shapes(symbol, data_shape, inputs))
        for line in _differences(arrays, shapes, lambda name: with_classes or not _is_class_weight(name))
    ]
    if differing:
        raise UserError(
            f"{origin} is another network, {len(differing)} parameters differ: "
            f"{'; '.join(differing[:_NAMES_SHOWN])}. Set --network, --emb-size and the --version options as it had them"
        )


def _new_names(
    saved: Symbol, symbol: Symbol, params: tuple[Params, Params], shapes: tuple[Shapes, Shapes]
) -> dict[str, str]:
    """Return the names in `symbol` of the parameters that a checkpoint has under other names, at the same places.

    MobileFaceNets of 2018, for example, have the weights of the dense layer pre_fc1 as fc1_weight.

    Returns:
        Name in the checkpoint -> name in the symbol; empty if some parameters would still be missing.
    """
    output = f"{EMBEDDING}_output"
    if any(output not in graph.get_internals().list_outputs() for graph in (saved, symbol)):
        return {}
    places = pair_variables(saved.get_internals()[output], symbol.get_internals()[output])
    names = {old: new for old, new in places.items() if old != new and new not in ("data", *params[0], *params[1])}
    complete = not any(
        _differences(_renamed(arrays, names), expected, lambda name: not _is_class_weight(name))
        for arrays, expected in zip(params, shapes)
    )
    return names if complete else {}


def _renamed(arrays: Params, names: dict[str, str]) -> Params:
    return {names.get(name, name): array for name, array in arrays.items()}


def _is_class_weight(name: str) -> bool:
    return name.startswith(_CLASS_WEIGHTS)


def _shapes(symbol: Symbol, data_shape: Shape, inputs: Collection[str]) -> tuple[Shapes, Shapes]:
    """Return the shapes of the parameters and of the moving averages."""
    arguments, _, auxiliary = symbol.infer_shape(data=data_shape)
    shapes = dict(zip(symbol.list_arguments(), arguments))
    parameters = {name: shape for name, shape in shapes.items() if name not in inputs}
    return parameters, dict(zip(symbol.list_auxiliary_states(), auxiliary))


def _differences(arrays: Params, shapes: Shapes, concerns: Callable[[str], bool]) -> list[str]:
    """Return a line for each parameter accepted by `concerns(name)` whose shape differs; expected names first."""
    found = {name: array.shape for name, array in arrays.items() if concerns(name)}
    expected = {name: shape for name, shape in shapes.items() if concerns(name)}
    return [
        f"found {name} {found.get(name, 'nowhere')}, expected {expected.get(name, 'none')}"
        for name in {**expected, **found}
        if found.get(name) != expected.get(name)
    ]


def freeze(symbol: Symbol, patterns: str, inputs: Collection[str]) -> tuple[Symbol, list[str]]:
    """Choose the parameters that keep their values; see `frozen_names` and `with_fixed_averages`.

    Returns:
        The symbol to train, and the names of the parameters for Module's fixed_param_names.
    """
    frozen = frozen_names(symbol, patterns, inputs)
    return with_fixed_averages(symbol, frozen), frozen


def frozen_names(symbol: Symbol, patterns: str, inputs: Collection[str]) -> list[str]:
    """Return the names of the parameters that keep their values.

    Args:
        symbol: The graph to train.
        patterns: Shell patterns of parameter names, separated by commas ('conv0*,stage1*').
        inputs: Names of the symbol's arguments that are no parameters.

    Raises:
        UserError: A pattern matches no parameter.
    """
    names = [name for name in symbol.list_arguments() if name not in inputs]
    frozen = []
    for pattern in filter(None, patterns.split(",")):
        matching = fnmatch.filter(names, pattern)
        if not matching:
            raise UserError(
                f"--freeze {pattern}: no parameter has such a name; the names are {', '.join(names[:5])}, ..."
            )
        frozen += matching
    return frozen


def with_fixed_averages(symbol: Symbol, frozen: Collection[str]) -> Symbol:
    """Let the batch norms whose gamma is frozen keep their moving averages, and normalize with them."""
    graph = SymbolGraph(symbol)
    for norm in graph.nodes_of("BatchNorm"):
        _, gamma, *_ = norm.inputs
        if gamma.name in frozen:
            norm.attrs["use_global_stats"] = "True"
    return graph.to_symbol()
