"""One run: from a recipe to its results, as the paper tells it (start with pipeline.py)."""
