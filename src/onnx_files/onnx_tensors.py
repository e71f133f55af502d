"""The tensors of ONNX files from others: sizes are checked, parameters in other files read, floats made float32."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, Iterator

import numpy as np

from insightface_mx.base.errors import shorten
from insightface_mx.base.limits import MAX_DIMENSIONS, MAX_ONNX_BYTES
from insightface_mx.files.regular_file import open_regular

if TYPE_CHECKING:
    import onnx

FLOAT, _HALF, _DOUBLE, _BFLOAT16 = 1, 10, 11, 16  # TensorProto.DataType
_TO_FLOAT = (_HALF, _DOUBLE, _BFLOAT16)
_BYTES = {FLOAT: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, _HALF: 2, _DOUBLE: 8, 12: 4, 13: 8, _BFLOAT16: 2}
_FIELDS = {FLOAT: "float_data", 7: "int64_data", _DOUBLE: "double_data", 12: "uint64_data", 13: "uint64_data"}


_EXTERNAL = 1  # TensorProto.DataLocation


class Refused(Exception):
    """A file is not what it must be; the message says why, and does not name the file."""


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the parameters of a graph and the tensors in its nodes."""
    yield from graph.initializer
    for node in graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def take_in(model: onnx.ModelProto, folder: str) -> bool:
    """Read the tensors that lie in other files of a folder; return whether there are any.

    Raises:
        Refused: A tensor lies outside the folder, or is not where it should be.
        OSError: A file cannot be opened.
    """
    total, sizes = 0, {}
    outside = [tensor for tensor in tensors(model.graph) if tensor.data_location == _EXTERNAL]
    for tensor in outside:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        path = _inside(folder, location)
        needed = byte_count(tensor)
        offset, length = _number(entries.get("offset", "0")), _number(entries.get("length", str(needed)))
        total += needed
        with open_regular(path) as file:
            sizes[path] = os.fstat(file.fileno()).st_size
            if length != needed or not 0 <= offset <= sizes[path] - needed:
                where = shorten(location)
                raise Refused(f"tensor {shorten(tensor.name)} is not where it should be in {where}: a file is damaged")
            if total > min(sum(sizes.values()), MAX_ONNX_BYTES):
                raise Refused("its tensors take more than the files that they lie in, or than one model can have")
            file.seek(offset)
            tensor.raw_data = file.read(needed)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return bool(outside)


def _inside(folder: str, location: Any) -> str:
    """Return the path of a file in a folder. Refused: it lies elsewhere, links followed."""
    if isinstance(location, str) and location and "\0" not in location and not os.path.isabs(location):
        folder, path = os.path.realpath(folder), os.path.realpath(os.path.join(folder, location))
        if ".." not in location.replace("\\", "/").split("/") and os.path.commonpath([path, folder]) == folder:
            return path
    raise Refused(f"a tensor lies in '{shorten(location)}': only files in the .onnx file's folder are read")


def _number(text: Any) -> int:
    """Return a number that is written in decimal digits, and -1 for any other text."""
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 19 else -1


def byte_count(tensor: onnx.TensorProto) -> int:
    """Return the bytes of a tensor as its dimensions and type say."""
    if tensor.data_type not in _BYTES:
        raise Refused(f"tensor {shorten(tensor.name)} is of type {tensor.data_type}, which no face network needs")
    if len(tensor.dims) > MAX_DIMENSIONS or any(side < 0 for side in tensor.dims):
        raise Refused(f"tensor {shorten(tensor.name)} has the dimensions {shorten(list(tensor.dims))}: it is damaged")
    return math.prod(tensor.dims) * _BYTES[tensor.data_type]


def check_tensor(tensor: onnx.TensorProto) -> None:
    """Check that a tensor holds as many numbers as its dimensions say."""
    if not isinstance(tensor.name, str):
        raise Refused("it has names that are not UTF-8: it is damaged")
    needed, found = byte_count(tensor), len(tensor.raw_data)
    if not tensor.HasField("raw_data"):
        field = getattr(tensor, _FIELDS.get(tensor.data_type, "int32_data"))
        found = len(field) * _BYTES[tensor.data_type]
    if found != needed or tensor.HasField("segment"):
        dimensions = shorten(list(tensor.dims))
        raise Refused(
            f"tensor {shorten(tensor.name)} has {found} bytes, its dimensions {dimensions} say {needed}: "
            "the file is damaged"
        )


def to_float32(model: onnx.ModelProto) -> bool:
    """Make all floats float32, among them those that a Cast makes; return whether there were others."""
    from onnx import numpy_helper

    is_changed = False
    for tensor in tensors(model.graph):
        if tensor.data_type in _TO_FLOAT:
            with np.errstate(over="ignore"):
                array = _bfloat16(tensor) if tensor.data_type == _BFLOAT16 else numpy_helper.to_array(tensor)
                array = array.astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
            is_changed = True
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type in _TO_FLOAT:
            value.type.tensor_type.elem_type = FLOAT
            is_changed = True
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype", "output_dtype") and attribute.i in _TO_FLOAT:
                attribute.i = FLOAT
                is_changed = True
    return is_changed


def _bfloat16(tensor: onnx.TensorProto) -> np.ndarray:
    """Return a tensor of bfloat16 as float32: onnx's own reader differs from version to version."""
    bits = np.frombuffer(tensor.raw_data, "<u2") if tensor.HasField("raw_data") else np.array(tensor.int32_data)
    return (bits.astype(np.uint32) << 16).view(np.float32).reshape(tensor.dims)
