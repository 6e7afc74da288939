"""Networks as ONNX graphs, built from the tensors of a checkpoint, and onnxruntime, which computes them on CPUs."""
