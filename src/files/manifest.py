"""Manifests: small JSON files that describe other files and whose hashes tell whether these are still complete."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import sys
from typing import Any, Mapping, Sequence

import cv2
import numpy as np

from insightface_mx.base import __version__
from insightface_mx.base.limits import MAX_MANIFEST_BYTES
from insightface_mx.files.atomic import save_text
from insightface_mx.files.cache import hash_file
from insightface_mx.files.json_file import read_json


class Damaged(Exception):
    """A manifest, or a file that it names, is not what was saved; the message says which one and how it differs."""


def write(path: str, files: Sequence[str], metadata: Mapping[str, Any]) -> None:
    """Write a manifest, completely or not at all.

    Args:
        path: The manifest.
        files: Files in the manifest's folder, already on disk. It stores their size in bytes and their SHA-256.
        metadata: What else to store, in JSON's types.
    """
    described = {os.path.basename(file): _describe(file) for file in files}
    content = {**metadata, "versions": versions(), "files": described}
    _save(path, content)


def _save(path: str, content: Mapping[str, Any]) -> None:
    save_text(path, json.dumps({**content, "sha256": _content_hash(content)}, indent=1) + "\n")


def read(path: str, check_files: bool = True) -> dict[str, Any]:
    """Read a manifest.

    Args:
        path: The manifest.
        check_files: Also compare the files that it names with what was saved. This reads them.

    Returns:
        The metadata, with the entries `versions` and `files`.

    Raises:
        Damaged: The manifest, or a file that it names, is not what was saved.
    """
    try:
        content = read_json(path, MAX_MANIFEST_BYTES)
        is_whole = isinstance(content, dict) and content.pop("sha256", None) == _content_hash(content)
    except OSError as error:
        raise Damaged(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path}: {error}") from error
    if not isinstance(content, dict) or not is_whole:
        raise Damaged(f"{path}: changed since it was saved")
    files = content.get("files")
    if not isinstance(files, dict) or not all(map(_is_description, files, files.values())):
        raise Damaged(f"{path}: it does not say what its files are")
    if not isinstance(content.get("versions"), dict):
        raise Damaged(f"{path}: it does not say which versions wrote it")
    for name, saved in files.items() if check_files else ():
        other = os.path.join(os.path.dirname(path), name)
        if not os.path.isfile(other):
            raise Damaged(f"{other}: missing")
        if _describe(other) != saved:
            raise Damaged(f"{other}: not what was saved ({os.path.getsize(other)} bytes, then {saved['bytes']})")
    return content


def update(path: str, file: str) -> None:
    """Let a manifest describe one of its files as it is now; a manifest that is damaged or names no such file stays."""
    try:
        content = read(path, check_files=False)
    except Damaged as error:
        logging.warning("%s", error)
        return
    if os.path.basename(file) in content["files"]:
        content["files"][os.path.basename(file)] = _describe(file)
        _save(path, content)


def versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on; of MXNet only if it has been loaded."""
    loaded = {"mxnet": sys.modules["mxnet"].__version__} if "mxnet" in sys.modules else {}
    return {
        "insightface-mx": __version__,
        **loaded,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
    }


def _is_description(name: str, saved: object) -> bool:
    """Return whether an entry of `files` is the name of a file in the same folder with what `_describe` returns."""
    is_name = name == os.path.basename(name) and "\0" not in name
    return is_name and isinstance(saved, dict) and {"bytes", "sha256"} <= set(saved)


def _describe(path: str) -> dict[str, Any]:
    return {"bytes": os.path.getsize(path), "sha256": hash_file(hashlib.sha256(), path).hexdigest()}


def _content_hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
