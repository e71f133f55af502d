"""Training only a part of the parameters."""

import fnmatch
import json

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError


def freeze(symbol, patterns):
    """Keep parameters as they are: (symbol to train, names of the parameters for Module's fixed_param_names).

    patterns: shell patterns of parameter names, comma separated ('conv0*,stage1*'). A batch norm whose gamma is kept
    also keeps its moving averages, and computes with them. Raises UserError where a pattern fits no parameter.
    """
    names = [name for name in symbol.list_arguments() if name not in ("data", "softmax_label")]
    frozen = []
    for pattern in filter(None, patterns.split(",")):
        matching = fnmatch.filter(names, pattern)
        if not matching:
            raise UserError(f"--freeze {pattern}: no parameter has such a name; there are {', '.join(names[:5])}, ...")
        frozen += matching
    return _with_global_statistics(symbol, set(frozen)), frozen


def _with_global_statistics(symbol, frozen):
    graph = json.loads(symbol.tojson())
    for node in graph["nodes"]:
        if node["op"] == "BatchNorm" and graph["nodes"][node["inputs"][1][0]]["name"] in frozen:
            node["attrs"]["use_global_stats"] = "True"
    return mx.sym.load_json(json.dumps(graph))
