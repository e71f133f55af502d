"""iresnets as arcface_torch has them: random state dicts, and ONNX files as PyTorch's exporter writes them."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

State = Dict[str, np.ndarray]


class Writer:
    """Collects ONNX nodes as PyTorch writes them: names are numbers."""

    def __init__(self, state: State) -> None:
        self.state, self.nodes, self.constants, self.count = state, [], [], 0

    def add(self, op: str, *inputs: str, **attrs: Any) -> str:
        self.count += 1
        self.nodes.append(helper.make_node(op, inputs, [str(self.count)], f"{op}_{self.count}", **attrs))
        return str(self.count)

    def constant(self, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.float32), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def conv(self, data: str, name: str, stride: int = 1) -> str:
        weight = self.state[f"{name}.weight"]
        pad = weight.shape[2] // 2
        return self.add("Conv", data, self.constant(weight), strides=[stride] * 2, pads=[pad] * 4, group=1)

    def norm(self, data: str, name: str) -> str:
        keys = ("weight", "bias", "running_mean", "running_var")
        values = [self.constant(self.state[f"{name}.{key}"]) for key in keys]
        return self.add("BatchNormalization", data, *values, epsilon=1e-5, momentum=0.9)

    def prelu(self, data: str, name: str) -> str:
        return self.add("PRelu", data, self.constant(self.state[f"{name}.weight"].reshape(-1, 1, 1)))

    def save(self, path: str, output: str, opset: int = 12) -> None:
        images = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["b", 3, 112, 112])
        embedding = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["b", 32])
        graph = helper.make_graph(self.nodes, "torch_jit", [images], [embedding], self.constants)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7), path)


def state_dict(units: tuple[int, ...] = (2, 2, 2, 2), emb_size: int = 32) -> State:
    """Return an iresnet's state dict with random parameters, dead channels (variance 0) among them."""
    random, state = np.random.RandomState(0), {}

    def conv(name, outputs, inputs, kernel):
        size = (outputs, inputs, kernel, kernel)
        state[f"{name}.weight"] = random.normal(0, np.sqrt(2 / np.prod(size[1:])), size)

    def norm(name, channels):
        state[f"{name}.weight"] = np.ones(channels) if name == "features" else random.uniform(0.5, 1.5, channels)
        state[f"{name}.bias"] = random.normal(0, 0.2, channels)
        state[f"{name}.running_mean"] = random.normal(0, 0.2, channels)
        state[f"{name}.running_var"] = random.uniform(0.001, 2, channels) * (random.rand(channels) > 0.02)
        state[f"{name}.num_batches_tracked"] = np.int64(7)

    def prelu(name, channels):
        state[f"{name}.weight"] = random.uniform(0, 0.4, channels)

    conv("conv1", 64, 3, 3)
    norm("bn1", 64)
    prelu("prelu", 64)
    before = 64
    for stage, (count, width) in enumerate(zip(units, (64, 128, 256, 512)), 1):
        for i in range(count):
            name, inputs = f"layer{stage}.{i}", width if i else before
            norm(f"{name}.bn1", inputs)
            conv(f"{name}.conv1", width, inputs, 3)
            norm(f"{name}.bn2", width)
            prelu(f"{name}.prelu", width)
            conv(f"{name}.conv2", width, width, 3)
            norm(f"{name}.bn3", width)
            if not i:
                conv(f"{name}.downsample.0", width, inputs, 1)
                norm(f"{name}.downsample.1", width)
        before = width
    norm("bn2", 512)
    state["fc.weight"], state["fc.bias"] = random.normal(0, 0.01, (emb_size, 512 * 49)), random.normal(0, 1, emb_size)
    norm("features", emb_size)
    state["features.running_var"] += 0.1
    return {name: np.asarray(value, np.float32 if np.ndim(value) else None) for name, value in state.items()}


def write_iresnet(state: State, path: str) -> None:
    """Write a state dict as an ONNX file, with the detours of PyTorch's exporter: it looks up the size of the batch."""
    writer = Writer(state)
    body = writer.prelu(writer.norm(writer.conv("input.1", "conv1"), "bn1"), "prelu")
    for name in dict.fromkeys(key.rsplit(".", 2)[0] for key in state if key.endswith("bn1.weight") and "layer" in key):
        first = f"{name}.downsample.0.weight" in state
        branch = writer.norm(writer.conv(writer.norm(body, f"{name}.bn1"), f"{name}.conv1"), f"{name}.bn2")
        branch = writer.conv(writer.prelu(branch, f"{name}.prelu"), f"{name}.conv2", 2 if first else 1)
        branch = writer.norm(branch, f"{name}.bn3")
        shortcut = writer.norm(writer.conv(body, f"{name}.downsample.0", 2), f"{name}.downsample.1") if first else body
        body = writer.add("Add", *((shortcut, branch) if first else (branch, shortcut)))
    body = writer.norm(body, "bn2")
    number = writer.add("Gather", writer.add("Shape", body), writer.add("Constant", value_int=0), axis=0)
    axes = writer.add("Unsqueeze", number, axes=[0])
    rest = writer.add("Unsqueeze", writer.add("Constant", value_int=-1), axes=[0])
    body = writer.add("Reshape", body, writer.add("Concat", axes, rest, axis=0))
    transposed = writer.add("Transpose", writer.constant(state["fc.weight"]), perm=[1, 0])
    body = writer.add("Add", writer.add("MatMul", body, transposed), writer.constant(state["fc.bias"]))
    body = writer.norm(writer.add("Identity", body), "features")
    writer.save(path, body)
