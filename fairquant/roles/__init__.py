"""The seven roles, each a small Protocol, and the nouns they speak of."""

from fairquant.roles.allocator import Allocation, AllocationProblem, Allocator, BitPlan
from fairquant.roles.dataset import ArrayImages, DataContext, Dataset, Images, Split, Splits
from fairquant.roles.importance import Batch, ErrorImportance, GroupImportance, Importance, Layer
from fairquant.roles.metric import Confusion, ConfusionMetric, Metric, MetricValue, Predictions, Rates, SampleMetric
from fairquant.roles.quantizer import QuantizedWeight, Quantizer, WeightQuantizer
from fairquant.roles.reducer import Reducer
from fairquant.roles.regularizer import BitState, Regularizer, Step

__all__ = [
    "Allocation", "AllocationProblem", "Allocator", "ArrayImages", "Batch", "BitPlan", "BitState", "Confusion",
    "ConfusionMetric", "DataContext", "Dataset", "ErrorImportance", "GroupImportance", "Images", "Importance",
    "Layer", "Metric", "MetricValue", "Predictions", "QuantizedWeight", "Quantizer", "Rates", "Reducer",
    "Regularizer", "SampleMetric", "Split", "Splits", "Step", "WeightQuantizer",
]  # fmt: skip
