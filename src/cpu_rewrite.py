"""A faster graph of the same network, for CPUs: made when a symbol is bound, never written to disk.

MXNet 1.9.1 computes LeakyReLU(act_type='prelu') in one thread, number by number: 49 % of an r50's training step, 90 %
of a y1's. Two equal forms are faster. `compiled` is the operator of prelu_op.cc, which uses every processor; images a
second in training at batch 16, on two processors: y1 8.5 before and 52 with it, r50 3.5 and 6. `symbols` needs no
compiler: y = relu(x) + a (x - relu(x)), the product being a depthwise 1x1 convolution whose weight is the slope: y1 29,
r50 5.6, and a fifth more memory.

Both also give the slope's gradient where MXNet does not: as soon as it lets the gradient of x overwrite that of y,
which depends on the graph around, its own kernel reads the overwritten one and the result is a times too large.
"""

import json
import logging

import numpy as np

from insightface_mx import native
from insightface_mx.compat import mx
from insightface_mx.errors import UserError

FORMS = {"compiled": "the compiled operator", "symbols": "plain symbols"}


def rewrite(symbol, contexts=None, shapes=None, form=None):
    """Return `symbol` with every PReLU in a fast form; where a context is not a CPU, `symbol` itself.

    contexts: list of MXNet contexts (None: the CPU). shapes: dict input name -> shape, what the symbol will be bound
    with; the form `symbols` needs it to know the number of channels. form: one of FORMS; None takes the compiled
    operator, or plain symbols where it cannot be had; a log line says which, and why. UserError: `compiled` is asked for
    and cannot be had.

    Names, order and shapes of arguments, auxiliary states and outputs stay, those of inner nodes too, and so do the
    attributes that initialisers and optimisers read. The result is for binding: save the symbol as it was. A PReLU that
    is not float32, or whose channels are not known, stays as it is.

    Every FullyConnected is given a Flatten, so that Module.bind(for_training=False), where oneDNN folds batch norms
    into convolutions, works: it fails where a fully connected layer follows a 1x1 map ("can't generate TBlob for MKLDNN
    data").
    """
    if any(context.device_type != "cpu" for context in contexts or ()):
        return symbol
    graph = json.loads(symbol.tojson())
    prelus = _prelus(graph, symbol)
    form = form or _best_form(len(prelus))
    ...
