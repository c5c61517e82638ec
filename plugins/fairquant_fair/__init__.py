"""Our components: exact allocation, per-sample Fisher importance, budgeted bits, and the fairness metrics."""
