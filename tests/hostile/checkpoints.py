"""Checkpoints: PREFIX-symbol.json, PREFIX-NNNN.params, their manifest, and saved states of training."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import struct
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import small_network
import small_training
from harness import IDENTITIES, PHOTOS, SIZE, photo
from hostile.mutations import LONG, changed, file_cases, with_file
from hostile.rule import EITHER, ERROR, Case, Group

from insightface_mx import train_softmax
from insightface_mx.base.compat import mx
from insightface_mx.engine.network import load_model
from insightface_mx.formats import checkpoint, manifest
from insightface_mx.formats.training_set import write_training_set
from insightface_mx.training.fine_tuning import load_pretrained

SYMBOL, PARAMS, MANIFEST = "net-symbol.json", "net-0001.params", "net-0001.json"
OPTIONS = (
    f"--max-steps 3 --verbose 2 --ckpt 2 --per-batch-size 5 --image-size {SIZE},{SIZE} --emb-size 8 --seed 3 --lr 0.05 "
    "--lr-steps 5 --loss-type 1 --workers 1 --ctx cpu --resume"
).split()


def prepare(folder: Path) -> None:
    """Write a checkpoint with its manifest."""
    small_network.save(folder / "net")
    manifest.write(
        str(folder / MANIFEST), [str(folder / SYMBOL), str(folder / PARAMS)], {"options": {"image_size": "112,112"}}
    )


def prepare_without_manifest(folder: Path) -> None:
    small_network.save(folder / "net")


def read(folder: Path) -> None:
    """Load a network for inference and its parameters for training, and embed an image."""
    prefix = str(folder / "net")
    checkpoint.saved_image_size(prefix, 1)
    model = load_model(prefix, 1, [mx.cpu()], 1, (112, 112))
    model.forward(mx.io.DataBatch([mx.nd.zeros((1, 3, 112, 112))]))
    assert model.get_outputs()[0].shape == (1, small_network.LENGTH)
    symbol, *_ = checkpoint.load(prefix, 1)
    load_pretrained(f"{prefix},1", symbol, (1, 3, 112, 112), ["data"])


# PREFIX-symbol.json


def symbol_cases(good: Path) -> Iterator[Case]:
    yield from file_cases(good, SYMBOL, flips=40, cuts=10, words=6)
    graph = json.loads((good / SYMBOL).read_text())

    def forged(name: str, change: Callable[[dict[str, Any]], Any], expect: str = EITHER) -> Case:
        other = copy.deepcopy(graph)
        result = change(other)
        content = json.dumps(other if result is None else result).encode()
        return Case(name, with_file(good, SYMBOL, content), expect)

    for op in ("_Native", "_NDArray"):
        for address in ("0x41414141", "94107395162112", "0", "-1", "None"):
            yield forged(
                f"h01 {op} at {address}", lambda g, op=op, address=address: _operator(g, op, {"info": address}), ERROR
            )
    for op in (
        "Custom",
        "_CachedOp",
        "_foreach",
        "_while_loop",
        "_cond",
        "_contrib_TensorRT",
        "_FusedOp",
        "_sg_mkldnn_conv",
        "_CustomFunction",
        "_cvimread",
        "_npi_cvimread",
        "_image_imread",
        "_subgraph_exec",
        "_random_uniform",
        "_zeros",
        "_arange",
        "_contrib_MultiBoxPrior",
        "Correlation",
        "RNN",
        "SVMOutput",
        "_npx_reshape",
        "no such",
        "",
        "null",
        "_insightface_prelu",
        "_rnn_param_concat",
        "_eye",
        "_full",
        "_linspace",
        "Crop",
        "_histogram",
    ):
        yield forged(
            f"operator {op}", lambda g, op=op: _operator(g, op, {"op_type": "x", "shape": "(1000000000,1000)"})
        )
    yield Case(
        "h31 not UTF-8", with_file(good, SYMBOL, (good / SYMBOL).read_bytes().replace(b"conv", b"con\xff")), ERROR
    )
    yield Case(
        "Latin-1 in a name", with_file(good, SYMBOL, (good / SYMBOL).read_bytes().replace(b'"data"', b'"dat\xe9"'))
    )
    yield forged("h31 a node that reads itself", lambda g: _inputs(g, lambda i: [[i, 0, 0]]), ERROR)
    yield forged("h31 a node that reads a later one", lambda g: _inputs(g, lambda i: [[i + 3, 0, 0]]), ERROR)
    yield forged("h31 a node that reads a missing output", lambda g: _inputs(g, lambda i: [[0, 7, 0]]), ERROR)
    for node in (-1, 10**6, 2**31, 2**63, 1.5, "0", None, [], True):
        yield forged(
            f"a node that reads node {node!r}", lambda g, node=node: _inputs(g, lambda i: [[node, 0, 0]]), ERROR
        )
    for output in (-1, 2**31, 2**63, 0.5, "0", None):
        yield forged(
            f"a node that reads output {output!r}",
            lambda g, output=output: _inputs(g, lambda i: [[0, output, 0]]),
            ERROR,
        )
    for inputs in ([], [[]], [[0]], [[0, 0, 0]] * 100, [[0, 0, 0, 0, 0]], {}, "abc", None, 3, [0, 0, 0]):
        yield forged(f"inputs {str(inputs)[:30]}", lambda g, inputs=inputs: _inputs(g, lambda i: inputs))
    yield forged("h31 two nodes of one name", _one_name)
    for key, values in {
        "num_group": ("h31 0", "-1", "2147483648", "7", "x", ""),
        "kernel": ("(0,0)", "(-3,-3)", "(1000000,1000000)", "(3,)", "(3,3,3,3)", "()", "3", "(2147483647,2147483647)"),
        "stride": ("(0,0)", "(-1,-1)", "(1000000000,1)", "(2,)"),
        "pad": (
            "h31 (1000000000,1000000000)",
            "h31 (2147483647,2147483647)",
            "(-5,-5)",
            "(60000,60000)",
            "(100000,100000)",
        ),
        "dilate": ("(0,0)", "(100000,100000)", "(-1,-1)"),
        "num_filter": ("0", "-1", "1000000000", "2147483648", "x"),
        "layout": ("NHWC", "x"),
        "workspace": ("18446744073709551615", "-1"),
        "unknown": ("1",),
    }.items():
        for value in values:
            known, value = ("h31 ", value[4:]) if value.startswith("h31 ") else ("", value)
            yield forged(
                f"{known}convolution {key} {value}",
                lambda g, key=key, value=value: _attribute(g, "Convolution", key, value),
            )
    for op, key, value in (
        ("BatchNorm", "axis", "100"),
        ("BatchNorm", "axis", "-100"),
        ("BatchNorm", "eps", "nan"),
        ("FullyConnected", "num_hidden", "1000000000"),
        ("FullyConnected", "num_hidden", "0"),
        ("Pooling", "kernel", "(0,0)"),
        ("Pooling", "stride", "(0,0)"),
        ("Pooling", "pool_type", "lp"),
        ("Pooling", "p_value", "0"),
        ("Dropout", "p", "nan"),
        ("Dropout", "p", "2"),
        ("Activation", "act_type", "x"),
        ("LeakyReLU", "act_type", "rrelu"),
    ):
        yield forged(f"{op} {key} {value}", lambda g, op=op, key=key, value=value: _attribute(g, op, key, value))
    for shape in ("(1000000,1000000,1000)", "(-1,-1)", "[0]", "(" * 5000, "x", "(0,)", f"({LONG},)", "(1,)*1000000000"):
        yield forged(f"a variable of shape {shape[:20]}", lambda g, shape=shape: _variable(g, "__shape__", shape))
    for key, value in (
        ("__init__", '["zeros", {}]'),
        ("__init__", "x"),
        ("__dtype__", "99"),
        ("__dtype__", "-7"),
        ("__lr_mult__", "nan"),
        ("__wd_mult__", "x"),
        ("__storage_type__", "2"),
        ("__storage_type__", "99"),
        ("__ctx_group__", "x"),
        ("__force_mirroring__", "True"),
        ("__profiler_scope__", "x"),
    ):
        yield forged(f"a variable with {key} {value}", lambda g, key=key, value=value: _variable(g, key, value))
    for depth in (60, 50_000):
        yield Case(f"h31 subgraphs nested {depth} deep", with_file(good, SYMBOL, nested(depth)), ERROR)
    yield forged("h31 a subgraph", lambda g: g["nodes"][5].update(subgraphs=[copy.deepcopy(g)]), ERROR)
    yield forged("a hundred thousand nodes", lambda g: _chain(g, 100_000))
    yield forged(
        "twenty thousand variables",
        lambda g: g["nodes"].extend({"op": "null", "name": f"v{i}", "inputs": []} for i in range(20_000)),
    )
    for key in graph:
        yield forged(f"no {key}", lambda g, key=key: g.pop(key) and None)
        for value in (None, 3, "x", [], {}, [[]], [None], [2**40], [[0, 0, 0]], [[2**40, 0, 0]]):
            yield forged(f"{key} is {str(value)[:20]}", lambda g, key=key, value=value: g.update({key: value}))
    for key in ("op", "name", "inputs"):
        yield forged(f"a node without {key}", lambda g, key=key: g["nodes"][3].pop(key) and None)
        for value in (None, 3, [], {}, "x" * (1 << 20), "\x1b[2J", "\0", True):
            yield forged(
                f"a node whose {key} is {str(value)[:10]!r}",
                lambda g, key=key, value=value: g["nodes"][3].update({key: value}),
            )
    for attrs in (
        None,
        3,
        [],
        "x",
        {"kernel": None},
        {"kernel": [3, 3]},
        {"kernel": {}},
        {"\x1b[2J": "\x1b[2J"},
        {"a" * 100_000: "b" * 100_000},
    ):
        yield forged(f"attributes {str(attrs)[:30]!r}", lambda g, attrs=attrs: g["nodes"][3].update(attrs=attrs))
    yield Case("NaN and Infinity", with_file(good, SYMBOL, b'{"nodes": [NaN, Infinity, -Infinity]}'), ERROR)
    yield Case("a number of 100,000 digits", with_file(good, SYMBOL, b'{"nodes": ' + b"9" * 100_000 + b"}"), ERROR)
    yield Case(
        "keys given twice",
        with_file(good, SYMBOL, (good / SYMBOL).read_bytes().replace(b'"op":', b'"op": "_Native", "op":')),
    )
    yield Case(
        "half a surrogate", with_file(good, SYMBOL, (good / SYMBOL).read_bytes().replace(b'"data"', b'"\\ud800"'))
    )
    yield Case("comments", with_file(good, SYMBOL, b"// a comment\n" + (good / SYMBOL).read_bytes()), EITHER)


def _first(graph: dict[str, Any], op: str) -> dict[str, Any]:
    return next((node for node in graph["nodes"] if node["op"] == op), graph["nodes"][-1])


def _operator(graph: dict[str, Any], op: str, attrs: dict[str, str]) -> None:
    node = _first(graph, "Activation")
    node = node if node["op"] == "Activation" else _first(graph, "LeakyReLU")
    node.update(op=op, attrs=attrs)


def _inputs(graph: dict[str, Any], inputs: Callable[[int], Any]) -> None:
    index = next(i for i, node in enumerate(graph["nodes"]) if node["op"] == "Convolution")
    graph["nodes"][index]["inputs"] = inputs(index)


def _one_name(graph: dict[str, Any]) -> None:
    for node in graph["nodes"][1:6]:
        node["name"] = "data"


def _attribute(graph: dict[str, Any], op: str, key: str, value: str) -> None:
    _first(graph, op).setdefault("attrs", {})[key] = value


def _variable(graph: dict[str, Any], key: str, value: str) -> None:
    graph["nodes"][1].setdefault("attrs", {})[key] = value


def _chain(graph: dict[str, Any], count: int) -> dict[str, Any]:
    nodes = [{"op": "null", "name": "data", "inputs": []}]
    for index in range(count):
        name = "fc1" if index == count - 1 else f"n{index}"
        nodes.append({"op": "Activation", "name": name, "attrs": {"act_type": "relu"}, "inputs": [[index, 0, 0]]})
    return {**graph, "nodes": nodes, "arg_nodes": [0], "node_row_ptr": list(range(count + 2)), "heads": [[count, 0, 0]]}


def nested(depth: int) -> bytes:
    """Return a graph whose node has a subgraph whose node has a subgraph ..."""
    head = b'{"nodes": [{"op": "_cond", "name": "c", "inputs": [], "subgraphs": ['
    tail = b']}], "arg_nodes": [], "node_row_ptr": [0, 1], "heads": [[0, 0, 0]]}'
    return head * depth + b'{"nodes": [], "arg_nodes": [], "node_row_ptr": [0], "heads": []}' + tail * depth


# PREFIX-NNNN.params


def params_cases(good: Path) -> Iterator[Case]:
    yield from file_cases(good, PARAMS, flips=60, cuts=20, words=60)
    content = (good / PARAMS).read_bytes()
    for name, forged in forged_params(content):
        yield Case(name, with_file(good, PARAMS, forged), ERROR)
    for place in range(16, 120, 4):
        for value in (0xFFFFFFFF, 0x7FFFFFFF, 1 << 20):
            other = content[:place] + struct.pack("<I", value) + content[place + 4 :]
            yield Case(f"h12 word {value:x} at {place}", with_file(good, PARAMS, other))
    arrays = dict(_named_arrays(content))
    for name, change in {
        "nan": lambda a: a * np.nan,
        "inf": lambda a: a + np.inf,
        "1e38": lambda a: a + 1e38,
        "zeros": lambda a: a * 0,
        "integers": lambda a: a.astype(np.int32),
        "float64": lambda a: a.astype(np.float64),
        "float16": lambda a: a.astype(np.float16),
        "uint8": lambda a: a.astype(np.uint8),
        "one value": lambda a: a.reshape(-1)[:1],
        "flat": lambda a: a.reshape(-1),
    }.items():
        yield Case(f"parameters: {name}", _saved(good, {key: change(value) for key, value in arrays.items()}))
    first = next(iter(arrays))
    for name in (
        "arg:",
        "aux:",
        "arg",
        "",
        "x",
        "arg:data",
        "aux:data",
        "arg:\x1b[2J",
        "arg:" + "n" * (1 << 20),
        "arg:\n\n\n",
    ):
        yield Case(f"a parameter called {name[:10]!r}", _saved(good, {**arrays, name: arrays[first]}))
    yield Case("no names", _saved(good, list(arrays.values())), ERROR)
    yield Case("no arrays", _saved(good, {"arg:x": np.zeros(1)}), ERROR)
    yield Case("h12 of another network", _saved(good, {key: np.zeros((3,), np.float32) for key in arrays}), ERROR)


def forged_params(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield files in MXNet's format whose headers lie."""
    head = content[:16]  # magic and a reserved word
    array = struct.pack("<Ii", 0xF993FAC9, 0)  # version 2, dense
    yield "h12 ndim 2^32-1", head + struct.pack("<Q", 1) + array + struct.pack("<I", 2**32 - 1) + bytes(200)
    yield "h12 ndim 2^31-1", head + struct.pack("<Q", 1) + array + struct.pack("<i", 2**31 - 1) + bytes(200)
    yield "h12 ndim -1", head + struct.pack("<Q", 1) + array + struct.pack("<i", -1) + bytes(200)
    for count in (10**9, 2**40, 2**63, 2**64 - 1):
        yield f"h12 {count} arrays", head + struct.pack("<Q", count) + content[24:]
    for shape in ((2**40,), (2**31, 2**31), (-1, 5), (2**62, 4), (10**9,), (1 << 20, 1 << 12)):
        for kind in (0, 1, 3, 12):
            body = struct.pack("<i", len(shape)) + struct.pack(f"<{len(shape)}q", *shape)
            yield (
                f"h12 shape {shape} of type {kind}",
                head + struct.pack("<Q", 1) + array + body + struct.pack("<iii", 1, 0, kind) + bytes(200),
            )
    small = struct.pack("<i", 1) + struct.pack("<q", 3)
    for device, number in ((2, 0), (3, 0), (5, 0), (99, 0), (1, 10**6), (2, 2**31 - 1), (-1, -1)):
        yield (
            f"an array on device {device}:{number}",
            head
            + struct.pack("<Q", 1)
            + array
            + small
            + struct.pack("<iii", device, number, 0)
            + bytes(12)
            + struct.pack("<QQ", 1, 5)
            + b"arg:x",
        )
    for kind in (2, 4, 7, 8, 12, 99, -1, 2**31 - 1):
        yield (
            f"an array of type {kind}",
            head
            + struct.pack("<Q", 1)
            + array
            + small
            + struct.pack("<iii", 1, 0, kind)
            + bytes(12)
            + struct.pack("<QQ", 1, 5)
            + b"arg:x",
        )
    for storage in (-1, 1, 2, 3, 2**31 - 1):
        yield (
            f"an array of storage {storage}",
            head
            + struct.pack("<Q", 1)
            + struct.pack("<Ii", 0xF993FAC9, storage)
            + small * 3
            + struct.pack("<iii", 1, 0, 0)
            + bytes(60),
        )
    for magic in (0xF993FAC8, 0xF993FACA, 0xF993FACB, 0, 3):
        yield (
            f"an array of magic {magic:x}",
            head
            + struct.pack("<Q", 1)
            + struct.pack("<Ii", magic, 0)
            + small
            + struct.pack("<iii", 1, 0, 0)
            + bytes(12)
            + struct.pack("<QQ", 1, 5)
            + b"arg:x",
        )
    yield (
        "h12 the oldest format with 2^30 dimensions",
        head + struct.pack("<Q", 1) + struct.pack("<I", 1 << 30) + bytes(200),
    )
    names = content.rindex(struct.pack("<Q", len(list(_named_arrays(content)))))
    for count in (10**9, 2**63, 0, 1):
        yield f"h12 {count} names", content[:names] + struct.pack("<Q", count) + content[names + 8 :]
    for length in (8 << 30, 2**63, 2**64 - 1):
        yield f"h12 a name of {length} bytes", content[: names + 8] + struct.pack("<Q", length) + content[names + 16 :]
    yield "names that are not UTF-8", content.replace(b"arg:", b"ar\xff:")
    yield "reserved words", content[:8] + b"\xff" * 8 + content[16:]


