"""MLflow tracking: every run, comparison and study appears in its UI."""
