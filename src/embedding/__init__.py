"""Turn aligned faces into embeddings, with a checkpoint or an ONNX file."""
