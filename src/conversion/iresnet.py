"""State dicts of arcface_torch's iresnet as parameters of `fresnet`, and back.

The graphs are equal, and three things around them are not: the names, the epsilon of a batch norm (1e-5 there, 2e-5
here) and the scale of the images ((x - 127.5) / 127.5 there, (x - 127.5) / 128 here). The difference in epsilon goes
into gamma or the variance of each norm, that of the scale into the first convolution; the function does not change.

PyTorch is an extra: it is imported where it is used.
"""

from __future__ import annotations

import logging
import os
import re
import zipfile
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple

import numpy as np

from insightface_mx.base.compat import Symbol
from insightface_mx.base.errors import UserError, require, shorten
from insightface_mx.conversion.fold_norms import change_epsilon
from insightface_mx.conversion.proof import Difference, check_equal
from insightface_mx.conversion.read_params import parameter_names
from insightface_mx.files.regular_file import open_regular
from insightface_mx.files.safe_pickle import DAMAGE
from insightface_mx.files.wrong_file import ZIP, refuse_wrong_file
from insightface_mx.onnx_files.graph import Constants
from insightface_mx.symbols import fmobilefacenet, fresnet, get_symbol

if TYPE_CHECKING:
    import torch

EPSILON, OUR_EPSILON = 1e-5, 2e-5
MEAN, STD = 127.5, 127.5
OUR_STD = 128.0
DEPTHS = {fresnet.UNITS[depth]: depth for depth in (18, 34, 50, 100)}

NESTED = ("state_dict_backbone", "state_dict", "model_state_dict", "model", "backbone", "net")  # entries of files
FIRST, LAST = "conv1.weight", "fc.weight"  # names that every iresnet has
NAMES_SHOWN = 3

# parameters of a layer: the name there -> the name here
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
PRELU = {"weight": "gamma"}
CONVOLUTION = {"weight": "weight"}
DENSE = {"weight": "weight", "bias": "bias"}


SAFE_TORCH = (2, 6)  # the first whose weights_only holds: CVE-2025-32434


class Layer(NamedTuple):
    """A layer of an iresnet: its name there and here, and its parameters' names there -> here."""

    theirs: str
    ours: str
    parameters: dict[str, str]


STEM = [Layer("conv1", "conv0", CONVOLUTION), Layer("bn1", "bn0", NORM), Layer("prelu", "relu0", PRELU)]
UNIT = [
    Layer("bn1", "bn1", NORM),
    Layer("conv1", "conv1", CONVOLUTION),
    Layer("bn2", "bn2", NORM),
    Layer("prelu", "relu1", PRELU),
    Layer("conv2", "conv2", CONVOLUTION),
    Layer("bn3", "bn3", NORM),
]
SHORTCUT = [Layer("downsample.0", "conv1sc", CONVOLUTION), Layer("downsample.1", "sc", NORM)]
OUTPUT = [Layer("bn2", "bn1", NORM), Layer("fc", "pre_fc1", DENSE), Layer("features", "fc1", NORM)]


def layers(depth: int) -> list[Layer]:
    """Return all layers of an iresnet, in the order of its state dict."""
    result = [*STEM]
    for stage, units in enumerate(fresnet.UNITS[depth], 1):
        for unit in range(units):
            parts = UNIT if unit else [*UNIT, *SHORTCUT]
            theirs, ours = f"layer{stage}.{unit}", f"stage{stage}_unit{unit + 1}"
            result += [Layer(f"{theirs}.{part.theirs}", f"{ours}_{part.ours}", part.parameters) for part in parts]
    return [*result, *OUTPUT]


def names(depth: int) -> dict[str, str]:
    """Return the name here of every parameter of an iresnet, by its name there."""
    return {
        f"{layer.theirs}.{theirs}": f"{layer.ours}_{ours}"
        for layer in layers(depth)
        for theirs, ours in layer.parameters.items()
    }


