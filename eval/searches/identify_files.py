"""Write what insightface-identify finds: --json, --csv, --report, --sheet and --devkit."""

from __future__ import annotations

import argparse
import json
import os
from typing import Sequence

from insightface_mx.base.errors import UserError
from insightface_mx.cli.output import note
from insightface_mx.eval import bad_cases, outputs
from insightface_mx.eval.searches import identify_page, rates
from insightface_mx.eval.searches.identify_results import GallerySearch
from insightface_mx.eval.searches.mate_ranks import MateRanks
from insightface_mx.eval.searches.set_embeddings import SetEmbeddings
from insightface_mx.files.atomic import report_write_errors, save_text
from insightface_mx.photos.lists import write_csv


def check(args: argparse.Namespace) -> None:
    """Check that the files can be made, before any network runs. Raises UserError."""
    kinds = {
        outputs.PAGE: args.report,
        "JSON file": args.json,
        "table of searches": args.csv,
        "PNG image": args.sheet,
    }
    outputs.check(kinds, args.force)
    if args.devkit and os.path.lexists(args.devkit) and not os.path.isdir(args.devkit):
        raise UserError(f"--devkit: {args.devkit} is no folder")


def write(
    args: argparse.Namespace, result: GallerySearch | MateRanks, found: Sequence[rates.Rate], embedding: SetEmbeddings
) -> None:
    """Write the files that were asked for, each completely or not at all.

    Args:
        args: The command line.
        result: The searches.
        found: Their rates.
        embedding: What the embeddings come from.
    """
    about = outputs.about()
    settings = {
        **{f"{role}_set": getattr(args, role) for role in ("gallery", "probes", "distractors")},
        "first_as_gallery": args.first_as_gallery,
        **({"model": args.model} if not embedding.settings else embedding.settings),
        "mirror": args.mirror,
        "any_mate": args.any_mate,
        "exclude": args.exclude,
        "clean_as_published": args.clean_as_published,
        "not_usable": embedding.problems,
    }
    texts: dict[str, str] = {}
    if args.json:
        content = {**about, **settings, **rates.json_object(result.counts(), found)}
        texts[args.json] = json.dumps(content, indent=1, allow_nan=False) + "\n"
    if args.report:
        tables = [("Search", outputs.as_shown(settings)), ("This page", outputs.about_text(about))]
        texts[args.report] = identify_page.make_page(result, found, embedding.reader, _short_name(args.model), tables)
    if args.devkit and isinstance(result, MateRanks):
        with report_write_errors(args.devkit):
            os.makedirs(args.devkit, exist_ok=True)
        texts[os.path.join(args.devkit, result.devkit_name(args.algorithm))] = result.devkit_text()
    for path, text in texts.items():
        with report_write_errors(path):
            save_text(path, text)
    if args.csv:
        with report_write_errors(args.csv):
            write_csv(args.csv, result.rows())
    if args.sheet and embedding.reader and isinstance(result, GallerySearch):
        cells, errors = result.cells(embedding.reader)
        note(f"{errors} errors" + (f", {len(cells)} drawn in {args.sheet}" if cells else ": no sheet"))
        if cells:
            with report_write_errors(args.sheet):
                bad_cases.save_sheet(args.sheet, cells)


def _short_name(model: str | None) -> str:
    """Return what figures call a network; None: there are feature files alone."""
    return os.path.basename(model) if model else "features"
