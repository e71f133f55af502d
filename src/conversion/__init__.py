"""Networks to ONNX and PyTorch and back: nothing is written unless it computes the same.

Export:  export -> operators (symbol to graph) -> fold_norms -> file -> proof
Import:  importer -> file, normal_form -> fingerprint -> recognise -> read_params -> proof

graph holds the data types of an ONNX graph. iresnet converts state dicts of arcface_torch. quantize makes int8 files.
"""
