"""Starting from a checkpoint: what of it fits the network to be trained."""

import logging

from insightface_mx import losses
from insightface_mx.base.errors import UserError
from insightface_mx.formats import checkpoint

_HEAD = "fc7"  # the class weights, which belong to one data set's identities
_NAMES_SHOWN = 3


def load(text, symbol, data_shape, strict_head=False):
    """Parameters of checkpoint 'PREFIX,EPOCH' for `symbol`: two dicts name -> NDArray, arguments and auxiliary states.

    The network must agree in every name and shape, else UserError names the first that differ. Class weights that
    are missing (a slimmed checkpoint) or for another number of classes start afresh; with `strict_head` that, too,
    is an error.
    """
    prefix, epoch = checkpoint.parse(text)
    _, arg_params, aux_params = checkpoint.load(prefix, epoch)
    expected_args, _ = _shapes(symbol, data_shape)
    difference = _head_difference(arg_params, expected_args)
    if difference and strict_head:
        raise UserError(f"--pretrained {text}: {difference}; without --pretrained-fc7 strict they start afresh")
    if difference:
        logging.info("--pretrained %s: %s; the class weights start afresh", text, difference)
    if difference or not any(name.startswith(_HEAD) for name in expected_args):
        arg_params = {name: array for name, array in arg_params.items() if not name.startswith(_HEAD)}
    check_network(f"--pretrained {text}", arg_params, aux_params, symbol, data_shape)
    return arg_params, aux_params


def check_network(origin, arg_params, aux_params, symbol, data_shape, whole=False):
    """Raise UserError, naming the first names that differ, where parameters are not those of `symbol`.

    origin: where they come from, for the message. whole: the class weights must agree, too.
    """
    differing = [
        text
        for arrays, shapes in zip((arg_params, aux_params), _shapes(symbol, data_shape))
        for text in _differing(arrays, shapes, lambda name: whole or not name.startswith(_HEAD))
    ]
    if differing:
        raise UserError(
            f"{origin} is another network, {len(differing)} parameters differ: "
            f"{'; '.join(differing[:_NAMES_SHOWN])}. Set --network, --emb-size and the --version options as it had them"
        )


def _shapes(symbol, data_shape):
    arguments, _, auxiliary = symbol.infer_shape(data=data_shape)
    shapes = dict(zip(symbol.list_arguments(), arguments))
    for fed in ("data", "softmax_label", losses.BETA):
        shapes.pop(fed, None)
    return shapes, dict(zip(symbol.list_auxiliary_states(), auxiliary))


def _head_difference(arrays, shapes):
    """What keeps the checkpoint's class weights from being used, '' if nothing does."""
    differing = _differing(arrays, shapes, lambda name: name.startswith(_HEAD) and name in shapes)
    return differing[0] if differing else ""


def _differing(arrays, shapes, concerns):
    """Descriptions of the names whose shapes differ, among those that `concerns` tells; the expected order first."""
    found = {name: array.shape for name, array in arrays.items() if concerns(name)}
    expected = {name: shape for name, shape in shapes.items() if concerns(name)}
    return [
        f"found {name} {found.get(name, 'nowhere')}, expected {expected.get(name, 'none')}"
        for name in {**expected, **found}
        if found.get(name) != expected.get(name)
    ]
