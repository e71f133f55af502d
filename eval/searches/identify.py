"""Find the identities of probes in a gallery, open set: rank rates, and TPIR at FPIR.

A probe whose identity is in the gallery is mated; it is found at rank k if its mate is among the first k identities. At
a threshold that a fraction FPIR of the probes without mate passes, TPIR is the fraction of the mated probes whose mate
is first and above it. Distractors are faces of others, added to the gallery.

Without --gallery each other face of a probe's identity is, by itself, the gallery, together with the distractors: the
rule of MegaFace.

A set is a folder with a folder for each identity, a list, a .rec file, or a folder of MegaFace's feature files.
Distractors need no identity. What the network says of photos is stored in the folder --features, and is used again.
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.identify()

import argparse
import os
from typing import TYPE_CHECKING, Iterator, Sequence

from insightface_mx.base.errors import UserError
from insightface_mx.cli.device import add_device_options
from insightface_mx.cli.fields import add_options, read_options
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import note, say
from insightface_mx.cli.types import positive_list
from insightface_mx.engine.network_input import INPUT_GROUP, NetworkInput
from insightface_mx.eval.features.feature_options import FeatureOptions
from insightface_mx.eval.searches.identify_options import FaceFinding, OptionalNetwork

if TYPE_CHECKING:
    import numpy as np

    from insightface_mx.eval.features.face_features import FaceReader
    from insightface_mx.eval.searches.face_sets import Block, Faces
    from insightface_mx.eval.searches.identify_results import GallerySearch, MateRanks

EXAMPLE = """
insightface-identify --gallery lfw/gallery --probes lfw/probes --aligned --model model/r50,1 --csv probes.csv
insightface-identify --gallery tiny/Gallery_Match --probes tiny/Probe --distractors tiny/Gallery_Distractor \\
  --identity-from name --any-mate --ranks 1,5,20 --aligned --model model/r50,1
