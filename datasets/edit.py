"""Make a training set from others; identities are numbered again, and the sets that are read stay as they are.

What is dropped is listed in OUTPUT/dropped.csv: record or identity (its label), and why.
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.edit_set()

import argparse
import logging
import os
from typing import TYPE_CHECKING, Callable, List, Sequence, Tuple

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.cli.device import add_device_options
from insightface_mx.cli.fields import add_options, read_options
from insightface_mx.cli.main import add_version, make_parser, parser_settings, run_command
from insightface_mx.cli.output import start_logging
from insightface_mx.cli.types import Range, Size, image_size, number, positive, size_text
from insightface_mx.datasets.join import Embed, Member, centre, centres, embed_others, join_identities
from insightface_mx.datasets.skipped import report_skipped
from insightface_mx.engine.network_input import INPUT_GROUP, NetworkInput
from insightface_mx.files.atomic import report_write_errors
from insightface_mx.files.lock import lock_folder
from insightface_mx.formats.training_set import LazyImages, TrainingSet, refuse_existing, write_training_set
from insightface_mx.photos.lists import Skipped, write_csv

if TYPE_CHECKING:
    from insightface_mx.embedding.embedder import Embedder

EXAMPLE = """
insightface-edit-set merge data mine --output both
insightface-edit-set merge data mine --model model/r50,1 --join-cosine 0.6 --output joined
insightface-edit-set filter data --min-images 10 --output large
insightface-edit-set clean data --model model/r50,1 --min-cosine 0.3 --output clean
insightface-edit-set exclude data --model model/r50,1 --from data/lfw.bin photos --max-cosine 0.5 --output disjoint
"""
_DATA_DIR = "folder with train.rec, train.idx and property"

cosine = number(float, Range("from -1 to 1", lambda value: -1 <= value <= 1))
Selection = Tuple[List[np.ndarray], Skipped]  # record ids of the images that stay, by identity; what is dropped


def check_sizes(sets: Sequence[TrainingSet]) -> None:
    """Raise UserError where the images of the sets have different sizes."""
    sizes = sorted({data.image_size for data in sets})
    if len(sizes) > 1:
        names = " and ".join(size_text(size) for size in sizes)
        raise UserError(f"the sets have images of {names} (height,width): build them with the same --image-size")


def select_by_count(data: TrainingSet, min_images: int, max_images: int | None) -> Selection:
    """Select the identities with at least `min_images` images, and of each the first `max_images` images."""
    kept = [images[:max_images] for images in data.identities if len(images) >= min_images]
    dropped = [
        (f"identity {identity}", f"{len(images)} images, --min-images is {min_images}")
        for identity, images in zip(data.labels.tolist(), data.identities)
        if len(images) < min_images
    ]
    return kept, dropped


def select_near_centre(data: TrainingSet, embed: Embed, min_cosine: float) -> Selection:
    """Select of every identity the images whose embedding has at least `min_cosine` to the identity's centre."""
    kept, dropped = [], []
    for identity, images in zip(data.labels.tolist(), data.identities):
        embeddings = embed(LazyImages(data.image, images.tolist()))
        cosines = embeddings @ centre(embeddings)
        kept.append(images[cosines >= min_cosine])
        dropped += [
            (f"record {record_id}", f"cosine {cosine:.3f} to the centre of identity {identity}")
            for record_id, cosine in zip(images.tolist(), cosines)
            if cosine < min_cosine
        ]
    return kept, dropped


def select_disjoint(data: TrainingSet, embed: Embed, others: np.ndarray, max_cosine: float) -> Selection:
    """Select the identities that are not among others: none of these is near the identity's centre.

    Args:
        data: The training set.
        embed: Makes embeddings.
        others: Unit embeddings of images or identities, (n, d).
        max_cosine: The largest cosine between an identity's centre and another embedding.
    """
    kept, dropped = [], []
    for identity, images, own in zip(data.labels.tolist(), data.identities, centres(data, embed)):
        nearest = (others @ own).max()
        if nearest <= max_cosine:
            kept.append(images)
        else:
            dropped.append((f"identity {identity}", f"cosine {nearest:.3f} to an image or identity of --from"))
    return kept, dropped


def write_selection(output: str, data: TrainingSet, selection: Selection, limit: str) -> None:
    """Write the selected images as a training set, and dropped.csv.

    Args:
        output: Folder to write.
        data: The set that the images are from.
        selection: What stays and what is dropped.
        limit: The option that decided, named where no identity is left.

    Raises:
        UserError: No identity is left, or the folder cannot be written.
    """
    kept, dropped = selection
    images = [LazyImages(data.image, record_ids.tolist()) for record_ids in kept if len(record_ids)]
    if not images:
        raise UserError(f"no identity of {data.folder} would be left: choose another {limit}")
    _write(output, images, data.image_size, data.unusable + dropped)


def _write(output: str, images: Sequence[LazyImages], image_size: Size, dropped: Skipped) -> None:
    write_training_set(output, images, image_size)
    logging.info("%d images of %d identities in %s", sum(map(len, images)), len(images), output)
    report_skipped(os.path.join(output, "dropped.csv"), dropped)


def _embedder(args: argparse.Namespace, data: TrainingSet) -> Embedder:
    from insightface_mx.embedding.embedder import Embedder
    from insightface_mx.formats import checkpoint

    network_input = read_options(args, NetworkInput)
    size = args.image_size or checkpoint.saved_image_size(*checkpoint.parse(args.model)) or data.image_size
    return Embedder(args.model, size, args.ctx, backend="mxnet", network_input=network_input)