class Loaded(NamedTuple):
    """A network from a state dict: its name, its symbol and its parameters, name -> float32 array."""

    name: str
    symbol: Symbol
    params: Constants


def from_state(state: Mapping[str, np.ndarray]) -> Loaded:
    """Turn a state dict, name -> array, into a network; it may have other dicts or names around it (`plain_state`).

    Raises:
        UserError: It is not an iresnet of 18, 34, 50 or 100 layers; the message gives the first parameter that is
            missing or not known.
    """
    state = plain_state(state)
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    _refuse_mobilefacenet(state)
    depth = _depth_of_state(state)
    ours_by_theirs = names(depth)
    for name in ours_by_theirs:
        if name not in state:
            raise UserError(f"the state dict has no {name}: it is not arcface_torch's iresnet{depth}")
    for name in state:
        if name not in ours_by_theirs:
            raise UserError(f"the state dict has {name}, which arcface_torch's iresnet{depth} does not have")
    params = {ours: np.array(state[theirs], np.float64) for theirs, ours in ours_by_theirs.items()}
    params = _with_epsilon(params, depth, EPSILON, OUR_EPSILON)
    params["conv0_weight"] = params["conv0_weight"] * (OUR_STD / STD)
    symbol = get_symbol(f"r{depth}", len(params["fc1_gamma"]))
    return Loaded(f"r{depth}", symbol, {name: value.astype(np.float32) for name, value in params.items()})


