"""Training: one loop for the baseline and for the quantized model, deterministic and resumable at any step."""
