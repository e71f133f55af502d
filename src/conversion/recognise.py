"""Which network of symbols/ an ONNX graph is, and which step of the one is which of the other."""

import functools
import inspect
import itertools
from typing import List, NamedTuple, Tuple

import numpy as np

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.conversion.fingerprint import COMMUTATIVE, TRAINED, Form, Step, describe, find_form
from insightface_mx.conversion.fold_norms import LINEAR, Layer
from insightface_mx.conversion.graph import ACTIVATIONS, from_symbol
from insightface_mx.symbols import NAMES, get_symbol
from insightface_mx.symbols.symbol_utils import HEADS

PIXEL_MEAN = 127.5  # what all networks here subtract from the images, but those of version_input 2
FIRST_HEAD = "E"
HEADS_WITH_EMBEDDING = [head for head in HEADS if head not in ("Z", "A", "AX", "B", "BX")]
LAYERS_IN_A_HEAD = 2  # at most
USUAL = 512, (112, 112)  # length of the embedding and size of the images


class Match(NamedTuple):
    """The network that a graph is: what it is called, its symbol and form, and pairs (its step, the graph's step)."""

    name: str
    symbol: mx.sym.Symbol
    form: Form
    pairs: List[Tuple[Step, Step]]


def find_network(form, image_size, name):
    """The Match of a graph's form among all networks; image_size is the height and width of its images.

    Heads that differ in their norms alone are told apart where the file has all its norms; else it is the first of
    them. name: what UserError calls the graph where there is no match; it tells the first step that differs from those
    of the nearest network.
    """
    if not any(step.node.op in LINEAR for step in form.steps):
        raise UserError(f"{name} is none of the networks here: it has no convolution and no dense layer")
    length, found, tried = _embedding_length(form), set(form.signatures.values()), []
    for network, options in _likely(form):
        first = None
        for title, symbol, ours in _with_heads(network, options, length, image_size, found):
            tried.append((len(found.intersection(ours.signatures.values())), title, ours))
            if ours.signatures[ours.end] != form.signatures[form.end]:
                continue
            match = Match(title, symbol, ours, pair_steps(ours, form))
            first, differing = first or match, sum(_have_other_norms(*pair) for pair in match.pairs)
            if not differing:
                return match
            if differing > LAYERS_IN_A_HEAD:  # not a matter of the head: the file has folded norms
                break
        if first:
            return first
    raise UserError(f"{name} is none of the networks here. {_nearest(form, tried)}")


def _likely(form):
    """(name, options) of the networks with about as many layers as the form has; where there is none, the nearest."""
    wanted = sum(step.node.op in LINEAR for step in form.steps)
    ranked = []
    for network, options in _candidates(form):
        layers = _count_layers(network, tuple((key, value) for key, value in options.items() if key != "version_act"))
        if layers:
            ranked.append((abs(layers - wanted), network, options))
    ranked.sort(key=lambda one: one[0])
    return [candidate for distance, *candidate in ranked if distance <= LAYERS_IN_A_HEAD] or [ranked[0][1:]]


@functools.lru_cache(maxsize=None)
def _count_layers(network, options):
    """Number of convolutions and dense layers of a network with the first head; 0 where there is no such network."""
    symbol = _build(network, dict(options), FIRST_HEAD, *USUAL)
    return 0 if symbol is None else sum(name.endswith("weight") for name in symbol.list_arguments())


def _candidates(form):
    """(name, options) of everything that the graph may be, going by its operators, first filters and input."""
    operators = {step.node.op for step in form.steps}
    acts = [act for act, operator in ACTIVATIONS.items() if operator in operators]
    filters = len(form.graph.constants[form.steps[0].node.inputs[1]]) if form.steps[0].node.op == "Conv" else 0
    values = {
        "version_input": (1, 0) if np.allclose(form.mean, PIXEL_MEAN) else (2,),
        "version_unit": (3, 1, 2, 4, 5),
        "version_se": (0, 1) if "Sigmoid" in operators else (0,),
        "version_act": [act for act in acts if act != "sigmoid"] or acts,  # or it belongs to squeeze-excite
    }
    for name, (family, _) in reversed(list(NAMES.items())):  # r50 before r49, which is the same
        multipliers = {"m": (filters / 32,), "t": (1.0, 4.0)}.get(name[0], ())
        choices = {**values, "version_multiplier": multipliers}
        choices = {key: choice for key, choice in choices.items() if key in _versions(family)}
        for options in itertools.product(*choices.values()):
            yield name, dict(zip(choices, options))


