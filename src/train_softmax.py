"""Train a face recognition network with a softmax or margin loss (ArcFace, CosFace, SphereFace ...).

    python train_softmax.py --network r50 --loss-type 4 --data-dir ../data --prefix ../model/r50

Ctrl-C saves the parameters and says where.
"""

import logging
import os
import random
import secrets
import warnings

import numpy as np

from insightface_mx import losses, options, pretrained, schedule, symbols
from insightface_mx.callback import TestAndSave
from insightface_mx.compat import mx
from insightface_mx.dataset import read_property
from insightface_mx.devices import get_contexts
from insightface_mx.errors import UserError, exit_on_user_error
from insightface_mx.eval import embedding as verify
from insightface_mx.image_iter import FaceImageIter
from insightface_mx.interrupt import Interruption
from insightface_mx.metric import AccMetric, LossMetric, LossValueMetric
from insightface_mx.progress import Progress, start_logging
from insightface_mx.symbols.variants import DEFAULTS


def train(args):
    """Train as the options say; returns the signal that ended the run early, or None."""
    contexts = get_contexts(args.ctx)
    batch_size = (args.per_batch_size or 128) * len(contexts)
    classes = read_property(args.data_dir).num_classes
    set_seed(args)

    embedding = build_network(args)
    model = mx.mod.Module(
        losses.training_symbol(embedding, classes, args), context=contexts, state_names=losses.state_names(args)
    )
    data = open_data(args, batch_size, classes)
    model.bind(data.provide_data, data.provide_label)
    init_params(model, args, data.provide_data[0].shape)
    optimizer = build_optimizer(model.symbol, args, batch_size, len(contexts))
    init_optimizer(model, optimizer)

    metric = mx.metric.CompositeEvalMetric([AccMetric(), LossMetric()] + [LossValueMetric()] * args.ce_loss)
    saved_symbol = losses.checkpoint_symbol(embedding, classes, args)
    tester = TestAndSave(model, saved_symbol, args, build_test(args, embedding, contexts[0]))
    steps = args.end_epoch * data.batches_per_epoch
    step, steps = 0, min(args.max_steps or steps, steps)
    with Interruption() as interruption, Progress(data, steps, args.tensorboard) as progress:
        for step in range(1, steps + 1):
            batch = next_batch(data)
            if args.loss_type == 1:
                losses.set_beta(model, losses.sphereface_beta(step - 1, args, classes))
            model.forward_backward(batch)
            model.update()
            model.update_metric(metric, batch.label)
            progress.batch(step, metric, optimizer.learning_rate)
            progress.scalars(step, tester.batch(step))
            if interruption.signal:
                break
        tester.finish(step)
    return interruption.signal


def set_seed(args):
    """Make every random number of the run follow from --seed, drawing one where none is given."""
    if args.seed is None:
        args.seed = secrets.randbelow(2**31)
    logging.info("seed %d", args.seed)
    random.seed(args.seed)
    np.random.seed(args.seed)
    mx.random.seed(args.seed)


def build_network(args):
    """The embedding's symbol as the network options say."""
    if args.use_deformable:
        logging.warning("--use-deformable has no effect, as in the original")
    variants = {name: getattr(args, name) for name in DEFAULTS}
    try:
        losses.check_options(args)
        return symbols.get_symbol(args.network, args.emb_size, image_size=options.image_size(args), **variants)
    except ValueError as error:
        raise UserError(error) from error


def open_data(args, batch_size, classes):
    return FaceImageIter(
        batch_size=batch_size,
        data_shape=(3, *options.image_size(args)),
        path_imgrec=os.path.join(args.data_dir, "train.rec"),
        shuffle=True,
        rand_mirror=args.rand_mirror,
        cutoff=args.cutoff,
        color_jittering=args.color,
        images_filter=args.images_filter,
        num_classes=classes,
        seed=args.seed,
        workers=args.workers,
    )


def next_batch(data):
    """The next batch, of the next epoch where this one has ended."""
    try:
        return data.next()
    except StopIteration:
        data.reset()
        return data.next()


def init_params(model, args, data_shape):
    arg_params, aux_params = None, None
    if args.pretrained:
        arg_params, aux_params = pretrained.load(args.pretrained, model.symbol, data_shape)
    model.init_params(symbols.get_initializer(args.network), arg_params, aux_params, allow_missing=True)


def build_optimizer(symbol, args, batch_size, devices):
    """SGD as in the original: decay on every parameter, and the multipliers that the symbol's variables carry."""
    optimizer = mx.optimizer.SGD(
        learning_rate=args.lr,
        lr_scheduler=schedule.scheduler(args.lr, schedule.lr_steps(args.lr_steps, batch_size, args.loss_type)),
        momentum=args.mom,
        wd=args.wd,
        rescale_grad=1.0 / devices,  # the softmax's gradient is a mean over each device's batch
    )
    attributes = symbol.attr_dict()
    optimizer.lr_mult = {name: float(of["__lr_mult__"]) for name, of in attributes.items() if "__lr_mult__" in of}
    optimizer.wd_mult = {name: float(of["__wd_mult__"]) for name, of in attributes.items() if "__wd_mult__" in of}
    return optimizer


def init_optimizer(model, optimizer):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Optimizer created manually outside Module")
        model.init_optimizer(kvstore="device", optimizer=optimizer)


def build_test(args, embedding, context):
    """A function that tests parameters and logs the result: (step, arg_params, aux_params) -> accuracy by set."""
    size = options.image_size(args)
    paths = {name: os.path.join(args.data_dir, f"{name}.bin") for name in args.target.split(",") if name}
    sets = {name: verify.load_bin(path, size) for name, path in paths.items() if os.path.exists(path)}
    if not sets:
        logging.info("none of %s found: no test, every save is the best so far", ", ".join(paths.values()))
        return lambda step, arg_params, aux_params: {}
    model = verify.bind(embedding, context, verify.BATCH_SIZE, size)

    def test(step, arg_params, aux_params):
        model.set_params(arg_params, aux_params, allow_extra=True)
        accuracies = {}
        for name, data_set in sets.items():
            result = verify.test(data_set, model, verify.BATCH_SIZE)
            for line in verify.result_lines(name, result, step):
                logging.info(line)
            accuracies[name] = result[2]
        return accuracies

    return test


def main(argv=None):
    parser = options.parser(__doc__)
    options.add_softmax_loss(parser)
    args = parser.parse_args(argv)
    with exit_on_user_error():
        start_logging(args.prefix)
        signal = train(args)
    if signal:
        raise SystemExit(128 + signal)


if __name__ == "__main__":
    main()
