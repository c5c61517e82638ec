"""Bit allocation: layers, costs, solvers, attaching quantizers, packing of codes."""

from fairquant.bits.attach import Attachment, attach
from fairquant.bits.layers import differentiable_weights, find_layers, gradients, untouched
from fairquant.bits.problem import make_problem, plan_of

__all__ = [
    "Attachment",
    "attach",
    "differentiable_weights",
    "find_layers",
    "gradients",
    "make_problem",
    "plan_of",
    "untouched",
]
