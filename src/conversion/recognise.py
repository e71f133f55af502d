"""Recognise an ONNX graph: compare its fingerprint with those of the candidates among the networks of symbols/.

A candidate is a network with versions that could have led to the graph's operators. It is built, written as an ONNX
graph of its own, and its fingerprint is taken. The first whose fingerprint ends with the same signature is the network.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import typing
from collections import Counter
from typing import Any, Dict, Iterator, NamedTuple, Sequence, Tuple

import numpy as np

from insightface_mx.base.compat import Symbol
from insightface_mx.base.errors import UserError
from insightface_mx.cli.types import USUAL_SIZE, Size
from insightface_mx.conversion.fingerprint import TRAINED, Fingerprint, Step, describe, take_fingerprint
from insightface_mx.conversion.fold_norms import LINEAR
from insightface_mx.conversion.operators import ACTIVATIONS, from_symbol
from insightface_mx.onnx_files.graph import Constants
from insightface_mx.symbols import NAMES, get_symbol
from insightface_mx.symbols.symbol_utils import HEADS

PIXEL_MEAN = 127.5  # what all networks here subtract from the images, but those of version_input 2
FIRST_OUTPUT = "E"
OUTPUTS = [output for output in HEADS if output not in ("Z", "A", "AX", "B", "BX")]  # those with an embedding
MAX_LAYERS_IN_OUTPUT = 2
USUAL_LENGTH = 512  # of the embedding
FIRST_FILTERS = {"m": 32, "y": 64}  # of families that version_multiplier scales: filters of the first convolution

Versions = Dict[str, Any]  # options of get_symbol
VersionsKey = Tuple[Tuple[str, Any], ...]
Kinds = typing.Counter[Tuple[Any, ...]]  # kind of layer -> how many


class Candidate(NamedTuple):
    """A network that a graph may be, with an output (version_output) and its fingerprint."""

    network: str
    versions: Versions
    symbol: Symbol
    fingerprint: Fingerprint

    @property
    def plain_versions(self) -> Versions:
        """The versions without version_output."""
        return {key: value for key, value in self.versions.items() if key != "version_output"}

    @property
    def title(self) -> str:
        """The network with its versions, in words."""
        return " ".join([self.network, *(f"{key} {value}" for key, value in self.versions.items())])


class Match(NamedTuple):
    """The network that a graph is: its title, symbol and fingerprint, and pairs (step of the network, of the graph)."""

    name: str
    symbol: Symbol
    fingerprint: Fingerprint
    pairs: list[tuple[Step, Step]]

    def layers_with_other_norms(self) -> int:
        """Count the layers that do not have as many norms in the network as in the graph."""
        return sum(ours.norm_counts() != theirs.norm_counts() for ours, theirs in self.pairs)


def recognise(fingerprint: Fingerprint, image_size: Size, name: str) -> Match:
    """Return the network that a graph is.

    Outputs (version_output) that differ in norms alone can be distinguished where the graph has all its norms;
    otherwise the result has the first of them.

    Args:
        fingerprint: That of the graph.
        image_size: Height and width of its images.
        name: What UserError calls the graph.

    Raises:
        UserError: No network matches; the message gives the first step that differs from the nearest network.
    """
    if not any(step.node.op in LINEAR for step in fingerprint.steps):
        raise UserError(f"{name} is none of the networks here: it has no convolution and no dense layer")
    compared = []
    for candidate in _candidates(fingerprint, image_size):
        if candidate.fingerprint.signature == fingerprint.signature:
            return _with_same_norms(candidate, fingerprint, image_size)
        compared.append(candidate)
    raise UserError(f"{name} is none of the networks here. {_nearest(compared, fingerprint, image_size)}")


def _candidates(fingerprint: Fingerprint, image_size: Size) -> Iterator[Candidate]:
    """Yield every candidate, the likely ones first; with all its outputs where the graph has its other layers."""
    found = set(fingerprint.signatures.values())
    for network, versions in _likely_networks(fingerprint):
        first, *others = _outputs_of(network)
        candidate = _candidate(network, {**versions, "version_output": first}, fingerprint, image_size)
        if candidate is not None:
            yield candidate
            last_step = candidate.fingerprint.steps[-1]
            if candidate.fingerprint.signatures[last_step.inputs[0]] not in found:
                continue
        for output in others:
            candidate = _candidate(network, {**versions, "version_output": output}, fingerprint, image_size)
            if candidate is not None:
                yield candidate


def _likely_networks(fingerprint: Fingerprint) -> list[tuple[str, Versions]]:
    """Return the networks with about as many layers as the graph, nearest first; if there is none, the nearest."""
    wanted = sum(step.node.op in LINEAR for step in fingerprint.steps)
    ranked = []
    for network, versions in _possible_networks(fingerprint):
        layers = sum(_layer_kinds(network, _key(versions)).values())
        if layers:
            ranked.append((abs(layers - wanted), network, versions))
    ranked.sort(key=lambda entry: entry[0])
    likely = [(network, versions) for distance, network, versions in ranked if distance <= MAX_LAYERS_IN_OUTPUT]
    if not likely:
        _, network, versions = ranked[0]
        return [(network, versions)]
    return likely


def _possible_networks(fingerprint: Fingerprint) -> Iterator[tuple[str, Versions]]:
    """Yield all networks with all versions that fit the graph's operators, first filters and input."""
    for network in reversed(list(NAMES)):  # r50 before r49, which is the same
        choices = _choices(network, fingerprint)
        for values in itertools.product(*choices.values()):
            yield network, dict(zip(choices, values))


