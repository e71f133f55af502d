"""Compare the networks here with graphs in a file, node by node.

    python tests/golden/compare.py later.json.gz

The file is JSON, name -> graph. A graph has `nodes`, each [operator, name, attributes, inputs], where an input is a
node's index, and what made it: `get_symbol`, [module, arguments, keywords] of the code of 2018, or `module` and
`config`, the net_name and the keys of the code of 2019 to 2021. The status is 1 where a graph differs.
"""

from __future__ import annotations

import gzip
import importlib
import json
import sys
from typing import Any, Dict

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.cli.output import say
from insightface_mx.symbols import from_config

Graph = Dict[str, Any]


def build(graph: Graph) -> Symbol:
    """Build the network that is to be equal to a graph."""
    if "config" in graph:
        return from_config({"net_name": graph["module"], **graph["config"]})
    module, arguments, *keywords = graph["get_symbol"]
    with mx.name.NameManager():
        builder = importlib.import_module(f"insightface_mx.symbols.{module}").get_symbol
        return builder(*arguments, **dict(*keywords))


def nodes(symbol: Symbol) -> list[list[Any]]:
    """Return the nodes of a symbol as in the file."""
    listed = json.loads(symbol.tojson())["nodes"]
    return [[node["op"], node["name"], node.get("attrs", {}), [i for i, *_ in node["inputs"]]] for node in listed]


def difference(graph: Graph) -> str:
    """Return in words where a graph and the network here differ first, '' where nowhere."""
    ours = nodes(build(graph))
    for our, their in zip(ours, graph["nodes"]):
        if our != their:
            return f"{our} is {their} there"
    return "" if len(ours) == len(graph["nodes"]) else f"{len(ours)} nodes, {len(graph['nodes'])} there"


def main(path: str) -> int:
    """Print a line for each graph, and return the status."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        graphs = json.load(file)
    differences = {name: difference(graph) for name, graph in graphs.items()}
    for name, found in differences.items():
        say(f"{name}: {found or 'equal'}")
    say(f"{sum(not found for found in differences.values())} of {len(graphs)} graphs are equal")
    return int(any(differences.values()))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
