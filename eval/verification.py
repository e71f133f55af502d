"""Test face recognition checkpoints on verification sets.

python verification.py --data-dir ../data --model ../model/model,1
python verification.py --data-dir ../data --model '../model/model,1|2|5' --target lfw
python verification.py --data-dir ../data --model ../model/model --max 0,3
"""

import argparse
import contextlib
import os
import re
import sys

import numpy as np
from tqdm import tqdm

from insightface_mx.base.errors import UserError, exit_on_user_error
from insightface_mx.cli import types
from insightface_mx.engine.denormals import flush_in_threads
from insightface_mx.engine.devices import get_contexts
from insightface_mx.engine.network import BATCH_SIZE, load_model
from insightface_mx.eval import roc
from insightface_mx.eval.bad_cases import write_sheet, wrong_pairs
from insightface_mx.eval.pairs import load_bin, result_lines, test
from insightface_mx.eval.roc import evaluate
from insightface_mx.formats import checkpoint

__all__ = ["evaluate", "load_bin", "main", "test"]  # `import verification` offers the first three to other programs


def verify(args):
    """Test every checkpoint on every set and do with each result what --mode says."""
    image_size = args.image_size
    sets = find_sets(args.data_dir, args.target)
    prefix, epochs = find_checkpoints(args.model, args.max)
    folder = args.output or os.path.dirname(prefix) or "."
    with writing(folder):
        os.makedirs(folder, exist_ok=True)
    use = (print_result, write_bad_cases, write_embeddings)[args.mode]
    contexts = get_contexts(f"gpu-or-cpu:{args.gpu}" if args.gpu >= 0 else "cpu")
    flush_in_threads(contexts)
    if contexts[0].device_type == "cpu":
        note("on the CPU" if args.gpu < 0 else f"no GPU {args.gpu}: on the CPU")
    for name, path in sets:
        data_set = load_bin(path, image_size)
        accuracies = []
        for epoch in epochs:
            note(f"{checkpoint.params_path(prefix, epoch)} on {path}")
            model = load_model(prefix, epoch, contexts, args.batch_size, image_size)
            result = test(data_set, model, args.batch_size, args.nfolds)
            accuracies.append(result[2])
            use(name, os.path.join(folder, f"{name}-{epoch:04d}"), data_set, result, args.nfolds)
        if use is print_result:
            say(f"Max of [{name}] is {max(accuracies):.5f}")


def print_result(name, stem, data_set, result, nfolds):
    """Mode 0: XNorm, accuracy without and with the mirror images."""
    for line in result_lines(name, result):
        say(line)


def write_bad_cases(name, stem, data_set, result, nfolds):
    """Mode 1: the pairs that count as wrong in Accuracy-Flip, one image file for each kind of error."""
    (images, _), issame = data_set
    kinds = ("false-negatives", "false-positives")
    for kind, pairs in zip(kinds, wrong_pairs(unit_embeddings(result), issame, nfolds)):
        path = f"{stem}-{kind}.png"
        if pairs:
            with writing(path):
                write_sheet(path, images, pairs)
        say(f"[{name}]{len(pairs)} {kind} of {len(issame)} pairs" + f": {path}" * bool(pairs))


def write_embeddings(name, stem, data_set, result, nfolds):
    """Mode 2: the unit embeddings of image plus mirror image, and the flags."""
    path = f"{stem}-embeddings.npz"
    with writing(path):
        np.savez(path, embeddings=unit_embeddings(result), issame=np.array(data_set[1], bool))
    say(f"[{name}]embeddings: {path}")


@contextlib.contextmanager
def writing(path):
    """Turn a failure to write `path` into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; give another --output") from error


def unit_embeddings(result):
    """(2n, d) unit vectors, of which distances are taken, from what `test` returned."""
    return roc.normalize(sum(result[-1]))


def find_sets(data_dir, target):
    """(name, path) of the sets that exist, in the order of --target."""
    paths = [(name, os.path.join(data_dir, f"{name}.bin")) for name in target.split(",") if name]
    missing = [path for _, path in paths if not os.path.isfile(path)]
    if len(missing) == len(paths):
        raise UserError(f"no verification set: none of {', '.join(missing)} exists; see --data-dir and --target")
    for path in missing:
        note(f"skipped: no file {path}")
    return [(name, path) for name, path in paths if path not in missing]


def find_checkpoints(model, span):
    """Prefix and epochs of --model; where it names no epochs, all that exist, newest first, cut by --max."""
    named = re.fullmatch(r"(.+),(\d+(?:\|\d+)*)", model)
    prefix = named.group(1) if named else model
    found = checkpoint.epochs(prefix)[::-1]
    if named:
        epochs = [int(epoch) for epoch in named.group(2).split("|")]
    else:
        epochs = found[slice(*parse_span(span))] if span else found
    missing = [checkpoint.params_path(prefix, epoch) for epoch in epochs if epoch not in found]
    if missing:
        raise UserError(f"checkpoint file {missing[0]} does not exist; see --model")
    if not epochs:
        raise UserError(f"no checkpoint to test: {len(found)} files {prefix}-NNNN.params, --max '{span}'; see --model")
    return prefix, epochs


def parse_span(text):
    """The two numbers of --max."""
    if not re.fullmatch(r"\d+,\d+", text):
        raise UserError(f"--max {text}: write a,b, for example 0,3 for the three newest")
    return [int(number) for number in text.split(",")]


def say(line):
    """Print a result, without tearing a progress bar."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def note(line):
    """Print what is no result, to standard error."""
    tqdm.write(line, file=sys.stderr)


def positive(text):
    """A whole number above 0."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)


def parser():
    """The command's options."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("--data-dir", required=True, metavar="DIR", help="folder with the verification sets NAME.bin")
    add(
        "--model",
        required=True,
        metavar="PREFIX[,EPOCH[|EPOCH..]]",
        help="checkpoints to test; without an epoch: all of the prefix's, newest first",
    )
    add("--max", default="", metavar="A,B", help="of all the prefix's, newest first, only numbers A to B-1, from 0")
    add(
        "--target",
        default="lfw,cfp_ff,cfp_fp,agedb_30",
        metavar="NAMES",
        help="verification sets, comma separated; one without its .bin is skipped (default: %(default)s)",
    )
    add("--gpu", type=int, default=0, metavar="N", help="GPU number; -1, or no such GPU: CPU (default: %(default)s)")
    add(
        "--batch-size", type=positive, default=BATCH_SIZE, metavar="N", help="images in one pass (default: %(default)s)"
    )
    add(
        "--image-size",
        type=types.image_size,
        default="112,112",
        metavar="H,W",
        help="the network's input, pixels (default: %(default)s)",
    )
    add("--nfolds", type=positive, default=10, metavar="N", help="folds of the cross-validation (default: %(default)s)")
    add(
        "--mode",
        type=int,
        default=0,
        choices=range(3),
        help="0: print accuracies; 1: draw the wrongly judged pairs with their distances and thresholds, as "
        "NAME-EPOCH-false-negatives.png and -false-positives.png; 2: write NAME-EPOCH-embeddings.npz with the arrays "
        "embeddings (2n x d, unit length, image plus mirror image) and issame (n) (default: %(default)s)",
    )
    add("--output", default="", metavar="DIR", help="folder for the files of modes 1 and 2 (default: the model's)")
    return result


def main(argv=None):
    """Run the command; exit status 2 with a message for what the user can mend."""
    args = parser().parse_args(argv)
    with exit_on_user_error():
        verify(args)


if __name__ == "__main__":
    main()
