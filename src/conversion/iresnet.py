"""State dicts of arcface_torch's iresnet as parameters of `fresnet`, and back.

The graphs agree, and three things around them do not: the names, the eps of a batch norm (1e-5 there, 2e-5 here) and
the images' scale ((x - 127.5) / 127.5 there, (x - 127.5) / 128 here). The last two go into numbers that are there
anyway, without a change of the function: a factor or variance, and the first convolution.
"""

import pickle
import re

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.conversion import proof as onnx_check
from insightface_mx.conversion.fold_norms import with_eps
from insightface_mx.symbols import fresnet, get_symbol

EPS, OUR_EPS = 1e-5, 2e-5
MEAN, STD = 127.5, 127.5
OUR_STD = 128.0
DEPTHS = {fresnet.UNITS[depth]: depth for depth in (18, 34, 50, 100)}
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
PRELU = {"weight": "gamma"}
CONVOLUTION = {"weight": "weight"}
DENSE = {"weight": "weight", "bias": "bias"}
STEM = {"conv1": ("conv0", CONVOLUTION), "bn1": ("bn0", NORM), "prelu": ("relu0", PRELU)}
UNIT = {
    "bn1": ("bn1", NORM),
    "conv1": ("conv1", CONVOLUTION),
    "bn2": ("bn2", NORM),
    "prelu": ("relu1", PRELU),
    "conv2": ("conv2", CONVOLUTION),
    "bn3": ("bn3", NORM),
}
SHORTCUT = {"downsample.0": ("conv1sc", CONVOLUTION), "downsample.1": ("sc", NORM)}
HEAD = {"bn2": ("bn1", NORM), "fc": ("pre_fc1", DENSE), "features": ("fc1", NORM)}


def layers(depth):
    """All layers of an iresnet: dict its name -> (ours, dict of its parameters' names -> ours)."""
    result = dict(STEM)
    for stage, units in enumerate(fresnet.UNITS[depth], 1):
        for unit in range(units):
            for theirs, (ours, numbers) in {**UNIT, **({} if unit else SHORTCUT)}.items():
                result[f"layer{stage}.{unit}.{theirs}"] = f"stage{stage}_unit{unit + 1}_{ours}", numbers
    return {**result, **HEAD}


def from_state(state):
    """Turn a state dict, name -> array, into (name of the network, symbol, params: dict name -> float32 array).

    UserError: it is not an iresnet of 18, 34, 50 or 100 layers; it names the first number that is missing or extra.
    """
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    depth = _depth(state)
    params = {}
    for theirs, (ours, numbers) in layers(depth).items():
        for key, our_key in numbers.items():
            if f"{theirs}.{key}" not in state:
                raise UserError(f"the state dict has no {theirs}.{key}: it is not arcface_torch's iresnet{depth}")
            params[f"{ours}_{our_key}"] = np.asarray(state.pop(f"{theirs}.{key}"), np.float64)
    if state:
        raise UserError(f"the state dict has {next(iter(state))}, which arcface_torch's iresnet{depth} has not")
    _change_eps(params, depth, EPS, OUR_EPS)
    params["conv0_weight"] *= OUR_STD / STD
    symbol = get_symbol(f"r{depth}", len(params["fc1_gamma"]))
    return f"r{depth}", symbol, {name: value.astype(np.float32) for name, value in params.items()}


def to_state(symbol, params):
    """The state dict, name -> array, of a network; the inverse of `from_state`.

    UserError: the network is not an r18, r34, r50 or r100 with the default versions.
    """
    depth = _our_depth(symbol)
    params = {name: params[name].astype(np.float64) for name in _parameters(symbol)}
    params["fc1_gamma"] = np.ones_like(params["fc1_gamma"])  # what is stored there is not used
    _change_eps(params, depth, OUR_EPS, EPS)
    params["conv0_weight"] *= STD / OUR_STD
    state = {}
    for theirs, (ours, numbers) in layers(depth).items():
        for key, our_key in numbers.items():
            state[f"{theirs}.{key}"] = params[f"{ours}_{our_key}"].astype(np.float32)
        if numbers is NORM:
            state[f"{theirs}.num_batches_tracked"] = np.int64(0)
    return state


