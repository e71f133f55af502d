"""Collect what `verification.py` finds, and write it as --report, --json and --csv."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, NamedTuple, Sequence

from insightface_mx.base.errors import UserError
from insightface_mx.cli.types import Size
from insightface_mx.engine.network_input import NetworkInput
from insightface_mx.eval import intervals, outputs, report, summary
from insightface_mx.eval.pairs import DataSet, VerificationResult
from insightface_mx.files.atomic import report_write_errors, save_text
from insightface_mx.files.cache import hash_file
from insightface_mx.photos.pair_table import find_table

KINDS = {"report": outputs.PAGE, "json": "JSON file", "csv": "table of scores"}


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
        outputs.check({KINDS[kind]: path for kind, path in self._paths.items()}, force)
        self._nfolds, self._network_input = nfolds, network_input
        self._results: list[report.Result] = []
        self._rows: list[dict[str, Any]] = []
        self._hashes: dict[str, str] = {}
        self._networks: dict[Tested, dict[str, Any]] = {}
        self._tables: list[tuple[str, dict[str, object]]] = []

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
        settings = self._settings(name, path, tested)
        self._rows.append({**settings, "intervals": words, **summary.plain(numbers)})
        self._tables.append((f"{tested.model} on {name}", outputs.as_shown(settings)))

    def write(self) -> list[str]:
        """Write the files, and return a line for each. Raises UserError."""
        about = {"format": summary.FORMAT, **outputs.about()}
        texts = {}
        if "report" in self._paths:
            texts["report"] = report.make_page(
                self._with_short_names(), [*self._tables, ("This page", outputs.about_text(about))]
            )
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
        if path not in self._hashes:
            self._hashes[path] = hash_file(hashlib.sha256(), path).hexdigest()
        if tested not in self._networks:
            network = outputs.network_settings(tested.model, tested.backend, tested.image_size, self._network_input)
            self._networks[tested] = network
        return {
            "set": name,
            "set_file": path,
            "set_sha256": self._hashes[path],
            **self._networks[tested],
            "mirror": "embeddings of image and mirror image, added",
            "folds": self._nfolds,
        }

    def _with_short_names(self) -> list[report.Result]:
        """Return the results with models named without their folders, where that tells them apart."""
        models = {result.model for result in self._results}
        short = {model: os.path.basename(model) for model in models}
        if len(set(short.values())) < len(models):
            return self._results
        return [result._replace(model=short[result.model]) for result in self._results]
