"""Read ONNX files from others safely, in one normal form, and run them."""