def load(path):
    """Read a .pth file, running nothing of it: the state dict as name -> float32 array."""
    torch = _torch()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise UserError(f"{path} is no state dict, or damaged: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path} is no state dict: save the backbone's state_dict() alone")
    return {name: value.float().numpy() for name, value in state.items()}


def export(symbol, params, path, images):
    """Write a network as a .pth file if it computes the same in PyTorch; returns the onnx_check.Difference."""
    torch = _torch()
    state = to_state(symbol, params)
    torch.save({name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}, path)
    return onnx_check.check("the state dict", runner(load(path)), symbol, params, images)


def runner(state):
    """A function from a batch of images of 0..255 to the list of an iresnet's output, computed by PyTorch.

    state: dict name -> array. This is the network as arcface_torch has it, in PyTorch's functions.
    """
    torch = _torch()
    ops, tensors = torch.nn.functional, {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}

    def norm(data, name):
        mean, variance, weight, bias = (
            tensors[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return ops.batch_norm(data, mean, variance, weight, bias, eps=EPS)

    def conv(data, name, stride=1):
        weight = tensors[f"{name}.weight"]
        return ops.conv2d(data, weight, stride=stride, padding=weight.shape[-1] // 2)

    def prelu(data, name):
        return ops.prelu(data, tensors[f"{name}.weight"])

    def unit(data, name):
        first = f"{name}.downsample.0.weight" in tensors
        body = prelu(norm(conv(norm(data, f"{name}.bn1"), f"{name}.conv1"), f"{name}.bn2"), f"{name}.prelu")
        body = norm(conv(body, f"{name}.conv2", 2 if first else 1), f"{name}.bn3")
        return body + (norm(conv(data, f"{name}.downsample.0", 2), f"{name}.downsample.1") if first else data)

    def run(images):
        with torch.no_grad():
            data = torch.from_numpy((images - np.float32(MEAN)) / np.float32(STD))
            body = prelu(norm(conv(data, "conv1"), "bn1"), "prelu")
            for name in dict.fromkeys(re.findall(r"layer\d+\.\d+", " ".join(tensors))):
                body = unit(body, name)
            body = norm(body, "bn2").flatten(1)
            return [norm(ops.linear(body, tensors["fc.weight"], tensors["fc.bias"]), "features").numpy()]

    return run


def _change_eps(params, depth, old, new):
    """Let every batch norm of params, in place, do with eps `new` what it did with `old`."""
    # the last norm's gamma is fixed at 1 here; where PyTorch's is not, the dense layer before it takes it in
    gamma = params["fc1_gamma"]
    params["pre_fc1_weight"] *= gamma[:, None]
    for name in ("pre_fc1_bias", "fc1_moving_mean"):
        params[name] *= gamma
    params["fc1_gamma"] = np.ones_like(gamma)
    for ours, numbers in layers(depth).values():
        if numbers is NORM:
            names = f"{ours}_gamma", f"{ours}_moving_var"
            params.update(zip(names, with_eps(*(params[name] for name in names), old, new, ours == "fc1")))


def _depth(state):
    found = {tuple(map(int, match)) for match in re.findall(r"layer(\d+)\.(\d+)\.", " ".join(state))}
    units = tuple(sum(stage == one for one, _ in found) for stage in range(1, 5))
    if units not in DEPTHS:
        raise UserError(f"the state dict has {units} units in its four stages; an iresnet here has one of {[*DEPTHS]}")
    return DEPTHS[units]


def _our_depth(symbol):
    arguments = symbol.list_arguments()
    for depth in DEPTHS.values():
        if get_symbol(f"r{depth}", 512).list_arguments() == arguments:
            return depth
    raise UserError("only r18, r34, r50 and r100 with the default versions are iresnets of arcface_torch")


def _parameters(symbol):
    return [name for name in symbol.list_arguments() + symbol.list_auxiliary_states() if name != "data"]


def _torch():
    try:
        import torch
    except ImportError as error:
        raise UserError("state dicts need PyTorch: pip install 'insightface-mx[torch]'") from error
    return torch
