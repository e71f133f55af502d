"""Ways to spoil a good file: bits, lengths, numbers, and files of a wrong kind under its name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import random
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Callable, Iterator, Tuple

from hostile.rule import EITHER, ERROR, Case

Named = Tuple[str, bytes]
EXTREMES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)  # for words of 32 bits
LONG = "9" * 5000  # more digits than int() takes


def damaged(content: bytes, seed: str, flips: int = 20, cuts: int = 10, words: int = 10) -> Iterator[Named]:
    """Yield copies of a file with bits turned, cut short, and with other numbers in it.

    Args:
        content: The good file.
        seed: Of the random places.
        flips: Copies with one, two, four ... bits turned; half of them within the first 200 bytes.
        cuts: Copies that end early.
        words: Copies in which 4 or 8 bytes at a random place are an extreme number.
    """
    rng = random.Random(seed)
    for number in range(flips):
        bits = 1 << number % 4
        spoiled, end = bytearray(content), min(len(content), 200) if number % 2 else len(content)
        for _ in range(bits):
            place = rng.randrange(end)
            spoiled[place] ^= 1 << rng.randrange(8)
        yield f"{bits} bits turned, {number}", bytes(spoiled)
    ends = sorted({1, len(content) - 1, *(rng.randrange(len(content)) for _ in range(cuts - 2))})
    for end in ends:
        yield f"cut to {end} bytes", content[:end]
    for number in range(words):
        word = struct.pack("<I", EXTREMES[number % len(EXTREMES)]) * (1 + number % 2)
        place = rng.randrange(min(len(content), 400) if number % 3 else len(content))
        yield f"word {number} at {place}", content[:place] + word + content[place + len(word) :]
    middle = len(content) // 2
    yield "a block of zeros", content[:middle] + bytes(min(512, middle)) + content[middle + min(512, middle) :]
    yield "twice", content * 2
    yield "a block inserted", content[:middle] + _noise(rng, 64) + content[middle:]
    yield "a block missing", content[:middle] + content[middle + 64 :]
    yield "bytes behind the end", content + _noise(rng, 1000)


def _noise(rng: random.Random, length: int) -> bytes:
    return rng.getrandbits(8 * length).to_bytes(length, "little")


def foreign() -> Iterator[Named]:
    """Yield files of another kind than the name says."""
    html = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>You must sign in to download.</body></html>"
    pointer = (
        b"version https://git-lfs.github.com/spec/v1\n"
        b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345678\n"
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("readme.txt", "hello" * 100)
    yield "empty", b""
    yield "one zero", b"\0"
    yield "a line break", b"\n"
    yield "git-lfs pointer", pointer
    yield "web page", html
    yield "gzip", gzip.compress(html, mtime=0)
    yield "bz2", bz2.compress(html)
    yield "xz", lzma.compress(html)
    yield "zip", packed.getvalue()
    yield "elf", b"\x7fELF\x02\x01\x01" + bytes(200)
    yield "pickle", pickle.dumps({"a": [1, 2, 3]}, 4)
    yield "json", b'{"nodes": []}'
    yield "json list", b"[1, 2, 3]"
    yield "deep json", b"[" * 100_000
    yield "deep json objects", b'{"a":' * 100_000
    yield "text", b"lorem ipsum dolor sit amet\n" * 40
    yield "text in UTF-16", "photos/a.jpg,1\nphotos/b.jpg,2\n".encode("utf-16")
    yield "Latin-1", "é,ü\n".encode("latin-1") * 10
    yield "escape sequences", b"\x1b[2J\x1b]0;title\x07\x1b[31mred\n" * 5
    yield "zeros", bytes(1 << 16)
    yield "noise", _noise(random.Random(1), 1 << 12)
    yield "one long line", b"x" * (1 << 20)


def odd_files(path: Path) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Yield what else may bear a file's name, as functions from the folder; path: relative to the folder."""

    def link_to(target: str) -> Callable[[Path], object]:
        return lambda folder: _replace(folder / path, lambda place: place.symlink_to(target))

    yield "a pipe", lambda folder: _replace(folder / path, os.mkfifo)
    yield "a folder", lambda folder: _replace(folder / path, Path.mkdir)
    yield "missing", lambda folder: _replace(folder / path, lambda place: None)
    yield "link to /dev/zero", link_to("/dev/zero")
    yield "link to /dev/null", link_to("/dev/null")
    yield "link to itself", link_to(path.name)
    yield "link to nothing", link_to("nothing")


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def with_file(good: Path, name: str, content: bytes) -> Callable[[Path], object]:
    """Return a function that makes the good files, with another content for one of them."""

    def make(folder: Path) -> None:
        copy_good(good, folder)
        (folder / name).write_bytes(content)

    return make


def copy_good(good: Path, folder: Path) -> None:
    """Copy the good files of a group, with their times of change."""
    shutil.copytree(good, folder, dirs_exist_ok=True)


def file_cases(
    good: Path,
    name: str,
    flips: int = 20,
    cuts: int = 10,
    words: int = 10,
    expect_foreign: str = ERROR,
    odd: bool = True,
) -> Iterator[Case]:
    """Yield the cases that every format has: the good file `name` damaged, of another kind, and no plain file.

    Args:
        good: Folder of the good files.
        name: Of the file to spoil.
        flips: See `damaged`.
        cuts: See `damaged`.
        words: See `damaged`.
        expect_foreign: What files of another kind must give.
        odd: Whether to yield pipes, folders and links, too.
    """
    content = (good / name).read_bytes()
    for kind, spoiled in damaged(content, name, flips, cuts, words):
        yield Case(f"{name}: {kind}", with_file(good, name, spoiled))
    for kind, other in foreign():
        yield Case(f"{name}: {kind}", with_file(good, name, other), expect_foreign)
    for kind, make in odd_files(Path(name)) if odd else ():
        yield Case(f"{name}: {kind}", changed(good, make), EITHER)


def changed(good: Path, change: Callable[[Path], object]) -> Callable[[Path], object]:
    """Return a function that makes the good files and then calls change(folder)."""

    def make(folder: Path) -> None:
        copy_good(good, folder)
        change(folder)

    return make
