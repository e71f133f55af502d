"""Take the threshold of a false match rate from the JSON file of a report."""

from __future__ import annotations

import hashlib
import math
from typing import Any

from insightface_mx.base.errors import UserError, shorten
from insightface_mx.base.limits import MAX_REPORT_BYTES
from insightface_mx.eval.summary import FORMAT
from insightface_mx.files.cache import hash_file
from insightface_mx.files.json_file import read_json
from insightface_mx.files.regular_file import open_regular
from insightface_mx.formats import checkpoint

_RELATIVE = 1e-9  # that two rates may differ and be the same


def is_report(path: str) -> bool:
    """Return whether a file begins as a JSON object does; False where it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    except OSError:
        return False


def reported_threshold(path: str, far: float, model: str) -> float:
    """Return the squared distance of the row of a false match rate.

    Args:
        path: What `insightface-verify --json` wrote.
        far: The rate.
        model: The network, 'PREFIX,EPOCH' or 'FILE.onnx': its parameters must be those of the report.

    Raises:
        UserError: The file is none of a report, of another network or of several sets, or has no such row.
    """
    result = _result_of(path, _read(path), model)
    rows = [row for row in result["thresholds"] if math.isclose(row["target"], far, rel_tol=_RELATIVE)]
    if not rows:
        rates = ", ".join(f"{row['target']:g}" for row in result["thresholds"])
        raise UserError(f"{path} has no threshold for --far {far:g}, only for {rates}")
    if 0 < result["impostor"] * far < 1:
        raise UserError(
            f"{path} has {result['impostor']} pairs of different identities: --far must be at least "
            f"1/{result['impostor']}, or 0 for no false match among them"
        )
    return float(rows[0]["squared_distance"])


def _read(path: str) -> list[dict[str, Any]]:
    """Read the results of a report. Raises UserError."""
    try:
        content = read_json(path, MAX_REPORT_BYTES)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}; see --calibration") from error
    results = content.get("results") if isinstance(content, dict) and content.get("format") == FORMAT else None
    if not isinstance(results, list) or not results or not all(map(_is_result, results)):
        raise UserError(f"{path} is not what insightface-verify --json writes; see --calibration")
    return results


def _is_result(result: object) -> bool:
    """Return whether a result has what a threshold is taken from."""
    if not isinstance(result, dict) or not isinstance(result.get("impostor"), int):
        return False
    if not isinstance(result.get("set"), str) or not isinstance(result.get("parameters_sha256"), str):
        return False
    rows = result.get("thresholds")
    return isinstance(rows, list) and all(isinstance(row, dict) and _is_row(row) for row in rows)


def _is_row(row: dict[str, Any]) -> bool:
    values = (row.get(name) for name in ("target", "squared_distance"))
    return all(isinstance(value, (int, float)) and 0 <= value <= 4 + _RELATIVE for value in values)


def _result_of(path: str, results: list[dict[str, Any]], model: str) -> dict[str, Any]:
    """Return the result of a network. Raises UserError where there is none or are several."""
    file = model if model.endswith(".onnx") else checkpoint.params_path(*checkpoint.parse(model))
    digest = hash_file(hashlib.sha256(), file).hexdigest()
    own = [result for result in results if result["parameters_sha256"] == digest]
    if not own:
        raise UserError(f"{path} is a report of other networks: make one of {file} with insightface-verify --json")
    if len(own) > 1:
        sets = ", ".join(shorten(result["set"]) for result in own)
        raise UserError(f"{path} has thresholds of several sets ({sets}): make a report of one, with --target")
    return own[0]
