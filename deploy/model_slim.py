"""Make a checkpoint that only embeds: drop everything behind the embedding, and the class weights."""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.slim()

import argparse
import os
from typing import TYPE_CHECKING, Sequence

from insightface_mx.base.errors import UserError
from insightface_mx.cli.fields import add_options, read_options
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import say
from insightface_mx.engine.network_input import INPUT_GROUP, USUAL_INPUT, NetworkInput
from insightface_mx.files.lock import lock_file
from insightface_mx.formats import checkpoint, overwrite

if TYPE_CHECKING:
    from insightface_mx.base.compat import Params

EXAMPLE = "insightface-slim --model model/r50,12    # writes model/r50s-symbol.json and model/r50s-0000.params"


def run(args: argparse.Namespace) -> None:
    """Slim the checkpoint and print its size before and after."""
    prefix, epoch = checkpoint.parse(args.model)
    slimmed = checkpoint.params_path(slim(prefix, epoch, read_options(args, NetworkInput), args.force), 0)
    before = os.path.getsize(checkpoint.params_path(prefix, epoch))
    say(f"{slimmed}: {os.path.getsize(slimmed) / 1e6:.1f} MB, before {before / 1e6:.1f} MB")


def slim(prefix: str, epoch: int, network_input: NetworkInput = USUAL_INPUT, force: bool = False) -> str:
    """Write PREFIXs-symbol.json, PREFIXs-0000.params and their manifest PREFIXs-0000.json; return the new prefix.

    The manifest holds the image size, where it is known, and how the network takes images, where it is not from here.

    Raises:
        UserError: The checkpoint is missing or damaged, has no embedding, or lacks some of its parameters.
    """
    from insightface_mx.engine import face_network

    output = f"{prefix}s"
    overwrite.refuse_needed_checkpoint(output, 0, force)
    with lock_file(output):
        part = face_network.cut(prefix, epoch, given=network_input)
        arguments = [name for name in part.graph.list_arguments() if name != face_network.DATA]
        path = checkpoint.params_path(prefix, epoch)
        kept_arguments = _select(path, arguments, part.arg_params)
        kept_states = _select(path, part.graph.list_auxiliary_states(), part.aux_params)
        network = (part.graph, kept_arguments, kept_states)
        overwrite.save_checkpoint(output, 0, network, face_network.input_metadata(part), force)
    return output


def _select(path: str, names: Sequence[str], params: Params) -> Params:
    """Return the parameters of these names."""
    missing = [name for name in names if name not in params]
    if missing:
        raise UserError(f"{path} lacks {missing[0]}, which its symbol needs: it belongs to another network")
    return {name: params[name] for name in names}


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    result = make_parser(__doc__, EXAMPLE)
    result.add_argument("--model", required=True, metavar="PREFIX,EPOCH", help="the checkpoint, e.g. ../model/r50,12")
    overwrite.add_force_option(result)
    add_options(result, INPUT_GROUP, NetworkInput)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; argv: words of the command line, None for those of the process."""
    run_command(run, parser(), argv)
