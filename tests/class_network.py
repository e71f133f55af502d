"""A network of three layers with class weights, for tests of checkpoints to start from."""

from insightface_mx.base.compat import mx

SHAPE = (2, 3, 4, 4)
INPUTS = ("data", "softmax_label", "fc7_beta")


def network(classes: int = 5, filters: int = 2):
    """A convolution, a batch norm and class weights; fc7_beta is a state, as SphereFace's."""
    body = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=filters, kernel=(1, 1), no_bias=True, name="conv0")
    body = mx.sym.BatchNorm(body, fix_gamma=False, name="bn0")
    logits = mx.sym.FullyConnected(body, num_hidden=classes, no_bias=True, name="fc7")
    logits = mx.sym.broadcast_mul(logits, mx.sym.Variable("fc7_beta", shape=(1,)))
    return mx.sym.SoftmaxOutput(logits, mx.sym.Variable("softmax_label"), name="softmax")


def parameters(symbol, value=1.0):
    shapes, _, averages = symbol.infer_shape(data=SHAPE)
    named = dict(zip(symbol.list_arguments(), shapes))
    args = {name: mx.nd.full(shape, value) for name, shape in named.items() if name not in INPUTS}
    return args, {name: mx.nd.full(shape, value) for name, shape in zip(symbol.list_auxiliary_states(), averages)}
