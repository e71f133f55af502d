"""Observers: what else happens at every batch."""

from __future__ import annotations

from insightface_mx.base.compat import Module
from insightface_mx.training.batches import DataBatch


class Observer:
    """Is called at two moments of every batch; here it does nothing."""

    def before_batch(self, step: int, batch: DataBatch, model: Module) -> None:
        """Act before batch `step`, counted from 1, goes forward."""

    def after_backward(self, step: int, batch: DataBatch, model: Module) -> None:
        """Act when outputs and gradients of batch `step` are there, before they are checked and used."""
