"""Test face recognition checkpoints, or an ONNX file, on verification sets."""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.verify()

import argparse
import os
import re
from itertools import groupby
from typing import NamedTuple, Sequence

from insightface_mx.base.compat import Context
from insightface_mx.base.errors import UserError
from insightface_mx.cli import types
from insightface_mx.cli.device import add_device_options
from insightface_mx.cli.fields import add_options, read_options, refuse_idle
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import note, say
from insightface_mx.cli.types import USUAL_SIZE, Size
from insightface_mx.engine import BATCH_SIZE
from insightface_mx.engine.network_input import INPUT_GROUP, USUAL_INPUT, NetworkInput
from insightface_mx.eval.pairs import DataSet, VerificationResult, judge, load_bin, result_lines, test
from insightface_mx.eval.roc import evaluate
from insightface_mx.files.atomic import report_write_errors, save_npz
from insightface_mx.formats import checkpoint, overwrite

__all__ = ["evaluate", "load_bin", "main", "test"]  # `import verification` offers the first three to other programs

EXAMPLE = """
insightface-verify --data-dir data --model model/model,1
insightface-verify --data-dir data --model 'model/model,1|2|5' --target lfw
insightface-verify --data-dir data --model model/model --max 0,3
insightface-verify --data-dir data --model r50-int8.onnx
insightface-verify --data-dir data --model model/r50,1 --also model/y1,3 --report report.html --json report.json
"""
PRINT_ACCURACIES, DRAW_WRONG_PAIRS, WRITE_EMBEDDINGS = range(3)  # --mode


class Candidate(NamedTuple):
    """A network to test.

    Attributes:
        model: 'PREFIX,EPOCH' or 'FILE.onnx'.
        path: The file with its parameters.
        tag: What its output files are called, behind the name of the set.
        image_size: Height and width of its input.
    """

    model: str
    path: str
    tag: str
    image_size: Size = USUAL_SIZE


def run(args: argparse.Namespace) -> None:
    """Test every network on every set and do with each result what --mode says."""
    from insightface_mx.engine.denormals import flush_in_threads
    from insightface_mx.engine.devices import get_contexts
    from insightface_mx.eval.verification_files import ResultFiles, Tested

    if args.output and args.mode == PRINT_ACCURACIES:
        refuse_idle(["--output"], "with --mode 0, which writes no files: leave it out, or give --mode 1 or 2")
    sets = find_sets(args.data_dir, args.target)
    network_input = read_options(args, NetworkInput)
    candidates = all_candidates(args, network_input)
    paths = {"report": args.report, "json": args.json, "csv": args.csv}
    files = ResultFiles(paths, args.nfolds, network_input, args.force)
    folder = args.output or os.path.dirname(candidates[0].path) or "."
    with report_write_errors(folder):
        os.makedirs(folder, exist_ok=True)
    contexts = get_contexts(args.ctx)
    flush_in_threads(contexts)
    for name, path in sets:
        accuracies = []
        for image_size, group in groupby(candidates, lambda candidate: candidate.image_size):
            data_set = load_bin(path, image_size)
            files.check_set(path, data_set[1])
            for candidate in group:
                note(f"{candidate.path} on {path}")
                result, backend = test_candidate(
                    candidate, data_set, contexts, args.batch_size, args.nfolds, network_input
                )
                accuracies.append(result.acc2)
                show(args.mode, name, os.path.join(folder, f"{name}-{candidate.tag}"), data_set, result, args.nfolds)
                files.add(name, path, Tested(candidate.model, candidate.path, backend, image_size), data_set, result)
        if args.mode == PRINT_ACCURACIES:
            say(f"Max of [{name}] is {max(accuracies):.5f}")
    for line in files.write():
        note(line)


def show(mode: int, name: str, stem: str, data_set: DataSet, result: VerificationResult, nfolds: int) -> None:
    """Do with a result what --mode says; stem: what the names of its files begin with."""
    if mode == PRINT_ACCURACIES:
        say("\n".join(result_lines(name, result)))
    elif mode == DRAW_WRONG_PAIRS:
        draw_wrong_pairs(name, stem, data_set, result, nfolds)
    else:
        write_embeddings(name, stem, data_set, result)


