"""The pipeline of one run, from a recipe to its results (start with pipeline.py)."""