def plain_state(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the iresnet's state dict in what training programs save around it.

    A dict in which the state dict is one of the entries, and names that begin with `module.` (DataParallel),
    `backbone.` or another word, are taken for what they are; the log says so.

    Args:
        content: Name -> array or tensor, or a dict that holds such a dict.
    """
    for _ in NESTED:
        key = next((key for key in NESTED if isinstance(content.get(key), Mapping)), None)
        if key is None:
            break
        logging.info("the state dict is the entry %s of the file; the file's other entries are left out", key)
        content = content[key]
    names = [name for name in content if isinstance(name, str)]
    prefixes = [name[: -len(FIRST)] for name in names if name.endswith(f".{FIRST}")]
    prefix = min((prefix for prefix in prefixes if f"{prefix}{LAST}" in content), key=len, default="")
    if FIRST in content or not prefix:
        return content
    others = [name for name in names if not name.startswith(prefix)]
    left_out = f"; left out: {', '.join(others[:NAMES_SHOWN])} ({len(others)} in all)" if others else ""
    logging.info("the names in the state dict begin with %s: taken without it%s", prefix, left_out)
    return {name[len(prefix) :]: content[name] for name in names if name.startswith(prefix)}


def _refuse_mobilefacenet(state: Mapping[str, Any]) -> None:
    """Raise UserError for a state dict of arcface_torch's MobileFaceNet."""
    found = re.findall(r"\blayers\.(\d+)\.layers\.(\d+)\.layers\.", " ".join(state))
    if not found:
        return
    stages = ["1", "3", "5", "7"]
    blocks = [max(1, len({block for layer, block in found if layer == stage})) for stage in stages]
    is_known = tuple(blocks) in (fmobilefacenet.BLOCKS[1], fmobilefacenet.BLOCKS[3])
    way = "insightface-import-onnx reads it from the ONNX file that arcface_torch's torch2onnx.py writes"
    raise UserError(
        "the state dict is of arcface_torch's MobileFaceNet, not of an iresnet: "
        f"{way if is_known else f'no network here has its {blocks} blocks'}"
    )


def to_state(symbol: Symbol, params: Mapping[str, np.ndarray]) -> Constants:
    """Return the state dict, name -> array, of a network; the inverse of `from_state`.

    Raises:
        UserError: The network is not an r18, r34, r50 or r100 with the default versions.
    """
    depth = _depth_of_symbol(symbol)
    ours = {name: params[name].astype(np.float64) for name in parameter_names(symbol)}
    ours["fc1_gamma"] = np.ones_like(ours["fc1_gamma"])  # gamma is fixed at 1, whatever is stored
    ours = _with_epsilon(ours, depth, OUR_EPSILON, EPSILON)
    ours["conv0_weight"] = ours["conv0_weight"] * (STD / OUR_STD)
    state: Constants = {}
    for layer in layers(depth):
        for their_key, our_key in layer.parameters.items():
            state[f"{layer.theirs}.{their_key}"] = ours[f"{layer.ours}_{our_key}"].astype(np.float32)
        if layer.parameters is NORM:
            state[f"{layer.theirs}.num_batches_tracked"] = np.array(0, np.int64)
    return state


def _with_epsilon(params: Constants, depth: int, old: float, new: float) -> Constants:
    """Return parameters with which every batch norm computes the same with epsilon `new` as before with `old`."""
    params = dict(params)
    # the last norm's gamma is fixed at 1 here; PyTorch's is not, and goes into the dense layer before it
    gamma = params["fc1_gamma"]
    params["pre_fc1_weight"] = params["pre_fc1_weight"] * gamma[:, None]
    for name in ("pre_fc1_bias", "fc1_moving_mean"):
        params[name] = params[name] * gamma
    params["fc1_gamma"] = np.ones_like(gamma)
    for layer in layers(depth):
        if layer.parameters is NORM:
            name, variance = f"{layer.ours}_gamma", f"{layer.ours}_moving_var"
            changed = change_epsilon(params[name], params[variance], old, new, fix_gamma=layer.ours == "fc1")
            params[name], params[variance] = changed
    return params


def _depth_of_state(state: Mapping[str, np.ndarray]) -> int:
    found = {tuple(map(int, match)) for match in re.findall(r"layer(\d+)\.(\d+)\.", " ".join(state))}
    units = tuple(sum(of_unit == stage for of_unit, _ in found) for stage in range(1, 5))
    if units not in DEPTHS:
        raise UserError(f"the state dict has {units} units in its four stages; an iresnet here has one of {[*DEPTHS]}")
    return DEPTHS[units]


def _depth_of_symbol(symbol: Symbol) -> int:
    arguments = symbol.list_arguments()
    for depth in DEPTHS.values():
        if get_symbol(f"r{depth}", 512).list_arguments() == arguments:
            return depth
    raise UserError("only r18, r34, r50 and r100 with the default versions are iresnets of arcface_torch")


def load(path: str) -> Constants:
    """Read the state dict of a .pth file, name -> float32 array, and run nothing that the file contains.

    Raises:
        UserError: No state dict, a damaged file, or PyTorch is not installed or older than 2.6.
    """
    require_safe_torch()
    return _load(path)


def require_safe_torch() -> None:
    """Raise UserError where PyTorch is missing, or one that runs code of a .pth file whatever it is told."""
    require("torch", "torch")
    import torch

    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < SAFE_TORCH:
        raise UserError(
            f"PyTorch {torch.__version__} can be made to run code by a .pth file (CVE-2025-32434): "
            "pip install 'torch>=2.6', which needs Python 3.9 or newer"
        )


def load_array(path: str) -> np.ndarray:
    """Read a .pt file that holds one tensor, as float32, and run nothing that the file contains.

    Raises:
        UserError: No tensor, a damaged file, or PyTorch is not installed or older than 2.6.
    """
    require_safe_torch()
    import torch

    content, size = _read(path)
    if not isinstance(content, torch.Tensor) or content.numel() * content.element_size() > size:
        raise UserError(f"{path} holds no tensor, or is damaged")
    return content.detach().float().numpy()


def _load(path: str) -> Constants:
    """Read a state dict, as `load`; a file of this process may be read by any PyTorch."""
    import torch

    content, size = _read(path)
    state = plain_state(content) if isinstance(content, dict) else None
    if not state or not all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()):
        raise UserError(f"{path} is no state dict: save the backbone's state_dict() alone")
    if sum(value.numel() * value.element_size() for value in state.values()) > size:
        raise UserError(f"{path} claims more numbers than it holds: it is damaged")
    return {name: value.float().numpy() for name, value in state.items()}