def _named_arrays(content: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the names of the arrays of a good file, with zeros in the place of the arrays' values."""
    (count,) = struct.unpack_from("<Q", content, 16)
    position, shapes = 24, []
    for _ in range(count):
        _, _, ndim = struct.unpack_from("<Iii", content, position)
        shape = struct.unpack_from(f"<{ndim}q", content, position + 12)
        position += 12 + 8 * ndim + 12 + 4 * int(np.prod(shape))
        shapes.append(shape)
    position += 8
    for shape in shapes:
        (length,) = struct.unpack_from("<Q", content, position)
        name = content[position + 8 : position + 8 + length].decode()
        position += 8 + length
        yield name, np.zeros(shape, np.float32)


def _saved(good: Path, arrays: Any) -> Callable[[Path], object]:
    def save(folder: Path) -> None:
        values = list(arrays.values()) if isinstance(arrays, dict) else arrays
        values = [mx.nd.array(value, dtype=value.dtype) for value in values]
        mx.nd.save(str(folder / PARAMS), dict(zip(arrays, values)) if isinstance(arrays, dict) else values)

    return changed(good, save)


# PREFIX-NNNN.json


def manifest_cases(good: Path) -> Iterator[Case]:
    yield from file_cases(good, MANIFEST, flips=30, cuts=8, words=4, expect_foreign=EITHER)
    for name in (PARAMS, SYMBOL):
        content = (good / name).read_bytes()
        for place in (len(content) // 3, len(content) // 2):
            spoiled = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
            yield Case(f"h20 one bit of {name} turned at {place}", with_file(good, name, spoiled), ERROR)
    described = json.loads((good / MANIFEST).read_text())
    for name, content in forged_manifests(described):
        yield Case(name, with_file(good, MANIFEST, content))


def forged_manifests(good: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Yield manifests with a right hash and strange entries."""
    for key in ("files", "options", "versions"):
        for value in (None, 3, "x", [], {}, [1], {"x": 1}, {"x": None}, {"../x": {"bytes": 1, "sha256": "0"}}, True):
            yield f"h30 signed, {key} is {value!r}", signed({**good, key: value})
    for value in (
        None,
        3,
        [112, 112],
        "112",
        "0,0",
        "²,112",
        f"{LONG},112",
        "99999999,99999999",
        "112,112,112",
        {},
        "nan,1",
        "-1,-1",
    ):
        yield f"h30 signed, image size {str(value)[:20]}", signed({**good, "options": {"image_size": value}})
    for name in ("../../../../etc/passwd", "/etc/passwd", "/dev/zero", "", ".", "\x1b[2J", "n" * 100_000, "\0"):
        yield f"signed, a file called {name[:20]!r}", signed({**good, "files": {name: {"bytes": 1, "sha256": "0"}}})
    for number in (1.5, -1, 10**30, "1", None):
        yield f"signed, {number!r} bytes", signed({**good, "files": {PARAMS: {"bytes": number, "sha256": "0"}}})
    yield "signed, deep", signed({**good, "extra": _deep(900)})
    yield "NaN", json.dumps({**good, "x": float("nan")}).encode()
    yield "a list", b"[]"


def _deep(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def signed(content: dict[str, Any]) -> bytes:
    """Return a manifest with the hash that its content has."""
    content = {key: value for key, value in content.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, indent=1).encode()


# Saved states


def prepare_state(folder: Path) -> None:
    """Train three steps, so that there is a state to resume from."""
    pictures = [[photo(identity, index) for index in range(PHOTOS)] for identity in range(IDENTITIES)]
    write_training_set(str(folder / "data"), pictures, (SIZE, SIZE))
    train(folder)
    assert (folder / "m-state-1.json").is_file()


def train(folder: Path) -> None:
    """Train, or resume; nothing is left to do where the state is complete."""
    argv = [*OPTIONS, "--data-dir", str(folder / "data"), "--prefix", str(folder / "m")]
    with contextlib.redirect_stdout(io.StringIO()):
        train_softmax.main(argv, network=small_training.small_network, test=small_training.score)


def state_cases(good: Path) -> Iterator[Case]:
    yield from file_cases(good, "m-state-1.json", flips=20, cuts=5, words=3, expect_foreign=EITHER)
    yield from file_cases(good, "m-state-1.params", flips=20, cuts=5, words=20, odd=False)
    saved = json.loads((good / "m-state-1.json").read_text())
    for key in saved:
        for value in (None, -1, 2**70, 1.5, float("nan"), "x", [], {}, [1, 2], {"a": []}, True, _deep(500)):
            if saved[key] != value:
                yield Case(
                    f"h30 signed, {key} is {str(value)[:12]}",
                    with_file(good, "m-state-1.json", signed({**saved, key: value})),
                )
        missing = {name: value for name, value in saved.items() if name != key}
        yield Case(f"h30 signed, no {key}", with_file(good, "m-state-1.json", signed(missing)))
    for place in ("[" * 100_000, "{" * 100_000, '{"a":' * 100_000, "9" * 100_000, "[" * 990 + "]" * 990):
        yield Case(f"h30 {place[:5]} deep {len(place)}", with_file(good, "m-state-1.json", place.encode()))


def resume(folder: Path) -> None:
    """Resume the training."""
    train(folder)


GROUPS = [
    Group("symbols", prepare_without_manifest, symbol_cases, read),
    Group("params", prepare_without_manifest, params_cases, read),
    Group("manifests", prepare, manifest_cases, read),
    Group("states", prepare_state, state_cases, resume),
]
