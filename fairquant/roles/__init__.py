"""The eight roles, each a small Protocol, and the data they exchange."""

from fairquant.roles.allocator import Allocation, AllocationProblem, Allocator, BitPlan, BudgetConstraint, ChecksBudget
from fairquant.roles.component import DeclaresExemptions, HasExample
from fairquant.roles.dataset import ArrayImages, DataContext, Dataset, Downloadable, Images, Source, Split, Splits
from fairquant.roles.importance import Batch, ErrorImportance, GroupImportance, Importance, JointImportance, Layer
from fairquant.roles.metric import (
    AnyMetric,
    BoundedMetric,
    Confusion,
    ConfusionMetric,
    DirectedMetric,
    Metric,
    MetricValue,
    OperatingPoint,
    Predictions,
    ProportionMetric,
    QualifiedMetric,
    Rates,
    SampleMetric,
    WeightedMetric,
)
from fairquant.roles.quantizer import LimitedWidths, QuantizedWeight, Quantizer, WeightQuantizer
from fairquant.roles.reducer import Reducer
from fairquant.roles.regularizer import BitState, KeepsMemory, NeedsInputs, Regularizer, Step
from fairquant.roles.rounding import (
    BlockProblem,
    CannotLearn,
    LayerInputs,
    Rounded,
    Rounding,
    RoundingProblem,
    RoundsBlocks,
)

__all__ = [
    "Allocation", "AllocationProblem", "Allocator", "AnyMetric", "ArrayImages", "Batch", "BitPlan", "BitState",
    "BlockProblem", "BoundedMetric", "BudgetConstraint", "CannotLearn", "ChecksBudget", "Confusion", "ConfusionMetric",
    "DataContext", "Dataset", "DeclaresExemptions", "DirectedMetric", "Downloadable", "ErrorImportance", "GroupImportance",
    "HasExample", "Images", "Importance", "JointImportance", "KeepsMemory", "Layer", "LayerInputs", "LimitedWidths", "Metric",
    "MetricValue", "NeedsInputs", "OperatingPoint", "Predictions", "ProportionMetric", "QualifiedMetric", "QuantizedWeight",
    "Quantizer", "Rates", "Reducer", "Regularizer", "Rounded", "Rounding", "RoundingProblem", "RoundsBlocks", "SampleMetric",
    "Source", "Split", "Splits", "Step", "WeightQuantizer", "WeightedMetric",
]  # fmt: skip
