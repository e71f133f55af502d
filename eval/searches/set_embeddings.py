"""Make the embeddings of gallery, probes and distractors as the command line says."""

from __future__ import annotations

import argparse
import os
from typing import Iterator

import numpy as np
from tqdm import tqdm

from insightface_mx.base.errors import UserError
from insightface_mx.cli.fields import read_options
from insightface_mx.cli.output import note
from insightface_mx.embedding.backends import image_size_of
from insightface_mx.engine.network_input import NetworkInput
from insightface_mx.eval import outputs
from insightface_mx.eval.features.face_features import FaceReader, Features, load_detector, refuse_missing
from insightface_mx.eval.features.feature_options import FeatureOptions
from insightface_mx.eval.searches import face_sets
from insightface_mx.eval.searches.face_sets import Block, Faces
from insightface_mx.eval.searches.identify_options import ON, FaceFinding, OptionalNetwork


class SetEmbeddings:
    """Makes the embeddings of the sets as the command line says.

    Attributes:
        reader: Reads photos; None where all sets are feature files.
        problems: Number of photos that cannot be used, so far.
        settings: Which network ran, and how; empty where all sets are feature files.
    """

    def __init__(self, args: argparse.Namespace, sets: dict[str, Faces]) -> None:
        """Take the options. UserError: there is no network for a set of photos."""
        self._args, self._sets = args, sets
        self._network, self._input = read_options(args, OptionalNetwork), read_options(args, NetworkInput)
        self._kept: list[int] = []  # distractors that have an embedding
        self.problems = 0
        self.settings: dict[str, object] = {}
        photos = [faces.path for faces in sets.values() if not faces.are_features]
        if photos and not self._network.model:
            raise UserError(f"{photos[0]} holds photos: give --model")
        self.reader = self._reader() if photos else None

    def usable(self, role: str) -> tuple[Faces, np.ndarray]:
        """Return the faces of a set that have an embedding, and these, (n, d); the others are named."""
        faces, rows, problems = face_sets.usable(self._sets[role], self._blocks(role))
        self._report(problems)
        return faces, rows

    def others(self, length: int) -> Iterator[np.ndarray]:
        """Yield the embeddings of the distractors, of this length, block by block; those without are named."""
        faces = self._sets.get("distractors")
        if faces is None:
            return
        with tqdm(total=len(faces.photos), unit="face", desc="search", disable=None) as progress:
            for block in self._blocks("distractors"):
                if block.rows.shape[1] != length:
                    raise UserError(
                        f"{faces.path}: embeddings have {block.rows.shape[1]} numbers, the probes' {length}"
                    )
                good = [place for place, problem in enumerate(block.problems) if not problem]
                self._report([problem for problem in block.problems if problem])
                self._kept += [block.start + place for place in good]
                yield block.rows[good]
                progress.update(len(block.problems))

    def kept_others(self) -> Faces | None:
        """Return the distractors that `others` has yielded; None where there is no such set."""
        faces = self._sets.get("distractors")
        return None if faces is None else faces.chosen(self._kept)

    def some_others(self) -> Faces:
        """Return the distractors that `others` has yielded. UserError: there is none."""
        faces = self.kept_others()
        if faces is None or not faces.photos:
            raise UserError(f"{self._args.distractors}: no face of it can be used")
        return faces

    def _report(self, problems: list[str]) -> None:
        self.problems += len(problems)
        for problem in problems:
            note(f"error: {problem}")

    def _blocks(self, role: str) -> Iterator[Block]:
        """Yield the embeddings of a set; they are also exported where that is asked for."""
        faces = self._sets[role]
        blocks = face_sets.feature_blocks(faces) if faces.are_features else self._network_blocks(faces, role)
        if not self._args.export_features:
            return blocks
        return face_sets.exported(blocks, faces, os.path.join(self._args.export_features, role), self._args.algorithm)

    def _network_blocks(self, faces: Faces, role: str) -> Iterator[Block]:
        args, options = self._args, read_options(self._args, FeatureOptions)
        refuse_missing(faces.photos, lambda _: faces.path)
        assert self.reader is not None
        how = "" if args.aligned else f"detector {args.detector}"
        with_mirror = args.mirror == ON
        features = Features(faces.photos, self.reader, self._network, options, self._input, args.ctx, with_mirror, how)
        features.fill(role)
        self.settings = self.settings or outputs.network_settings(
            self._network.model or "", features.backend, self.reader.image_size, self._input
        )
        return face_sets.network_blocks(faces, features)

    def _reader(self) -> FaceReader:
        size = self._network.image_size or image_size_of(self._network.model or "", self._input)
        finding, device = read_options(self._args, FaceFinding), self._args.ctx
        return FaceReader(size, None if finding.aligned else lambda: load_detector(finding.detector, device))
