"""ONNX export with the artifact's integer codes; running, auditing and timing of files."""
