"""The numbers of an ONNX graph as parameters of the network here that it is."""

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.conversion.fold_norms import LINEAR, NORM, collapse, with_eps

DATA_NORM = "bn_data"  # the batch norm on the images of version_input 2


def read_params(match, form):
    """Parameters of match.symbol, dict name -> float32 array, that make it compute what the graph of `form` computes.

    match: what onnx_match.find_network found for that graph. Norms that the file has keep their numbers; one that it
    lacks, because a layer took it in, becomes a norm that adds the layer's bias and does nothing else. UserError:
    something in the file has no place in the network.
    """
    reader = _Reader(match, form)
    for ours, theirs in match.pairs:
        reader.read(ours, theirs)
    reader.read_scaling()
    missing = [name for name in reader.names if name not in reader.params]
    if missing:
        raise UserError(f"the file has equal branches and leaves open which of them is {missing[0]} of {match.name}")
    return {name: reader.params[name].astype(np.float32) for name in reader.names}


class _Reader:
    """The parameters so far, float64, of a network."""

    def __init__(self, match, form):
        self.match, self.form = match, form
        self.names = [name for name in _arguments(match.symbol) if name != "data"]
        self.shapes = {name: array.shape for name, array in match.form.graph.constants.items()}
        self.attrs = match.symbol.attr_dict()
        self.params = {}

    def read(self, ours, theirs):
        """Take over the numbers of a step; ours and theirs are the same step of the two graphs."""
        if ours.node.op in LINEAR:
            self._read_layer(ours.source, theirs.source)
        elif ours.node.op == "PRelu":
            _, slope = ours.node.inputs
            self.params[slope] = np.broadcast_to(self._values(theirs.node, 1).reshape(-1), self.shapes[slope][:1])
        elif ours.node.op == NORM:
            self._read_norm(ours.node, theirs.node)

    def read_scaling(self):
        """Take over what the file does to the images before the first layer: (x - mean) * scale."""
        mean, scale, ours = self.form.mean, self.form.scale, self.match.form
        if f"{DATA_NORM}_gamma" in self.names:
            eps = float(self.attrs[DATA_NORM]["eps"])
            values = {"gamma": 1, "beta": 0, "moving_mean": mean, "moving_var": 1 / scale**2 - eps}
            for key, value in values.items():
                self.params[f"{DATA_NORM}_{key}"] = np.broadcast_to(np.reshape(value, -1), (3,))
        elif not np.allclose(mean, ours.mean):
            raise UserError(
                f"the file subtracts {np.unique(mean).tolist()} from the pixels, and {self.match.name} {ours.mean}, "
                "which its padding depends on: if that is near enough, say so with --mean"
            )
        else:
            first = next(step for step in ours.steps if step.node.op in LINEAR)
            self.params[first.node.inputs[1]] = self.params[first.node.inputs[1]] * (scale / ours.scale)

    def _read_layer(self, ours, theirs):
        weight, *bias = ours.node.inputs[1:]
        if self._has_room(ours, theirs):
            for mine, other in zip((*ours.before, *ours.after), (*theirs.before, *theirs.after)):
                self._read_norm(mine, other)
            values, added = self._values(theirs.node, 1), self._values(theirs.node, 2) if theirs.bias else 0
        else:
            values, added = collapse(theirs, self.form.graph.constants)
            for norm in (*ours.before, *ours.after):
                self._make_neutral(norm)
            if ours.after:
                self.params[ours.after[-1].inputs[2]], added = added, 0
        self.params[weight] = values.reshape(self.shapes[weight])
        if bias:
            self.params[bias[0]] = np.broadcast_to(added, self.shapes[bias[0]])
        elif np.any(added):
            raise UserError(
                f"{theirs.node.name} of the file has a bias, and {ours.node.name} of {self.match.name} none"
            )

    def _has_room(self, ours, theirs):
        """Whether a layer of ours has the same norms and a place for the bias, so that all numbers can stay."""
        same = (len(ours.before), len(ours.after)) == (len(theirs.before), len(theirs.after))
        norms = zip((*ours.before, *ours.after), (*theirs.before, *theirs.after))
        return same and (not theirs.bias or ours.bias) and all(self._fits(*pair) for pair in norms)

    def _fits(self, ours, theirs):
        return not self._has_fixed_gamma(ours) or np.all(self._values(theirs, 1) == 1)

    def _read_norm(self, ours, theirs):
        if not self._fits(ours, theirs):
            raise UserError(f"{theirs.name} of the file has a factor, and {ours.name} of {self.match.name} none")
        gamma, beta, mean, variance = (self._values(theirs, i) for i in range(1, 5))
        eps = theirs.attrs.get("epsilon", 1e-5), ours.attrs["epsilon"]
        gamma, variance = with_eps(gamma, variance, *eps, self._has_fixed_gamma(ours))
        self.params.update(zip(ours.inputs[1:], (gamma, beta, mean, variance)))

    def _make_neutral(self, norm):
        shape = self.shapes[norm.inputs[1]]
        values = 1, 0, 0, 1 - norm.attrs["epsilon"]
        self.params.update((name, np.full(shape, value, float)) for name, value in zip(norm.inputs[1:], values))

    def _has_fixed_gamma(self, norm):
        return self.attrs.get(norm.name, {}).get("fix_gamma", "True") == "True"

    def _values(self, node, i):
        return self.form.graph.constants[node.inputs[i]].astype(np.float64)


def _arguments(symbol):
    return symbol.list_arguments() + symbol.list_auxiliary_states()
