"""Record the golden graphs of tests/golden/symbols: one text file a case, which a reviewer can read and compare.

    python tests/golden/record.py

A file begins with the call that builds the network; this script builds it and writes the file again. The graphs were
recorded from the 2018 code on MXNet 1.9.1, those of later-*.txt from the code of 2019 to 2021, so the files must not
change: `git diff` shows a changed network. A new case is a new file that holds its first line.

    fresnet.get_symbol(512, 18, version_se=0)                              the call
    output (2, 512)                                                        of BATCH, two 112x112 images
    parameters 24025600                                                    values in all parameters

    data (2, 3, 112, 112)                                                  a variable: name, shape, attributes
    Convolution conv0 kernel=(3, 3) num_filter=64 <- _mulscalar0           an operator: kind, name, attributes <- inputs
      _weight (64, 3, 3, 3)                                                the operator's parameter conv0_weight

Nodes stand in the order of the graph, but an operator's parameters, which stand before it in the graph, follow it here
and are left out of its inputs. Such a parameter has the operator's attributes and those in its line; "only" says
that it has none but those in its line.
"""

from __future__ import annotations

import ast
import importlib
import json
import math
from pathlib import Path
from typing import Any, Dict

from insightface_mx.base.compat import Symbol, mx

FOLDER = Path(__file__).parent / "symbols"
BATCH = (2, 3, 112, 112)

Node = Dict[str, Any]  # of a symbol's JSON


def build(call: str) -> Symbol:
    """Build the network of a case from its call, such as `fresnet.get_symbol(512, 18, version_se=0)`."""
    tree = ast.parse(call, mode="eval").body
    module = importlib.import_module(f"insightface_mx.symbols.{tree.func.value.id}")
    positional = [ast.literal_eval(argument) for argument in tree.args]
    keywords = {keyword.arg: ast.literal_eval(keyword.value) for keyword in tree.keywords}
    with mx.name.NameManager():
        return getattr(module, tree.func.attr)(*positional, **keywords)


def describe(call: str) -> str:
    """Return the content of the file of a case."""
    symbol = build(call)
    arguments, outputs, auxiliary = symbol.infer_shape(data=BATCH)
    shapes = dict(zip(symbol.list_arguments(), arguments))
    parameters = sum(math.prod(shape) for name, shape in shapes.items() if name != "data")
    shapes.update(zip(symbol.list_auxiliary_states(), auxiliary))
    lines = [call, f"output {' '.join(map(str, outputs))}", f"parameters {parameters}", ""]
    return "\n".join([*lines, *node_lines(json.loads(symbol.tojson())["nodes"], shapes), ""])


def node_lines(nodes: list[Node], shapes: dict[str, tuple]) -> list[str]:
    """Describe the nodes of a graph.

    Args:
        nodes: Those of the symbol's JSON, in their order; an input is a list that begins with a node's index.
        shapes: The shape of every variable by its name.
    """
    lines, waiting = [], []  # waiting: indices of the variables directly before a node
    for index, node in enumerate(nodes):
        if node["op"] == "null":
            waiting.append(index)
            continue
        inputs = [source for source, *_ in node["inputs"]]
        own = 0  # of the waiting variables, the last that are the node's last inputs in the same order
        while own < min(len(waiting), len(inputs) - 1) and waiting[-1 - own] == inputs[-1 - own]:
            own += 1
        others, parameters = waiting[: len(waiting) - own], waiting[len(waiting) - own :]
        lines += [
            _line(nodes[other]["name"], shapes[nodes[other]["name"]], _attributes(nodes[other])) for other in others
        ]
        sources = [nodes[source]["name"] for source in inputs[: len(inputs) - own]]
        lines.append(_line(node["op"], node["name"], _attributes(node), "<-", *sources))
        lines += [_parameter_line(nodes[parameter], node, shapes) for parameter in parameters]
        waiting = []
    return lines


def _parameter_line(parameter: Node, operator: Node, shapes: dict[str, tuple]) -> str:
    name, shared, attributes = parameter["name"], _attributes(operator), _attributes(parameter)
    short = name[len(operator["name"]) :] if name.startswith(f"{operator['name']}_") else name
    if all(attribute in attributes for attribute in shared):
        more = [attribute for attribute in attributes if attribute not in shared]
        return f"  {_line(short, shapes[name], more)}"
    return f"  {_line(short, shapes[name], 'only', attributes)}"


def _attributes(node: Node) -> list[str]:
    return [f"{key}={value}" for key, value in sorted(node.get("attrs", {}).items())]


def _line(*words: Any) -> str:
    """Join words, and the words of lists, with spaces."""
    flat = [part for word in words for part in (word if isinstance(word, list) else [word])]
    return " ".join(map(str, flat))


def main() -> None:
    """Write every file again."""
    for path in sorted(FOLDER.glob("*.txt")):
        path.write_text(describe(path.read_text().partition("\n")[0]))


if __name__ == "__main__":
    main()
