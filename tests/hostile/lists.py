"""Lists of photos and of pairs: .lst, .csv, plain text, and the formats of LFW and CFP."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

from hostile.mutations import LONG, changed, file_cases, with_file
from hostile.rule import EITHER, ERROR, Case, Group
from hostile.verification import images

from insightface_mx.photos import pair_lists
from insightface_mx.photos.identities import identity_photos
from insightface_mx.photos.sources import PhotoReader, open_source, photos_stamp

NAMES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
LISTS = {
    "list.lst": "".join(f"1\t{name}\t{index // 2}\n" for index, name in enumerate(NAMES)),
    "boxes.lst": "".join(f"0\t{name}\t{index // 2}\t1 2 30 31\n" for index, name in enumerate(NAMES)),
    "im2rec.lst": "".join(f"{index}\t{index // 2}\t{name}\n" for index, name in enumerate(NAMES)),
    "list.csv": "path,label\n" + "".join(f"{name},person {index // 2}\n" for index, name in enumerate(NAMES)),
    "plain.txt": "".join(f"{name}\n" for name in NAMES),
}
PAIRS = {
    "pairs.txt": "1\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\n",
    "agedb.txt": "a.jpg b.jpg 1\na.jpg c.jpg 0\n",
    "pairs.csv": "one,other,same\na.jpg,b.jpg,1\na.jpg,c.jpg,0\n",
}
CFP = {
    "Pair_list_F.txt": "1 a.jpg\n2 b.jpg\n",
    "Pair_list_P.txt": "1 c.jpg\n2 d.jpg\n",
    "Split/FP/01/same.txt": "1,1\n",
    "Split/FP/01/diff.txt": "1,2\n",
}


def prepare(folder: Path) -> None:
    for name, image in zip(NAMES, images(4)):
        (folder / name).write_bytes(image)
    for name, text in {**LISTS, **PAIRS, **CFP}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def cases(good: Path) -> Iterator[Case]:
    for name in LISTS:
        yield from file_cases(good, name, flips=16, cuts=5, words=5, expect_foreign=EITHER)
        for kind, text in odd_lines(name):
            content = LISTS[name].encode() + text
            yield Case(f"{kind} in {name}", with_file(good, name, content))
    for name, text in LISTS.items():
        yield Case(f"h26 {name} in UTF-16", with_file(good, name, text.encode("utf-16")))
        yield Case(f"h26 {name} in UTF-16 without its mark", with_file(good, name, text.encode("utf-16-le")), ERROR)
        yield Case(f"{name} in UTF-32", with_file(good, name, text.encode("utf-32")), ERROR)
        yield Case(f"{name} with a byte order mark", with_file(good, name, b"\xef\xbb\xbf" + text.encode()))
        yield Case(f"{name} with old Mac line ends", with_file(good, name, text.replace("\n", "\r").encode()))
        yield Case(f"{name} of twenty thousand lines", with_file(good, name, text.encode() * 5_000))


def odd_lines(name: str) -> Iterator[tuple[str, bytes]]:
    """Yield lines to add to a list of the format of `name`, and what is odd about them."""
    tab = "," if name.endswith(".csv") else "\t"

    def line(path: str, label: str) -> bytes:
        fields = ["7", label, path] if name == "im2rec.lst" else [path, label] if tab == "," else ["1", path, label]
        return (path if name == "plain.txt" else tab.join(fields)).encode("utf-8", "surrogateescape") + b"\n"

    for label in ("²", LONG, "٥"):
        yield f"h25 label {label[:5]}", line("a.jpg", label)
    for label in ("nan", "inf", "1e30"):
        yield f"h27 label {label}", line("a.jpg", label)
    for label in (
        "-1",
        "-inf",
        "1.5",
        "1_0",
        "0x10",
        "",
        " ",
        "18446744073709551616",
        "1e400",
        "true",
        "L" * 10_000,
        "\x1b[2J",
        "9007199254740993",
        "-0",
    ):
        yield f"label {label[:10]!r}", line("a.jpg", label)
    yield "h26 a zero byte", line("a\0.jpg", "1")
    yield "h26 a field of 200 KB", line("a" * 200_000, "1")
    for path in (
        "x" * 300,
        "/" * 5000,
        "../" * 2000 + "etc/passwd",
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/mem",
        ".",
        "",
        "a.jpg/b.jpg",
        "\x1b[31mred.jpg",
        "a\x85b.jpg",
        "\udcff.jpg",
        "~root/a.jpg",
        "$HOME/a.jpg",
        "http://a/b.jpg",
        "con",
        "a.jpg ",
        "-rf",
        '"',
        '"a.jpg',
        "'a.jpg'",
        "a\tb\tc\td\te",
        ",,,,,,,",
        "a\u2028b.jpg",
        "a\x0cb.jpg",
    ):
        yield f"path {path[:20]!r}", line(path, "1")
    for numbers in (
        "1 2 3",
        "1 2 3 x",
        "nan nan nan nan",
        "inf 0 inf 0",
        "1e308 1e308 1e308 1e308",
        "-5 -5 -1 -1",
        "30 31 1 2",
        "1 2 30 31 " + "nan " * 10,
        "1 2 30 31 " + "1e30 " * 10,
        "1 2 30 31 " + "0 " * 10,
        "1 2 30 31 " + "7 " * 10_000,
        "9" * 5000 + " 1 1 1",
    ):
        if name.endswith(".lst"):
            yield f"box {numbers[:30]}", f"0\ta.jpg\t1\t{numbers}\n".encode()
    yield "no line break at the end", line("a.jpg", "1").rstrip()
    yield "open quotes", b'"a.jpg,1\nb.jpg,2\n'
    yield "ten thousand tabs", b"\t" * 10_000 + b"\n"
    yield "ten thousand commas", b"," * 10_000 + b"\n"


def pair_cases(good: Path) -> Iterator[Case]:
    for name in PAIRS:
        yield from file_cases(good, name, flips=16, cuts=5, words=5, expect_foreign=EITHER)
        for number in ("²", LONG, "٥", "-1", "1.5", "1e3", "0x1", "nan", "0", "0" * 5000, "1_0", "", "\x1b[2J"):
            known = "h25 " if number in ("²", LONG) else ""
            text = {"pairs.txt": f"Ann\t1\t{number}\n", "agedb.txt": f"a.jpg b.jpg {number}\n"}.get(
                name, f"a.jpg,b.jpg,{number}\n"
            )
            yield Case(
                f"{known}{name} number {number[:10]!r}", with_file(good, name, PAIRS[name].encode() + text.encode())
            )
        for path in ("x" * 5000, "\0", "/dev/zero", "../" * 2000, "\udcff", '"', "a" * 200_000):
            known = "h26 " if path == "\0" or len(path) == 200_000 else ""
            text = {"pairs.txt": f"{path}\t1\t2\n", "agedb.txt": f"{path} b.jpg 1\n"}.get(name, f"{path},b.jpg,1\n")
            content = PAIRS[name].encode() + text.encode("utf-8", "surrogateescape")
            yield Case(f"{known}{name} path {path[:10]!r}", with_file(good, name, content))
        yield Case(f"h26 {name} in UTF-16", with_file(good, name, PAIRS[name].encode("utf-16")))
    for name in CFP:
        yield from (case for case in file_cases(good, name, flips=6, cuts=2, words=2, expect_foreign=EITHER))
    yield Case("Split is a file", changed(good, _split_is_a_file))
    yield Case("a split without lists", changed(good, lambda folder: (folder / "Split/FP/02").mkdir()))
    yield Case("a file among the splits", changed(good, lambda folder: (folder / "Split/FP/x").write_text("1,1\n")))
    yield Case(
        "a split that is a link to itself", changed(good, lambda folder: (folder / "Split/FP/x").symlink_to("x"))
    )


def _split_is_a_file(folder: Path) -> None:
    (folder / "Split").rename(folder / "elsewhere")
    (folder / "Split").write_text("1,1\n")


def folder_cases(good: Path) -> Iterator[Case]:
    """Yield folders of photos with odd files in them."""
    names = ("\udcff\udcfe.jpg", "\x1b[2J.jpg", "a\tb.jpg", "a\nb.jpg", "\x85.jpg", "x" * 240 + ".jpg", " .jpg", ".jpg")
    for name in names:
        known = "h18 " if name.startswith("\udcff") else ""
        yield Case(f"{known}a file called {name[:10]!r}", changed(good, lambda folder, name=name: _add(folder, name)))
        yield Case(
            f"a folder called {name[:10]!r}", changed(good, lambda folder, name=name: _add(folder, f"{name}/a.jpg"))
        )
    yield Case("a folder of 300 levels", changed(good, lambda folder: _add(folder, "a/" * 300 + "a.jpg")))
    yield Case("a link to the folder itself", changed(good, lambda folder: (folder / "loop").symlink_to(".")))
    yield Case("a link to /dev/zero", changed(good, lambda folder: (folder / "zero.jpg").symlink_to("/dev/zero")))
    yield Case("a link to nothing", changed(good, lambda folder: (folder / "no.jpg").symlink_to("nothing")))
    yield Case("a pipe", changed(good, _add_pipe))
    yield Case("an empty photo", changed(good, lambda folder: (folder / "empty.jpg").write_bytes(b"")))
    yield Case("nothing", lambda folder: None, ERROR)


def _add(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes((folder / "a.jpg").read_bytes())


def _add_pipe(folder: Path) -> None:
    import os

    os.mkfifo(folder / "pipe.jpg")


def read(folder: Path) -> None:
    """Read every list as embed and build-set do, and the photos that it names; the first error counts."""
    errors = []
    for name in LISTS:
        for take in (_open, _photos):
            try:
                take(str(folder / name))
            except Exception as error:
                errors.append(error)
    _raise_worst(errors)


def read_pair_lists(folder: Path) -> None:
    """Read every list of pairs."""
    errors = []
    formats = {"pairs.txt": "lfw", "agedb.txt": "plain", "pairs.csv": "plain", "": "cfp-fp"}
    for name, list_format in formats.items():
        try:
            pair_lists.read(list_format, str(folder / name), None)
        except Exception as error:
            errors.append(error)
    _raise_worst(errors)


def read_folder(folder: Path) -> None:
    """Read a folder of photos as embed and build-set do."""
    errors = []
    for take in (_open, _photos):
        try:
            take(str(folder))
        except Exception as error:
            errors.append(error)
    _raise_worst(errors)


def _open(path: str) -> None:
    from insightface_mx.base.errors import UserError

    source = open_source(path)
    source.stamp()
    for index in range(min(len(source), 10)):
        source.name(index)
        try:
            source.image(index)
        except UserError:
            pass


def _photos(path: str) -> None:
    from insightface_mx.base.errors import UserError

    photos, _ = identity_photos(path)
    photos_stamp(photos[:10])
    reader = PhotoReader()
    for photo in photos[:10]:
        try:
            reader.read(photo)
        except (OSError, UserError):
            pass


def _raise_worst(errors: list[Exception]) -> None:
    """Raise the first error that is not for users, else the first error."""
    from insightface_mx.base.errors import UserError

    for error in sorted(errors, key=lambda error: isinstance(error, UserError)):
        raise error


GROUPS = [
    Group("lists", prepare, cases, read),
    Group("lists of pairs", prepare, pair_cases, read_pair_lists),
    Group("folders", prepare, folder_cases, read_folder),
]
