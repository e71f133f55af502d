"""Chunks that an interrupted build left: a damaged one is made again, and nothing of the user's is removed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
from hostile.mutations import damaged, foreign, odd_files
from hostile.rule import ERROR, VALUE, Case, Group
from hostile.training_sets import bomb, npz, npz_of_shape
from hostile.verification import images

from insightface_mx.datasets.face_options import FaceOptions
from insightface_mx.datasets.face_store import FaceStore
from insightface_mx.photos.lists import Photo

STORE, CHUNK = "faces.partial", "faces.partial/000000.npz"
NAMES = ("a.jpg", "b.jpg", "c.jpg")
OWN = "my own work.txt"


def prepare(folder: Path) -> None:
    """Write photos; the chunks follow from their paths, so each case makes its own."""
    for name, image in zip(NAMES, images(len(NAMES))):
        (folder / name).write_bytes(image)
    store_of(folder).fill(1)
    (folder / "chunk").write_bytes((folder / CHUNK).read_bytes())


def store_of(folder: Path) -> FaceStore:
    photos = [Photo(str(folder / name)) for name in NAMES]
    return FaceStore(str(folder / STORE), photos, FaceOptions(aligned=True, image_size=(48, 40)))


def cases(good: Path) -> Iterator[Case]:
    chunk = (good / "chunk").read_bytes()

    def filled(change: Callable[[Path], object]) -> Callable[[Path], object]:
        def make(folder: Path) -> None:
            for name in NAMES:
                (folder / name).write_bytes((good / name).read_bytes())
            store_of(folder).fill(1)
            change(folder)

        return make

    def with_chunk(content: bytes) -> Callable[[Path], object]:
        return filled(lambda folder: (folder / CHUNK).write_bytes(content))

    for kind, content in damaged(chunk, "chunk", flips=24, cuts=8, words=12):
        yield Case(f"h17 chunk: {kind}", with_chunk(content), VALUE)
    for kind, content in foreign():
        yield Case(f"h17 chunk: {kind}", with_chunk(content), VALUE)
    for kind, change in odd_files(Path(CHUNK)):
        expect = VALUE if kind in ("missing", "link to /dev/null", "link to itself", "link to nothing") else "either"
        yield Case(f"h17 chunk: {kind}", filled(change), expect)
    arrays = dict(np.load(io.BytesIO(chunk)))
    for name, values in {
        "no faces": {"faces": np.empty(0, np.uint8)},
        "sizes too large": {"sizes": np.array([10**9] * 3)},
        "sizes negative": {"sizes": np.array([-1] * 3)},
        "sizes of text": {"sizes": np.array(["a"] * 3)},
        "fewer sizes": {"sizes": np.array([1])},
        "more reasons": {"reasons": np.array(["x"] * 30)},
        "reasons of a megabyte": {"reasons": np.array(["x" * (1 << 20)] * 3)},
        "faces of floats": {"faces": np.zeros(100)},
    }.items():
        yield Case(f"h17 chunk forged: {name}", with_chunk(npz({**arrays, **values})), VALUE)
    for name in arrays:
        others = {key: value for key, value in arrays.items() if key != name}
        yield Case(f"h17 chunk without {name}", with_chunk(npz(others)), VALUE)
    yield Case("chunk: a zip bomb", with_chunk(bomb(2 << 30, arrays, "faces")), VALUE)
    yield Case("chunk: a huge shape", with_chunk(npz_of_shape("(1000000000000,)", arrays, "faces", "|u1")), VALUE)
    for kind, content in foreign():
        yield Case(f"settings: {kind}", filled(lambda folder, c=content: (folder / STORE / "settings").write_bytes(c)))
    for kind, change in odd_files(Path(STORE, "settings")):
        yield Case(f"settings: {kind}", filled(change))
    for name, change in _own_folders().items():
        yield Case(name, lambda folder, change=change: (_photos(good, folder), change(folder)), ERROR)


def _photos(good: Path, folder: Path) -> None:
    for name in NAMES:
        (folder / name).write_bytes((good / name).read_bytes())


def _own_folders() -> dict[str, Callable[[Path], object]]:
    """Return what a user may have under the name of the store."""

    def own(folder: Path, *files: str) -> None:
        (folder / STORE).mkdir()
        for name in (OWN, *files):
            (folder / STORE / name).write_text("mine")

    return {
        "h07 a folder of the user's own": own,
        "h07 a folder of the user's own with settings": lambda folder: own(folder, "settings"),
        "h07 a folder of the user's own with an array": lambda folder: own(folder, "000000.npz"),
        "h07 a file of the user's own": lambda folder: (folder / STORE).write_text("mine"),
    }


def read(folder: Path) -> None:
    """Continue the build: all faces are there; what the user had is still there."""
    own = [path for path in (folder / STORE / OWN, folder / STORE) if path.is_file()]
    try:
        store = store_of(folder)
        store.fill(1)
        assert store.reasons() == [""] * len(NAMES)
        assert all(store.face(index)[:2] == b"\xff\xd8" for index in range(len(NAMES)))
        store.remove()
    finally:
        assert all(path.read_text() == "mine" for path in own)


GROUPS = [Group("chunks", prepare, cases, read)]