def _joined(sets: Sequence[TrainingSet], args: argparse.Namespace) -> list[list[Member]]:
    """Return the identities that make up each new one, and write those that are joined to OUTPUT/joined.csv."""
    embed = _embedder(args, sets[0]).encoded
    groups, joined = join_identities([centres(data, embed) for data in sets], args.join_cosine)
    rows: list[Sequence[object]] = [("identity", "set", "joined_with", "of_set", "cosine")]
    for found in joined:
        named = [(sets[member.data].labels[member.identity], sets[member.data].folder) for member in found[:2]]
        rows.append((*named[0], *named[1], f"{found.cosine:.4f}"))
    path = os.path.join(args.output, "joined.csv")
    with report_write_errors(path):
        write_csv(path, rows)
    logging.info("%d identities joined with one of another set, listed in %s", len(joined), path)
    return groups


def run_merge(args: argparse.Namespace) -> None:
    """Write all identities of several sets; --model and --join-cosine join those that the sets have in common."""
    if (args.model is None) != (args.join_cosine is None):
        raise UserError("--join-cosine needs --model, and --model has no effect without --join-cosine")
    if args.model is None and (args.image_size or args.ctx or read_options(args, NetworkInput).given()):
        raise UserError("options of the network have no effect without --model and --join-cosine")
    if args.model and len(args.data_dirs) < 2:
        raise UserError("--join-cosine joins identities of different sets: give two or more")
    sets = [TrainingSet(folder) for folder in args.data_dirs]
    check_sizes(sets)
    if args.model:
        groups = _joined(sets, args)
    else:
        groups = [[Member(i, identity)] for i, data in enumerate(sets) for identity in range(len(data.identities))]

    def read(place: tuple[int, int]) -> bytes:
        return sets[place[0]].image(place[1])

    images = []
    for group in groups:
        members = [(i, sets[i].identities[identity].tolist()) for i, identity in group]
        images.append(LazyImages(read, [(i, record_id) for i, record_ids in members for record_id in record_ids]))
    dropped = [(f"{data.folder}: {name}", reason) for data in sets for name, reason in data.unusable]
    _write(args.output, images, sets[0].image_size, dropped)


def run_filter(args: argparse.Namespace) -> None:
    """Write the identities with enough images; of those with too many the first images."""
    data = TrainingSet(args.data_dir)
    selection = select_by_count(data, args.min_images, args.max_images)
    write_selection(args.output, data, selection, f"--min-images than {args.min_images}")


def run_clean(args: argparse.Namespace) -> None:
    """Write every identity's images whose embedding is near the identity's centre."""
    data = TrainingSet(args.data_dir)
    selection = select_near_centre(data, _embedder(args, data).encoded, args.min_cosine)
    write_selection(args.output, data, selection, f"--min-cosine than {args.min_cosine}")


def run_exclude(args: argparse.Namespace) -> None:
    """Write the identities that are not in other sets, folders or lists: nothing there is near their centre."""
    data = TrainingSet(args.data_dir)
    embedder = _embedder(args, data)
    others = np.concatenate([embed_others(path, embedder) for path in args.others])
    selection = select_disjoint(data, embedder.encoded, others, args.max_cosine)
    write_selection(args.output, data, selection, f"--max-cosine than {args.max_cosine}")


def run(args: argparse.Namespace) -> None:
    """Run the sub-command."""
    start_logging()
    with lock_folder(args.output):
        refuse_existing(args.output)
        args.run(args)


def _add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], None],
) -> argparse.ArgumentParser:
    """Add a sub-command with --output; the docstring of `run` is its help."""
    lines = [line for line in EXAMPLE.splitlines() if line.startswith(f"insightface-edit-set {name} ")]
    parser = commands.add_parser(name, help=run.__doc__, **parser_settings(run.__doc__, "\n".join(lines)))
    add_version(parser)
    parser.set_defaults(run=run)
    parser.add_argument("--output", required=True, help="folder to write, a new one")
    return parser


def _add_network(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument(
        "--model", required=required, metavar="PREFIX,EPOCH", help="checkpoint of a network that tells identities apart"
    )
    parser.add_argument(
        "--image-size",
        type=image_size,
        metavar="H,W",
        help="the network's input in pixels (default: from the checkpoint, otherwise the set's)",
    )
    add_device_options(parser)
    add_options(parser, INPUT_GROUP, NetworkInput)


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__, EXAMPLE)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    merge = _add_command(commands, "merge", run_merge)
    merge.add_argument("data_dirs", nargs="+", metavar="data_dir", help="folders of training sets")
    merge.add_argument(
        "--join-cosine",
        type=cosine,
        help="join an identity with the nearest one of the sets before, if their centres have at least this cosine",
    )
    _add_network(merge, required=False)

    by_count = _add_command(commands, "filter", run_filter)
    by_count.add_argument("data_dir", help=_DATA_DIR)
    by_count.add_argument("--min-images", type=positive, default=1, help="minimum images of an identity")
    by_count.add_argument("--max-images", type=positive, help="keep only the first N images of larger identities")

    clean = _add_command(commands, "clean", run_clean)
    clean.add_argument("data_dir", help=_DATA_DIR)
    clean.add_argument("--min-cosine", type=cosine, required=True, help="smallest cosine to the centre, -1 to 1")
    _add_network(clean)

    exclude = _add_command(commands, "exclude", run_exclude)
    exclude.add_argument("data_dir", help=_DATA_DIR)
    exclude.add_argument("--max-cosine", type=cosine, required=True, help="largest cosine to one of --from, -1 to 1")
    exclude.add_argument(
        "--from",
        nargs="+",
        required=True,
        dest="others",
        metavar="PATH",
        help="verification sets (.bin), training sets, .rec files, folders or lists of aligned faces",
    )
    _add_network(exclude)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    run_command(run, _make_parser(), argv)
