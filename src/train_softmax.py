"""Train a face recognition network with a softmax or margin loss (ArcFace, CosFace, SphereFace ...).

    python train_softmax.py --network r50 --loss-type 4 --data-dir ../data --prefix ../model/r50

Ctrl-C saves and says where; --resume goes on from there, or from where a killed run last saved.
"""

from insightface_mx import losses, options
from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.engine.denormals import flush_in_threads
from insightface_mx.engine.devices import get_contexts
from insightface_mx.formats.training_set import read_property
from insightface_mx.training import memory_report
from insightface_mx.training.build import (
    build_model,
    build_network,
    build_test,
    init_optimizer,
    open_data,
    run_command,
    set_seed,
)
from insightface_mx.training.evaluate_and_save import TestAndSave
from insightface_mx.training.metrics import AccMetric, LossMetric, LossValueMetric, TrainingStatistics
from insightface_mx.training.nan_guard import NanGuard
from insightface_mx.training.progress import Progress
from insightface_mx.training.resume_check import agreed_facts
from insightface_mx.training.run import Epochs, Run, find_saved
from insightface_mx.training.schedule import learning_rate, warn_of_unusual_rate


def train(args):
    """Train as the options say; returns the signal that ended the run early, or None."""
    check_options(args)
    contexts = get_contexts(args.ctx)
    flush_in_threads(contexts)
    batch_size = (args.per_batch_size or 128) * len(contexts)
    classes = read_property(args.data_dir).num_classes
    warn_of_unusual_rate(learning_rate(args, batch_size), batch_size, bool(args.pretrained))
    saved = find_saved(args)
    set_seed(args)

    embedding = build_network(args)
    data = open_data(args, batch_size, classes)
    facts = agreed_facts(args, "train_softmax", data, contexts, saved)
    if args.memory_report:
        step = memory_step(args, embedding)
        memory_report.report(step, args.per_batch_size or 128, classes, contexts)
    symbol = losses.training_symbol(embedding, classes, args, args.emb_size)
    strict = args.pretrained_fc7 == "strict"
    model = build_model(symbol, args, contexts, data, saved, data.provide_label, losses.state_names(args), strict)
    optimizer = init_optimizer(model, args, batch_size, contexts)

    metric = mx.metric.CompositeEvalMetric([AccMetric(), LossMetric()] + [LossValueMetric()] * args.ce_loss)
    figures = TrainingStatistics(model, angle=args.loss_type != 0)
    saved_symbol = losses.checkpoint_symbol(embedding, classes, args, args.emb_size)
    tester = TestAndSave(model, saved_symbol, args, build_test(args, embedding, contexts[0]), figures, facts)
    run = Run(args, facts, model, optimizer, Epochs(data, args.end_epoch), tester, saved)
    guard = NanGuard(model, run, args.on_nan)
    with Progress(data, run.batches_left, args.tensorboard) as progress:
        for batch in run.batches():
            if args.loss_type == 1:
                losses.set_beta(model, losses.sphereface_beta(run.step - 1, args, classes))
            guard.forward_backward(batch)
            if guard.rejects(batch):
                continue
            figures.update(batch)
            model.update()
            model.update_metric(metric, batch.label)
            progress.batch(run.step, metric, optimizer.learning_rate)
            if data.batch == data.batches_per_epoch:
                metric.reset()
            progress.scalars(run.step, tester.batch(run.step, data.epoch))
    return run.signal


def memory_step(args, embedding):
    """Return the training step that --memory-report estimates; embedding: the symbol."""
    return memory_report.TrainingStep(
        embedding,
        lambda embedding, classes: losses.training_symbol(embedding, classes, args, args.emb_size),
        args.image_size,
        losses.state_names(args),
        args.freeze,
        momentum=bool(args.mom),
        cpu_rewrite=not args.no_cpu_rewrite,
    )


def check_options(args):
    """Refuse, before anything is read, a loss or margin that there is not."""
    try:
        losses.check_options(args)
    except ValueError as error:
        raise UserError(error) from error


def main(argv=None):
    parser = options.parser(options.SoftmaxOptions, __doc__, "python train_softmax.py --network r50 --data-dir ../data")
    run_command(train, parser, argv)


if __name__ == "__main__":
    main()
