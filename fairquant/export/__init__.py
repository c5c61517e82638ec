"""From the artifact to what runs on a device: ONNX with the same integer codes, audited and timed as it ships."""
