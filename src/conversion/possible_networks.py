"""List the networks that an ONNX graph may be, with the versions that its operators leave, and count their layers."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import typing
from collections import Counter
from typing import Any, Dict, Iterator, Sequence, Tuple

import numpy as np

from insightface_mx.base.compat import Symbol
from insightface_mx.cli.types import USUAL_SIZE, Size
from insightface_mx.conversion.fingerprint import Fingerprint, Step
from insightface_mx.conversion.fold_norms import LINEAR
from insightface_mx.conversion.operators import ACTIVATIONS
from insightface_mx.symbols import NAMES, fresnet, get_symbol
from insightface_mx.symbols.networks import DIFFERING, LATER

PIXEL_MEAN = 127.5  # what all networks here subtract from the images, but those of version_input 2
FIRST_OUTPUT = "E"
USUAL_LENGTH = 512  # of the embedding
# of networks that version_multiplier scales: filters of the first convolution
FIRST_FILTERS = {"m1": 32, "mnas": 32, "vargfacenet": 32, "y1": 64, "y2": 64, "y3": 64}
PRELU_ALONE = ("m1", "y1", "y2", "y3")  # networks that have no other activation in the code of 2018
NAMED_BLOCKS = ((1, 4, 6, 2), (2, 8, 16, 4))  # of y1 and y2
STAGES = 4  # of y1

Versions = Dict[str, Any]  # options of get_symbol
VersionsKey = Tuple[Tuple[str, Any], ...]
Kinds = typing.Counter[Tuple[Any, ...]]  # kind of layer -> how many


def possible_networks(fingerprint: Fingerprint) -> Iterator[tuple[str, Versions]]:
    """Yield all networks with all versions that fit a graph's operators, first filters and input.

    version_output is not among the versions.
    """
    for network in reversed(list(NAMES)):  # r50 before r49, which is the same
        families = (2018, 2021) if NAMES[network][0].later and network not in LATER else (2018,)
        for version_family in families:
            choices = _choices(network, version_family, fingerprint)
            for values in itertools.product(*choices.values()):
                yield network, dict(zip(choices, values))


def _choices(network: str, version_family: int, fingerprint: Fingerprint) -> dict[str, Sequence[Any]]:
    """Return the values that each version of a network can have; version_family only where it is 2021."""
    operators = {step.node.op for step in fingerprint.steps}
    choices: dict[str, Sequence[Any]] = {
        "version_input": (1, 0) if np.allclose(fingerprint.mean, PIXEL_MEAN) else (2,),
        "version_unit": (3, 1, 2, 4, 5),
        "version_se": (0, 1) if "Sigmoid" in operators else (0,),
        "version_act": _activations(network, version_family, operators),
    }
    usual = FIRST_FILTERS.get(network)
    if usual and _first_filters(fingerprint) != usual:
        choices["version_multiplier"] = (_first_filters(fingerprint) / usual,)
    elif network.startswith("t"):
        choices["version_multiplier"] = (1.0, 4.0)
    blocks = _blocks(fingerprint) if network == "y1" else NAMED_BLOCKS[0]
    if blocks not in NAMED_BLOCKS:
        choices["version_blocks"] = (",".join(map(str, blocks)),)
    known = versions_of(network, version_family)
    if version_family == 2018 and network in PRELU_ALONE:
        known = [version for version in known if version != "version_act"]
    choices = {key: values for key, values in choices.items() if key in known}
    return {**choices, "version_family": (2021,)} if version_family == 2021 else choices


def _activations(network: str, version_family: int, operators: set[str]) -> list[str]:
    """Return the activations of a graph's operators that a network can have."""
    activations = [name for name, operator in ACTIVATIONS.items() if operator in operators]
    if activations != ["sigmoid"]:  # next to another activation, sigmoid belongs to squeeze-excite
        activations = [name for name in activations if name != "sigmoid"]
    if version_family == 2021 and network not in DIFFERING:  # with PReLU it is the network of 2018
        return [name for name in activations if name != "prelu"]
    return activations