def test_candidate(
    candidate: Candidate,
    data_set: DataSet,
    contexts: list[Context],
    batch_size: int,
    nfolds: int,
    network_input: NetworkInput = USUAL_INPUT,
) -> tuple[VerificationResult, str]:
    """Load a network and test it: a checkpoint in MXNet, an ONNX file in the fastest back end that runs it right.

    Returns:
        The result, and the name of the back end.
    """
    from insightface_mx.embedding import backends
    from insightface_mx.engine.network import load_model

    if not candidate.model.endswith(".onnx"):
        prefix, epoch = checkpoint.parse(candidate.model)
        model = load_model(prefix, epoch, contexts, batch_size, candidate.image_size, network_input)
        return test(data_set, model, batch_size, nfolds), "mxnet"
    backend = backends.load(candidate.model, candidate.image_size, network_input=network_input)
    views, issame = data_set
    embeddings = [backend.embed(view.asnumpy(), batch_size).astype(float) for view in views]
    return judge(embeddings, issame, nfolds), backend.name


test_candidate.__test__ = False  # type: ignore[attr-defined]  # not one of pytest's


def draw_wrong_pairs(name: str, stem: str, data_set: DataSet, result: VerificationResult, nfolds: int) -> None:
    """Draw the pairs that count as wrong in Accuracy-Flip: an image file STEM-KIND.png for each kind of error."""
    from insightface_mx.eval.bad_cases import write_sheet, wrong_pairs

    (images, _), issame = data_set
    kinds = ("false-negatives", "false-positives")
    for kind, pairs in zip(kinds, wrong_pairs(result.unit_embeddings, issame, nfolds)):
        line = f"[{name}]{len(pairs)} {kind} of {len(issame)} pairs"
        if pairs:
            path = f"{stem}-{kind}.png"
            with report_write_errors(path):
                write_sheet(path, images, pairs)
            line += f": {path}"
        say(line)


def write_embeddings(name: str, stem: str, data_set: DataSet, result: VerificationResult) -> None:
    """Write the unit embeddings of image plus mirror image, and the flags, to STEM-embeddings.npz."""
    import numpy as np

    path = f"{stem}-embeddings.npz"
    with report_write_errors(path):
        save_npz(path, {"embeddings": result.unit_embeddings, "issame": np.array(data_set[1], bool)})
    say(f"[{name}]embeddings: {path}")


def find_sets(data_dir: str, target: str) -> list[tuple[str, str]]:
    """Return (name, path) of the sets that exist, in the order of --target.

    Raises:
        UserError: There is none.
    """
    paths = [(name, os.path.join(data_dir, f"{name}.bin")) for name in target.split(",") if name]
    missing = [path for _, path in paths if not os.path.isfile(path)]
    if len(missing) == len(paths):
        raise UserError(f"no verification set: none of {', '.join(missing)} exists; see --data-dir and --target")
    for path in missing:
        note(f"skipped: no file {path}")
    return [(name, path) for name, path in paths if path not in missing]


def all_candidates(args: argparse.Namespace, network_input: NetworkInput) -> list[Candidate]:
    """Return the networks of --model and --also, with the image size of the first one of each option.

    Those of --also have longer tags, so that files of several prefixes do not replace each other.

    Raises:
        UserError: As of `find_candidates`.
    """
    from insightface_mx.embedding.backends import image_size_of

    result = []
    for model, span in ((args.model, args.max), *((model, "") for model in args.also)):
        found = find_candidates(model, span)
        size = args.image_size or image_size_of(found[0].model, network_input)
        for candidate in found:
            stem = os.path.basename(candidate.model.rpartition(",")[0])
            tag = f"{stem}-{candidate.tag}" if stem and model is not args.model else candidate.tag
            result.append(candidate._replace(image_size=size, tag=tag))
    return result


