"""NAME.bin: pickles that are cut, turned, deep, large, or that name something."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Iterator

import cv2
import numpy as np
from hostile.images import jpeg_of, picture, png_of
from hostile.mutations import file_cases, with_file
from hostile.rule import ERROR, Case, Group

from insightface_mx.formats.verification_set import read_bin, write_bin
from insightface_mx.photos.pairs import read_pairs

NAME = "toy.bin"
DEEP = 1_000_000
CANARY = "raise SystemExit('the pickle ran code')"


def images(count: int = 8) -> list[bytes]:
    """Return different small JPEGs."""
    return [cv2.imencode(".jpg", np.roll(picture(), index, 0))[1].tobytes() for index in range(count)]


def prepare(folder: Path) -> None:
    write_bin(str(folder / NAME), images(), [True, False, True, False])


def cases(good: Path) -> Iterator[Case]:
    yield from file_cases(good, NAME, flips=60, cuts=20, words=30)
    for protocol in range(6):
        content = pickle.dumps((images(2), [True]), protocol)
        yield from file_cases_of(content, protocol)
    for name, content in hostile_pickles():
        yield Case(name, with_file(good, NAME, content), ERROR)
    for name, content in odd_sets():
        yield Case(f"set: {name}", with_file(good, NAME, content))


def file_cases_of(content: bytes, protocol: int) -> Iterator[Case]:
    """Yield a few spoiled pickles of each protocol."""
    for end in (3, len(content) // 2, len(content) - 1):
        yield Case(f"protocol {protocol} cut to {end}", _writer(content[:end]), ERROR)
    for place in range(2, 60, 6):
        spoiled = content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1 :]
        yield Case(f"protocol {protocol}, byte {place}", _writer(spoiled))


def hostile_pickles() -> Iterator[tuple[str, bytes]]:
    """Yield pickles that run code, crash an unpickler or take its memory."""
    yield "h04 tuples nested a million times, as a key", b"}" + b")" + b"\x85" * DEEP + b"Ns."
    yield "h04 tuples nested a million times, in a set", b"\x80\x04\x8f(" + b")" + b"\x85" * DEEP + b"\x90."
    yield "h04 tuples nested a million times, in a frozenset", b"\x80\x04(" + b")" + b"\x85" * DEEP + b"\x91."
    yield "lists nested a million times", b"]" * DEEP + b"a" * (DEEP - 1) + b"."
    yield "h30 lists nested a thousand times", _in_a_pair(b"]" * 1000 + b"a" * 999)
    yield "h30 tuples nested 5000 times as a flag", b"(](" + b")" + b"\x85" * 5000 + b"lt."
    yield "dicts nested", b"}" + b"N}s" * 3 + b"." + b"\x80\x02" + b"}N" * 10_000 + b"s" * 9_999 + b"."
    yield "marks, a million", b"(" * DEEP + b"."
    yield "h11 BYTEARRAY8 of 6 GB", b"\x80\x05\x96" + struct.pack("<Q", 6 << 30)
    yield "h11 BYTEARRAY8 of 2^63", b"\x80\x05\x96" + struct.pack("<Q", 1 << 63)
    yield "BINBYTES8 of 6 GB", b"\x80\x04\x8e" + struct.pack("<Q", 6 << 30)
    yield "BINBYTES of 4 GB", b"\x80\x03B" + struct.pack("<I", 0xFFFFFFFF)
    yield "BINUNICODE8 of 6 GB", b"\x80\x04\x8d" + struct.pack("<Q", 6 << 30)
    yield "LONG4 of 2 GB", b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1)
    yield "LONG4 of a negative length", b"\x80\x02\x8b" + struct.pack("<i", -1)
    yield "BINSTRING of a negative length", b"T" + struct.pack("<i", -1)
    yield "FRAME of 6 GB", b"\x80\x04\x95" + struct.pack("<Q", 6 << 30)
    yield "LONG_BINPUT at 2^32", b"\x80\x02]r" + struct.pack("<I", 0xFFFFFFFF) + b"."
    yield "LONG of 100,000 digits", b"L" + b"9" * 100_000 + b"L\n."
    yield "INT of 100,000 digits", b"I" + b"9" * 100_000 + b"\n."
    yield "FLOAT of 100,000 digits", b"F" + b"9" * 100_000 + b"\n."
    yield "h11 120,000 references to one image", references(120_000)
    yield (
        "a billion laughs",
        b"]" + b"".join(b"q" + bytes([n]) + b"(" + (b"h" + bytes([n])) * 10 + b"l" for n in range(9)) + b".",
    )
    yield (
        "doubled by memo",
        b"(" + b"X\x01\0\0\0aq\0" + b"".join(b"(h%ch%ct" % (n, n) + b"q%c" % (n + 1) for n in range(40)) + b".",
    )
    for module, name in (
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("subprocess", "Popen"),
        ("numpy", "load"),
        ("numpy", "fromfile"),
        ("pickle", "loads"),
        ("numpy.core.multiarray", "fromfile"),
        ("runpy", "run_path"),
        ("_codecs", "lookup"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy", "ndarray.tofile"),
        ("functools", "partial"),
        ("operator", "attrgetter"),
        ("mxnet.recordio", "MXRecordIO"),
    ):
        call = f"c{module}\n{name}\n(V{CANARY}\ntR.".encode()
        yield f"names {module}.{name}", call
        stacked = b"\x80\x04" + _text(module) + _text(name) + b"\x93" + _text(CANARY) + b"\x85R."
        yield f"names {module}.{name} by STACK_GLOBAL", stacked
    yield "INST", f"(V{CANARY}\nios\nsystem\n.".encode()
    yield "OBJ", f"(cos\nsystem\nV{CANARY}\no.".encode()
    yield "NEWOBJ_EX", b"\x80\x04" + _text("os") + _text("system") + b"\x93)}\x92."
    yield "BUILD of an allowed name", b"cnumpy\ndtype\n}X\x04\0\0\0code" + _text("x")[:0] + b"N" + b"sb."
    yield "h34 a module name of a megabyte", b"c" + b"m" * (1 << 20) + b"\nname\n."
    yield "h34 a module name with escape sequences", b"c\x1b[2J\x1b[31mos\n\x1b]0;x\x07\n."
    yield "a module name of line breaks", b"\x80\x04" + _text("a\n" * 50) + _text("b\nc") + b"\x93."
    yield "a type code of a megabyte", b"\x80\x02cnumpy\ndtype\n" + _text("x" * (1 << 20)) + b"\x85R."
    yield "an encoding of a megabyte", b"\x80\x02c_codecs\nencode\nX\x01\0\0\0a" + _text("e" * (1 << 20)) + b"\x86R."
    for code in (b"\x82\x01", b"\x83\x01\0", b"\x84\x01\0\0\0", b"P1\n", b"NQ", b"\x97", b"\x97\x98"):
        yield f"opcode {code.hex()}", b"\x80\x05" + code + b"."
    for code in b"012abdeghjlopqrstu":
        yield f"opcode {chr(code)} on an empty stack", bytes([code]) + b"\0\0\0\0\n."
    yield "protocol 255", b"\x80\xff."
    yield "an endless stream of pops", b"N0" * 500_000 + b"."
    yield "an array of a lying shape", array((1 << 40,), b"abc")
    yield "an array of a negative shape", array((-3,), b"abc")
    yield "an array of objects", array((3,), b"abc", "O")
    yield "an array of text", array((3,), b"abc", "S1")
    yield "an array with a state of two", b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)RNN\x86b."
    yield "an array with the state None", b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)RNb."


def odd_sets() -> Iterator[tuple[str, bytes]]:
    """Yield pickles of plain values that are no verification set, or a strange one."""
    one, other = images(2)
    png = png_of(30_000, 30_000)
    yield "h10 jpg of 65500x65500", pickle.dumps(([jpeg_of(65_500, 65_500, one)] * 2, [True]))
    yield "h10 png of 30000x30000", pickle.dumps(([png, png], [True]))
    for name, value in {
        "nothing": None,
        "a number": 10**4000,
        "a long number as flag": ([one, other], [10**5000]),
        "a list": [],
        "three": ([], [], []),
        "empty": ([], []),
        "text": ("ab", "c"),
        "dict": ({0: one, 1: other}, {0: True}),
        "a set": ([one, other], {True}),
        "too few images": ([one], [True]),
        "images of None": ([None, None], [True]),
        "numbers for images": ([1, 2], [True]),
        "text for images": (["a", "b"], [True]),
        "empty images": ([b"", b""], [True]),
        "zeros": ([bytes(100), bytes(100)], [True]),
        "flags of text": ([one, other], ["yes"]),
        "flags of 2": ([one, other], [2]),
        "flags of nan": ([one, other], [float("nan")]),
        "flags of None": ([one, other], [None]),
        "flags of lists": ([one, other], [[]]),
        "bytearray": ([bytearray(one), bytearray(other)], [True]),
        "arrays": ([np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8)], [np.True_]),
        "float arrays": ([np.zeros(3), np.zeros(3)], [True]),
        "two-dimensional arrays": ([np.zeros((3, 3), np.uint8)] * 2, [True]),
        "flags in an array": ([one, other], np.array([True])),
        "many flags": ([one, other], [True] * 100_000),
        "itself": _in_itself(),
    }.items():
        yield name, pickle.dumps(value, 2)


def references(count: int) -> bytes:
    """Return a small set in which all images are one object."""
    return pickle.dumps(([images(1)[0]] * count, [True] * (count // 2)), 2)


def array(shape: tuple[int, ...], content: bytes, code: str = "u1") -> bytes:
    """Return a set whose images are numpy arrays that claim this shape and type."""
    dtype = b"cnumpy\ndtype\n" + _text(code) + b"\x85R"
    state = b"(K\x01" + pickle.dumps(shape, 2)[2:-1] + dtype + b"\x89" + b"U" + bytes([len(content)]) + content + b"tb"
    one = b"cnumpy.core.multiarray\n_reconstruct\n)R" + state
    return b"\x80\x02](" + one * 2 + b"e](\x88e\x86."


def _in_a_pair(value: bytes) -> bytes:
    return b"](" + value + value + b"e](I01\ne\x86."


def _in_itself() -> object:
    value: list = []
    value += [value, value]
    return value


def _text(text: str) -> bytes:
    content = text.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def _writer(content: bytes):
    return lambda folder: (folder / NAME).write_bytes(content)


def read(folder: Path) -> None:
    """Read the set as pixels; half of the pairs must have two images each, whatever the file says."""
    encoded, issame = read_bin(str(folder / NAME))
    assert len(encoded) == 2 * len(issame)
    assert all(isinstance(flag, bool) for flag in issame)
    pixels, flags = read_pairs(str(folder / NAME), (56, 56))
    assert pixels.shape == (2 * len(flags), 3, 56, 56)


GROUPS = [Group("verification sets", prepare, cases, read)]
