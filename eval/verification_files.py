"""Collect what `verification.py` finds, and write it as --report, --json and --csv."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
from typing import Any, NamedTuple, Sequence

from insightface_mx.base.errors import UserError, require
from insightface_mx.cli.types import Size, size_text
from insightface_mx.engine.network_input import NetworkInput
from insightface_mx.eval import intervals, report, summary
from insightface_mx.eval.pairs import DataSet, VerificationResult
from insightface_mx.files import manifest
from insightface_mx.files.atomic import report_write_errors, save_text
from insightface_mx.files.cache import hash_file
from insightface_mx.formats import overwrite
from insightface_mx.photos.pair_table import find_table

KINDS = {"report": "HTML page", "json": "JSON file", "csv": "table of scores"}


class Tested(NamedTuple):
    """A network and how it was run.

    Attributes:
        model: 'PREFIX,EPOCH' or 'FILE.onnx'.
        path: The file with its parameters.
        backend: What ran it.
        image_size: Height and width of its input.
    """

    model: str
    path: str
    backend: str
    image_size: Size


class ResultFiles:
    """The files --report, --json and --csv, which are written at the end, completely or not at all."""

    def __init__(self, paths: dict[str, str], nfolds: int, network_input: NetworkInput, force: bool) -> None:
        """Check that the files can be made, before any network runs.

        Args:
            paths: File by kind, a key of KINDS; '' where it is not wanted.
            nfolds: Folds of the cross-validation.
            network_input: How the networks take images.
            force: Whether files of another kind may be replaced.

        Raises:
            UserError: matplotlib is missing, or a file of another kind is in the place of an output.
        """
        self._paths = {kind: path for kind, path in paths.items() if path}
        if "report" in self._paths:
            require("plot", "matplotlib")
        for kind, path in self._paths.items():
            overwrite.refuse_other_kind(path, KINDS[kind], force)
        self._nfolds, self._network_input = nfolds, network_input
        self._results: list[report.Result] = []
        self._rows: list[dict[str, Any]] = []
        self._hashes: dict[str, str] = {}

    @property
    def wanted(self) -> bool:
        """Whether any file is."""
        return bool(self._paths)

    def check_set(self, path: str, issame: Sequence[bool]) -> None:
        """Raise UserError if no report can be made of a set."""
        if self.wanted:
            summary.check_kinds(issame, path)

    def add(self, name: str, path: str, tested: Tested, data_set: DataSet, result: VerificationResult) -> None:
        """Add what a test found.

        Args:
            name: Of the set.
            path: Its file.
            tested: The network.
            data_set: The set's images and flags.
            result: What the test returned.

        Raises:
            UserError: An embedding is NaN.
        """
        if not self.wanted:
            return
        (images, _), issame = data_set
        found, reason = find_table(path, issame)
        known = (found.identities, found.groups) if found else (None, None)
        try:
            pairs = summary.score_pairs(result.unit_embeddings, issame, self._nfolds, *known)
        except UserError as error:
            raise UserError(f"{tested.path} on {path}: {error}") from error
        numbers = summary.summarise(pairs, result.acc2, result.std2, self._nfolds)
        words = intervals.words_of(numbers.accuracy_interval.method, reason)
        names = found.names if found else None
        wrong = report.worst_pairs(pairs, images, names) if "report" in self._paths else ([], [])
        self._results.append(report.Result(name, tested.model, pairs, numbers, *wrong, names, words))
        self._rows.append({**self._settings(name, path, tested), "intervals": words, **summary.plain(numbers)})

    def write(self) -> list[str]:
        """Write the files, and return a line for each. Raises UserError."""
        about = {
            "format": summary.FORMAT,
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "versions": manifest.versions(),
        }
        texts = {}
        if "report" in self._paths:
            texts["report"] = report.make_page(self._with_short_names(), self._tables(about))
        if "json" in self._paths:
            texts["json"] = json.dumps({**about, "results": self._rows}, indent=1, allow_nan=False) + "\n"
        for kind, path in self._paths.items():
            with report_write_errors(path):
                if kind == "csv":
                    summary.write_scores(path, [(r.set_name, r.model, r.pairs, r.names) for r in self._results])
                else:
                    save_text(path, texts[kind])
        return [f"{kind}: {path}" for kind, path in self._paths.items()]

    def _settings(self, name: str, path: str, tested: Tested) -> dict[str, Any]:
        return {
            "set": name,
            "set_file": path,
            "set_sha256": self._hash(path),
            "model": tested.model,
            "parameters": tested.path,
            "parameters_sha256": self._hash(tested.path),
            "backend": tested.backend,
            "image_size": list(tested.image_size),
            "mirror": "embeddings of image and mirror image, added",
            "folds": self._nfolds,
            **{key: value for key, value in dataclasses.asdict(self._network_input).items() if value is not None},
        }

    def _hash(self, path: str) -> str:
        if path not in self._hashes:
            self._hashes[path] = hash_file(hashlib.sha256(), path).hexdigest()
        return self._hashes[path]

    def _with_short_names(self) -> list[report.Result]:
        """Return the results with models named without their folders, where that tells them apart."""
        models = {result.model for result in self._results}
        short = {model: os.path.basename(model) for model in models}
        if len(set(short.values())) < len(models):
            return self._results
        return [result._replace(model=short[result.model]) for result in self._results]

    def _tables(self, about: dict[str, Any]) -> list[tuple[str, dict[str, object]]]:
        """Return the settings as the page shows them."""
        keys = ("set", "set_file", "set_sha256", "model", "parameters", "parameters_sha256", "backend", "image_size")
        tables: list[tuple[str, dict[str, object]]] = []
        for row in self._rows:
            shown = {key.replace("_", " "): row[key] for key in row if key in keys or key in ("mirror", "folds")}
            shown["image size"] = size_text(tuple(row["image_size"]))
            shown.update(
                {k.replace("_", " "): row[k] for k in ("embedding_node", "pixel_mean", "pixel_scale") if k in row}
            )
            tables.append((f"{row['model']} on {row['set']}", shown))
        versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
        return [*tables, ("This page", {"date": about["date"], "versions": versions})]
