"""The audit: what the model does to each group, with intervals, before and after compression."""

from fairquant.audit.change import Change
from fairquant.audit.evaluate import Audit, audit

__all__ = ["Audit", "Change", "audit"]
