"""Test a network as IJB-B and IJB-C do: templates of several images, 1:1 and 1:N, with TAR at FAR and TPIR at FPIR.

INPUT is the folder of IJB-B or IJB-C, with meta/ and loose_crop/, or a .csv of one's own with the columns image,
template, medium and subject. The faces are aligned by the landmarks of the list. What the network says of the images is
stored in the folder --features, and is used again by a call with the same network and images; a call that is stopped
continues from there.

The strict reading is printed: TAR at the largest FAR that is not above the target. The public scripts print the point
of the ROC whose FAR is nearest to the target, which may be above it: --as-published prints both.
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.ijb()

import argparse
import itertools
import os
from typing import TYPE_CHECKING, Sequence

from insightface_mx.cli.device import add_device_options
from insightface_mx.cli.fields import add_options, read_options
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import note, say
from insightface_mx.embedding.options import NetworkOptions
from insightface_mx.engine.network_input import INPUT_GROUP, NetworkInput
from insightface_mx.eval.features.feature_options import FeatureOptions
from insightface_mx.formats import overwrite

if TYPE_CHECKING:
    from insightface_mx.eval.features.face_features import FaceReader, Features
    from insightface_mx.eval.template_sets.ijb_files import Images
    from insightface_mx.eval.template_sets.template_tests import Result, Setting

EXAMPLE = """
insightface-ijb data/IJBC --model model/r100,1 --json ijbc.json
insightface-ijb data/IJBC --model model/r100,1 --all-settings --as-published --csv ijbc.csv
insightface-ijb templates.csv --model model/r100,1 --detector-score off --report templates.html
"""
ON, OFF = "on", "off"


def run(args: argparse.Namespace) -> None:
    """Run the tests, print the results and write them."""
    from insightface_mx.eval import outputs
    from insightface_mx.eval.features.face_features import refuse_missing
    from insightface_mx.eval.template_sets import template_results
    from insightface_mx.eval.template_sets.template_set import read_set
    from insightface_mx.eval.template_sets.template_tests import test_templates

    outputs.check({outputs.PAGE: args.report, "JSON file": args.json, "table of rates": args.csv}, args.force)
    templates = read_set(args.input, args.images, args.landmarks)
    images = templates.images
    refuse_missing(images.photos, images.place)
    settings = chosen_settings(args, images)
    features, reader = open_features(args, images, any(setting.mirror for setting in settings))
    note(f"{len(images.photos)} images of {len(set(images.templates.tolist()))} templates: {features.folder}")
    features.fill("embedding")
    results = []
    for setting in settings:
        results.append(test_templates(templates, features, setting, args.as_published))
        say("\n".join(template_results.lines(results[-1])))
    write(args, results, images, features, reader)


def write(
    args: argparse.Namespace, results: Sequence[Result], images: Images, features: Features, reader: FaceReader
) -> None:
    """Write the files that were asked for, each completely or not at all."""
    from insightface_mx.eval import outputs
    from insightface_mx.eval.template_sets import template_page, template_results
    from insightface_mx.files.atomic import report_write_errors, save_text
    from insightface_mx.photos.lists import write_csv

    about = outputs.about()
    network = outputs.network_settings(
        args.model, features.backend, reader.image_size, read_options(args, NetworkInput)
    )
    settings = {"input": args.input, "images": args.images, "landmarks": args.landmarks, **network}
    settings["features"] = features.folder
    if args.json:
        with report_write_errors(args.json):
            save_text(args.json, template_results.json_text(results, {**about, **settings}))
    if args.report:
        name = os.path.basename(os.path.normpath(args.input))
        tables = [("Test", outputs.as_shown(settings)), ("This page", outputs.about_text(about))]
        page = template_page.make_page(results, images, reader, name, tables)
        with report_write_errors(args.report):
            save_text(args.report, page)
    if args.csv:
        with report_write_errors(args.csv):
            write_csv(args.csv, template_results.csv_rows(results))


def chosen_settings(args: argparse.Namespace, images: Images) -> list[Setting]:
    """Return the settings to test; a list without scores cannot weight by them."""
    from insightface_mx.eval.template_sets.template_tests import Setting

    scores = (True, False) if images.scores is not None else (False,)
    if args.all_settings:
        return [Setting(*values) for values in itertools.product((True, False), scores, (True, False))]
    if args.detector_score == ON and images.scores is None:
        note(f"{images.path} has no column score: the images of a medium have one weight")
    return [Setting(args.keep_norm, args.detector_score == ON and scores[0], args.mirror == ON)]


def open_features(args: argparse.Namespace, images: Images, with_mirror: bool) -> tuple[Features, FaceReader]:
    """Return the network's outputs for the images, to be computed where they are not stored; and what reads these."""
    from insightface_mx.embedding.backends import image_size_of
    from insightface_mx.eval.features.face_features import FaceReader, Features

    network, network_input = read_options(args, NetworkOptions), read_options(args, NetworkInput)
    image_size = network.image_size or image_size_of(args.model, network_input)
    reader, options = FaceReader(image_size), read_options(args, FeatureOptions)
    return Features(images.photos, reader, network, options, network_input, args.ctx, with_mirror), reader


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    result = make_parser(__doc__, EXAMPLE)
    add = result.add_argument
    add("input", metavar="INPUT", help="folder of IJB-B or IJB-C, or a .csv of image, template, medium, subject")
    add("--images", metavar="DIR", help="folder of the images (default: INPUT/loose_crop, or the .csv's own)")
    add("--landmarks", metavar="FILE", help="another file than x_name_5pts_score.txt, of another detector")
    add_options(result, "network", NetworkOptions, FeatureOptions)
    add_options(result, INPUT_GROUP, NetworkInput)
    add_device_options(result, gpu=0)
    group = result.add_argument_group("how templates are made")
    add, norm = group.add_argument, group.add_mutually_exclusive_group()
    norm.add_argument(
        "--keep-norm",
        action="store_true",
        default=True,
        help="keep the length of an image's embedding: a clear image has more weight (the usual way; N1 in the "
        "notebook and ijb_11.py, N0 in ijb_evals.py)",
    )
    norm.add_argument(
        "--normalise",
        dest="keep_norm",
        action="store_false",
        default=argparse.SUPPRESS,
        help="scale every image's embedding to length 1 first (N0 in the notebook, N1 in ijb_evals.py)",
    )
    add("--detector-score", choices=(ON, OFF), default=ON, help="weight images by the detector's score (D1, D0)")
    add("--mirror", choices=(ON, OFF), default=ON, help="add the mirror image's embedding (F2 or F1, F0)")
    add("--all-settings", action="store_true", help="test all eight settings")
    add = result.add_argument_group("results").add_argument
    add("--as-published", action="store_true", help="print the public scripts' readings, too")
    add(
        "--report",
        metavar="FILE.html",
        help="page of all settings: tables, curves, thresholds, the worst pairs as faces (needs matplotlib)",
    )
    add("--json", metavar="FILE", help="write the results as JSON")
    add("--csv", metavar="FILE", help="write the results as a table, a row for each rate")
    overwrite.add_force_option(result)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; argv: words of the command line, None for those of the process."""
    run_command(run, parser(), argv)
