"""A network bound for inference, in the form of it that is fastest where it runs."""

from insightface_mx.base.compat import mx
from insightface_mx.engine import cpu_rewrite


class InferenceModule:
    """What `embedding.embed` needs of MXNet's Module, for the graph that `cpu_rewrite.rewrite_for_inference` makes.

    symbol: the faithful graph, with the one input `data`. contexts: list of MXNet contexts. shape: of the input, over
    all contexts; batches of another size bind anew. Nothing runs before parameters are set.
    """

    label_shapes = None

    def __init__(self, symbol, contexts, shape):
        self.symbol = symbol
        self._contexts, self._shapes = contexts, {"data": shape}
        self._module = None

    def set_params(self, arg_params, aux_params):
        """Set parameters, dicts name -> NDArray; those that the symbol does not have are ignored.

        Binds anew: the layers that oneDNN joins for inference keep the weights that they have run with.
        """
        symbol, arg_params = cpu_rewrite.rewrite_for_inference(self.symbol, arg_params, self._contexts, self._shapes)
        self._module = mx.mod.Module(symbol, label_names=None, context=self._contexts)
        self._module.bind(list(self._shapes.items()), for_training=False)
        self._module.set_params(arg_params, aux_params, allow_extra=True)

    def forward(self, batch, is_train=False):
        """Take a DataBatch through the network."""
        self._module.forward(batch, is_train=is_train)

    def get_outputs(self):
        """List of the outputs of the last batch, NDArrays."""
        return self._module.get_outputs()
