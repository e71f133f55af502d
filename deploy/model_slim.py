"""Make a checkpoint that only embeds: drop everything behind the embedding fc1, and the class weights."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Sequence

from insightface_mx.base.errors import UserError
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import say
from insightface_mx.formats import checkpoint

if TYPE_CHECKING:
    from insightface_mx.base.compat import Params

EXAMPLE = "insightface-slim --model model/r50,12    # writes model/r50s-symbol.json and model/r50s-0000.params"


def run(args: argparse.Namespace) -> None:
    """Slim the checkpoint and print its size before and after."""
    prefix, epoch = checkpoint.parse(args.model)
    slimmed = checkpoint.params_path(slim(prefix, epoch), 0)
    before = os.path.getsize(checkpoint.params_path(prefix, epoch))
    say(f"{slimmed}: {os.path.getsize(slimmed) / 1e6:.1f} MB, before {before / 1e6:.1f} MB")


def slim(prefix: str, epoch: int) -> str:
    """Write PREFIXs-symbol.json and PREFIXs-0000.params, and return the new prefix.

    Raises:
        UserError: The checkpoint is missing or damaged, has no embedding, or lacks some of its parameters.
    """
    from insightface_mx.engine.network import embedding_of

    symbol, arg_params, aux_params = checkpoint.load(prefix, epoch)
    embedding = embedding_of(symbol, prefix)
    arguments = [name for name in embedding.list_arguments() if name != "data"]
    path = checkpoint.params_path(prefix, epoch)
    kept_arguments = _select(path, arguments, arg_params)
    kept_states = _select(path, embedding.list_auxiliary_states(), aux_params)
    checkpoint.save(f"{prefix}s", 0, embedding, kept_arguments, kept_states)
    return f"{prefix}s"


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
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; argv: words of the command line, None for those of the process."""
    run_command(run, parser(), argv)


if __name__ == "__main__":
    main()
