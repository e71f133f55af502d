"""Whether a run may go on from a saved state under the options that it is given now."""

import logging
import os

from insightface_mx.base.errors import UserError
from insightface_mx.cli.types import size_text
from insightface_mx.formats import manifest

# Options that may differ: they change what is shown, tested or saved, where it runs and when it ends. The seed, the
# batch and the data are compared as the facts that they stand for.
FREE = frozenset(
    "data_dir per_batch_size seed target prefix ckpt verbose max_steps end_epoch ctx workers tensorboard keep "
    "save_every resume override on_nan on_bad_record memory_report".split()
)


def agreed_facts(args, command, data, contexts, saved):
    """What a state remembers, in JSON's types, of the run that it belongs to; checked against the saved State, if any.

    data: the FaceImageIter. Raises UserError as `check` does.
    """
    given = {
        "command": command,
        "options": {
            name: size_text(value) if name == "image_size" else value
            for name, value in vars(args).items()
            if name not in FREE
        },
        "seed": args.seed,
        "batch_size": data.batch_size,
        "images": len(data.images),
        "bytes": os.path.getsize(data.records.path),
        "classes": data.num_classes,
        "contexts": len(contexts),
    }
    if saved:
        check(saved.facts, given, args.override)
    return given


def check(saved, given, override):
    """Refuse to go on where the facts of the run that saved and of the one that is to go on contradict each other.

    Raises UserError naming each with both values, or with `override` only says so in the log. Another number of
    contexts and other versions of packages are always allowed, and logged.
    """
    differing = _differing(saved, given)
    if differing and not override:
        raise UserError(
            f"--resume: the saved run had {'; '.join(differing)}. Give its values, or --override to go on with the new "
            "ones, or another --prefix"
        )
    for text in differing:
        logging.warning("--override: the saved run had %s", text)
    if saved["contexts"] != given["contexts"]:
        logging.info(
            "saved on %d contexts, going on with %d: the same batches in the same order",
            saved["contexts"],
            given["contexts"],
        )
    for name, version in manifest.versions().items():
        if saved["versions"].get(name) != version:
            logging.info("saved with %s %s, going on with %s", name, saved["versions"].get(name), version)


def _differing(saved, given):
    """Descriptions of what differs."""
    kinds = {
        "command": "command",
        "seed": "--seed",
        "batch_size": "a total batch of",
        "images": "images in train.rec:",
        "bytes": "bytes in train.rec:",
        "classes": "classes in property:",
    }
    before, now = ({text: of[name] for name, text in kinds.items()} for of in (saved, given))
    for values, of in ((before, saved), (now, given)):
        values.update((f"--{name.replace('_', '-')}", value) for name, value in of["options"].items())
    return [
        f"{text} {before.get(text)} (now {now.get(text)})"
        for text in {**before, **now}
        if before.get(text) != now.get(text)
    ]
