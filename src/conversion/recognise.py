"""Recognise an ONNX graph: compare its fingerprint with those of the candidates among the networks of symbols/.

A candidate is a network with versions that could have led to the graph's operators. It is built, written as an ONNX
graph of its own, and its fingerprint is taken. The first whose fingerprint ends with the same signature is the network.
"""

from __future__ import annotations

from typing import Iterator, NamedTuple

import numpy as np

from insightface_mx.base.compat import Symbol
from insightface_mx.base.errors import UserError
from insightface_mx.cli.types import Size
from insightface_mx.conversion.fingerprint import TRAINED, Fingerprint, Step, describe, take_fingerprint
from insightface_mx.conversion.fold_norms import LINEAR
from insightface_mx.conversion.operators import from_symbol
from insightface_mx.conversion.possible_networks import (
    FIRST_OUTPUT,
    Kinds,
    Versions,
    build,
    count_layers,
    kinds_of_steps,
    layer_kinds,
    possible_networks,
    versions_of,
)
from insightface_mx.onnx_files.graph import Constants
from insightface_mx.symbols.parts.symbol_utils import HEADS

OUTPUTS = [output for output in HEADS if output not in ("Z", "A", "AX", "B", "BX", "FC")]  # with an embedding; FC is I
MAX_LAYERS_IN_OUTPUT = 2


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
    """Return the networks with about the layers of the graph, nearest first.

    If there is none, those with about as many layers, and if there is none, the nearest.
    """
    wanted = sum(step.node.op in LINEAR for step in fingerprint.steps)
    counted = [(count_layers(*entry), *entry) for entry in possible_networks(fingerprint)]
    ranked = sorted(
        ((abs(layers - wanted), network, versions) for layers, network, versions in counted if layers),
        key=lambda entry: entry[0],
    )
    likely = [(network, versions) for distance, network, versions in ranked if distance <= MAX_LAYERS_IN_OUTPUT]
    if not likely:
        _, network, versions = ranked[0]
        return [(network, versions)]
    kinds = kinds_of_steps(fingerprint)
    return [entry for entry in likely if _differ_in_output(layer_kinds(*entry), kinds)] or likely


def _differ_in_output(ours: Kinds, theirs: Kinds) -> bool:
    """Return whether layers are of the same kinds, but for as many as the output can have."""
    return max(sum((ours - theirs).values()), sum((theirs - ours).values())) <= MAX_LAYERS_IN_OUTPUT


def _outputs_of(network: str) -> list[str]:
    """Return the values of version_output that a network has."""
    return OUTPUTS if "version_output" in versions_of(network) else [FIRST_OUTPUT]


def _candidate(network: str, versions: Versions, fingerprint: Fingerprint, image_size: Size) -> Candidate | None:
    """Build a network with an embedding as long as the graph's; None where it cannot be built."""
    symbol = build(network, versions, _embedding_length(fingerprint), image_size)
    if symbol is None:
        return None
    return Candidate(network, versions, symbol, fingerprint_of_symbol(symbol, image_size))


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
    network, versions = _most_alike(fingerprint)
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


def _most_alike(fingerprint: Fingerprint) -> tuple[str, Versions]:
    """Return the first network of those whose layers are of the same kinds as the graph's most often.

    A network is built only where the number of its layers leaves it a chance.
    """
    kinds = kinds_of_steps(fingerprint)
    entries = list(possible_networks(fingerprint))

    def bound(index: int) -> float:
        counts = sum(kinds.values()), count_layers(*entries[index])
        return min(counts) / max(1, *counts)

    best, found = -1.0, 0
    for index in sorted(range(len(entries)), key=bound, reverse=True):
        if bound(index) < best:
            break
        ours = layer_kinds(*entries[index])
        likeness = sum((ours & kinds).values()) / max(1, sum((ours | kinds).values()))
        if (likeness, -index) > (best, -found):
            best, found = likeness, index
    return entries[found]


def _first_unknown(fingerprint: Fingerprint, other: Fingerprint) -> str:
    """Return in words the first step of a fingerprint that the other does not have."""
    known = set(other.signatures.values())
    for step in fingerprint.steps:
        if fingerprint.signatures[step.output] not in known:
            return describe(step)
    return "nothing more"
