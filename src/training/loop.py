"""The training loop of both commands: every batch is computed, checked, counted, shown, tested and saved here.

Ctrl-C and SIGTERM end it between two batches.
"""

from __future__ import annotations

import signal
from typing import Sequence

from insightface_mx.base.compat import Module, MXNet
from insightface_mx.cli.signals import SaveFirst
from insightface_mx.training.batches import DataBatch, Observer
from insightface_mx.training.nan_guard import NanGuard, Verdict
from insightface_mx.training.options import NEVER
from insightface_mx.training.progress import Progress
from insightface_mx.training.report_page import ReportPage
from insightface_mx.training.run import Run


def fit(run: Run, metric: MXNet, observers: Sequence[Observer] = ()) -> signal.Signals | None:
    """Train until the end of a run, or until Ctrl-C or SIGTERM; then save.

    Args:
        run: The run, which was started.
        metric: An mx.metric.EvalMetric of the training batches; its means begin again with every epoch.
        observers: Called at every batch.

    Returns:
        The signal that ended the run early, or None.
    """
    model, source, evaluator = run.model, run.source, run.evaluator
    guard = NanGuard(model, run.options.on_nan)
    page = None
    if run.options.ckpt != NEVER:
        page = ReportPage(run.options.prefix, source.batch_size, run.step, run.batches_expected)
    with Progress(source, run.batches_expected, run.options.tensorboard, page) as progress, SaveFirst() as interruption:
        for batch in run.batches():
            for observer in observers:
                observer.before_batch(run.step, batch, model)
            guard.forward_backward(batch)
            for observer in observers:
                observer.after_backward(run.step, batch, model)

            verdict = guard.judge(run.step, batch, run.resume_hint)
            if verdict is Verdict.ACCEPT:
                evaluator.statistics.update(batch)
                model.update()
                _update_metric(metric, model, batch)
                progress.batch(run.step, metric, run.optimizer.learning_rate)
                if source.batch == source.batches_per_epoch:
                    metric.reset()
                progress.tested(run.step, evaluator.after_batch(run.step, source.epoch))
            elif verdict is Verdict.REWIND:
                run.rewind()

            with interruption.saving():
                run.save_if_due()
            if interruption.signal:
                break
        with interruption.saving():
            run.finish()
    return interruption.signal


def _update_metric(metric: MXNet, model: Module, batch: DataBatch) -> None:
    """Add a batch to the metric: device by device, or all at once if the graph has no labels."""
    if model.label_shapes:
        model.update_metric(metric, batch.label)
    else:
        metric.update([], model.get_outputs())