def _first_filters(fingerprint: Fingerprint) -> int:
    """Return the number of filters of the first step; 0 where that is no convolution."""
    node = fingerprint.steps[0].node
    return len(fingerprint.graph.constants[node.inputs[1]]) if node.op == "Conv" else 0


def _blocks(fingerprint: Fingerprint) -> tuple[int, ...]:
    """Return the blocks of the stages that a graph has as a MobileFaceNet; those of y1 where it is none.

    A stage ends with a depthwise convolution of stride 2.
    """
    strides = [kind[1] for kind in map(_kind_of_step, _layers(fingerprint)) if kind[0] == (3, 3) and kind[2]]
    stages = [
        len(list(group)) for halves, group in itertools.groupby(strides, lambda stride: stride == (2, 2)) if not halves
    ]
    return tuple(stages) if len(stages) == STAGES else NAMED_BLOCKS[0]


def versions_of(network: str, version_family: int = 2018) -> Sequence[str]:
    """Return the options that the builder of a network takes."""
    family, _ = NAMES[network]
    later = version_family == 2021 or network in LATER
    builder = family.later if later and family.later else family.builder
    return [name for name in inspect.signature(builder).parameters if name != "version_family"]


def count_layers(network: str, versions: Versions) -> int:
    """Count the convolutions and dense layers with the first output; 0 where there is no such network."""
    family, depth = NAMES[network]
    if family.builder is fresnet.get_symbol:  # half of all networks: not built for this
        counted = {key: versions[key] for key in ("version_unit", "version_se", "version_family") if key in versions}
        return fresnet.count_layers(*depth, **counted)
    return sum(layer_kinds(network, versions).values())


def layer_kinds(network: str, versions: Versions) -> Kinds:
    """Count the convolutions and dense layers with the first output by kind; none: there is no such network."""
    # activations are no layers, and without them the families of most networks do not differ
    left_out = {"version_act"} if network in DIFFERING else {"version_act", "version_family"}
    return _layer_kinds(network, tuple((key, value) for key, value in versions.items() if key not in left_out))


@functools.lru_cache(maxsize=None)
def _layer_kinds(network: str, versions: VersionsKey) -> Kinds:
    symbol = build(network, {**dict(versions), "version_output": FIRST_OUTPUT}, USUAL_LENGTH, USUAL_SIZE)
    if symbol is None:
        return Counter()
    attributes = symbol.attr_dict()
    weights = [name[: -len("weight")] for name in symbol.list_arguments() if name.endswith("weight")]
    return Counter(_kind_of_attributes(attributes.get(name[:-1], attributes.get(f"{name}fwd", {}))) for name in weights)


def _kind_of_attributes(attributes: dict[str, str]) -> tuple[Any, ...]:
    """Return the kind of a convolution or dense layer in MXNet: kernel, strides, and whether it has groups."""
    if "kernel" not in attributes:
        return ("dense",)
    kernel, strides = (ast.literal_eval(attributes.get(key, "(1, 1)")) for key in ("kernel", "stride"))
    return kernel, strides, int(attributes.get("num_group", 1)) > 1


def kinds_of_steps(fingerprint: Fingerprint) -> Kinds:
    """Count the convolutions and dense layers of a graph by kind."""
    return Counter(map(_kind_of_step, _layers(fingerprint)))


def _layers(fingerprint: Fingerprint) -> list[Step]:
    """Return the convolutions and dense layers of a graph whose weights are stored."""
    return [step for step in fingerprint.steps if step.node.op in LINEAR and len(step.key) > 2]


def _kind_of_step(step: Step) -> tuple[Any, ...]:
    """Return the same as _kind_of_attributes for a step of a fingerprint."""
    if step.key[0] == "dense":
        return ("dense",)
    _, (strides, *_, groups), shape = step.key
    return shape[2:], strides, groups > 1


def build(network: str, versions: Versions, length: int, image_size: Size) -> Symbol | None:
    """Return the symbol of a network with an embedding of a length; None where these versions do not go together."""
    try:
        return get_symbol(network, length, image_size=image_size, **versions)
    except ValueError:
        return None
