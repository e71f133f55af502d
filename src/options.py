"""Options of the training commands: names, types and defaults of the original, as typed groups.

The optimiser's and the run's are in training/options.py.
"""

# no `from __future__ import annotations`: the types of the fields make the parser, on Python 3.8 too

import argparse
import dataclasses
from typing import Any, Mapping, Optional, Type, TypeVar, get_type_hints

from insightface_mx.cli.config import ConfigParser
from insightface_mx.cli.device import add_device_options
from insightface_mx.cli.fields import add_options, option, read_options
from insightface_mx.cli.main import make_parser
from insightface_mx.cli.types import (
    AT_LEAST_ONE,
    FINITE,
    NOT_NEGATIVE,
    POSITIVE,
    ZERO_OR_ONE,
    ZERO_TO_LESS_THAN_ONE,
    ZERO_TO_ONE,
    ZERO_TO_TWO,
    Range,
    Size,
    image_size,
)
from insightface_mx.presets import PRESETS
from insightface_mx.symbols.later import config as later_config
from insightface_mx.training.options import OptimiserOptions, RunOptions

DEFAULT_BATCH = 128  # images a device, for --per-batch-size 0
BY_LOSS = Range("see below", FINITE.holds)  # losses.LOSSES holds the ranges of each type


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Images to train on, how they are augmented, and the sets to test on."""

    data_dir: str = option("", "folder with train.rec, train.idx, property and the .bin sets", may_change=True)
    image_size: Size = option((112, 112), "height,width of the network's input, in pixels", parse=image_size)
    per_batch_size: int = option(128, "images a batch and device (0: 128)", allowed=NOT_NEGATIVE, may_change=True)
    rand_mirror: int = option(1, "1: mirror each image with probability 1/2", allowed=ZERO_OR_ONE)
    cutoff: int = option(
        0, "side in pixels of a square to blank out with probability 1/2 (0: off)", allowed=NOT_NEGATIVE
    )
    color: int = option(
        0,
        "1: jitter brightness, contrast, saturation; 2: JPEG compression with probability 1/2 too",
        allowed=ZERO_TO_TWO,
    )
    images_filter: int = option(0, "leave out identities with fewer images", allowed=NOT_NEGATIVE)
    on_bad_record: str = option(
        "skip",
        "a record that cannot be used; skip: use the nearest good one, while few are bad; stop: end with an error",
        choices=("skip", "stop"),
        may_change=True,
    )
    target: str = option(
        "lfw,cfp_fp,agedb_30",
        "verification sets NAME.bin in the data folder; missing ones are skipped",
        may_change=True,
    )
    workers: int = option(0, "threads that decode images (0: one a CPU)", allowed=NOT_NEGATIVE, may_change=True)

    @property
    def batch_per_device(self) -> int:
        """Images a batch and device."""
        return self.per_batch_size or DEFAULT_BATCH


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """The network from image to embedding; see symbols/."""

    network: str = option("r50", "letter and depth: r50, r100, y1, ...; insightface-networks lists all")
    emb_size: int = option(512, "length of the embedding", allowed=AT_LEAST_ONE)
    version_se: int = option(0, "1: squeeze-and-excitation in every unit", allowed=ZERO_OR_ONE)
    version_input: int = option(
        1, "stem; 0: 7x7 stride 2 and pooling, 1: 3x3, 2: 3x3 after a batch norm", allowed=ZERO_TO_TWO
    )
    version_output: str = option(
        "E",
        "layers from the last feature map to the embedding: E F G H I J FC SFC Z GAP GNAP GDC A B C D AX BX CX DX; E "
        "is the paper's, GDC MobileFaceNet's",
    )
    version_unit: int = option(3, "residual unit; 3 is the paper's IR unit", allowed=AT_LEAST_ONE)
    version_act: str = option("prelu", "activation: prelu relu sigmoid softrelu softsign tanh")
    version_multiplier: float = option(
        1.0,
        "width: filters of m1, mnas and vargfacenet, channels between the blocks of y, times this; t: 1 or 4",
        allowed=POSITIVE,
    )
    version_blocks: str = option("", "y1: blocks in each of the four stages, for example 2,8,16,4 (default: 1,4,6,2)")
    version_family: int = option(
        2018,
        "code whose network it is, where both have the name: 2021 for r101, r124, r152, r200, r269 with basic units, "
        "for Gluon's d121 to d201, and for --version-act in y1, y2, m1 and in the output layers",
        choices=(2018, 2021),
    )
    densenet_dropout: float = option(
        0.0, "d121 to d201 of --version-family 2021: fraction dropped behind each unit", allowed=ZERO_TO_LESS_THAN_ONE
    )
    use_deformable: int = option(0, "no effect, as in the original", allowed=FINITE)
    bn_mom: float = option(0.9, "momentum of the batch norms' moving averages", allowed=ZERO_TO_ONE)


@dataclasses.dataclass(frozen=True)
class LossOptions:
    """The class weights, the margin and the loss; see losses.py."""

    loss_type: int = option(
        4,
        "0 softmax, 1 SphereFace, 2 CosFace, 4 ArcFace, 5 combined margin, 6 and 7 ArcFace with intra or inter loss",
        allowed=BY_LOSS,
    )
    margin_m: float = option(0.5, "margin: radians, for CosFace a cosine", allowed=BY_LOSS)
    margin_s: float = option(64.0, "scale of the logits", allowed=BY_LOSS)
    margin_a: float = option(1.0, "combined margin: cos(a t + m) - b", allowed=BY_LOSS)
    margin_b: float = option(
        0.0, "combined margin: see --margin-a; types 6 and 7: weight of the extra loss", allowed=BY_LOSS
    )
    easy_margin: int = option(0, "1: ArcFace's margin only where cos t > 0", allowed=ZERO_OR_ONE)
    margin: int = option(4, "SphereFace: multiplier of the angle", allowed=BY_LOSS)
    beta: float = option(1000.0, "SphereFace: first weight of the plain logit", allowed=BY_LOSS)
    beta_min: float = option(5.0, "SphereFace: last weight of the plain logit", allowed=BY_LOSS)
    beta_freeze: int = option(0, "SphereFace: batches before beta falls", allowed=NOT_NEGATIVE)
    gamma: float = option(0.12, "SphereFace: speed of beta's fall", allowed=NOT_NEGATIVE)
    power: float = option(1.0, "SphereFace: power of beta's fall", allowed=NOT_NEGATIVE)
    scale: float = option(0.9993, "no effect, as in the original", allowed=FINITE)
    fc7_wd_mult: float = option(1.0, "weight decay multiplier of the class weights", allowed=NOT_NEGATIVE)
    fc7_lr_mult: float = option(1.0, "learning rate multiplier of the class weights", allowed=NOT_NEGATIVE)
    fc7_no_bias: bool = option(False, "softmax (loss type 0) without bias")
    ce_loss: bool = option(False, "show the cross-entropy as the metric lossvalue")
    pretrained_fc7: str = option(
        "fresh",
        "where the class weights of --pretrained do not fit; fresh: start with random ones, strict: end with an error",
        choices=("fresh", "strict"),
    )


@dataclasses.dataclass(frozen=True)
class ShardingOptions:
    """Class weights in shards; see docs/scale.md."""

    fc7_shards: int = option(
        0,
        "shards of the class weights, spread over the contexts; the number of contexts is the usual value (0: every "
        "context holds all class weights)",
        allowed=NOT_NEGATIVE,
        metavar="N",
        may_change=True,
    )
    sample_ratio: float = option(
        1.0,
        "fraction of the classes that a batch is held against, its own always among them (Partial FC); less than 1 "
        "needs --fc7-shards",
        allowed=Range("more than 0 and at most 1", lambda value: 0 < value <= 1),
    )


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """What `train_softmax` reports before it trains."""

    memory_report: bool = option(
        False,
        "log first how much memory a training step takes, in MiB, and the largest batch and class count that fit",
        may_change=True,
    )


def triplet_loss_type(text: str) -> int:
    """Parse the number of a triplet loss: 1 or 2, which the list of all losses calls 12 and 13."""
    number = int(text)
    return {12: 1, 13: 2}.get(number, number)


@dataclasses.dataclass(frozen=True)
class TripletOptions:
    """Triplets: which ones are searched, and their loss; see triplets.py."""

    loss_type: int = option(
        1,
        "1: triplets by squared distance, 2: by angle; 12 and 13 mean the same",
        parse=triplet_loss_type,
        choices=(1, 2),
    )
    triplet_alpha: float = option(
        0.3, "margin between positive and negative: squared distance of unit embeddings, or radians", allowed=POSITIVE
    )
    triplet_bag_size: int = option(
        3600, "images in a bag: they are embedded together to find triplets among them", allowed=AT_LEAST_ONE
    )
    images_per_identity: int = option(
        5, "largest number of images of one identity in a bag", allowed=Range("2 or more", lambda value: value >= 2)
    )
    triplet_max_ap: float = option(
        0.0,
        "leave out positives at a larger squared distance from their anchor (0: leave out none)",
        allowed=NOT_NEGATIVE,
    )


@dataclasses.dataclass(frozen=True)
class SoftmaxOptions:
    """All options of train_softmax.py."""

    data: DataOptions = DataOptions()
    network: NetworkOptions = NetworkOptions()
    loss: LossOptions = LossOptions()
    sharding: ShardingOptions = ShardingOptions()
    optimiser: OptimiserOptions = OptimiserOptions()
    run: RunOptions = RunOptions()
    report: ReportOptions = ReportOptions()


@dataclasses.dataclass(frozen=True)
class TripletTrainingOptions:
    """All options of train_triplet.py."""

    data: DataOptions = DataOptions()
    network: NetworkOptions = NetworkOptions()
    loss: TripletOptions = TripletOptions()
    optimiser: OptimiserOptions = OptimiserOptions()
    run: RunOptions = RunOptions()


All = TypeVar("All", SoftmaxOptions, TripletTrainingOptions)
TITLES = {
    "data": "data",
    "network": "network",
    "loss": "loss",
    "sharding": "many classes",
    "optimiser": "optimiser",
    "run": "run and checkpoints",
    "report": "report",
}


def parser(cls: Type[All], description: Optional[str], example: str) -> argparse.ArgumentParser:
    """Make the parser of a training command from its groups of options.

    Args:
        cls: SoftmaxOptions or TripletTrainingOptions.
        description: What the command does.
        example: Command lines for the end of --help.
    """
    presets = PRESETS if cls is SoftmaxOptions else {}
    result = make_parser(description, example, ConfigParser, options=cls, presets=presets, translate=_translate)
    for name, group in get_type_hints(cls).items():
        add_options(result, TITLES[name], group)
    add_device_options(result)
    return result


def _translate(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options of a --config file, also where its keys are those of InsightFace's code of 2019 to 2021.

    Raises:
        ValueError: A key or the network of such a file does not exist, or the network does not use a key.
    """
    if not later_config.is_config(given):
        return given
    meaning = later_config.read(given)
    if meaning.idle:
        raise ValueError(f"{meaning.network} does not use {', '.join(meaning.idle)}: leave it out")
    from insightface_mx.symbols.networks import family_of  # loads MXNet

    family = family_of(meaning.network, meaning.emb_size, meaning.versions)
    network = {"network": meaning.network, "emb_size": meaning.emb_size, **meaning.versions, "version_family": family}
    return {**network, **later_config.run_options(given)}


def read(args: argparse.Namespace, cls: Type[All]) -> All:
    """Make the options of a training command from its parsed command line."""
    return cls(**{name: read_options(args, group) for name, group in get_type_hints(cls).items()})
