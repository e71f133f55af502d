"""MTCNN's weights: joblib pickles of the package mtcnn, packed by lz4."""

from __future__ import annotations

import importlib.util
import os
import pickle
import struct
from pathlib import Path
from typing import Iterator

import lz4.frame
from hostile.mutations import damaged, file_cases, foreign, with_file
from hostile.rule import EITHER, ERROR, Case, Group
from hostile.verification import hostile_pickles

from insightface_mx.detection import weights

NAME = "mtcnn/assets/weights/pnet.lz4"


def prepare(folder: Path) -> None:
    """Copy the package's smallest file."""
    package = importlib.util.find_spec("mtcnn")
    assert package is not None
    source = os.path.join(os.path.dirname(str(package.origin)), "assets", "weights", "pnet.lz4")
    (folder / NAME).parent.mkdir(parents=True)
    (folder / NAME).write_bytes(Path(source).read_bytes())


def cases(good: Path) -> Iterator[Case]:
    yield from file_cases(good, NAME, flips=20, cuts=8, words=10)
    content = lz4.frame.decompress((good / NAME).read_bytes())
    for kind, spoiled in damaged(content, "weights", flips=30, cuts=8, words=16):
        yield Case(f"unpacked: {kind}", with_file(good, NAME, lz4.frame.compress(spoiled)))
    for kind, other in foreign():
        yield Case(f"unpacked: {kind}", with_file(good, NAME, lz4.frame.compress(other)), ERROR)
    for name, other in hostile_pickles():
        yield Case(f"pickle: {name}", with_file(good, NAME, lz4.frame.compress(other)), ERROR)
    yield Case("h15 a bomb of 4 GB", with_file(good, NAME, bomb(4 << 30)), ERROR)
    yield Case("a frame that claims 2^60 bytes", with_file(good, NAME, _claiming(content, 1 << 60)), ERROR)
    for shape in ((1 << 40,), (-1,), (1 << 31, 1 << 31, 1 << 31), ("a",), (1.5,), None, (3, 3, 3)):
        other = _with_shape(content, shape)
        yield Case(f"an array of shape {shape}", with_file(good, NAME, lz4.frame.compress(other)), EITHER)


def bomb(size: int) -> bytes:
    """Return a small frame of zeros."""
    compressor = lz4.frame.LZ4FrameCompressor()
    block = bytes(16 << 20)
    parts = [compressor.begin(), *[compressor.compress(block) for _ in range(size // len(block))], compressor.flush()]
    return b"".join(parts)


def _claiming(content: bytes, size: int) -> bytes:
    frame = bytearray(lz4.frame.compress(content, store_size=True))
    struct.pack_into("<Q", frame, 6, size)
    return bytes(frame)


def _with_shape(content: bytes, shape: object) -> bytes:
    """Replace the first shape in the pickle: of a convolution of 3x3, three channels and ten outputs."""
    old = pickle.dumps((3, 3, 3, 10), 2)[2:-3]
    place = content.find(b"(K\x03K\x03K\x03K\nt")
    new = pickle.dumps(shape, 2)[2:-1]
    return content[:place] + new + content[place + len(b"(K\x03K\x03K\x03K\nt") :] if place >= 0 else content + old


def read(folder: Path) -> None:
    """Read the weights from a package in this folder."""
    weights._package_folder = lambda package: str(folder / package)
    params = weights.load("p")
    assert params["conv1_weight"].shape == (10, 3, 3, 3)


GROUPS = [Group("mtcnn", prepare, cases, read)]
