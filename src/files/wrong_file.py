"""Name what a failed download or an archive left in the place of a file: readers ask when reading fails."""

from __future__ import annotations

import re

from insightface_mx.base.errors import UserError
from insightface_mx.files.regular_file import open_regular

ZIP = b"PK\x03\x04"  # how an archive with files begins; PyTorch's .pth files do, too
_LENGTH = 512  # bytes that tell what a file is
_AGAIN = "the download went wrong, get the file again"
_UNPACK = "unpack it first"
_WRONG = (  # how the bytes begin, what the file is, what to do
    (rb"version https?://(git-lfs|git-media|hawser)", "a git-lfs pointer", "the download went wrong, run git lfs pull"),
    (rb"# xet version", "a git-xet pointer", "the download went wrong, run git xet checkout"),
    (rb"[./]*(\.git)?/annex/objects/", "a git-annex pointer", "the download went wrong, run git annex get"),
    (rb"(\xef\xbb\xbf)?\s*<(!doctype|!--|html|head|body|script|meta)", "an HTML page", _AGAIN),
    (rb"(\xef\xbb\xbf)?\s*<\??[a-z]", "an XML page", _AGAIN),
    (rb"(?s)\s*\{\s*\"(error|errors|message|detail|status|code)\"\s*:", "a server's answer, not the file", _AGAIN),
    (
        rb"(?s)[ -~\s]{0,200}\b(not found|access ?denied|forbidden|unauthori[sz]ed|invalid username|rate limit|"
        rb"bad request|bad gateway|service unavailable|moved permanently)\b",
        "a server's answer, not the file",
        _AGAIN,
    ),
    (rb"PK(\x03\x04|\x05\x06)", "a zip archive", _UNPACK),
    (rb"\x1f\x8b", "a gzip archive", _UNPACK),
    (rb"BZh[1-9]", "a bzip2 archive", _UNPACK),
    (rb"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (rb"Rar!\x1a\x07", "a rar archive", _UNPACK),
    (rb"(?s).{257}ustar", "a tar archive", _UNPACK),
    (rb"\0\x05\x16\x07", "a macOS file of attributes", "take the file without ._ in its name"),
    (rb"\0{64}", "full of zeros where it should begin", _AGAIN),
    (rb"$", "empty", "the download or the copy went wrong, get the file again"),
)
_PATTERNS = [(re.compile(pattern, re.IGNORECASE), name, advice) for pattern, name, advice in _WRONG]


def name_of_wrong_file(first_bytes: bytes) -> str:
    """Say what a file is that is none of the formats read here.

    Args:
        first_bytes: How it begins; 512 bytes are enough, fewer only if the file has no more.

    Returns:
        Words such as 'a git-lfs pointer: the download went wrong, run git lfs pull'; '' if nothing is known about it.
    """
    for pattern, name, advice in _PATTERNS:
        if pattern.match(first_bytes):
            return f"{name}: {advice}"
    return ""


def refuse_wrong_file(path: str, right: bytes = b"") -> None:
    """Raise a UserError that says what a file is, if it is recognised; call it where reading the file failed.

    Args:
        path: The file.
        right: How a file of the right kind may begin.
    """
    try:
        with open_regular(path) as file:
            first_bytes = file.read(_LENGTH)
    except OSError:  # as the reader will have said
        return
    wrong = name_of_wrong_file(first_bytes)
    if wrong and not (right and first_bytes.startswith(right)):
        raise UserError(f"{path} is {wrong}")
