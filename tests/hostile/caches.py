"""What the user's cache folder holds: the compiled operator, and networks as ONNX files."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
import small_network
from hostile.mutations import changed, damaged, foreign, odd_files
from hostile.onnx_files import endless_loop
from hostile.rule import VALUE, Case, Group

from insightface_mx.embedding import backends
from insightface_mx.engine import prelu_library
from insightface_mx.files.cache import cache_folder

CACHE = "cache/insightface-mx"
NOBODY = 65534
CANARY = """
#include <fcntl.h>
__attribute__((constructor)) static void run(void) { open("canary", O_CREAT | O_WRONLY, 0600); }
"""

COMPILER = """
while [ "$1" != -o ]; do shift; done
cp compiled.so "$2"
"""  # in place of one that takes seconds


def _use_cache(folder: Path) -> None:
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")


# the compiled operator


def prepare_operator(folder: Path) -> None:
    """Compile the operator, and a library that creates the file `canary` as soon as it is loaded."""
    _use_cache(folder)
    library = prelu_library.build(cache_folder())
    (folder / "compiled.so").write_bytes(library.read_bytes())
    (folder / "compiler").write_text(COMPILER)
    (folder / "canary.c").write_text(CANARY)
    compiler = os.environ.get("CXX", "g++").split()
    command = [*compiler, "-x", "c", "-shared", "-fPIC", "-o", str(folder / "canary.so"), str(folder / "canary.c")]
    subprocess.run(command, check=True)


def operator_cases(good: Path) -> Iterator[Case]:
    (library,) = (good / CACHE).rglob("prelu-*.so")
    name = library.relative_to(good)
    content = library.read_bytes()
    for end in (0, 1, 4096, len(content) // 2, 3 * len(content) // 4, len(content) - 1):
        yield Case(f"h03 cut to {end} bytes", changed(good, _writer(name, content[:end])), VALUE)
    for kind, other in foreign():
        if kind in ("zeros", "noise", "web page", "elf", "zip"):
            yield Case(f"h03 {kind}", changed(good, _writer(name, other)), VALUE)
    for kind, spoiled in damaged(content, "operator", flips=4, cuts=2, words=2):
        yield Case(f"h03 damaged, {kind}", changed(good, _writer(name, spoiled)), VALUE)
    for kind, change in odd_files(name):
        known = "h15 " if kind == "a pipe" else ""
        yield Case(f"{known}{kind}", changed(good, change), VALUE)
    canary = (good / "canary.so").read_bytes()
    yield Case("h03 another library", changed(good, _writer(name, canary)), VALUE)
    if os.geteuid() == 0:
        yield Case("h02 a library of nobody's", changed(good, _owned(name, canary, NOBODY)), VALUE)
        yield Case(
            "h02 a folder of nobody's", changed(good, lambda folder: os.chown((folder / name).parent, NOBODY, 0)), VALUE
        )
    yield Case("h02 a library that all may write", changed(good, lambda folder: (folder / name).chmod(0o666)), VALUE)
    yield Case(
        "h02 a folder that all may write", changed(good, lambda folder: (folder / name).parent.chmod(0o777)), VALUE
    )
    yield Case("h02 another library in a folder that all may write", changed(good, _open_folder(name, canary)), VALUE)
    for path in sorted(set((good / CACHE).rglob("prelu-*")) - {library}):
        other = path.relative_to(good)
        for kind, change in odd_files(other):
            yield Case(f"{path.suffix}: {kind}", changed(good, change), VALUE)
        yield Case(f"{path.suffix}: another hash", changed(good, _writer(other, b"0" * 64 + b"\n")), VALUE)
    yield Case("the cache is a file", changed(good, _cache_is_a_file), VALUE)
    yield Case("no cache", changed(good, lambda folder: shutil.rmtree(folder / "cache")), VALUE)


def _writer(name: Path, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def _owned(name: Path, content: bytes, owner: int) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / name).write_bytes(content)
        os.chown(folder / name, owner, owner)

    return make


def _open_folder(name: Path, content: bytes) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / name).write_bytes(content)
        (folder / name).parent.chmod(0o777)

    return make


def _cache_is_a_file(folder: Path) -> None:
    shutil.rmtree(folder / "cache")
    (folder / "cache").write_text("x")


def load_operator(folder: Path) -> None:
    """Load the operator: training goes on with it, or with the plain layers."""
    _use_cache(folder)
    os.environ["CXX"] = f"sh {folder / 'compiler'}"
    reason = prelu_library.load_error()
    assert isinstance(reason, str)
    assert len(reason.splitlines()) <= 2, reason
    assert not (folder / "canary").exists(), "the library ran"


# networks


def prepare_networks(folder: Path) -> None:
    """Write a checkpoint, and let the back end put its ONNX file into the cache."""
    _use_cache(folder)
    small_network.save(folder / "net")
    backend = backends.load(str(folder / "net") + ",1", name="onnxruntime")
    np.save(folder / "expected.npy", backend.embed(_images()))


def _images() -> np.ndarray:
    return np.random.RandomState(5).randint(0, 256, (2, 3, 112, 112)).astype(np.float32)


def network_cases(good: Path) -> Iterator[Case]:
    files = sorted(path.relative_to(good) for path in (good / CACHE / "networks").iterdir())
    for name in files:
        content = (good / name).read_bytes()
        for end in (0, 1, len(content) // 2, len(content) - 1):
            yield Case(f"h16 {name.suffix} cut to {end} bytes", changed(good, _writer(name, content[:end])), VALUE)
        for kind, other in foreign():
            if kind in ("zeros", "noise", "web page", "zip", "pickle", "json"):
                yield Case(f"h16 {name.suffix}: {kind}", changed(good, _writer(name, other)), VALUE)
        for kind, spoiled in damaged(content, str(name.suffix), flips=4, cuts=2, words=2):
            yield Case(f"h16 damaged {name.suffix}, {kind}", changed(good, _writer(name, spoiled)), VALUE)
        for kind, change in odd_files(name):
            if kind in ("a pipe", "missing", "a folder", "link to itself"):
                yield Case(
                    f"h16 {name.suffix}: {kind}", changed(good, change), "either" if kind == "a folder" else VALUE
                )
        if name.suffix == ".onnx":
            yield Case("an endless loop in the cache", changed(good, _writer(name, endless_loop())), VALUE)


def load_network(folder: Path) -> None:
    """Load the checkpoint in ONNX Runtime: the embeddings are MXNet's, whatever the cache holds."""
    _use_cache(folder)
    backend = backends.load(str(folder / "net") + ",1", name="onnxruntime")
    expected = np.load(folder / "expected.npy")
    np.testing.assert_allclose(backend.embed(_images()), expected, atol=1e-4 * np.abs(expected).max())


GROUPS = [
    Group("compiled operator", prepare_operator, operator_cases, load_operator, alone=True, compiles=True),
    Group("networks in the cache", prepare_networks, network_cases, load_network),
]