def find_candidates(model: str, span: str) -> list[Candidate]:
    """Return the networks of --model: an ONNX file, the epochs that it names, or all of the prefix, newest first.

    Args:
        model: --model.
        span: --max, which selects from all of the prefix; '': all.

    Raises:
        UserError: There is none, or one that is named does not exist, or --max has nothing to select from.
    """
    named = model.endswith(".onnx") or bool(checkpoint.parse_epochs(model)[1])
    if span and named:
        refuse_idle(["--max"], f"where --model names the networks, as '{model}' does: leave it out")
    if model.endswith(".onnx"):
        return [Candidate(model, model, os.path.splitext(os.path.basename(model))[0])]
    prefix, epochs = checkpoint.parse_epochs(model)
    found = checkpoint.epochs(prefix)[::-1]
    if not epochs:
        epochs = found[slice(*parse_span(span))] if span else found
    missing = [checkpoint.params_path(prefix, epoch) for epoch in epochs if epoch not in found]
    if missing:
        raise UserError(f"checkpoint file {missing[0]} does not exist; see --model")
    if not epochs:
        raise UserError(f"no checkpoint to test: {len(found)} files {prefix}-NNNN.params, --max '{span}'; see --model")
    return [Candidate(f"{prefix},{epoch}", checkpoint.params_path(prefix, epoch), f"{epoch:04d}") for epoch in epochs]


def parse_span(text: str) -> list[int]:
    """Parse the two numbers of --max."""
    if not re.fullmatch(r"\d+,\d+", text):
        raise UserError(f"--max {text}: write a,b, for example 0,3 for the three newest")
    return [int(number) for number in text.split(",")]


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    result = make_parser(__doc__, EXAMPLE)
    add = result.add_argument
    add("--data-dir", required=True, metavar="DIR", help="folder with the verification sets NAME.bin")
    add(
        "--model",
        required=True,
        metavar="PREFIX[,EPOCH[|EPOCH..]]|FILE.onnx",
        help="checkpoints to test (without an epoch: all of the prefix, newest first), or an ONNX file",
    )
    add(
        "--also",
        action="append",
        default=[],
        metavar="MODEL",
        help="another network to test, as --model; may be given several times",
    )
    add("--max", default="", metavar="A,B", help="of all of the prefix, newest first, only A to B-1, counted from 0")
    add(
        "--target",
        default="lfw,cfp_ff,cfp_fp,agedb_30",
        metavar="NAMES",
        help="verification sets, comma separated; one without its .bin is skipped (default: %(default)s)",
    )
    add_device_options(result, gpu=0)
    add("--batch-size", type=types.positive, default=BATCH_SIZE, metavar="N", help="images in one pass")
    add(
        "--image-size",
        type=types.image_size,
        metavar="H,W",
        help="the network's input, pixels (default: from the checkpoint or ONNX file, otherwise 112,112)",
    )
    add("--nfolds", type=types.positive, default=10, metavar="N", help="folds of the cross-validation")
    add(
        "--mode",
        type=int,
        default=PRINT_ACCURACIES,
        choices=range(3),
        help="0: print accuracies; 1: draw the wrongly judged pairs with their distances and thresholds, as "
        "NAME-EPOCH-false-negatives.png and -false-positives.png; 2: write NAME-EPOCH-embeddings.npz with the arrays "
        "embeddings (2n x d, unit length, image plus mirror image) and issame (n) (default: %(default)s)",
    )
    add("--output", default="", metavar="DIR", help="folder for the files of modes 1 and 2 (default: the model's)")
    add(
        "--report",
        default="",
        metavar="FILE.html",
        help="page of all sets and networks: table, curves, thresholds, worst pairs (needs matplotlib)",
    )
    add("--json", default="", metavar="FILE", help="the page's numbers; insightface-compare --calibration takes it")
    add("--csv", default="", metavar="FILE", help="the score of every pair")
    overwrite.add_force_option(result)
    add_options(result, INPUT_GROUP, NetworkInput)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; argv: words of the command line, None for those of the process."""
    run_command(run, parser(), argv)
