"""Manifests: small JSON files that say what was saved, and by their hashes whether it is still that."""

import hashlib
import json
import os
import platform

import cv2
import numpy as np

from insightface_mx.base import __version__
from insightface_mx.formats.atomic import save_text

_CHUNK = 1 << 20  # bytes


class Damaged(Exception):
    """A manifest, or a file that it names, is not what was saved; the message says which and how."""


def write(path, files, facts):
    """Write a manifest, whole or not at all, once everything that it describes is on disk.

    files: paths in the manifest's folder, described by size (bytes) and SHA-256. facts: a dict of what else to
    remember, in JSON's types.
    """
    content = {**facts, "versions": versions(), "files": {os.path.basename(file): _describe(file) for file in files}}
    save_text(path, json.dumps({**content, "sha256": _hash_of(content)}, indent=1) + "\n")


def read(path):
    """The content of a manifest. Raises Damaged unless it and all files that it names are what was saved."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        raise Damaged(f"{path}: {error}") from error
    if not isinstance(content, dict) or content.pop("sha256", None) != _hash_of(content):
        raise Damaged(f"{path}: changed since it was saved")
    for name, expected in content["files"].items():
        file = os.path.join(os.path.dirname(path), name)
        if not os.path.isfile(file):
            raise Damaged(f"{file}: missing")
        if _describe(file) != expected:
            raise Damaged(f"{file}: not what was saved ({os.path.getsize(file)} bytes, then {expected['bytes']})")
    return content


def versions():
    """Versions of what a run's numbers depend on, by name."""
    from insightface_mx.base.compat import mx

    return {
        "insightface-mx": __version__,
        "mxnet": mx.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
    }


def _describe(path):
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            sha256.update(chunk)
    return {"bytes": os.path.getsize(path), "sha256": sha256.hexdigest()}


def _hash_of(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