insightface-identify --probes facescrub --distractors megaface --exclude noises.txt --aligned --model model/r50,1
"""
RANKS = (1, 5, 10)
ON, OFF = "on", "off"
ALGORITHM = "insightface-mx"


def run(args: argparse.Namespace) -> None:
    """Search, print the rates and write what was asked for."""
    from insightface_mx.eval.searches import face_sets, identify_results
    from insightface_mx.eval.searches.candidates import find_candidates

    sets = find_sets(args)
    embedding = Embedding(args, sets)
    probes, rows = embedding.usable("probes")
    subjects, others = probes.identities, embedding.others(rows.shape[1])
    result: identify_results.GallerySearch | identify_results.MateRanks
    if "gallery" in sets:
        gallery, known = embedding.usable("gallery")
        face_sets.refuse_other_length(gallery, known, probes, rows)
        found = find_candidates(rows, subjects, known, gallery.identities, others, args.any_mate)
        result = identify_results.GallerySearch(probes, gallery, embedding.kept_others(), found, args.ranks)
    else:
        result = rank_mates(probes, rows, others, embedding, args.ranks)
    say("\n".join(identify_results.lines(result)))
    write(args, result, embedding)
    if embedding.problems:
        raise UserError(f"{embedding.problems} photos could not be used; the results are those of the others")


def find_sets(args: argparse.Namespace) -> dict[str, Faces]:
    """Find the faces of each set, without those of the cleaning lists, and check that the sets go together."""
    from insightface_mx.eval.searches import face_sets

    if not (args.gallery or args.distractors):
        raise UserError("give --gallery, or --distractors, or both: there is nothing to search in")
    kinds = {"gallery": args.identity_from, "probes": args.identity_from, "distractors": None}
    sets = {
        role: face_sets.open_faces(getattr(args, role), kind) for role, kind in kinds.items() if getattr(args, role)
    }
    cleaning = [face_sets.CleaningList(path) for path in args.exclude]
    for listed in cleaning:
        sets = {role: listed.clean(faces) for role, faces in sets.items()}
        listed.report_unknown()
    for role in sets.keys() - {"probes"}:
        face_sets.refuse_same_photos(sets[role], role, sets["probes"])
    if "gallery" in sets and "distractors" not in sets:
        face_sets.warn_of_one_identity(sets["gallery"])
    for faces in sets.values():
        if args.export_features:
            face_sets.refuse_names_outside(faces)
        if args.sheet and faces.are_features:
            raise UserError(f"--sheet: {faces.path} holds feature files, which cannot be drawn")
    if args.sheet and not args.gallery:
        raise UserError("--sheet draws the errors of searches in a gallery: give --gallery")
    return sets


def rank_mates(
    probes: Faces, rows: np.ndarray, others: Iterator[np.ndarray], embedding: Embedding, ranks: Sequence[int]
) -> MateRanks:
    """Rank every mate of a probe, by itself, among the distractors."""
    from insightface_mx.eval.identification import distractor_ranks, ordered_pairs
    from insightface_mx.eval.searches.identify_results import MateRanks

    pairs = ordered_pairs(probes.identities)
    if not len(pairs):
        raise UserError(f"{probes.path} holds no identity with two faces: without --gallery there is no mate")
    rank = distractor_ranks(rows, probes.identities, others)
    kept = embedding.kept_others()
    assert kept is not None
    return MateRanks(probes, kept, pairs, rank, ranks)


def write(args: argparse.Namespace, result: GallerySearch | MateRanks, embedding: Embedding) -> None:
    """Write the files that were asked for."""
    import json

    from insightface_mx.eval import bad_cases
    from insightface_mx.eval.searches import identify_results
    from insightface_mx.files.atomic import report_write_errors, save_text
    from insightface_mx.photos.lists import write_csv

    if args.json:
        origin = {"gallery": args.gallery, "probes": args.probes, "distractors": args.distractors, "model": args.model}
        rules = {"any_mate": args.any_mate, "exclude": args.exclude, "not_usable": embedding.problems}
        with report_write_errors(args.json):
            found = {**origin, **rules, **identify_results.json_object(result)}
            save_text(args.json, json.dumps(found, indent=1) + "\n")
    if args.csv:
        with report_write_errors(args.csv):
            write_csv(args.csv, result.rows())
    if args.sheet and embedding.reader and isinstance(result, identify_results.GallerySearch):
        cells, errors = result.cells(embedding.reader)
        note(f"{errors} errors" + (f", {len(cells)} drawn in {args.sheet}" if cells else ": no sheet"))
        if cells:
            with report_write_errors(args.sheet):
                bad_cases.save_sheet(args.sheet, cells)


class Embedding:
    """Makes the embeddings of the sets as the command line says.

    Attributes:
        reader: Reads photos; None where all sets are feature files.
        problems: Number of photos that cannot be used, so far.
    """

    def __init__(self, args: argparse.Namespace, sets: dict[str, Faces]) -> None:
        """Take the options. UserError: there is no network for a set of photos."""
        self._args, self._sets = args, sets
        self._network, self._input = read_options(args, OptionalNetwork), read_options(args, NetworkInput)
        self._kept: list[int] = []  # distractors that have an embedding
        self.problems = 0
        photos = [faces.path for faces in sets.values() if not faces.are_features]
        if photos and not self._network.model:
            raise UserError(f"{photos[0]} holds photos: give --model")
        self.reader = self._reader() if photos else None

    def usable(self, role: str) -> tuple[Faces, np.ndarray]:
        """Return the faces of a set that have an embedding, and these, (n, d); the others are named."""
        from insightface_mx.eval.searches import face_sets

        faces, rows, problems = face_sets.usable(self._sets[role], self._blocks(role))
        self._report(problems)
        return faces, rows

    def others(self, length: int) -> Iterator[np.ndarray]:
        """Yield the embeddings of the distractors, of this length, block by block; those without are named."""
        from tqdm import tqdm

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

    def _report(self, problems: list[str]) -> None:
        self.problems += len(problems)
        for problem in problems:
            note(f"error: {problem}")

    def _blocks(self, role: str) -> Iterator[Block]:
        """Yield the embeddings of a set; they are also exported where that is asked for."""
        from insightface_mx.eval.searches import face_sets

        faces = self._sets[role]
        blocks = face_sets.feature_blocks(faces) if faces.are_features else self._network_blocks(faces, role)
        if not self._args.export_features:
            return blocks
        return face_sets.exported(blocks, faces, os.path.join(self._args.export_features, role), self._args.algorithm)

    def _network_blocks(self, faces: Faces, role: str) -> Iterator[Block]:
        from insightface_mx.eval.features.face_features import Features, refuse_missing
        from insightface_mx.eval.searches import face_sets

        args, options = self._args, read_options(self._args, FeatureOptions)
        refuse_missing(faces.photos, lambda _: faces.path)
        assert self.reader is not None
        how = "" if args.aligned else f"detector {args.detector}"
        with_mirror = args.mirror == ON
        features = Features(faces.photos, self.reader, self._network, options, self._input, args.ctx, with_mirror, how)
        features.fill(role)
        return face_sets.network_blocks(faces, features)

    def _reader(self) -> FaceReader:
        from insightface_mx.embedding.backends import image_size_of
        from insightface_mx.eval.features.face_features import FaceReader, load_detector

        size = self._network.image_size or image_size_of(self._network.model or "", self._input)
        finding, device = read_options(self._args, FaceFinding), self._args.ctx
        return FaceReader(size, None if finding.aligned else lambda: load_detector(finding.detector, device))


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    result = make_parser(__doc__, EXAMPLE)
    add = result.add_argument
    add("--gallery", metavar="DIR", help="faces of known identities (default: each probe's mates, one by one)")
    add("--probes", metavar="DIR", required=True, help="faces to look for")
    add("--distractors", metavar="DIR", help="faces of others, which are added to the gallery")
    add(
        "--identity-from",
        choices=("folder", "name"),
        default="folder",
        help="an identity is a folder, or a list's label; or it stands before the first _ of a file's name",
    )
    add("--exclude", action="append", default=[], metavar="LIST", help="leave out the faces that a list names")
    add_options(result, "network", OptionalNetwork, FeatureOptions)
    add("--mirror", choices=(ON, OFF), default=ON, help="add the mirror image's embedding")
    add_options(result, "faces", FaceFinding)
    add_options(result, INPUT_GROUP, NetworkInput)
    add_device_options(result, gpu=0)
    add = result.add_argument_group("results").add_argument
    add("--ranks", type=positive_list, default=list(RANKS), metavar="K,K", help="ranks to print")
    add(
        "--any-mate",
        action="store_true",
        help="count every face before the best mate, not every identity: TinyFace's rule",
    )
    add("--csv", metavar="FILE", help="write every probe with its best three candidates")
    add("--json", metavar="FILE", help="write the rates as JSON")
    add("--sheet", metavar="FILE.png", help="draw the errors: probe, first candidate, mate")
    add("--export-features", metavar="DIR", help="write MegaFace's feature files: DIR/SET/NAME_ALGORITHM.bin")
    add("--algorithm", default=ALGORITHM, metavar="NAME", help="ALGORITHM in the names of these files")
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; argv: words of the command line, None for those of the process."""
    run_command(run, parser(), argv)
