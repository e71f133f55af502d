"""What the training commands share: from their options to a network, images, an optimiser and the tests."""

import logging
import os
import random
import secrets

import numpy as np

from insightface_mx import symbols
from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError, exit_on_user_error
from insightface_mx.engine import cpu_rewrite, module_state
from insightface_mx.engine import network as verify
from insightface_mx.engine.optimizer import SGD
from insightface_mx.eval import pairs
from insightface_mx.image_iter import FaceImageIter
from insightface_mx.symbols.variants import DEFAULTS
from insightface_mx.training import fine_tuning, nan_guard, schedule
from insightface_mx.training.evaluate_and_save import NEVER
from insightface_mx.training.progress import start_logging


def run_command(train, parser, argv):
    """Run train(options), which returns the signal that ended it early or None; status 2 for what the user can mend."""
    with exit_on_user_error():
        args = parser.parse_args(argv)
        check_run_options(args)
        start_logging(args.prefix)
        signal = train(args)
    if signal:
        raise SystemExit(128 + signal)


def set_seed(args):
    """Make every random number of the run follow from --seed, drawing one where none is given."""
    if args.seed is None:
        args.seed = secrets.randbelow(2**31)
    logging.info("seed %d", args.seed)
    random.seed(args.seed)
    np.random.seed(args.seed)
    mx.random.seed(args.seed)


def check_run_options(args):
    """Refuse options that cannot be had together."""
    if args.on_nan == nan_guard.REWIND and args.ckpt == NEVER:
        raise UserError("--on-nan rewind goes back to a saved state, and --ckpt 0 saves none: change one of them")


def build_network(args):
    """The embedding's symbol as the network options say."""
    if args.use_deformable:
        logging.warning("--use-deformable has no effect, as in the original")
    variants = {name: getattr(args, name) for name in DEFAULTS}
    try:
        return symbols.get_symbol(args.network, args.emb_size, image_size=args.image_size, **variants)
    except ValueError as error:
        raise UserError(error) from error


def open_data(args, batch_size, classes=None):
    """The images of train.rec, shuffled and augmented as the data options say; classes: refuse labels from there on."""
    return FaceImageIter(
        batch_size=batch_size,
        data_shape=(3, *args.image_size),
        path_imgrec=os.path.join(args.data_dir, "train.rec"),
        shuffle=True,
        rand_mirror=args.rand_mirror,
        cutoff=args.cutoff,
        color_jittering=args.color,
        images_filter=args.images_filter,
        on_bad_record=args.on_bad_record,
        num_classes=classes,
        seed=args.seed,
        workers=args.workers,
    )


def build_model(symbol, args, contexts, data, saved, label_shapes=None, state_names=(), strict_head=False):
    """A bound Module with the parameters of the saved State or of --pretrained, and random ones where there is none.

    symbol: the faithful graph to train. data: the FaceImageIter. saved: the State, or None. strict_head: stop where the
    pretrained checkpoint's class weights do not fit, instead of starting them afresh.
    """
    inputs = ["data", "softmax_label", *state_names]
    symbol, frozen = fine_tuning.freeze(symbol, args.freeze, inputs)
    if not args.no_cpu_rewrite:
        symbol = cpu_rewrite.rewrite(symbol, contexts, dict(data.provide_data + (label_shapes or [])))
    labels = [label.name for label in label_shapes or []]
    model = mx.mod.Module(
        symbol, label_names=labels, context=contexts, state_names=state_names, fixed_param_names=frozen
    )
    model.bind(data.provide_data, label_shapes)
    arg_params, aux_params = None, None
    shape = data.provide_data[0].shape
    if saved:
        arg_params, aux_params = params = module_state.params(saved.arrays)
        fine_tuning.check_parameters(
            "--resume: the saved state", params, model.symbol, shape, inputs, with_classes=True
        )
    elif args.pretrained:
        arg_params, aux_params = fine_tuning.load_pretrained(args.pretrained, model.symbol, shape, inputs, strict_head)
    model.init_params(symbols.get_initializer(args.network), arg_params, aux_params, allow_missing=True)
    return model


def build_optimizer(symbol, args, batch_size, contexts):
    """SGD as in the original: decay on every parameter, and the multipliers that the symbol's variables carry."""
    steps = schedule.lr_steps(args.lr_steps, batch_size, schedule.default_steps(args.loss_type))
    lr = schedule.learning_rate(args, batch_size)
    if args.lr_batch:
        logging.info("learning rate %g: --lr %g x %d images / --lr-batch %d", lr, args.lr, batch_size, args.lr_batch)
    on_cpu = contexts[0].device_type == "cpu"
    optimizer = (SGD if on_cpu else mx.optimizer.SGD)(
        learning_rate=lr,
        lr_scheduler=schedule.scheduler(args, lr, steps),
        momentum=args.mom,
        wd=args.wd,
        rescale_grad=1.0 / len(contexts),  # the loss's gradient is a mean over each device's batch
        clip_gradient=args.clip_gradient or None,
    )
    attributes = symbol.attr_dict()
    optimizer.lr_mult = {name: float(of["__lr_mult__"]) for name, of in attributes.items() if "__lr_mult__" in of}
    optimizer.wd_mult = {name: float(of["__wd_mult__"]) for name, of in attributes.items() if "__wd_mult__" in of}
    return optimizer


def init_optimizer(model, args, batch_size, contexts):
    """Let a Module train, gradients summed over its contexts; returns its optimiser."""
    optimizer = build_optimizer(model.symbol, args, batch_size, contexts)
    module_state.attach(model, optimizer)
    return optimizer


def build_test(args, embedding, context):
    """A function that tests parameters and logs the result: (step, arg_params, aux_params) -> accuracy by set."""
    size = args.image_size
    paths = {name: os.path.join(args.data_dir, f"{name}.bin") for name in args.target.split(",") if name}
    sets = {name: pairs.load_bin(path, size) for name, path in paths.items() if os.path.exists(path)}
    if not sets:
        logging.info("none of %s found: no test, every save is the best so far", ", ".join(paths.values()))
        return lambda step, arg_params, aux_params: {}
    model = verify.bind(embedding, [context], verify.BATCH_SIZE, size)

    def test(step, arg_params, aux_params):
        model.set_params(arg_params, aux_params)
        accuracies = {}
        for name, data_set in sets.items():
            result = pairs.test(data_set, model, verify.BATCH_SIZE)
            for line in pairs.result_lines(name, result, step):
                logging.info(line)
            accuracies[name] = result[2]
        return accuracies

    return test
