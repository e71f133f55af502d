"""Search for inputs that break the rule, guided by which lines of a reader they reach (atheris). Run it by hand.

    pip install atheris                                   # Python 3.11 or older
    cd tests && PYTHONPATH=../build/tree:. python -m hostile.fuzz bin 120
    cd tests && PYTHONPATH=../build/tree:. python -m hostile.fuzz bin 0 found/crash-0a1b   # one input again

The words are a reader of READERS and seconds. The search starts from the good files and cases of the corpus. It ends at
the first input for which a reader raises anything but UserError, dies, needs more than 20 s or 3 GB: the input is
written to the folder `found`. Exit status 0: nothing was found.
"""

from __future__ import annotations

import os
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Callable, NamedTuple

import atheris

with atheris.instrument_imports(
    include=["insightface_mx", "pickle", "pickletools", "zipfile", "yaml"], enable_loader_override=False
):
    from hostile.corpus import GROUPS
    from hostile.rule import prepared

    from insightface_mx.base.errors import UserError
    from insightface_mx.cli.config import read_config
    from insightface_mx.deploy.compare import calibrated_threshold
    from insightface_mx.detection import weights
    from insightface_mx.files import manifest, safe_pickle
    from insightface_mx.formats import checkpoint
    from insightface_mx.formats.recordio import find_offsets
    from insightface_mx.formats.training_set import TrainingSet, read_property
    from insightface_mx.formats.verification_set import read_bin
    from insightface_mx.onnx_files import file as onnx_file
    from insightface_mx.options import SoftmaxOptions
    from insightface_mx.photos import decode, lists, pair_lists
    from insightface_mx.presets import PRESETS

SEEDS = 150  # cases that the search starts from
MOST_MEGABYTES, MOST_SECONDS = 3000, 20


class Reader(NamedTuple):
    """Reads a file in a folder of good files; group: whose good files and cases; name: of the file."""

    group: str
    name: str
    read: Callable[[Path], object]


def _training_set(path: Path) -> None:
    data = TrainingSet(str(path.parent))
    for identity in data.identities[:20]:
        data.image(int(identity[0]))


def _manifest(path: Path) -> None:
    try:
        manifest.read(str(path))
    except manifest.Damaged:
        checkpoint.saved_image_size(str(path.parent / "net"), 1)


def _photo(path: Path) -> None:
    decode.decode_record(path.read_bytes())
    decode.read_photo(str(path))


def _arrays(path: Path) -> None:
    try:
        weights.read_arrays(path.read_bytes())
    except safe_pickle.DAMAGE:
        pass  # `weights.load` makes them a UserError


READERS = {
    "bin": Reader("verification sets", "toy.bin", lambda path: read_bin(str(path))),
    "rec": Reader("training sets", "train.rec", _training_set),
    "idx": Reader("training sets", "train.idx", _training_set),
    "offsets": Reader("training sets", "train.rec", lambda path: find_offsets(str(path))),
    "property": Reader("training sets", "property", lambda path: read_property(str(path.parent))),
    "symbol": Reader("symbols", "net-symbol.json", lambda path: checkpoint.load_symbol(str(path))),
    "params": Reader("params", "net-0001.params", lambda path: checkpoint.load_arrays(str(path))),
    "manifest": Reader("manifests", "net-0001.json", _manifest),
    "npz": Reader("calibration", "lfw-0001-embeddings.npz", lambda path: calibrated_threshold(str(path), 0.1, 16)),
    "onnx": Reader("onnx", "net.onnx", lambda path: onnx_file.load(str(path))),
    "photo": Reader("images", "good.jpg", _photo),
    "lst": Reader("lists", "boxes.lst", lambda path: lists.read_list(str(path), None, True)),
    "csv": Reader("lists", "list.csv", lambda path: lists.read_list(str(path), None, True)),
    "lfw": Reader("lists of pairs", "pairs.txt", lambda path: pair_lists.read("lfw", str(path), None)),
    "pairs": Reader("lists of pairs", "pairs.csv", lambda path: pair_lists.read("plain", str(path), None)),
    "yaml": Reader("config", "run.yml", lambda path: read_config(str(path), SoftmaxOptions, PRESETS)),
    "json": Reader("config", "run.json", lambda path: read_config(str(path), SoftmaxOptions, PRESETS)),
    "mtcnn": Reader("mtcnn", "mtcnn/assets/weights/pnet.lz4", _arrays),
}


def main() -> None:
    name, seconds, *inputs = sys.argv[1:]
    reader = READERS[name]
    (group,) = [group for group in GROUPS if group.name == reader.group]
    base = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    cases = prepared(group, base / "good")
    path, seeds = base / "good" / reader.name, base / "seeds"
    seeds.mkdir()
    (seeds / "good").write_bytes(path.read_bytes())
    for index, case in enumerate(islice(cases, 0, None, max(1, len(cases) // SEEDS))):
        folder = base / f"case{index}"
        folder.mkdir()
        case.make(folder)
        made = folder / reader.name
        if made.is_file() and not made.is_symlink() and made.stat().st_size < 1 << 16:
            (seeds / str(index)).write_bytes(made.read_bytes())

    def try_input(content: bytes) -> None:
        path.write_bytes(content)
        try:
            reader.read(path)
        except UserError:
            pass

    found = Path("found").resolve()
    found.mkdir(exist_ok=True)
    options = [f"-rss_limit_mb={MOST_MEGABYTES}", f"-timeout={MOST_SECONDS}", f"-artifact_prefix={found}/{name}-"]
    words = inputs or [f"-max_total_time={seconds}", "-max_len=65536", str(seeds)]
    atheris.Setup([sys.argv[0], *options, *words], try_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