def _read(path: str) -> tuple[Any, int]:
    """Return what a file of PyTorch holds, and its size in bytes. Raises UserError for a damaged or foreign file."""
    import torch

    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if zipfile.is_zipfile(file) and sum(entry.file_size for entry in zipfile.ZipFile(file).infolist()) > size:
                raise UserError(f"{path} is compressed, which PyTorch does not do: it is not read")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True), size
    except DAMAGE as error:
        if isinstance(error, OSError) and error.filename:
            raise UserError(f"cannot open {path}: {error.strerror}") from error
        refuse_wrong_file(path, right=ZIP)
        raise UserError(f"{path} is no state dict, or damaged: {shorten(str(error).split(chr(10))[0], 200)}") from error


def export(symbol: Symbol, params: Mapping[str, np.ndarray], path: str, images: np.ndarray) -> Difference:
    """Write a network as a .pth file, and prove that it computes the same in PyTorch.

    Args:
        symbol: An r18, r34, r50 or r100 with the default versions.
        params: Name -> array.
        path: The file.
        images: For the proof, as proof.make_images returns them.

    Raises:
        UserError: Another network, results that differ, or PyTorch is not installed.
    """
    require("torch", "torch")
    import torch

    state = to_state(symbol, params)
    torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)
    return check_equal("the state dict", TorchNetwork(_load(path)), symbol, params, images)


class TorchNetwork:
    """An iresnet in PyTorch's functions, as arcface_torch has it.

    Call it with a batch of images of 0..255, (n, 3, height, width) float32; it returns a list of its one output.
    """

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        """Take a state dict, name -> array."""
        require("torch", "torch")
        import torch

        self._ops: Any = torch.nn.functional
        self._tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}
        self._units = list(dict.fromkeys(re.findall(r"layer\d+\.\d+", " ".join(state))))

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Return [embeddings], (n, d)."""
        import torch

        with torch.no_grad():
            body = torch.from_numpy((images - np.float32(MEAN)) / np.float32(STD))
            body = self._prelu(self._norm(self._conv(body, "conv1"), "bn1"), "prelu")
            for name in self._units:
                body = self._unit(body, name)
            body = self._norm(body, "bn2").flatten(1)
            body = self._ops.linear(body, self._tensors["fc.weight"], self._tensors["fc.bias"])
            return [self._norm(body, "features").numpy()]

    def _unit(self, data: torch.Tensor, name: str) -> torch.Tensor:
        is_first = f"{name}.downsample.0.weight" in self._tensors
        stride = 2 if is_first else 1
        body = self._conv(self._norm(data, f"{name}.bn1"), f"{name}.conv1")
        body = self._prelu(self._norm(body, f"{name}.bn2"), f"{name}.prelu")
        body = self._norm(self._conv(body, f"{name}.conv2", stride), f"{name}.bn3")
        if is_first:
            data = self._norm(self._conv(data, f"{name}.downsample.0", stride), f"{name}.downsample.1")
        return body + data

    def _conv(self, data: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        weight = self._tensors[f"{name}.weight"]
        return self._ops.conv2d(data, weight, stride=stride, padding=weight.shape[-1] // 2)

    def _norm(self, data: torch.Tensor, name: str) -> torch.Tensor:
        keys = ("running_mean", "running_var", "weight", "bias")
        mean, variance, weight, bias = (self._tensors[f"{name}.{key}"] for key in keys)
        return self._ops.batch_norm(data, mean, variance, weight, bias, eps=EPSILON)

    def _prelu(self, data: torch.Tensor, name: str) -> torch.Tensor:
        return self._ops.prelu(data, self._tensors[f"{name}.weight"])
