"""Read a network's graph, PREFIX-symbol.json, and check it before MXNet does.

MXNet trusts a graph: the operator _Native calls an address that the file holds, _cvimread opens files, a group of 0
divides by zero, a wrong reference reads other memory. So the file is read here, and MXNet gets what was checked,
written again: no difference between two readers of JSON can hide anything.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterable

from insightface_mx.base import limits
from insightface_mx.base.errors import UserError, shorten
from insightface_mx.files.json_file import read_json
from insightface_mx.files.wrong_file import refuse_wrong_file

VARIABLE = "null"  # the operator of an argument or auxiliary state
_NODE_KEYS = {"op", "name", "inputs", "attrs", "attr", "param", "backward_source_id", "control_deps", "subgraphs"}
_GRAPH_KEYS = {"nodes", "arg_nodes", "heads", "node_row_ptr", "attrs"}
_MANY = limits.MAX_GRAPH_NODES

# Numbers of inputs, from and to, and the operators that have them. They compute on arrays and do nothing else: those of
# all networks and checkpoints here, of 2018 and later, and what face networks of others use. MXNet's older names too.
_OPERATORS_BY_INPUTS = {
    (0, 0): f"{VARIABLE} _full _ones _zeros",
    (1, 1): """
        Activation BlockGrad Cast Dropout Flatten L2Normalization LRN MakeLoss Pad Pooling Pooling_v1 Reshape
        SliceChannel SoftmaxActivation SwapAxis _contrib_AdaptiveAvgPooling2D _contrib_div_sqrt_dim _copy abs amp_cast
        arccos arcsin arctan broadcast_axis broadcast_to cbrt ceil clip cos erf exp expand_dims expm1 fix floor
        hard_sigmoid log log10 log1p log2 log_softmax max mean min negative norm one_hot ones_like prod rcbrt
        reciprocal relu repeat reverse rint round rsqrt sigmoid sign sin slice slice_axis smooth_l1 softmax softmin
        softsign sqrt square squeeze sum tan tanh tile transpose trunc zeros_like
        _div_scalar _equal_scalar _greater_equal_scalar _greater_scalar _lesser_equal_scalar _lesser_scalar
        _maximum_scalar _minimum_scalar _minus_scalar _mod_scalar _mul_scalar _not_equal_scalar _plus_scalar
        _power_scalar _rdiv_scalar _rminus_scalar _rpower_scalar
        _DivScalar _MaximumScalar _MinimumScalar _MinusScalar _MulScalar _PlusScalar _PowerScalar _RDivScalar
        _RMinusScalar cast flatten flip identity make_loss max_axis min_axis pad reshape split stop_gradient sum_axis
        swapaxes
        """,
    (1, 2): "LeakyReLU",
    (2, 2): """
        LinearRegressionOutput LogisticRegressionOutput MAERegressionOutput SVMOutput Softmax SoftmaxOutput
        batch_dot broadcast_add broadcast_div broadcast_equal broadcast_greater broadcast_greater_equal
        broadcast_lesser broadcast_lesser_equal broadcast_like broadcast_maximum broadcast_minimum broadcast_mul
        broadcast_not_equal broadcast_power broadcast_sub dot elemwise_add elemwise_div elemwise_mul elemwise_sub
        _equal _greater _greater_equal _lesser _lesser_equal _maximum _minimum _not_equal _power pick reshape_like
        slice_like softmax_cross_entropy take
        _Div _Maximum _Minimum _Minus _Mul _Plus _Power _add _div _minus _mul _plus _sub broadcast_minus broadcast_plus
        """,
    (2, 3): "Convolution Convolution_v1 FullyConnected",
    (3, 3): "GroupNorm InstanceNorm LayerNorm where",
    (3, 5): "BatchNorm BatchNorm_v1 _contrib_SyncBatchNorm",
    (1, _MANY): "Concat ElementWiseSum add_n amp_multicast concat elemwise_sum stack",
}
OPERATORS = {name: inputs for inputs, names in _OPERATORS_BY_INPUTS.items() for name in names.split()}

# Attributes whose whole numbers MXNet uses without a check: the smallest and the largest value.
_WINDOW, _COUNT, _AXIS = limits.MAX_WINDOW, limits.MAX_CHANNELS, limits.MAX_DIMENSIONS
_RANGES = {
    **dict.fromkeys(("kernel", "stride", "dilate"), (1, _WINDOW)),
    **dict.fromkeys(("pad", "pad_width", "adj", "output_size"), (0, _WINDOW)),
    **dict.fromkeys(("num_filter", "num_group", "num_outputs", "num_args", "nsize"), (1, _COUNT)),
    **dict.fromkeys(("axis", "axes", "dim", "dim1", "dim2"), (-_AXIS, _AXIS)),
    **dict.fromkeys(("reps", "repeats"), (1, _COUNT)),
    **dict.fromkeys(("workspace", "index"), (0, _COUNT)),
    **dict.fromkeys(("num_hidden", "depth"), (1, limits.MAX_OUTPUTS)),
    "__dtype__": (-1, 12),
    "__shape__": (-1, limits.MAX_OUTPUTS),
}
_OTHER_RANGE = (-(2**31), 2**31 - 1)
_NUMBER = r"(?:-?[0-9]{1,20}L?|None)"  # Python 2 wrote an L behind some
_NUMBERS = re.compile(rf"[\[(]?\s*(?:{_NUMBER}\s*(?:,\s*{_NUMBER}\s*)*,?)?\s*[\])]?|None")
_TYPE = re.compile("-?[0-9]{1,2}")  # of a variable's array
_CONTROL = re.compile("[\0-\x1f\x7f]")

Node = Dict[str, Any]


def read_graph(path: str) -> str:
    """Read a graph's file.

    Returns:
        The same graph as JSON, for MXNet.

    Raises:
        UserError: The file is damaged or foreign, or holds what no face recognition network needs; the message names
            the operator. Nothing was run.
    """
    try:
        content = read_json(path, limits.MAX_GRAPH_BYTES)
        _check_graph(content)
        text = json.dumps(content, ensure_ascii=False)
        text.encode()  # half of a character, which JSON can hold, cannot be written
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error
    except ValueError as error:
        refuse_wrong_file(path)
        raise UserError(f"{path} is damaged or no graph that is read here: {error}; nothing was run") from error
    return text


def _check_graph(content: object) -> None:
    """Raise ValueError where a graph is not as MXNet writes it."""
    if not isinstance(content, dict) or not isinstance(content.get("nodes"), list):
        raise ValueError("it has no list of nodes")
    _check_keys(content, _GRAPH_KEYS, "the graph")
    nodes = content["nodes"]
    if not 0 < len(nodes) <= limits.MAX_GRAPH_NODES:
        raise ValueError(f"it has {len(nodes)} nodes, not 1 to {limits.MAX_GRAPH_NODES}")
    outputs: list[int] = []  # number of outputs of each node so far
    variables = set()
    for index, node in enumerate(nodes):
        _check_node(index, node)
        _check_references(f"node {shorten(node['name'])}", node["inputs"], outputs)
        outputs.append(_outputs(node))
        if node["op"] == VARIABLE and node["name"] in variables:
            raise ValueError(f"two variables are named {shorten(node['name'])}")
        variables.add(node["name"] if node["op"] == VARIABLE else None)
    heads = content.get("heads")
    if not isinstance(heads, list) or not heads:
        raise ValueError("it has no outputs ('heads')")
    _check_references("an output ('heads')", heads, outputs)
    for key in ("arg_nodes", "node_row_ptr"):
        if not _are_numbers(content.get(key, []), limits.MAX_GRAPH_BYTES):
            raise ValueError(f"'{key}' is no list of node numbers")
    for index in content.get("arg_nodes", []):
        if index >= len(nodes) or nodes[index]["op"] != VARIABLE:
            raise ValueError(f"'arg_nodes' names {index}, which is no variable")
    for value in _dictionary(content, "attrs", "the graph").values():
        if not (isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)):
            raise ValueError("'attrs' of the graph are not as MXNet writes them")


def _check_node(index: int, node: object) -> None:
    """Check a node by itself: its operator, its name, its number of inputs and its attributes."""
    if not isinstance(node, dict) or not isinstance(node.get("op"), str) or not isinstance(node.get("name"), str):
        raise ValueError(f"node {index} has no operator and name")
    op, name = node["op"], node["name"]
    shown = f"node {shorten(name)}"
    if len(name) > limits.MAX_GRAPH_NAME or _CONTROL.search(name):
        raise ValueError(f"{shown}: a name of {len(name)} characters, or with control characters")
    if op not in OPERATORS:
        raise ValueError(f"{shown} is the operator {shorten(op)}, which no face recognition network needs")
    _check_keys(node, _NODE_KEYS, shown)
    if node.get("subgraphs") or node.get("control_deps"):
        raise ValueError(f"{shown} holds graphs inside or depends on others that are no inputs")
    if not isinstance(node.get("backward_source_id", -1), int):
        raise ValueError(f"{shown}: 'backward_source_id' is no number")
    fewest, most = OPERATORS[op]
    if not isinstance(node.get("inputs"), list) or not fewest <= len(node["inputs"]) <= most:
        raise ValueError(f"{shown} ({op}) has not the inputs of this operator")
    for key in ("attrs", "attr", "param"):
        for attribute, value in _dictionary(node, key, shown).items():
            _check_attribute(shown, attribute, value)
            if attribute == "num_args" and op != VARIABLE and value != str(len(node["inputs"])):
                raise ValueError(f"{shown} ({op}) has {len(node['inputs'])} inputs, not num_args {shorten(value)}")


def _check_attribute(shown: str, attribute: str, value: object) -> None:
    if not isinstance(value, str) or max(len(value), len(attribute)) > limits.MAX_ATTRIBUTE_TEXT:
        raise ValueError(f"{shown}: {shorten(attribute)} is no text of at most {limits.MAX_ATTRIBUTE_TEXT} characters")
    if attribute in ("__storage_type__", "storage_type") and value not in ("0", "-1", "default"):
        raise ValueError(f"{shown}: sparse arrays are not read")
    if not (_TYPE if attribute == "__dtype__" else _NUMBERS).fullmatch(value):
        if attribute in _RANGES:
            raise ValueError(f"{shown}: {attribute} is {shorten(value)}, not whole numbers")
        return
    smallest, largest = _RANGES.get(attribute, _OTHER_RANGE)
    for number in re.findall(r"-?[0-9]+", value):
        if not smallest <= int(number) <= largest:
            raise ValueError(f"{shown}: {attribute} is {shorten(value)}, not {smallest} to {largest}")


def _check_references(where: str, references: Iterable[object], outputs: list[int]) -> None:
    """Check that references [node, output] or [node, output, version] are to outputs of nodes that were seen."""
    for reference in references:
        if not _are_numbers(reference, limits.MAX_GRAPH_NODES) or len(reference) not in (2, 3):  # type: ignore[arg-type]
            raise ValueError(f"{where} refers to {shorten(reference)}, not [node, output, version]")
        node, output = reference[:2]  # type: ignore[index]
        if node >= len(outputs) or output >= outputs[node]:
            raise ValueError(f"{where} refers to output {output} of node {node}, which is not there or comes later")


def _outputs(node: Node) -> int:
    """Return the number of outputs of a node that others may use."""
    if node["op"] not in ("SliceChannel", "split"):
        return 1
    attributes = {**node.get("param", {}), **node.get("attr", {}), **node.get("attrs", {})}
    count = attributes.get("num_outputs", "")
    if not count.isdecimal():
        raise ValueError(f"node {shorten(node['name'])} says no number of outputs")
    return int(count)


def _check_keys(values: dict[str, Any], known: set[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise ValueError(f"{where} has an entry {shorten(key)}, which MXNet does not write")


def _dictionary(values: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    result = values.get(key, {})
    if not isinstance(result, dict):
        raise ValueError(f"'{key}' of {where} is no dictionary")
    return result


def _are_numbers(values: object, largest: int) -> bool:
    """Return whether a value is a list of whole numbers from 0 to `largest`."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= largest for value in values)