def _with_heads(network, options, length, image_size, found):
    """Title, symbol and form of a network with each of its heads; only with the first where its body is not `found`."""
    for head in HEADS_WITH_EMBEDDING if "version_output" in _versions(NAMES[network][0]) else [FIRST_HEAD]:
        symbol = _build(network, options, head, length, image_size)
        if symbol is None:
            continue
        ours = find_form_of_symbol(symbol, image_size)
        versions = {**options, "version_output": head}
        yield " ".join([network, *(f"{key} {value}" for key, value in versions.items())]), symbol, ours
        if head == FIRST_HEAD and ours.signatures[ours.steps[-1].inputs[0]] not in found:
            return


def _build(network, options, head, length, image_size):
    """The symbol of a network; None where these versions do not go together."""
    try:
        return get_symbol(network, length, image_size=image_size, version_output=head, **options)
    except ValueError:
        return None


def _versions(family):
    return inspect.signature(family.builder).parameters


def find_form_of_symbol(symbol, image_size):
    """The form of a network whose numbers do not matter; its constants bear the parameters' names."""
    shape = (1, 3, *image_size)
    arguments, _, auxiliary = symbol.infer_shape(data=shape)
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    zero = np.zeros((), np.float32)
    params = {name: np.broadcast_to(zero, size) for name, size in zip(names, arguments + auxiliary) if name != "data"}
    return find_form(from_symbol(symbol, params, shape))


def _embedding_length(form):
    """The length of the vectors in the last trained operator, which are the embedding's."""
    last = [step.node for step in form.steps if step.node.op in TRAINED and step.node.inputs[1] in form.graph.constants]
    return len(form.graph.constants[last[-1].inputs[1]])


def pair_steps(ours, theirs):
    """(step of ours, step of theirs) for all steps of two graphs that are the same."""
    makers = [{step.output: step for step in form.steps} for form in (ours, theirs)]
    waiting, pairs = [(ours.end, theirs.end)], {}
    while waiting:
        steps = [maker.get(tensor) for maker, tensor in zip(makers, waiting.pop())]
        if None in steps or steps[0].output in pairs:
            continue
        pairs[steps[0].output] = tuple(steps)
        waiting += zip(*(_arranged(step, form) for step, form in zip(steps, (ours, theirs))))
    return list(pairs.values())


def _arranged(step, form):
    """A step's sources, in an order that is the same for the same step of another graph."""
    return sorted(step.inputs, key=form.signatures.get) if step.node.op in COMMUTATIVE else step.inputs


def _have_other_norms(ours, theirs):
    """Whether two equal steps are layers with other norms beside them."""
    layers = [step.source for step in (ours, theirs) if isinstance(step.source, Layer)]
    return len({(len(layer.before), len(layer.after)) for layer in layers}) > 1


def _nearest(form, tried):
    """What differs first between a form and that of tried, (shared steps, title, form), which shares most with it."""
    if not tried:
        return "None with about as many layers takes images of this size"
    _, title, ours = max(tried, key=lambda one: one[0])
    theirs, expected = _first_unknown(form, ours), _first_unknown(ours, form)
    return f"Nearest is {title}: the file has {theirs} where that has {expected}"


def _first_unknown(form, other):
    """A description of the first step of a form that is not in the other."""
    known = set(other.signatures.values())
    step = next((step for step in form.steps if form.signatures[step.output] not in known), None)
    return "nothing more" if step is None else describe(step)
