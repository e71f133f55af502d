"""Make a checkpoint that only embeds: drop everything behind the embedding fc1, and the class weights.

python model_slim.py --model ../model/r50,12        writes ../model/r50s-symbol.json and ../model/r50s-0000.params
"""

import argparse
import os

from insightface_mx.base.errors import UserError, exit_on_user_error
from insightface_mx.engine.network import embedding_of
from insightface_mx.formats import checkpoint


def slim(prefix, epoch):
    """Write PREFIXs-symbol.json and PREFIXs-0000.params; returns the new prefix.

    UserError: a checkpoint that is missing or damaged, has no embedding or lacks some of its weights.
    """
    symbol, arg_params, aux_params = checkpoint.load(prefix, epoch)
    embedding = embedding_of(symbol, prefix)
    arguments = [name for name in embedding.list_arguments() if name != "data"]
    path = checkpoint.params_path(prefix, epoch)
    kept = [
        _kept(path, names, params)
        for names, params in ((arguments, arg_params), (embedding.list_auxiliary_states(), aux_params))
    ]
    checkpoint.save(f"{prefix}s", 0, embedding, *kept)
    return f"{prefix}s"


def _kept(path, names, params):
    missing = [name for name in names if name not in params]
    if missing:
        raise UserError(f"{path} lacks {missing[0]}, which its symbol needs: it belongs to another network")
    return {name: params[name] for name in names}


def main(argv=None):
    """Run the command; exit status 2 with a message for what the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="PREFIX,EPOCH", help="the checkpoint, e.g. ../model/r50,12")
    args = parser.parse_args(argv)
    with exit_on_user_error():
        prefix, epoch = checkpoint.parse(args.model)
        slimmed = checkpoint.params_path(slim(prefix, epoch), 0)
    before = os.path.getsize(checkpoint.params_path(prefix, epoch))
    print(f"{slimmed}: {os.path.getsize(slimmed) / 1e6:.1f} MB, before {before / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
