"""Training runs, working points, and export to one ONNX file."""
