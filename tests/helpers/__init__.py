"""What tests share: small models, small data, known predictions, small recipes, files of small models."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
