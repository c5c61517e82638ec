"""The file that ships: bit-packed safetensors, and the model back from it."""

from fairquant.artifact.load import load, read_artifact
from fairquant.artifact.save import save_artifact

__all__ = ["load", "read_artifact", "save_artifact"]
