"""Rewrite a symbol into an equal one that a CPU computes fast, when it is bound; only the original graph is saved.

What changes is PReLU (prelu_rewrite.py) and, in training, some Concats (concat_rewrite.py). Names, order and shapes of
arguments, auxiliary states and outputs stay, and so do the outputs of inner nodes and the attributes that initialisers
and optimizers read.
"""

from __future__ import annotations

import logging
from typing import Callable, Mapping

from insightface_mx.base.compat import Context, Params, Symbol, mx
from insightface_mx.engine.concat_rewrite import plan_concats
from insightface_mx.engine.prelu_rewrite import plan_for_inference, plan_for_training
from insightface_mx.engine.symbol_graph import Shape, SymbolGraph, infer_shapes


class OnceLog:
    """Log a line unless it was logged before: networks are bound again and again."""

    def __init__(self) -> None:
        """Start with nothing logged."""
        self._logged: set[str] = set()

    def __call__(self, line: str) -> None:
        """Log a line, at most once."""
        if line not in self._logged:
            self._logged.add(line)
            logging.info(line)


once_log = OnceLog()  # of this process


def rewrite(
    symbol: Symbol,
    contexts: list[Context] | None = None,
    shapes: Mapping[str, Shape] | None = None,
    kind: str | None = None,
    log: Callable[[str], None] = once_log,
) -> Symbol:
    """Return an equal symbol with fast PReLUs and with Concats that can be trained; for a GPU, `symbol` itself.

    Bind the result for training only. In inference oneDNN fuses layers and keeps their first weights, so later
    `set_params` calls would have no effect.

    Args:
        symbol: The original graph.
        contexts: Where it will be bound; None: on the CPU.
        shapes: What it will be bound with, input name -> shape. Without the number of channels, a PReLU cannot become
            'layers' and a Concat stays.
        kind: One of prelu_rewrite.PRELU_KINDS for every PReLU; None: the faster one for each.
        log: Takes a line that says how many PReLUs became what, and why.

    Raises:
        UserError: `kind` is 'compiled', and the compiled operator cannot be loaded.
    """
    if _on_gpu(contexts):
        return symbol
    graph = SymbolGraph(symbol)
    known = infer_shapes(graph, shapes or {})
    plan = [*plan_concats(graph, known), *plan_for_training(graph, known, kind, log)]
    for replacement in plan:
        replacement.apply(graph)
    return graph.to_symbol() if plan else symbol


def rewrite_for_inference(
    symbol: Symbol,
    params: Params,
    contexts: list[Context] | None,
    shapes: Mapping[str, Shape],
    log: Callable[[str], None] = once_log,
) -> tuple[Symbol, Params]:
    """Return an equal symbol with the PReLUs that are fastest in inference, and its parameters.

    For a GPU both stay as they are.

    Args:
        symbol: The original graph.
        params: The only parameters that the result will run with.
        contexts: As for `rewrite`.
        shapes: As for `rewrite`.
        log: As for `rewrite`.
    """
    if _on_gpu(contexts):
        return symbol, params
    graph = SymbolGraph(symbol)
    known = infer_shapes(graph, shapes)
    plan = plan_for_inference(graph, known, params, log)
    weights = {name: mx.nd.array(values) for replacement in plan for name, values in replacement.weights().items()}
    for replacement in plan:
        replacement.apply(graph)
    return (graph.to_symbol() if plan else symbol), {**params, **weights}


def _on_gpu(contexts: list[Context] | None) -> bool:
    return any(context.device_type != "cpu" for context in contexts or ())
