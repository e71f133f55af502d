"""Build what a run trains and tests: a Module from a symbol, its optimizer, and the test on verification sets."""

from __future__ import annotations

import logging
import os
from typing import Sequence

from insightface_mx.base.compat import Context, Module, MXNet, Params, Symbol, mx
from insightface_mx.base.quiet import quiet_mxnet
from insightface_mx.cli.types import Size
from insightface_mx.engine import BATCH_SIZE, cpu_rewrite, module_state
from insightface_mx.engine.network import bind
from insightface_mx.engine.optimizer import SGD
from insightface_mx.eval import pairs
from insightface_mx.shards.head import ShardedHead
from insightface_mx.shards.module import ShardedModule
from insightface_mx.shards.plan import Shards
from insightface_mx.symbols import get_initializer
from insightface_mx.training import advice, fine_tuning, schedule
from insightface_mx.training.batches import BatchSource
from insightface_mx.training.evaluate_and_save import EvaluateAndSave, Test
from insightface_mx.training.metrics import TrainingStatistics
from insightface_mx.training.options import OptimiserOptions, RunOptions
from insightface_mx.training.run import Run, Start
from insightface_mx.training.state import Metadata


def build_model(
    symbol: Symbol,
    options: RunOptions,
    start: Start,
    network: str,
    data: Sequence[MXNet],
    labels: Sequence[MXNet] = (),
    state_names: Sequence[str] = (),
    strict_classes: bool = False,
    shards: Shards | None = None,
) -> Module:
    """Bind a symbol for training, with the parameters of the saved state or of --pretrained, otherwise random ones.

    Args:
        symbol: The original graph to train.
        options: --freeze, --no-cpu-rewrite and --pretrained.
        start: Devices, and the state to continue from.
        network: Letter and depth, which choose the distribution of random parameters.
        data: Name and shape of the input, an mx.io.DataDesc in a list.
        labels: The same of the labels.
        state_names: Inputs that are neither trained nor saved.
        strict_classes: If the class weights of --pretrained do not fit, fail instead of starting with random ones.
        shards: Train the class weights in shards, instead of in the symbol; None for the symbol.

    Raises:
        UserError: A pattern of --freeze matches nothing, or the parameters do not fit the symbol.
    """
    inputs = ["data", "softmax_label", *state_names]
    frozen = fine_tuning.frozen_names(symbol, options.freeze, inputs)
    trained = fine_tuning.with_fixed_averages(shards.loss.body if shards else symbol, frozen)
    if not options.no_cpu_rewrite:
        shapes = {name: shape for name, shape, *_ in [*data, *([] if shards else labels)]}
        trained = cpu_rewrite.rewrite(trained, start.contexts, shapes)
    if shards:
        model = ShardedModule(trained, ShardedHead(shards, start.contexts, frozen), start.contexts, frozen)
    else:
        model = mx.mod.Module(
            trained,
            label_names=[label.name for label in labels],
            context=start.contexts,
            state_names=list(state_names),
            fixed_param_names=frozen,
        )
    with quiet_mxnet():
        model.bind(list(data), None if shards else list(labels) or None)
    arg_params, aux_params = None, None
    shape = data[0].shape
    if start.saved:
        arg_params, aux_params = module_state.params_of(start.saved.arrays)
        expected = symbol if shards else model.symbol
        fine_tuning.check_parameters(
            "--resume: the saved state", (arg_params, aux_params), expected, shape, inputs, with_classes=True
        )
    elif options.pretrained:
        arg_params, aux_params = fine_tuning.load_pretrained(options.pretrained, symbol, shape, inputs, strict_classes)
    model.init_params(get_initializer(network), arg_params, aux_params, allow_missing=True)
    return model


