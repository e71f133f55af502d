"""The parameters of an ONNX graph, as parameters of the network that it was recognised as."""

from __future__ import annotations

import numpy as np

from insightface_mx.base.compat import Symbol
from insightface_mx.base.errors import UserError
from insightface_mx.conversion.fingerprint import Fingerprint, Step
from insightface_mx.conversion.fold_norms import LINEAR, NORM, Layer, change_epsilon, fold_layer
from insightface_mx.conversion.recognise import Match
from insightface_mx.onnx_files.graph import Constants, Node

DATA_NORM = "bn_data"  # the batch norm on the images of version_input 2


def parameter_names(symbol: Symbol) -> list[str]:
    """Return the names of a symbol's arguments and auxiliary states without the input."""
    return [name for name in symbol.list_arguments() + symbol.list_auxiliary_states() if name != "data"]


def read_params(match: Match, fingerprint: Fingerprint) -> Constants:
    """Return parameters, name -> float32 array, with which match.symbol computes what an ONNX graph computes.

    A norm that the graph has keeps its parameters. One that it lacks, because it was folded into a layer, becomes a
    norm that adds the layer's bias and does nothing else.

    Args:
        match: What `recognise` returned for the graph.
        fingerprint: That of the graph.

    Raises:
        UserError: Something in the graph has no place in the network.
    """
    reader = _Reader(match, fingerprint)
    for ours, theirs in match.pairs:
        reader.read(ours, theirs)
    reader.read_scaling()
    missing = [name for name in reader.names if name not in reader.params]
    if missing:
        raise UserError(f"the file has equal branches, so it is open which of them is {missing[0]} of {match.name}")
    return {name: reader.params[name].astype(np.float32) for name in reader.names}


class _Reader:
    """Collects the parameters of a network, float64. `ours` is always of the network, `theirs` of the ONNX graph."""

    def __init__(self, match: Match, fingerprint: Fingerprint) -> None:
        self.match, self.fingerprint = match, fingerprint
        self.names = parameter_names(match.symbol)
        self.shapes = {name: array.shape for name, array in match.fingerprint.graph.constants.items()}
        self.attrs = match.symbol.attr_dict()
        self.params: Constants = {}

    def read(self, ours: Step, theirs: Step) -> None:
        """Take the parameters of a step; ours and theirs are the same step of the two graphs."""
        if isinstance(ours.source, Layer) and isinstance(theirs.source, Layer):
            self._read_layer(ours.source, theirs.source)
        elif ours.node.op == "PRelu":
            _, slope = ours.node.inputs
            self.params[slope] = np.broadcast_to(self._values(theirs.node, 1).reshape(-1), self.shapes[slope][:1])
        elif ours.node.op == NORM:
            self._read_norm(ours.node, theirs.node)

    def read_scaling(self) -> None:
        """Take what the graph does to the images before the first layer: (x - mean) * scale."""
        mean, scale, ours = self.fingerprint.mean, self.fingerprint.scale, self.match.fingerprint
        if f"{DATA_NORM}_gamma" in self.names:
            epsilon = float(self.attrs[DATA_NORM]["eps"])
            one = np.ones(1)
            values = {"gamma": one, "beta": 0 * one, "moving_mean": mean, "moving_var": 1 / scale**2 - epsilon}
            for key, value in values.items():
                self.params[f"{DATA_NORM}_{key}"] = np.broadcast_to(np.reshape(value, -1), (3,))
        elif not np.allclose(mean, ours.mean):
            raise UserError(
                f"the file subtracts {np.unique(mean).tolist()} from the pixels, but {self.match.name} {ours.mean}, "
                "and its padding depends on it: if that is near enough, say so with --mean"
            )
        else:
            first = next(step for step in ours.steps if step.node.op in LINEAR)
            self.params[first.node.inputs[1]] = self.params[first.node.inputs[1]] * (scale / ours.scale)

    def _read_layer(self, ours: Layer, theirs: Layer) -> None:
        weight_name = ours.node.inputs[1]
        if self._has_same_places(ours, theirs):
            for our_norm, their_norm in zip(ours.norms, theirs.norms):
                self._read_norm(our_norm, their_norm)
            weight, bias = self._values(theirs.node, 1), self._values(theirs.node, 2) if theirs.bias else np.zeros(1)
        else:
            weight, bias = fold_layer(theirs, self.fingerprint.graph.constants)
            for norm in ours.norms:
                self._make_neutral(norm)
            if ours.after:
                self.params[ours.after[-1].inputs[2]], bias = bias, np.zeros(1)
        self.params[weight_name] = weight.reshape(self.shapes[weight_name])
        if ours.bias:
            self.params[ours.bias] = np.broadcast_to(bias, self.shapes[ours.bias])
        elif np.any(bias):
            raise UserError(
                f"{theirs.node.name} of the file has a bias, but {ours.node.name} of {self.match.name} has none"
            )

    def _has_same_places(self, ours: Layer, theirs: Layer) -> bool:
        """Return whether our layer has the same norms and a place for the bias, so that all parameters can stay."""
        same = (len(ours.before), len(ours.after)) == (len(theirs.before), len(theirs.after))
        has_place = not theirs.bias or ours.bias is not None
        return same and has_place and all(self._fits(*norms) for norms in zip(ours.norms, theirs.norms))

    def _fits(self, ours: Node, theirs: Node) -> bool:
        return not self._has_fixed_gamma(ours) or bool(np.all(self._values(theirs, 1) == 1))

    def _read_norm(self, ours: Node, theirs: Node) -> None:
        if not self._fits(ours, theirs):
            raise UserError(f"{theirs.name} of the file has a factor, but {ours.name} of {self.match.name} has none")
        gamma, beta, mean, variance = (self._values(theirs, i) for i in range(1, 5))
        old, new = theirs.attrs.get("epsilon", 1e-5), ours.attrs["epsilon"]
        gamma, variance = change_epsilon(gamma, variance, old, new, self._has_fixed_gamma(ours))
        self.params.update(zip(ours.inputs[1:], (gamma, beta, mean, variance)))

    def _make_neutral(self, norm: Node) -> None:
        """Give a norm of ours the parameters with which it does nothing."""
        shape = self.shapes[norm.inputs[1]]
        gamma, beta, mean, variance = 1, 0, 0, 1 - norm.attrs["epsilon"]
        for name, value in zip(norm.inputs[1:], (gamma, beta, mean, variance)):
            self.params[name] = np.full(shape, value, float)

    def _has_fixed_gamma(self, norm: Node) -> bool:
        return self.attrs.get(norm.name, {}).get("fix_gamma", "True") == "True"

    def _values(self, node: Node, i: int) -> np.ndarray:
        """Return input i of a node of the ONNX graph, float64."""
        return self.fingerprint.graph.constants[node.inputs[i]].astype(np.float64)
