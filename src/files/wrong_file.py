"""Name what a failed download or an archive left in the place of a file: readers ask when reading fails."""

from __future__ import annotations

import re

from insightface_mx.base.errors import UserError
from insightface_mx.files.regular_file import open_regular

ZIP = b"PK\x03\x04"  # how an archive with files begins; PyTorch's .pth files do, too
LENGTH = 512  # bytes that tell what a file is
_AGAIN = "the download went wrong, get the file again"
_UNPACK = "unpack it first"
_DRAWING = "convert it to JPEG or PNG"
_CERTAIN = (  # how no file begins that is read here, not even a list; what the file is, what to do
    (rb"version https?://(git-lfs|git-media|hawser)", "a git-lfs pointer", "the download went wrong, run git lfs pull"),
    (rb"# xet version", "a git-xet pointer", "the download went wrong, run git xet checkout"),
    (rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--[^>]*>\s*)?(<!doctype svg[^>]*>\s*)?<svg", "an SVG drawing", _DRAWING),
    (rb"(\xef\xbb\xbf)?\s*<(!doctype|!--|html|head|body|script|meta)\b", "an HTML page", _AGAIN),
    (rb"(\xef\xbb\xbf)?\s*(<\?xml\b|<[a-z]+>)", "an XML page", _AGAIN),
    (
        rb"(?s)\s*((http/[\d.]+|error|\d{3})\b[:\s]*)*(entry |file |page |object |repository )?(not found|"
        rb"access denied|forbidden|unauthori[sz]ed|bad request|bad gateway|service unavailable|moved permanently|"
        rb"too many requests)"
        rb"[.!]?\s*$",
        "a server's answer, not the file",
        _AGAIN,
    ),
    (rb"PK(\x03\x04|\x05\x06)", "a zip archive", _UNPACK),
    (rb"\x1f\x8b", "a gzip archive", _UNPACK),
    (rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)", "a bzip2 archive", _UNPACK),
    (rb"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (rb"Rar!\x1a\x07", "a rar archive", _UNPACK),
    (rb"(?s).{257}ustar(\0|  \0)", "a tar archive", _UNPACK),
    (rb"\0\x05\x16\x07", "a macOS file of attributes", "take the file without ._ in its name"),
    (rb"\0{64}", "full of zeros where it should begin", _AGAIN),
)
_LIKELY = (  # where reading failed
    (rb"[./]*(\.git)?/annex/objects/", "a git-annex pointer", "the download went wrong, run git annex get"),
    (rb"(\xef\xbb\xbf)?\s*<[!?]?[a-z]", "an XML page", _AGAIN),
    (rb"(?s)\s*\{\s*\"(error|errors|message|detail|status|code)\"\s*:", "a server's answer, not the file", _AGAIN),
    (
        rb"(?s)[ -~\s]{0,200}\b(not found|access ?denied|forbidden|unauthori[sz]ed|invalid username|rate limit|"
        rb"bad request|bad gateway|service unavailable|moved permanently)\b",
        "a server's answer, not the file",
        _AGAIN,
    ),
    (rb"$", "empty", "the download or the copy went wrong, get the file again"),
)
_PATTERNS = [
    [(re.compile(pattern, re.IGNORECASE), f"{name}: {advice}") for pattern, name, advice in known]
    for known in (_CERTAIN, _LIKELY)
]


def name_of_wrong_file(first_bytes: bytes, certain: bool = False) -> str:
    """Say what a file is that is none of the formats read here.

    Args:
        first_bytes: How it begins; LENGTH bytes are enough, fewer only if the file has no more.
        certain: Name only what is surely wrong, so that it can be asked before a text file is read.

    Returns:
        Words such as 'a git-lfs pointer: the download went wrong, run git lfs pull'; '' if nothing is known about it.
    """
    for patterns in _PATTERNS[: 1 if certain else 2]:
        for pattern, name in patterns:
            if pattern.match(first_bytes):
                return name
    return ""


def refuse_wrong_file(path: str, right: bytes = b"", certain: bool = False) -> None:
    """Raise a UserError that says what a file is, if it is recognised; call it where reading the file failed.

    Args:
        path: The file.
        right: How a file of the right kind may begin.
        certain: See `name_of_wrong_file`; needed where reading has not failed.
    """
    try:
        with open_regular(path) as file:
            first_bytes = file.read(LENGTH)
    except OSError:  # as the reader will have said
        return
    wrong = name_of_wrong_file(first_bytes, certain)
    if wrong and not (right and first_bytes.startswith(right)):
        raise UserError(f"{path} is {wrong}")
