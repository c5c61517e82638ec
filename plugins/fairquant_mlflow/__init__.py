"""MLflow as a listener: every run in its UI."""
