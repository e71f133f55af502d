"""Checkpoints: PREFIX-symbol.json (see graphs), PREFIX-NNNN.params, and their manifest."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import small_network
from hostile.graphs import SYMBOL, symbol_cases
from hostile.mutations import LONG, changed, file_cases, with_file
from hostile.rule import EITHER, ERROR, Case, Group

from insightface_mx.base.compat import mx
from insightface_mx.engine.network import load_model
from insightface_mx.files import manifest
from insightface_mx.formats import checkpoint
from insightface_mx.training.fine_tuning import load_pretrained

PARAMS, MANIFEST = "net-0001.params", "net-0001.json"


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
    yield "signed, deep", signed({**good, "extra": deep(900)})
    yield "NaN", json.dumps({**good, "x": float("nan")}).encode()
    yield "a list", b"[]"


def deep(depth: int) -> list:
    """Return lists nested `depth` times."""
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def signed(content: dict[str, Any]) -> bytes:
    """Return a manifest with the hash that its content has."""
    content = {key: value for key, value in content.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, indent=1).encode()


GROUPS = [
    Group("symbols", prepare_without_manifest, symbol_cases, read),
    Group("params", prepare_without_manifest, params_cases, read),
    Group("manifests", prepare, manifest_cases, read),
]
