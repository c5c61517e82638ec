"""From the packed file to ONNX: the same integer codes with per-channel scales, activations calibrated, int8 kernels.

torch.onnx writes the graph; `ranges` finds the activations' ranges, group by group; `qdq` puts Q and DQ into it, `codes`
the artifact's codes. Batch norm is folded: its factor goes into the scales.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from fairquant.artifact.format import BLANK, fill_seal
from fairquant.artifact.load import Artifact, load, read_artifact
from fairquant.artifact.own_module import answer_with_logits
from fairquant.bits.activations import remove_input_quantizers
from fairquant.errors import UserError
from fairquant.export.codes import find_weights, put_weights
from fairquant.export.graph_checks import check_content
from fairquant.export.qdq import place_activations
from fairquant.export.ranges import Calibration, Coverage, Method
from fairquant.export.runtime import Preprocessing
from fairquant.files import scratch_folder, write_atomically

Activations = Literal["int8", "fp32"]
OPSET = 21  # the first with int4
FORMAT, CHECKSUM = "fairquant-onnx-1", "checksum"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written. int4: layers whose weights all take 4 bits; int8: those that take 8 for some row; rounded: layers
    whose levels had to be rounded to int8's (codebooks and dead zones are not uniform, standardized weights have an offset);
    in_float: those that the exporter folded into something else, which the file holds in float32, or left out as unused.
    clipped: group -> fraction of its activations outside their ranges on the calibration images, mean over tensors and the worst."""

    path: Path
    bytes: int
    int4: tuple[str, ...]
    int8: tuple[str, ...]
    rounded: tuple[str, ...]
    in_float: tuple[str, ...]
    clipped: Mapping[str, tuple[float, float]]


def need_onnx() -> None:
    """UserError where the extra is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f'export needs {error.name}: pip install "fairquant[deploy]"') from error


@dataclass(frozen=True)
class ExportOptions:
    """activations: int8 or fp32; method: the rule that calibrates their ranges; coverage: whether a range covers what the
    rule requires for each group, or of all images pooled."""

    activations: Activations = "int8"
    method: Method = "percentile"
    coverage: Coverage = "groups"


def export_onnx(
    source: Path, out: Path, options: ExportOptions | None = None, calibration: Calibration | None = None,
    model: nn.Module | None = None,
) -> Exported:  # fmt: skip
    """Write `out`. calibration: normalised images, needed for int8 activations; model: see `fairquant.load`.

    Raises UserError where the file cannot be read, there is no calibration image, or the model cannot be traced.
    """
    need_onnx()
    import onnx

    options = options or ExportOptions()
    artifact = read_artifact(source)
    network = load(source, model)
    if model is not None:
        answer_with_logits(network)
    learned = {_layer_of(artifact, name): bounds for name, bounds in remove_input_quantizers(network).items()}
    clipped: Mapping[str, tuple[float, float]] = {}
    with scratch_folder() as folder:
        plain = Path(folder) / "plain.onnx"
        trace(network, artifact, plain)
        graph = onnx.load(plain)
        weights, in_float = find_weights(graph, artifact)
        if options.activations == "int8":
            if calibration is None or not len(calibration.images):
                raise UserError(
                    "int8 activations need calibration images: give the dataset, --images FOLDER, or --activations fp32"
                )
            graph, ranges = place_activations(plain, weights, calibration, options.method, options.coverage, learned)
            clipped = ranges.clipped
        stored = put_weights(graph, weights)
        describe(graph, artifact, options)
        _forget_places(graph)
        _check(graph)
        content = sealed(graph)
    check_content(content, out)
    write_atomically(out, content)
    return Exported(
        path=out, bytes=len(content), int4=stored.int4, int8=stored.int8, rounded=stored.rounded,
        in_float=tuple(in_float), clipped=clipped,
    )  # fmt: skip


def _forget_places(graph: Any) -> None:
    """Remove what the exporter notes of the machine: files and lines of code, with the folders they lie in."""
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
    del graph.graph.metadata_props[:]
    graph.doc_string = graph.graph.doc_string = ""


def _check(graph: Any) -> None:
    """UserError where the graph is not valid, or takes batches of one size only."""
    import onnx

    try:
        onnx.checker.check_model(graph, full_check=True)
    except Exception as error:
        raise UserError(f"the exported graph is not valid: {_reason(error)}") from error
    batch = graph.graph.input[0].type.tensor_type.shape.dim[0]
    if batch.HasField("dim_value"):
        raise UserError(
            f"the exporter fixed the batch to {batch.dim_value} images, because the forward pass turns its size into a plain number "
            "(len(images), int(...)). Use images.shape[0], or flatten(1) in place of view"
        )


def _layer_of(artifact: Artifact, module: str) -> str:
    """The layer that a module's weight belongs to."""
    return next((layer for layer, names in artifact.shared_names.items() if module in names), module)


