"""One small network of every family in timm, through the whole of FairQuant: plan and quantize without training, save, load,
export to ONNX with float and with int8 activations, audit the file. Every step is a command that a user would give. With float
activations the file's logits must be those of the artifact. Weights that a network begins with as zeros or nearly (heads, last norms of
a block, scales of layers) are drawn, so that every layer counts in its logits.

    python tests/campaigns/timm_sweep.py FOLDER [--families resnet,deit] [--out docs/timm-table.md]

It takes hours on a CPU. Finished families are kept in FOLDER/results.jsonl, and a second call goes on from there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

#: Levels of codebooks are rounded to int8's when they are exported: logits differ by less than this fraction of the largest.
MOST = 0.1
#: Families whose smallest network is large, made smaller by options of their own: fewer of the same blocks.
FEWER: dict[str, dict[str, object]] = {
    "beit": {"depth": 3}, "naflexvit": {"depth": 3}, "qwen3_vit": {"depth": 3}, "gemma4_vit": {"depth": 2},
    "deepseek_vit": {"depth": 2}, "vision_transformer_sam": {"depth": 3, "global_attn_indexes": [2]},
}  # fmt: skip
#: Parameters whose largest magnitude is below are drawn; classes of the synthetic lesions.
NEARLY_ZERO, CLASSES = 1e-3, 6
SIZES = (64, 96, 128, 192, 224, 256)
RECIPE = """\
seed: 0
method: fq-baq-ptq
dataset: {name: synthetic-lesions, images: 60}
budget: {average_bits: 3}
baseline: {epochs: 0}
calibration: {images: 8, batch_size: 4}
metrics: [accuracy]
tracking: {mlflow: null}
"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one family. failed: the step that did, "" where all went well; reason: its message; refused: whether that is
    an error that names the cause. size: of the images; in_float: share of the weights that stays in float32; difference: largest
    difference between logits of the artifact and of its export with float activations, relative to the largest logit; -1 where all logits are 0."""

    family: str
    model: str
    parameters: int
    size: int = 0
    failed: str = ""
    reason: str = ""
    refused: bool = False
    in_float: float = 0.0
    difference: float = -1.0


def smallest_models() -> dict[str, tuple[str, int]]:
    """Family -> its network with the fewest parameters, and their number."""
    import timm
    import torch

    best: dict[str, tuple[str, int]] = {}
    for name in timm.list_models():
        family = timm.models.model_entrypoint(name).__module__.rpartition(".")[2]
        with torch.device("meta"):
            network = timm.create_model(name, num_classes=4, **FEWER.get(family, {}))
        count = sum(parameter.numel() for parameter in network.parameters())
        if family not in best or count < best[family][1]:
            best[family] = name, count
    return best


def sweep(families: dict[str, tuple[str, int]], folder: Path, seconds: int) -> Iterable[Result]:
    """The results of all families, those of an earlier call first."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.yaml").write_text(RECIPE)
    kept = folder / "results.jsonl"
    done = [Result(**json.loads(line)) for line in kept.read_text().splitlines()] if kept.exists() else []
    yield from (result for result in done if result.family in families)
    for family, (model, parameters) in families.items():
        if family in {result.family for result in done}:
            continue
        result = through(Result(family=family, model=model, parameters=parameters), folder, seconds)
        with kept.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        yield result


def through(start: Result, folder: Path, seconds: int) -> Result:
    """Run, load, export and audit one network, at the first size that it takes."""
    about = {"family": start.family, "model": start.model, "parameters": start.parameters}
    runs = folder / "runs" / start.family
    result = start
    for size in SIZES:
        shutil.rmtree(runs, ignore_errors=True)
        model = [f"model.name={start.model}", f"model.image_size={size}"]
        model += [f"model.options={json.dumps(FEWER[start.family])}"] if start.family in FEWER else []
        if weights := drawn_weights(start, size, folder):
            model.append(f"model.weights={weights}")
        code, text = command(["run", str(folder / "sweep.yaml"), *model], runs, seconds)
        result = Result(**about, size=size, failed="run", reason=text, refused=code == 2)
        if code != 2 or "image_size" not in text:
            break
    if code:
        return result
    artifact = next(runs.rglob("model.safetensors"))
    report = json.loads(artifact.with_name("report.json").read_text())
    in_float = sum(report["bits"]["in_float"].values()) / max(start.parameters, 1)
    plain, final = artifact.with_name("plain.onnx"), artifact.with_suffix(".onnx")
    difference = 0.0
    for arguments in (
        ["export", str(artifact), "--activations", "fp32", "--out", str(plain)], ["export", str(artifact)], ["audit", str(final)],
    ):  # fmt: skip
        code, text = command(arguments, runs, seconds)
        if not code and plain.exists():
            difference = largest_difference(artifact, plain, size)
            plain.unlink()
            code, text = (0, "") if difference < MOST else (1, f"logits differ by {100 * difference:.1f} %")
        if code:
            failed = {"failed": arguments[0], "reason": text, "refused": code == 2, "difference": difference}
            return Result(**about, size=size, in_float=in_float, **failed)
    shutil.rmtree(runs, ignore_errors=True)
    return Result(**about, size=size, in_float=in_float, difference=difference)