def _choices(network: str, fingerprint: Fingerprint) -> dict[str, Sequence[Any]]:
    """Return the values that each version of a network can have; version_output is a matter of its own."""
    operators = {step.node.op for step in fingerprint.steps}
    activations = [name for name, operator in ACTIVATIONS.items() if operator in operators]
    if activations != ["sigmoid"]:  # next to another activation, sigmoid belongs to squeeze-excite
        activations = [name for name in activations if name != "sigmoid"]
    choices: dict[str, Sequence[Any]] = {
        "version_input": (1, 0) if np.allclose(fingerprint.mean, PIXEL_MEAN) else (2,),
        "version_unit": (3, 1, 2, 4, 5),
        "version_se": (0, 1) if "Sigmoid" in operators else (0,),
        "version_act": activations,
    }
    usual = FIRST_FILTERS.get(network[0])
    if usual and _first_filters(fingerprint) != usual:
        choices["version_multiplier"] = (_first_filters(fingerprint) / usual,)
    elif network.startswith("t"):
        choices["version_multiplier"] = (1.0, 4.0)
    known = _versions_of(network)
    return {key: values for key, values in choices.items() if key in known}


def _first_filters(fingerprint: Fingerprint) -> int:
    """Return the number of filters of the first step; 0 where that is no convolution."""
    node = fingerprint.steps[0].node
    return len(fingerprint.graph.constants[node.inputs[1]]) if node.op == "Conv" else 0


def _versions_of(network: str) -> Sequence[str]:
    """Return the options that the builder of a network takes."""
    family, _ = NAMES[network]
    return list(inspect.signature(family.builder).parameters)


def _outputs_of(network: str) -> list[str]:
    """Return the values of version_output that a network has."""
    return OUTPUTS if "version_output" in _versions_of(network) else [FIRST_OUTPUT]


def _key(versions: Versions) -> VersionsKey:
    """Return the versions that convolutions and dense layers depend on, to be a key of a dict."""
    return tuple((key, value) for key, value in versions.items() if key != "version_act")


@functools.lru_cache(maxsize=None)
def _layer_kinds(network: str, versions: VersionsKey) -> Kinds:
    """Count the convolutions and dense layers with the first output by kind; none: there is no such network."""
    symbol = _build(network, {**dict(versions), "version_output": FIRST_OUTPUT}, USUAL_LENGTH, USUAL_SIZE)
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


def _kind_of_step(step: Step) -> tuple[Any, ...]:
    """Return the same for a step of a fingerprint."""
    if step.key[0] == "dense":
        return ("dense",)
    _, (strides, *_, groups), shape = step.key
    return shape[2:], strides, groups > 1


def _candidate(network: str, versions: Versions, fingerprint: Fingerprint, image_size: Size) -> Candidate | None:
    """Build a network with an embedding as long as the graph's; None where it cannot be built."""
    symbol = _build(network, versions, _embedding_length(fingerprint), image_size)
    if symbol is None:
        return None
    return Candidate(network, versions, symbol, fingerprint_of_symbol(symbol, image_size))


def _build(network: str, versions: Versions, length: int, image_size: Size) -> Symbol | None:
    """Return the symbol of a network; None where these versions do not go together."""
    try:
        return get_symbol(network, length, image_size=image_size, **versions)
    except ValueError:
        return None


