"""The training command's options: names, types and defaults of the original, in groups."""

import argparse

from insightface_mx import devices, nan_guard, schedule
from insightface_mx.arguments import Help
from insightface_mx.errors import UserError


def parser(description):
    """A parser with the options of every training command."""
    result = argparse.ArgumentParser(description=description, formatter_class=Help)
    for add in (_add_data, _add_network, _add_optimiser, _add_run):
        add(result)
    return result


def _add_data(to):
    group = to.add_argument_group("data")
    group.add_argument("--data-dir", default="", help="folder with train.rec, train.idx, property and the .bin sets")
    group.add_argument("--image-size", default="112,112", help="height,width of the network's input, equal, in pixels")
    group.add_argument("--per-batch-size", type=int, default=128, help="images a batch and device (0: 128)")
    group.add_argument("--rand-mirror", type=int, default=1, help="1: mirror each image with probability 1/2")
    group.add_argument("--cutoff", type=int, default=0, help="side in pixels of a square to blank out (0: off)")
    group.add_argument(
        "--color", type=int, default=0, help="1: brightness, contrast, saturation jitter; 2: JPEG artefacts too"
    )
    group.add_argument("--images-filter", type=int, default=0, help="leave out identities with fewer images")
    group.add_argument(
        "--on-bad-record",
        default="skip",
        choices=("skip", "stop"),
        help="a record that cannot be used: take the nearest good one, as long as few are bad, or stop",
    )
    group.add_argument(
        "--target",
        default="lfw,cfp_fp,agedb_30",
        help="verification sets NAME.bin in the data folder; missing: skipped",
    )


def _add_network(to):
    group = to.add_argument_group("network")
    group.add_argument("--network", default="r50", help="letter and depth: r50, r100, y1, ...")
    group.add_argument("--emb-size", type=int, default=512, help="length of the embedding")
    group.add_argument("--version-se", type=int, default=0, help="1: squeeze-and-excitation in every unit")
    group.add_argument(
        "--version-input",
        type=int,
        default=1,
        help="stem; 0: 7x7 stride 2 and pooling, 1: 3x3, 2: 3x3 behind a batch norm",
    )
    group.add_argument("--version-output", default="E", help="from the last feature map to the embedding: E, GDC, ...")
    group.add_argument("--version-unit", type=int, default=3, help="residual unit; 3 is the paper's IR unit")
    group.add_argument("--version-act", default="prelu", help="activation: prelu, relu, ...")
    group.add_argument("--version-multiplier", type=float, default=1.0, help="filter multiplier of MobileNet v1")
    group.add_argument("--use-deformable", type=int, default=0, help="no effect, as in the original")
    group.add_argument("--bn-mom", type=float, default=0.9, help="momentum of the batch norms' moving averages")


def add_softmax_loss(to):
    """The options of `train_softmax`'s losses."""
    group = to.add_argument_group("loss")
    group.add_argument(
        "--loss-type",
        type=int,
        default=4,
        help="0 softmax, 1 SphereFace, 2 CosFace, 4 ArcFace, 5 combined margin, 6 and 7 ArcFace with intra/inter loss",
    )
    group.add_argument("--margin-m", type=float, default=0.5, help="margin: radians, for CosFace a cosine")
    group.add_argument("--margin-s", type=float, default=64.0, help="scale of the logits")
    group.add_argument("--margin-a", type=float, default=1.0, help="combined margin: cos(a t + m) - b")
    group.add_argument(
        "--margin-b", type=float, default=0.0, help="combined margin; types 6, 7: the extra loss's weight"
    )
    group.add_argument("--easy-margin", type=int, default=0, help="1: ArcFace's margin only where cos t > 0")
    group.add_argument("--margin", type=int, default=4, help="SphereFace: multiplier of the angle")
    group.add_argument("--beta", type=float, default=1000.0, help="SphereFace: first weight of the plain logit")
    group.add_argument("--beta-min", type=float, default=5.0, help="SphereFace: last weight of the plain logit")
    group.add_argument("--beta-freeze", type=int, default=0, help="SphereFace: batches before beta falls")
    group.add_argument("--gamma", type=float, default=0.12, help="SphereFace: speed of beta's fall")
    group.add_argument("--power", type=float, default=1.0, help="SphereFace: power of beta's fall")
    group.add_argument("--scale", type=float, default=0.9993, help="no effect, as in the original")
    group.add_argument("--fc7-wd-mult", type=float, default=1.0, help="weight decay multiplier of the class weights")
    group.add_argument("--fc7-lr-mult", type=float, default=1.0, help="learning rate multiplier of the class weights")
    group.add_argument("--fc7-no-bias", action="store_true", help="softmax (loss type 0) without bias")
    group.add_argument("--ce-loss", action="store_true", help="show the cross-entropy as the metric lossvalue")
    to.add_argument(
        "--memory-report",
        action="store_true",
        help="say first what memory a training step takes, in MiB, and the largest batch and class count that fit",
    )
    group.add_argument(
        "--pretrained-fc7",
        default="fresh",
        choices=("fresh", "strict"),
        help="where the checkpoint's class weights do not fit: start them afresh, or stop",
    )


