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
from typing import TYPE_CHECKING, Sequence

from insightface_mx.base.errors import UserError
from insightface_mx.cli.device import add_device_options
from insightface_mx.cli.fields import add_options
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import say
from insightface_mx.cli.types import positive_list
from insightface_mx.engine.network_input import INPUT_GROUP, NetworkInput
from insightface_mx.eval.features.feature_options import FeatureOptions
from insightface_mx.eval.searches.identify_options import OFF, ON, FaceFinding, OptionalNetwork
from insightface_mx.formats import overwrite

if TYPE_CHECKING:
    from insightface_mx.eval.searches.face_sets import Faces

EXAMPLE = """
insightface-identify --gallery lfw/gallery --probes lfw/probes --aligned --model model/r50,1 --csv probes.csv
insightface-identify --probes lfw --first-as-gallery --aligned --model model/r50,1 --report lfw.html
insightface-identify --gallery tiny/Gallery_Match --probes tiny/Probe --distractors tiny/Gallery_Distractor \\
  --identity-from name --any-mate --ranks 1,5,20 --aligned --model model/r50,1
insightface-identify --probes facescrub --distractors megaface --exclude noises.txt --aligned --model model/r50,1
"""
RANKS = (1, 5, 10)
ALGORITHM = "insightface-mx"


def run(args: argparse.Namespace) -> None:
    """Search, print the rates and write what was asked for."""
    from insightface_mx.eval.searches import identify_files, rates, set_checks
    from insightface_mx.eval.searches.candidates import find_candidates
    from insightface_mx.eval.searches.identify_results import GallerySearch
    from insightface_mx.eval.searches.mate_ranks import MateRanks, rank_mates
    from insightface_mx.eval.searches.set_embeddings import SetEmbeddings

    identify_files.check(args)
    sets, noisy = find_sets(args)
    embedding = SetEmbeddings(args, sets)
    probes, rows = embedding.usable("probes")
    if noisy:
        rows = set_checks.with_centres(probes, rows, noisy)
    others = embedding.others(rows.shape[1])
    result: GallerySearch | MateRanks
    if "gallery" in sets:
        gallery, known = embedding.usable("gallery")
        set_checks.refuse_other_length(gallery, known, probes, rows)
        found = find_candidates(rows, probes.identities, known, gallery.identities, others, args.any_mate)
        result = GallerySearch(probes, gallery, embedding.kept_others(), found, args.ranks)
    else:
        ranked = rank_mates(probes, rows, others, sets["distractors"], args.ranks)
        result = ranked._replace(distractors=embedding.some_others())
    found_rates = result.rates()
    say("\n".join(rates.lines(result.counts(), found_rates, args.as_published)))
    identify_files.write(args, result, found_rates, embedding)
    if embedding.problems:
        raise UserError(f"{embedding.problems} photos could not be used; the results are those of the others")


def find_sets(args: argparse.Namespace) -> tuple[dict[str, Faces], set[str]]:
    """Find the faces of each set, without those of the cleaning lists, and check that the sets go together.

    Returns:
        The sets, and the names of the probes that are to be replaced, as MegaFace's cleaning does.
    """
    from insightface_mx.eval.searches import face_sets, set_checks

    refuse_contradictions(args)
    kinds = {"gallery": args.identity_from, "probes": args.identity_from, "distractors": None}
    sets = {
        role: face_sets.open_faces(getattr(args, role), kind) for role, kind in kinds.items() if getattr(args, role)
    }
    noisy: set[str] = set()
    for listed in [set_checks.CleaningList(path) for path in args.exclude]:
        if args.clean_as_published:
            names = sets["probes"].names
            noisy.update(name for name, is_listed in zip(names, listed.listed(sets["probes"])) if is_listed)
        sets = {
            role: faces if args.clean_as_published and role == "probes" else listed.clean(faces)
            for role, faces in sets.items()
        }
        listed.report_unknown()
    if args.first_as_gallery:
        sets["gallery"], sets["probes"] = face_sets.split_first(sets["probes"])
    for role in sets.keys() - {"probes"}:
        set_checks.refuse_same_photos(sets[role], role, sets["probes"])
    if "gallery" in sets:
        set_checks.warn_of_mates(sets["gallery"], sets["probes"])
        if "distractors" not in sets:
            set_checks.warn_of_one_identity(sets["gallery"])
    if args.export_features:
        set_checks.refuse_export_into_sets(args.export_features, sets.values())
    for faces in sets.values():
        if args.export_features:
            face_sets.refuse_names_outside(faces)
        if args.sheet and faces.are_features:
            raise UserError(f"--sheet: {faces.path} holds feature files, which cannot be drawn")
    return sets, noisy


def refuse_contradictions(args: argparse.Namespace) -> None:
    """Raise UserError if options do not go together."""
    has_gallery = bool(args.gallery or args.first_as_gallery)
    if not (has_gallery or args.distractors):
        raise UserError(
            "give --gallery, or --distractors, or both, or --first-as-gallery: there is nothing to search in"
        )
    if args.gallery and args.first_as_gallery:
        raise UserError("--first-as-gallery takes the gallery from the probes: leave --gallery out")
    if args.sheet and not has_gallery:
        raise UserError("--sheet draws the errors of searches in a gallery: give --gallery")
    if has_gallery:
        given = [name for name in ("devkit", "clean_as_published", "as_published") if getattr(args, name)]
        if given:
            raise UserError(f"--{given[0].replace('_', '-')} goes with MegaFace's rule: leave the gallery out")
    if args.any_mate and not has_gallery:
        raise UserError("--any-mate is a rule of searches in a gallery: give --gallery")
    if args.clean_as_published and (args.export_features or not args.exclude):
        raise UserError(
            "--clean-as-published replaces the probes that --exclude names, in the search alone: give --exclude, and "
            "leave --export-features out"
        )


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    result = make_parser(__doc__, EXAMPLE)
    add = result.add_argument
    add("--gallery", metavar="DIR", help="faces of known identities (default: each probe's mates, one by one)")
    add("--probes", metavar="DIR", required=True, help="faces to look for")
    add(
        "--first-as-gallery",
        action="store_true",
        help="the gallery is the first face, by name, of each identity with several among the probes; identities with "
        "one face are non-mates",
    )
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
    add(
        "--report",
        metavar="FILE.html",
        help="page of the search: rates, curves, thresholds, the worst errors as faces (needs matplotlib)",
    )
    add("--csv", metavar="FILE", help="write every probe with its best three candidates")
    add("--json", metavar="FILE", help="write the rates as JSON")
    add("--sheet", metavar="FILE.png", help="draw the errors: probe, first candidate, mate")
    add("--export-features", metavar="DIR", help="write MegaFace's feature files: DIR/SET/NAME_ALGORITHM.bin")
    add(
        "--as-published",
        action="store_true",
        help="without --gallery: print TAR as MegaFace's files are read, too, at the lowest FAR above the target",
    )
    add(
        "--clean-as-published",
        action="store_true",
        help="replace the probes that --exclude names by the mean of their mates, as MegaFace's remove_noises.py does: "
        "the answer leaks into the question",
    )
    add("--devkit", metavar="DIR", help="write the rates as MegaFace's devkit: DIR/cmc_PROBES_DISTRACTORS_...json")
    add("--algorithm", default=ALGORITHM, metavar="NAME", help="ALGORITHM in the names of these files")
    overwrite.add_force_option(result)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; argv: words of the command line, None for those of the process."""
    run_command(run, parser(), argv)
