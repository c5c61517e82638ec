"""The audit: what the model does to each group, with intervals, before and after compression."""

from fairquant.audit.evaluate import Audit, Change, audit

__all__ = ["Audit", "Change", "audit"]
