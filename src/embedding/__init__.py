"""From a checkpoint or an ONNX file to face embeddings."""
