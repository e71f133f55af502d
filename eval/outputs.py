"""What the result files of verify, ijb and identify have in common: checks before the work, and what was run."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from typing import Any, Mapping

from insightface_mx.base.errors import require
from insightface_mx.cli.types import Size, size_text
from insightface_mx.engine.network_input import NetworkInput
from insightface_mx.files import manifest
from insightface_mx.files.cache import hash_file
from insightface_mx.formats import checkpoint, overwrite

PAGE = "HTML page"


def check(paths: Mapping[str, str | None], force: bool) -> None:
    """Check that output files can be made, before any network runs.

    Args:
        paths: File by kind, as `overwrite.refuse_other_kind` knows it; '' or None where it is not wanted.
        force: Whether files of another kind may be replaced.

    Raises:
        UserError: matplotlib is missing for a page, or a file of another kind is in the place of an output.
    """
    if paths.get(PAGE):
        require("plot", "matplotlib")
    for kind, path in paths.items():
        if path:
            overwrite.refuse_other_kind(path, kind, force)


def about() -> dict[str, Any]:
    """Return date and versions."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {"date": now.isoformat(timespec="seconds"), "versions": manifest.versions()}


def about_text(found: Mapping[str, Any]) -> dict[str, object]:
    """Return date and versions as a page shows them."""
    versions = ", ".join(f"{package} {version}" for package, version in found["versions"].items())
    return {"date": found["date"], "versions": versions}


def network_settings(model: str, backend: str, image_size: Size, network_input: NetworkInput) -> dict[str, Any]:
    """Return what says which network ran, and how.

    Args:
        model: 'PREFIX,EPOCH' or 'FILE.onnx'.
        backend: What ran it.
        image_size: Height and width of its input.
        network_input: How it takes images.
    """
    path = model if model.endswith(".onnx") else checkpoint.params_path(*checkpoint.parse(model))
    return {
        "model": model,
        "parameters": path,
        "parameters_sha256": hash_file(hashlib.sha256(), path).hexdigest(),
        "backend": backend,
        "image_size": list(image_size),
        **{key: value for key, value in dataclasses.asdict(network_input).items() if value is not None},
    }


def as_shown(settings: Mapping[str, Any]) -> dict[str, object]:
    """Return settings as a page shows them, without those that are not given."""
    shown = {
        name.replace("_", " "): value for name, value in settings.items() if value is not None and value not in ("", [])
    }
    if "image_size" in settings:
        shown["image size"] = size_text(tuple(settings["image_size"]))
    return shown
