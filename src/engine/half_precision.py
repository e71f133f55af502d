"""Take networks in float16 as networks in float32: a CPU has no float16 layers, and float32 holds the same numbers."""

from __future__ import annotations

import numpy as np

from insightface_mx.base.compat import NDArray, Params, Symbol
from insightface_mx.engine.cpu_rewrite import once_log
from insightface_mx.engine.symbol_graph import Output, SymbolGraph

CASTS = ("Cast", "amp_cast", "amp_multicast")
HALVES = ("float16", "bfloat16")
FLOATS = ("float32", *HALVES)
_TYPE = "__dtype__"  # attribute of a variable: its type's number
_NUMBERS_OF_HALVES = ("2", "12")


def to_float32(path: str, symbol: Symbol, *params: Params) -> tuple[Symbol, tuple[Params, ...]]:
    """Return a network in float32, and log it once if it was in float16 or bfloat16.

    Args:
        path: The file of the parameters, for the log.
        symbol: The graph. What casts to a float type is left out.
        params: Parameters and moving averages.
    """
    content = symbol.tojson(remove_amp_cast=False)
    has_halves = any(array.dtype == np.float16 for arrays in params for array in arrays.values())
    if not has_halves and not any(f'"op": "{op}"' in content for op in CASTS):
        return symbol, params
    if has_halves or any(f'"dtype": "{half}"' in content for half in HALVES):
        once_log(f"{path} is a network of 16-bit numbers: taken as float32")
    widened = [{name: _widen(array) for name, array in arrays.items()} for arrays in params]
    return _without_casts(symbol), tuple(widened)


def _widen(array: NDArray) -> NDArray:
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _without_casts(symbol: Symbol) -> Symbol:
    """Return a graph whose operators read what the casts before them read."""
    graph = SymbolGraph(symbol)
    sources: dict[Output, Output] = {}  # what a cast returns -> what it reads
    for node in graph.nodes:
        node.inputs = [sources.get(output, output) for output in node.inputs]
        if node.op in CASTS and node.attrs.get("dtype", "float32") in FLOATS:
            sources.update((Output(node, index), source) for index, source in enumerate(node.inputs))
        if node.attrs.get(_TYPE) in _NUMBERS_OF_HALVES:
            del node.attrs[_TYPE]
    graph.heads = [sources.get(head, head) for head in graph.heads]
    return graph.to_symbol()
