"""Calibration files, the .npz of `verification.py --mode 2`."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, Iterator

import numpy as np
from hostile.mutations import file_cases, with_file
from hostile.rule import EITHER, ERROR, Case, Group
from hostile.training_sets import bomb, npz, npz_of_shape

from insightface_mx.deploy.compare import calibrated_threshold

NAME, PAIRS, LENGTH = "lfw-0001-embeddings.npz", 40, 16


def good_arrays() -> dict[str, np.ndarray]:
    embeddings = np.random.RandomState(1).normal(size=(2 * PAIRS, LENGTH))
    return {
        "embeddings": embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True),
        "issame": np.arange(PAIRS) % 2 == 0,
    }


def prepare(folder: Path) -> None:
    (folder / NAME).write_bytes(npz(good_arrays()))


def cases(good: Path) -> Iterator[Case]:
    yield from file_cases(good, NAME, flips=60, cuts=15, words=30)
    arrays = good_arrays()
    embeddings, issame = arrays["embeddings"], arrays["issame"]
    for value in (np.nan, np.inf, -np.inf, 1e300, 2.0):
        spoiled = embeddings.copy()
        spoiled[3, 2] = value
        yield _case(f"h23 an embedding of {value}", good, {**arrays, "embeddings": spoiled})
        yield _case(f"h23 embeddings of {value}", good, {**arrays, "embeddings": np.full_like(embeddings, value)})
    for name, values in {
        "one dimension": {"embeddings": embeddings.ravel()},
        "three dimensions": {"embeddings": embeddings[None]},
        "text": {"embeddings": embeddings.astype(str)},
        "booleans": {"embeddings": embeddings > 0},
        "complex numbers": {"embeddings": embeddings.astype(complex)},
        "dates": {"embeddings": np.zeros((2 * PAIRS, LENGTH), "M8[s]")},
        "records": {"embeddings": np.zeros((2 * PAIRS, LENGTH), [("a", "f4")])},
        "an odd number": {"embeddings": embeddings[:-1]},
        "none": {"embeddings": embeddings[:0], "issame": issame[:0]},
        "of length 0": {"embeddings": embeddings[:, :0]},
        "a number": {"embeddings": np.float64(3)},
        "fewer flags": {"issame": issame[:-1]},
        "flags of text": {"issame": issame.astype(str)},
        "flags of nan": {"issame": np.full(PAIRS, np.nan)},
        "flags of 2": {"issame": np.full(PAIRS, 2)},
        "flags in two dimensions": {"issame": issame[:, None]},
        "all the same": {"issame": issame | True},
    }.items():
        yield _case(f"h29 {name}", good, {**arrays, **values})
    for name, values in {
        "float16": {"embeddings": embeddings.astype(np.float16)},
        "big endian": {"embeddings": embeddings.astype(">f8")},
        "Fortran order": {"embeddings": np.asfortranarray(embeddings)},
        "flags of 0 and 1": {"issame": issame.astype(float)},
        "all different": {"issame": issame & False},
        "zeros": {"embeddings": embeddings * 0},
    }.items():
        yield _case(name, good, {**arrays, **values}, EITHER)
    file = io.BytesIO()
    np.save(file, embeddings)
    yield Case("h29 a .npy file", with_file(good, NAME, file.getvalue()), ERROR)
    yield _case("h29 only embeddings", good, {"embeddings": embeddings})
    yield _case("h29 other names", good, {"a": embeddings, "b": issame})
    for shape in (
        "(1000000000000,)",
        "(-1,)",
        "(0,)*9",
        "(",
        f"({'9' * 5000},)",
        "(1,)*" + "9" * 20,
        "None",
        "(1.5,)",
        "(2,1000000000)",
    ):
        content = npz_of_shape(shape, arrays, "embeddings", "<f8")
        yield Case(f"h29 a shape of {shape[:20]}", with_file(good, NAME, content), ERROR)
    for code in ("|O", "<f99", "<U1000000000", "|V8", "__import__('os')", "<M8[s]", "a", "x" * 9000):
        content = npz_of_shape("(8,)", arrays, "embeddings", code)
        yield Case(f"h29 a type of {code[:20]}", with_file(good, NAME, content), ERROR)
    yield Case("h15 a zip bomb", with_file(good, NAME, bomb(3 << 30, arrays, "embeddings")), ERROR)
    yield Case("h15 a zip bomb beside the arrays", with_file(good, NAME, bomb(3 << 30, arrays, "other")))
    for method in ("ZIP_LZMA", "ZIP_BZIP2", "ZIP_DEFLATED"):
        yield Case(f"h29 packed by {method}", with_file(good, NAME, _packed(getattr(zipfile, method))))
    yield Case("h29 encrypted", with_file(good, NAME, _encrypted()), ERROR)
    yield Case("many arrays", with_file(good, NAME, npz({**arrays, **{f"a{i}": np.zeros(1) for i in range(3000)}})))
    yield Case("an array twice", with_file(good, NAME, _twice()))
    yield Case("h29 objects", with_file(good, NAME, npz({**arrays, "issame": np.array([[1], "x"], object)})), ERROR)


def _case(name: str, good: Path, arrays: dict[str, Any], expect: str = ERROR) -> Case:
    return Case(name, with_file(good, NAME, npz(arrays)), expect)


def _packed(method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(npz(good_arrays()))) as source, zipfile.ZipFile(file, "w", method) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return file.getvalue()


def _encrypted() -> bytes:
    """Return a file whose entries are marked as encrypted."""
    content = bytearray(npz(good_arrays()))
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = content.find(mark)
        while place >= 0:
            content[place + flags] |= 1
            place = content.find(mark, place + 4)
    return bytes(content)


def _twice() -> bytes:
    file = io.BytesIO(npz(good_arrays()))
    member = zipfile.ZipFile(file).read("issame.npy")
    content = file.getvalue()
    other = content.replace(b"embeddings.npy", b"issame.npy\0\0\0\0")
    return other if len(other) == len(content) else content + member


def read(folder: Path) -> None:
    """Read the file as compare does: the threshold is a squared distance."""
    assert 0 <= calibrated_threshold(str(folder / NAME), 0.1, LENGTH) <= 4


GROUPS = [Group("calibration", prepare, cases, read)]
