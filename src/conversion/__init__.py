"""Convert networks from and to ONNX and PyTorch, with proof that the result computes the same."""