def _embedding_length(fingerprint: Fingerprint) -> int:
    """Return the length of the vectors in the last trained operator, which are the embedding's."""
    constants = fingerprint.graph.constants
    nodes = [step.node for step in fingerprint.steps if step.node.op in TRAINED]
    return len([constants[node.inputs[1]] for node in nodes if node.inputs[1] in constants][-1])


def fingerprint_of_symbol(symbol: Symbol, image_size: Size) -> Fingerprint:
    """Return the fingerprint of a network whose parameter values do not matter; its constants have their names."""
    shape = (1, 3, *image_size)
    return take_fingerprint(from_symbol(symbol, placeholders(symbol, shape), shape))


def placeholders(symbol: Symbol, data_shape: tuple[int, ...]) -> Constants:
    """Return zeros for all parameters of a symbol, in their shapes but without memory of that size."""
    arguments, _, auxiliary = symbol.infer_shape(data=data_shape)
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    zero = np.zeros((), np.float32)
    return {name: np.broadcast_to(zero, shape) for name, shape in zip(names, arguments + auxiliary) if name != "data"}


def _with_same_norms(first: Candidate, fingerprint: Fingerprint, image_size: Size) -> Match:
    """Return the output that has the norms of the graph; `first` where the graph's norms are folded, or none has."""
    match = _match(first, fingerprint)
    if not 0 < match.layers_with_other_norms() <= MAX_LAYERS_IN_OUTPUT:
        return match
    for output in _outputs_of(first.network):
        candidate = _candidate(first.network, {**first.versions, "version_output": output}, fingerprint, image_size)
        if candidate is not None and candidate.fingerprint.signature == fingerprint.signature:
            other = _match(candidate, fingerprint)
            if not other.layers_with_other_norms():
                return other
    return match


def _match(candidate: Candidate, fingerprint: Fingerprint) -> Match:
    pairs = pair_steps(candidate.fingerprint, fingerprint)
    return Match(candidate.title, candidate.symbol, candidate.fingerprint, pairs)


def pair_steps(ours: Fingerprint, theirs: Fingerprint) -> list[tuple[Step, Step]]:
    """Return (step of ours, step of theirs) for all steps of two equal graphs, from the end on."""
    our_steps, their_steps = ({step.output: step for step in steps} for steps in (ours.steps, theirs.steps))
    waiting, pairs = [(ours.end, theirs.end)], {}
    while waiting:
        our_tensor, their_tensor = waiting.pop()
        if our_tensor in our_steps and their_tensor in their_steps and our_tensor not in pairs:
            step, other = our_steps[our_tensor], their_steps[their_tensor]
            pairs[our_tensor] = step, other
            waiting += zip(ours.ordered_inputs(step), theirs.ordered_inputs(other))
    return list(pairs.values())


def _nearest(compared: list[Candidate], fingerprint: Fingerprint, image_size: Size) -> str:
    """Return in words the first difference from the network whose layers are of the same kinds most often.

    Of the outputs of that network, the one that shares most steps with the graph is taken.
    """
    kinds = Counter(_kind_of_step(step) for step in fingerprint.steps if step.node.op in LINEAR and len(step.key) > 2)

    def likeness(entry: tuple[str, Versions]) -> float:
        of_network = _layer_kinds(entry[0], _key(entry[1]))
        return sum((of_network & kinds).values()) / max(1, sum((of_network | kinds).values()))

    network, versions = max(_possible_networks(fingerprint), key=likeness)
    same = [candidate for candidate in compared if (candidate.network, candidate.plain_versions) == (network, versions)]
    if not same:
        candidate = _candidate(network, {**versions, "version_output": FIRST_OUTPUT}, fingerprint, image_size)
        if candidate is None:
            return f"Nearest is {network}, which takes no images of this size"
        same = [candidate]
    found = set(fingerprint.signatures.values())
    nearest = max(same, key=lambda candidate: len(found.intersection(candidate.fingerprint.signatures.values())))
    theirs = _first_unknown(fingerprint, nearest.fingerprint)
    expected = _first_unknown(nearest.fingerprint, fingerprint)
    return f"Nearest is {nearest.title}: the file has {theirs} where that has {expected}"


def _first_unknown(fingerprint: Fingerprint, other: Fingerprint) -> str:
    """Return in words the first step of a fingerprint that the other does not have."""
    known = set(other.signatures.values())
    for step in fingerprint.steps:
        if fingerprint.signatures[step.output] not in known:
            return describe(step)
    return "nothing more"
