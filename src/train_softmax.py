"""Train a face recognition network with a softmax or margin loss (ArcFace, CosFace, SphereFace ...).

    python train_softmax.py --network r50 --loss-type 4 --data-dir ../data --prefix ../model/r50

Ctrl-C saves the parameters and says where.
"""

from insightface_mx import losses, options
from insightface_mx.callback import TestAndSave
from insightface_mx.compat import mx
from insightface_mx.dataset import read_property
from insightface_mx.devices import get_contexts
from insightface_mx.errors import UserError
from insightface_mx.interrupt import Interruption
from insightface_mx.metric import AccMetric, LossMetric, LossValueMetric
from insightface_mx.progress import Progress
from insightface_mx.training import (
    build_model,
    build_network,
    build_test,
    init_optimizer,
    open_data,
    run_command,
    set_seed,
)


def train(args):
    """Train as the options say; returns the signal that ended the run early, or None."""
    check_options(args)
    contexts = get_contexts(args.ctx)
    batch_size = (args.per_batch_size or 128) * len(contexts)
    classes = read_property(args.data_dir).num_classes
    set_seed(args)

    embedding = build_network(args)
    data = open_data(args, batch_size, classes)
    symbol = losses.training_symbol(embedding, classes, args)
    strict = args.pretrained_fc7 == "strict"
    model = build_model(symbol, args, contexts, data, data.provide_label, losses.state_names(args), strict)
    optimizer = init_optimizer(model, args, batch_size, len(contexts))

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


def check_options(args):
    """Refuse, before anything is read, a loss or margin that there is not."""
    try:
        losses.check_options(args)
    except ValueError as error:
        raise UserError(error) from error


def next_batch(data):
    """The next batch, of the next epoch where this one has ended."""
    try:
        return data.next()
    except StopIteration:
        data.reset()
        return data.next()


def main(argv=None):
    parser = options.parser(__doc__)
    options.add_softmax_loss(parser)
    run_command(train, parser, argv)


if __name__ == "__main__":
    main()
