"""What a run leaves: predictions.npz, bit_plan.csv, report.html, the model card and, last of all, report.json."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from fairquant.audit import Audit
from fairquant.audit.page import render_page
from fairquant.audit.verdict import verdict
from fairquant.bits import Attachment
from fairquant.bits.packing import packed_bytes
from fairquant.bits.spending import Latency, Operations
from fairquant.card import model_card
from fairquant.files import write_atomically
from fairquant.recipe.schema import Recipe
from fairquant.report import audit_json, bits_json, plain, plan_csv
from fairquant.roles import Allocation, BitPlan, Predictions, QuantizedWeight, Splits
from fairquant.roles.dataset import counts_of
from fairquant.runs import Run, versions


@dataclass(frozen=True)
class Results:
    """Everything the run found out."""

    splits: Splits
    audit: Audit
    before: Predictions
    after: Predictions
    validation: tuple[Predictions, Predictions]
    plan: BitPlan | None
    attachment: Attachment | None
    allocation: Allocation | None
    weights: Mapping[str, QuantizedWeight]
    artifact: Mapping[str, Any]
    network: nn.Module
    operations: Operations | None = None
    inputs: Mapping[str, int] = field(default_factory=dict)  # layer -> bits of its input, where not in float

    @property
    def bops(self) -> tuple[int, int] | None:
        """Bit operations of one image: now, and in full precision."""
        if self.operations is None or self.plan is None:
            return None
        return self.operations.bops(self.plan, self.inputs), self.operations.full(self.plan)

    @property
    def weight_bytes(self) -> int:
        if not self.weights:
            return 4 * sum(parameter.numel() for parameter in self.network.parameters())
        return sum(packed_bytes(weight.bits, weight.codes.shape[1]) for weight in self.weights.values())

    @property
    def full_bytes(self) -> int:
        """Size of the same model in float32."""
        state = {id(value): value for value in self.network.state_dict(keep_vars=True).values()}
        return sum(value.numel() * value.element_size() for value in state.values())


HELD = "checkpoints/held.safetensors"


def write_held(
    run: Run, validation: tuple[Predictions, Predictions], plan: BitPlan | None, artifact: Mapping[str, Any]
) -> dict[str, Any]:
    """What a run leaves that stops before the test images: validation.npz, and held.json with its bits and bytes."""
    write_atomically(run.folder / "validation.npz", predictions_npz(*validation))
    held = {"bits": {"average": plan.average if plan is not None else 32.0}, "artifact": {"bytes": artifact["bytes"]}}
    write_atomically(run.folder / "held.json", json.dumps(held).encode())
    (run.folder / HELD).unlink(missing_ok=True)
    return held


def write_results(recipe: Recipe, run: Run, results: Results) -> dict[str, Any]:
    """Write all files; report.json comes last, so that a folder with a report is a finished run."""
    report = make_report(recipe, run, results)
    write_atomically(run.folder / "predictions.npz", predictions_npz(results.before, results.after))
    write_atomically(run.folder / "validation.npz", predictions_npz(*results.validation))
    write_atomically(run.folder / "bit_plan.csv", plan_csv(results.plan))
    page = render_page(recipe, report, results, run.messages)
    write_atomically(run.folder / "report.html", page.encode())
    card = model_card(recipe, report, verdict(report, results.full_bytes), run.messages)
    write_atomically(run.folder / "README.md", card.encode())
    write_atomically(run.folder / "report.json", (json.dumps(report, indent=1) + "\n").encode())
    return report


def make_report(recipe: Recipe, run: Run, results: Results) -> dict[str, Any]:
    """report.json: stable keys, plain data."""
    splits, allocation = results.splits, results.allocation
    budget: dict[str, Any] = {"average_bits": recipe.budget.average_bits if recipe.quantizer is not None else None}
    if recipe.quantizer is not None:
        limits = {
            "size_bytes": recipe.budget.bytes,
            "bops": recipe.budget.bit_operations,
            "latency_ms": recipe.budget.milliseconds,
        }
        budget |= {name: limit for name, limit in limits.items() if limit is not None}
    if allocation is not None and allocation.nominal_bits is not None:
        budget["nominal_bits"] = allocation.nominal_bits
    quantized = sum(parameter.numel() for parameter in results.network.parameters())
    start = results.attachment.start if results.attachment is not None else None
    bits = bits_json(results.plan, start, results.weight_bytes, quantized)
    if results.bops is not None and recipe.budget.bops is not None:
        bits["bops"], bits["full_bops"] = results.bops
    if results.attachment is not None and isinstance(results.attachment.spending, Latency) and results.plan is not None:
        bits["latency_ms"] = results.attachment.spending.of(results.plan)
    report: dict[str, Any] = {
        "method": recipe.method,
        "seed": recipe.seed,
        "recipe": recipe.name + (" (DEMO: synthetic data, a few epochs)" if recipe.demo else ""),
        "dataset": {
            "name": recipe.dataset.name, "fingerprint": splits.fingerprint, "classes": list(splits.class_names),
            "attributes": list(splits.attributes), "counts": counts_of(splits),
        },
        "budget": budget,
        "bits": bits,
        "artifact": dict(results.artifact),
        **audit_json(results.audit),
        "optimality": (
            {"lower_bound": allocation.lower_bound, "gap": allocation.gap}
            if allocation is not None and allocation.lower_bound is not None else {}
        ),
        "timings": {name: round(seconds, 3) for name, seconds in run.timings.items()},
        "versions": versions(run.plugins),
    }  # fmt: skip
    cleaned: dict[str, Any] = plain(report)
    return cleaned


def predictions_npz(before: Predictions, after: Predictions) -> bytes:
    """logits, baseline_logits [N, C], labels, groups [N], group_names, class_names, ids; same bytes for same numbers."""
    arrays = {
        "logits": after.logits, "baseline_logits": before.logits, "labels": after.labels,
        "groups": after.groups, "group_names": np.array(after.group_names), "class_names": np.array(after.class_names),
        "ids": np.array(after.ids),
    }  # fmt: skip
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def read_predictions(file: Path) -> tuple[Predictions, Predictions]:
    """Predictions (before, after) quantization out of a run's predictions.npz (test) or validation.npz."""
    with np.load(file, allow_pickle=False) as found:
        labels, groups = found["labels"], found["groups"]
        names = tuple(found["group_names"].tolist()), tuple(found["class_names"].tolist())
        ids = tuple(found["ids"].tolist())
        before, after = (Predictions(found[key], labels, groups, *names, ids) for key in ("baseline_logits", "logits"))
    return before, after