def attach_optimizer(
    model: Module, options: OptimiserOptions, batch_size: int, steps: Sequence[int], contexts: Sequence[Context]
) -> MXNet:
    """Let a bound Module train by SGD, gradients summed over its contexts.

    As in the original, weight decay acts on every parameter, and the multipliers are those of the symbol's variables.

    Args:
        model: The bound Module.
        options: Learning rate, momentum, weight decay and schedule.
        batch_size: Images a batch, over all contexts.
        steps: As `schedule.lr_steps` returns them.
        contexts: Those of the Module.

    Returns:
        The optimizer.
    """
    lr = schedule.learning_rate(options, batch_size)
    if options.lr_batch:
        logging.info(
            "learning rate %g: --lr %g x %d images / --lr-batch %d", lr, options.lr, batch_size, options.lr_batch
        )
    settings = {
        "learning_rate": lr,
        "lr_scheduler": schedule.scheduler(options, lr, steps),
        "momentum": options.mom,
        "wd": options.wd,
        "rescale_grad": 1.0 / len(contexts),  # the loss's gradient is a mean over each device's batch
        "clip_gradient": options.clip_gradient or None,
    }
    on_cpu = contexts[0].device_type == "cpu"
    optimizer = SGD(**settings) if on_cpu else mx.optimizer.SGD(**settings)
    attributes = model.symbol.attr_dict()
    optimizer.lr_mult = {name: float(of["__lr_mult__"]) for name, of in attributes.items() if "__lr_mult__" in of}
    optimizer.wd_mult = {name: float(of["__wd_mult__"]) for name, of in attributes.items() if "__wd_mult__" in of}
    module_state.attach_optimizer(model, optimizer)
    return optimizer


def build_run(
    model: Module,
    saved_symbol: Symbol,
    source: BatchSource,
    options: RunOptions,
    optimiser: OptimiserOptions,
    start: Start,
    metadata: Metadata,
    default_steps: Sequence[int],
    test: Test,
    has_classes: bool,
) -> Run:
    """Give a bound Module an optimizer, tests and saves, and start its run.

    Args:
        model: The bound Module, with parameters.
        saved_symbol: The graph for checkpoints.
        source: Where the batches come from.
        options: The options of the run.
        optimiser: The options of the optimizer.
        start: Devices, and the state to continue from.
        metadata: As `resume_check.run_metadata` returns it.
        default_steps: The default of --lr-steps for batches of 512 images.
        test: Tests parameters.
        has_classes: Embeddings are compared with class weights by their angle, which tests then report.
    """
    steps = schedule.lr_steps(optimiser.lr_steps, source.batch_size, default_steps)
    optimizer = attach_optimizer(model, optimiser, source.batch_size, steps, start.contexts)
    statistics = TrainingStatistics(model, angle=has_classes)
    evaluator = EvaluateAndSave(model, saved_symbol, options, test, statistics, metadata)
    last_batch = schedule.last_batch(optimiser, options.max_steps, steps)
    advice.say_that_nothing_ends_it(options, last_batch)
    run = Run(options, metadata, model, optimizer, source, evaluator, last_batch)
    run.start(start.saved)
    return run


def build_test(embedding: Symbol, context: Context, data_dir: str, target: str, image_size: Size) -> Test:
    """Make the test of a run on its verification sets; it logs the result of each set.

    Args:
        embedding: The network's symbol.
        context: Where to test.
        data_dir: The folder of the sets.
        target: Names of sets, separated by commas; those without a file NAME.bin are skipped.
        image_size: (height, width) of the network's input.
    """
    paths = {name: os.path.join(data_dir, f"{name}.bin") for name in target.split(",") if name}
    sets = {name: pairs.load_bin(path, image_size) for name, path in paths.items() if os.path.exists(path)}
    if not sets:
        logging.info("none of %s found: no test, every save is the best so far", ", ".join(paths.values()))
        return lambda *_: {}
    model = bind(embedding, [context], BATCH_SIZE, image_size)

    def test(step: int, arg_params: Params, aux_params: Params) -> dict[str, float]:
        model.set_params(arg_params, aux_params)
        accuracies = {}
        for name, data_set in sets.items():
            result = pairs.test(data_set, model, BATCH_SIZE)
            for line in pairs.result_lines(name, result, step):
                logging.info(line)
            accuracies[name] = result.acc2
        return accuracies

    return test
