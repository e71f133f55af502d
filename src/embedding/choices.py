"""Name the back ends and their packages; a parser needs no more than this."""

PACKAGES = {  # that each back end needs, the fastest on CPUs first: benchmark.py shows it
    "openvino": ("openvino", "onnx", "onnxruntime"),
    "onnxruntime": ("onnx", "onnxruntime"),
    "mxnet": ("mxnet",),
}
CHOICES = ("auto", *PACKAGES)