def drawn_weights(start: Result, size: int, folder: Path) -> Path | None:
    """A file of the network's fresh weights, those that are nearly 0 drawn; None where it cannot be built for this size: a run
    says why."""
    import torch
    from safetensors.torch import save_file

    from fairquant import UserError
    from fairquant.artifact.architecture import create
    from fairquant.recipe.sections import ModelSettings

    torch.manual_seed(0)
    try:
        network = create(ModelSettings(name=start.model, image_size=size, options=FEWER.get(start.family, {})), CLASSES)
    except UserError:
        return None
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.abs().max() < NEARLY_ZERO:
                parameter.normal_(0, 0.05)
    save_file(
        {name: value.clone().contiguous() for name, value in network.state_dict().items()},
        folder / "weights.safetensors",
    )
    return folder / "weights.safetensors"


def largest_difference(artifact: Path, exported: Path, size: int) -> float:
    """Between the logits of both files for the same four images of noise, relative to the largest logit; -1 where all logits are 0."""
    import numpy as np

    from fairquant.export.runtime import open_runtime

    images = np.random.default_rng(0).normal(size=(4, 3, size, size)).astype(np.float32)
    expected = open_runtime(artifact).logits(images)
    found, largest = open_runtime(exported).logits(images), float(np.abs(expected).max())
    if not largest:  # an untrained head that was rounded to 0: nothing to compare, but that the file says so too
        return -1.0 if not found.any() else float("inf")
    return float(np.abs(found - expected).max() / largest)


def command(arguments: Sequence[str], runs: Path, seconds: int) -> tuple[int, str]:
    """Exit status of `fairquant ...`, and the last line that it wrote to standard error."""
    import os

    environment = {**os.environ, "FAIRQUANT_RUNS": str(runs)}
    line = [sys.executable, "-m", "fairquant", *arguments]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=seconds, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return 1, f"took longer than {seconds} s"
    lines = [each for each in done.stderr.strip().splitlines() if each.strip()]
    return done.returncode, " ".join(lines[-2:]).rpartition("fairquant: error: ")[2] if lines else ""


def _fewer(family: str) -> str:
    """Options that made the network smaller, in words."""
    return f" with depth {FEWER[family]['depth']}" if family in FEWER else ""


def table(results: Sequence[Result]) -> str:
    """Markdown, one row a family."""
    works = sum(not result.failed for result in results)
    rows = [
        f"| {r.family} | `{r.model}`{_fewer(r.family)} | {r.parameters / 1e6:.1f} M | {r.size} | {100 * r.in_float:.1f} % | "
        f"{f'{100 * r.difference:.1f} %' if r.difference >= 0 and not r.failed else 'not measured'} | "
        f"{'works' if not r.failed else f'{r.failed}: {r.reason}'} |"
        for r in sorted(results, key=lambda result: (not result.failed, result.family))
    ]
    head = (
        "| family | network | parameters | image size | stays in float32 | logits of the export differ by | outcome |"
    )
    return "\n".join(
        [f"{works} of {len(results)} families work.", "", head, "|---|---|---|---|---|---|---|", *rows, ""]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--families", default="", help="only these, with commas between them")
    parser.add_argument("--seconds", type=int, default=900, help="for each command")
    parser.add_argument("--out", type=Path, help="write the table there")
    options = parser.parse_args()
    cached = options.folder / "smallest.json"
    families = json.loads(cached.read_text()) if cached.exists() else smallest_models()
    options.folder.mkdir(parents=True, exist_ok=True)
    cached.write_text(json.dumps(families))
    wanted = [name for name in options.families.split(",") if name] or list(families)
    results = []
    for result in sweep({name: tuple(families[name]) for name in wanted}, options.folder, options.seconds):
        results.append(result)
        print(
            f"{result.family:24} {result.model:32} {result.size:4} {result.failed or 'works':8} {result.reason}",
            flush=True,
        )
    if options.out is not None:
        options.out.write_text(table(results))


if __name__ == "__main__":
    main()
