"""The packed model file: save, check and load."""

from fairquant.artifact.load import load, read_artifact
from fairquant.artifact.save import save_artifact

__all__ = ["load", "read_artifact", "save_artifact"]