def trace(network: nn.Module, artifact: Artifact, out: Path) -> None:
    """The network as plain ONNX in float."""
    example = torch.zeros(2, 3, *Preprocessing.of(artifact.metadata, out).shape)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    network = network.float().to(memory_format=torch.contiguous_format)
    problem: BaseException | None = None
    # fused attention gives its output in another order in memory, on which a view in the graph would depend: as it is only where
    # the network cannot be traced unfused
    for attention in (sdpa_kernel(SDPBackend.MATH), contextlib.nullcontext()):
        with warnings.catch_warnings(), attention, _UnfusedAttention():
            warnings.simplefilter("ignore")
            try:
                torch.onnx.export(
                    network, (example,), str(out), input_names=["images"], output_names=["logits"], opset_version=OPSET,
                    dynamo=True, external_data=False, verbose=False,
                    dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
                )  # fmt: skip
                return
            except Exception as error:
                problem = error
    assert problem is not None
    raise UserError(f"the model cannot be traced to ONNX: {_reason(problem)}") from problem


class _UnfusedAttention(TorchFunctionMode):
    """Attention over more or fewer than four dimensions (NesT) as products and softmax: the exporter takes only four."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not nn.functional.scaled_dot_product_attention or args[0].ndim == 4:
            return func(*args, **kwargs or {})
        return _attention(*args, **kwargs or {})


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *,
    scale: float | None = None,
    **others: Any,
) -> Tensor:
    """What torch.nn.functional.scaled_dot_product_attention returns, for [..., L, E], [..., S, E] and [..., S, V]."""
    if any(others.values()):
        raise NotImplementedError(f"attention over {query.ndim} dimensions with {', '.join(sorted(others))}")
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(-1) @ value


def _reason(error: BaseException) -> str:
    """The first line of the innermost error, without colours: those around it say only in which step it occurred."""
    while error.__cause__ is not None:
        error = error.__cause__
    return re.sub(r"\x1b?\[\d+m", "", next(iter(str(error).strip().splitlines()), type(error).__name__))


def sealed(graph: Any) -> bytes:
    """The file's content with a checksum over all of it in the metadata."""
    metadata = [(each.key, each.value) for each in graph.metadata_props if each.key != CHECKSUM]
    del graph.metadata_props[:]
    for key, value in [*metadata, (CHECKSUM, BLANK)]:
        graph.metadata_props.add(key=key, value=value)
    content: bytes = graph.SerializeToString()
    return fill_seal(content, content.rindex(BLANK.encode()))


def describe(graph: Any, artifact: Artifact, options: ExportOptions) -> None:
    """Write what a service needs to know into the file's metadata."""
    facts = {
        "fairquant": FORMAT, "classes": artifact.metadata["classes"], "groups": artifact.metadata.get("groups", []),
        "preprocessing": artifact.metadata["preprocessing"], "plan": artifact.metadata.get("plan", {}),
        "recipe": artifact.metadata.get("recipe", {}), "recipe_digest": artifact.metadata.get("recipe_digest", ""),
        "activations": options.activations,
        "calibration": options.method if options.activations == "int8" else "none", "audit": artifact.metadata.get("audit", {}), 
        "operating_point": artifact.metadata.get("operating_point"),
    }  # fmt: skip
    del graph.metadata_props[:]
    for key, value in facts.items():
        graph.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value, sort_keys=True))