def add_triplet_loss(to):
    """The options of `train_triplet`'s losses."""
    group = to.add_argument_group("loss")
    group.add_argument(
        "--loss-type",
        type=triplet_loss_type,
        default=1,
        choices=(1, 2),
        help="1: triplets by squared distance, 2: by angle; 12 and 13 mean the same",
    )
    group.add_argument(
        "--triplet-alpha",
        type=float,
        default=0.3,
        help="margin between positive and negative: squared distance of unit embeddings, or radians",
    )
    group.add_argument(
        "--triplet-bag-size",
        type=int,
        default=3600,
        help="images that are embedded at a time to find triplets among them",
    )
    group.add_argument("--images-per-identity", type=int, default=5, help="of those, images of one identity, at most")
    group.add_argument(
        "--triplet-max-ap",
        type=float,
        default=0.0,
        help="leave out positives at a larger squared distance from their anchor (0: none)",
    )


def triplet_loss_type(text):
    """The number of a triplet loss: 1 or 2, which the list of all losses calls 12 and 13."""
    return {12: 1, 13: 2}.get(int(text), int(text))


def _add_optimiser(to):
    group = to.add_argument_group("optimiser")
    group.add_argument("--lr", type=float, default=0.1, help="learning rate at the start")
    group.add_argument(
        "--lr-steps",
        default="",
        help="batch numbers, comma separated, after which it is divided by 10 (default: 100000,140000,160000, for "
        "softmax 40000,60000,80000, times 512/batch)",
    )
    group.add_argument(
        "--lr-schedule",
        default="step",
        choices=schedule.SCHEDULES,
        help="step: as --lr-steps says; poly, cosine: falling to 0 at the last of --lr-steps, where the run ends",
    )
    group.add_argument(
        "--warmup", type=_not_negative(int), default=0, help="batches over which the learning rate first rises to --lr"
    )
    group.add_argument(
        "--clip-gradient",
        type=_not_negative(float),
        default=0.0,
        help="limit every number of the gradient to this size (0: off)",
    )
    group.add_argument("--wd", type=float, default=0.0005, help="weight decay, of every parameter")
    group.add_argument("--mom", type=float, default=0.9, help="momentum")


def _add_run(to):
    group = to.add_argument_group("run and checkpoints")
    group.add_argument(
        "--prefix",
        default="../model/model",
        help="writes PREFIX-symbol.json, PREFIX-NNNN.params and .json, PREFIX-state-N.params and .json, PREFIX.log",
    )
    group.add_argument("--pretrained", default="", help="checkpoint PREFIX,EPOCH to start from")
    group.add_argument(
        "--freeze",
        default="",
        metavar="PATTERNS",
        help="parameters not to train: shell patterns, comma separated ('conv0*,stage1*')",
    )
    group.add_argument(
        "--ckpt",
        type=int,
        default=1,
        choices=range(4),
        help="0: never save anything; 1: save a checkpoint when the last target is at its best; 2: at every test; 3: "
        "as 1, under number 1",
    )
    group.add_argument("--verbose", type=int, default=2000, help="test, and maybe save, every so many batches")
    group.add_argument(
        "--keep",
        type=_not_negative(int),
        default=0,
        metavar="N",
        help="remove this run's checkpoints but the newest N and the best (0: remove none)",
    )
    group.add_argument(
        "--save-every",
        type=_not_negative(int),
        default=1000,
        metavar="N",
        help="save the training state for --resume every so many batches, and at the end and on Ctrl-C or SIGTERM (0: "
        "only then)",
    )
    group.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        choices=("auto",),
        help="go on from the newest whole training state under --prefix, in the middle of an epoch; where none was "
        "saved yet, start from scratch",
    )
    group.add_argument(
        "--override", action="store_true", help="resume even where options contradict those of the saved run"
    )
    group.add_argument(
        "--on-nan",
        default=nan_guard.STOP,
        choices=nan_guard.POLICIES,
        help="NaN or infinity in a batch's outputs or gradients; stop: with status 2; skip: leave the batch out; "
        "rewind: go back to the saved state, and on from there with the images in another order",
    )
    group.add_argument(
        "--max-steps", type=int, default=0, help="stop, with a save, after so many batches (0: no limit)"
    )
    group.add_argument("--end-epoch", type=int, default=100000, help="epochs")
    group.add_argument("--ctx", default="", help=devices.HELP)
    group.add_argument(
        "--no-cpu-rewrite",
        action="store_true",
        help="on a CPU, train the plain graph instead of the one with fast PReLU",
    )
    group.add_argument(
        "--seed", type=_not_negative(int), help="makes a run repeatable, on a CPU bit for bit (default: random, logged)"
    )
    group.add_argument("--workers", type=int, default=0, help="threads that decode images (0: one a processor)")
    group.add_argument("--tensorboard", default="", metavar="DIR", help="write TensorBoard event files there")


def _not_negative(kind):
    """A parser of numbers of a kind, int or float, from 0 on."""

    def number(text):
        value = kind(text)
        if not value >= 0:
            raise argparse.ArgumentTypeError(f"{text} is less than 0")
        return value

    return number


def image_size(options):
    """Height and width from --image-size."""
    fields = options.image_size.split(",")
    if len(fields) != 2 or not all(field.strip().isdigit() for field in fields) or int(fields[0]) != int(fields[1]):
        raise UserError(f"--image-size {options.image_size}: write height,width, equal, for example 112,112")
    return int(fields[0]), int(fields[1])
