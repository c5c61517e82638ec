"""Files that are damaged, or made to harm: artifacts, their ONNX, checkpoints, reports and recipes, altered in their structure
and in their bytes, give an error in words, or what they gave before; never a traceback, and never long.

    python tests/campaigns/files.py [--rounds 1000] [--seed 0] [--what files,recipes]
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import yaml

MOST_SECONDS = 20.0
VALUES: tuple[object, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**30, -0.5, float("nan"), float("inf"), "", "x", "x" * 5000, "../../x", "$x_$", "\0", [], {},
    [[]], [1, "a"], {"a": 1}, [0] * 1000, {"name": "resnet18"},
)  # fmt: skip


def altered(rng: random.Random, value: Any) -> Any:
    """The value with something in it replaced, removed, doubled or renamed."""
    value = copy.deepcopy(value)
    holder, key = None, None
    at = value
    while isinstance(at, dict | list) and at and (holder is None or rng.random() < 0.75):
        holder = at
        key = rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))
        at = at[key]
    if holder is None:
        return rng.choice(VALUES)
    kind = rng.randrange(4)
    if kind == 0 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    elif kind == 1:
        del holder[key]
    elif kind == 2 and isinstance(holder, list):
        holder.insert(0, at)
    else:
        holder[key] = rng.choice(VALUES)
    return value


def bytes_altered(rng: random.Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 8, 200])):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    kind = rng.randrange(4)
    return bytes(damaged[: rng.randrange(len(damaged))]) if kind == 0 else bytes(damaged)


def sealed_anew(entries: dict[str, Any], metadata: dict[str, Any], body: bytes) -> bytes:
    """An artifact with other metadata under a good checksum, as whoever means harm would make it."""
    from fairquant.artifact.format import BLANK, FORMAT, seal

    text = {key: json.dumps(value) for key, value in metadata.items()} | {"format": FORMAT, "checksum": BLANK}
    header = json.dumps({"__metadata__": text, **entries}).encode()
    return seal(struct.pack("<Q", len(header)) + header + body)


def artifacts(rng: random.Random, file: Path) -> Callable[[Path], None]:
    """An altered artifact, which is loaded."""
    from fairquant.export.runtime import Preprocessing, open_runtime

    content = file.read_bytes()
    if rng.random() < 0.3:
        content = bytes_altered(rng, content)
    else:
        length = struct.unpack("<Q", content[:8])[0]
        entries = json.loads(content[8 : 8 + length])
        text = entries.pop("__metadata__")
        metadata = {key: json.loads(value) for key, value in text.items() if key not in ("format", "checksum")}
        if rng.random() < 0.7:
            metadata = altered(rng, metadata)
        else:
            entries = altered(rng, entries)
        with contextlib.suppress(TypeError, AttributeError, ValueError):
            content = sealed_anew(entries, metadata, content[8 + length :]) if isinstance(metadata, dict) else content

    def read(folder: Path) -> None:
        bad = folder / "bad.safetensors"
        bad.write_bytes(content)
        Preprocessing.of(open_runtime(bad).metadata, bad)

    return read


def exported(rng: random.Random, file: Path) -> Callable[[Path], None]:
    """An altered ONNX file, sealed anew, which is opened."""
    import onnx

    from fairquant.export.onnx import sealed
    from fairquant.export.runtime import Preprocessing, open_runtime

    model = onnx.load(file.with_suffix(".onnx"))
    content = model.SerializeToString()
    if rng.random() < 0.3:
        content = bytes_altered(rng, content)
    else:
        facts = {each.key: each.value for each in model.metadata_props}
        key = rng.choice(sorted(set(facts) - {"checksum"}))
        try:
            facts[key] = json.dumps(altered(rng, {key: json.loads(facts[key])}).get(key))
        except (ValueError, AttributeError):
            facts[key] = "x"
        del model.metadata_props[:]
        for name, value in facts.items():
            model.metadata_props.add(key=name, value=value)
        content = sealed(model)

    def read(folder: Path) -> None:
        bad = folder / "bad.onnx"
        bad.write_bytes(content)
        Preprocessing.of(open_runtime(bad).metadata, bad)

    return read


def recipes(rng: random.Random, file: Path) -> Callable[[Path], None]:
    """An altered recipe, which is read."""
    from fairquant.recipe import read_recipe
    from fairquant.registry import discover

    text = yaml.safe_dump(altered(rng, yaml.safe_load(file.with_name("recipe.yaml").read_text())))
    if rng.random() < 0.3:
        text = bytes_altered(rng, text.encode()).decode("latin-1")
    registry = discover().registry

    def read(folder: Path) -> None:
        (folder / "bad.yaml").write_text(text, encoding="utf-8")
        read_recipe(folder / "bad.yaml", registry=registry, searching=True)

    return read


def reports(rng: random.Random, file: Path) -> Callable[[Path], None]:
    """An altered report and predictions, which are listed and compared."""
    from fairquant.runs.predictions import checked_predictions
    from fairquant.runs.reports import find_runs, read_report

    report = json.dumps(altered(rng, json.loads(file.with_name("report.json").read_text()))).encode()
    predictions = bytes_altered(rng, file.with_name("predictions.npz").read_bytes())

    def read(folder: Path) -> None:
        from fairquant.errors import UserError

        (folder / "report.json").write_bytes(report)
        (folder / "predictions.npz").write_bytes(predictions)
        find_runs(folder)
        for each in (
            lambda: read_report(folder / "report.json"),
            lambda: checked_predictions(folder / "predictions.npz"),
        ):
            with contextlib.suppress(UserError):
                each()

    return read


def checkpoints(rng: random.Random, file: Path) -> Callable[[Path], None]:
    """An altered checkpoint: it is read as it was, or not at all."""
    import torch

    from fairquant.training.checkpoints import load_checkpoint, save_checkpoint

    def read(folder: Path) -> None:
        path = folder / "train.pt"
        save_checkpoint(path, {"model": {"a": torch.arange(200.0)}}, "this")
        path.write_bytes(bytes_altered(rng, path.read_bytes()))
        found = load_checkpoint(path, torch.device("cpu"), "this")
        assert found is None or torch.equal(found["model"]["a"], torch.arange(200.0))

    return read


KINDS = (artifacts, exported, recipes, reports, checkpoints)


def campaign(rounds: int, rng: random.Random) -> harness.Count:
    import fairquant
    from fairquant.errors import UserError
    from fairquant.export.onnx import ExportOptions, export_onnx

    count = harness.Count()
    Path("whole.yaml").write_text(yaml.safe_dump(harness.RECIPE))
    file = fairquant.run("whole.yaml", runs="runs").folder.absolute() / "model.safetensors"
    export_onnx(file, file.with_suffix(".onnx"), ExportOptions(activations="fp32"), None)
    for number in range(rounds):
        kind, place = KINDS[number % len(KINDS)], Path.cwd() / f"round{number}"
        place.mkdir()
        read = kind(rng, file)
        start, problem = time.monotonic(), ""
        try:
            read(place)
        except UserError:
            pass
        except Exception as error:
            problem = f"{type(error).__name__}: {str(error)[:200]}"
        if (seconds := time.monotonic() - start) > MOST_SECONDS:
            problem = f"took {seconds:.0f} s"
        count.add(problem and f"round {number} ({kind.__name__}): {problem}")
    return count


SECRET = "9bb2secret41"
HOSTILE: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: "${oc.env:FAIRQUANT_SECRET}", lambda rng: "${oc.env:HOME}", lambda rng: "${oc.decode:${oc.env:FAIRQUANT_SECRET}}",
    lambda rng: f"http://alice:{SECRET}@host", lambda rng: f"'postgresql://host/db?password={SECRET}'",
    lambda rng: "9" * rng.choice([20, 400, 5000]), lambda rng: "-" + "9" * 30, lambda rng: rng.choice([".nan", ".inf", "-.inf", "1e999"]),
    lambda rng: "[" * 3000 + "]" * 3000, lambda rng: "{a: " * 500 + "1" + "}" * 500, lambda rng: "&a [*a]", lambda rng: "&a {b: *a}",
    lambda rng: "*undefined", lambda rng: "!!python/object/apply:os.system ['touch harmed']", lambda rng: "!!python/name:os.system",
    lambda rng: "(((a+)+)+)+$", lambda rng: "['[', '(', '*']", lambda rng: "{'[': 4}", lambda rng: "../../../x", lambda rng: "/etc/passwd",
    lambda rng: "'\\0'", lambda rng: '"\\ud800"', lambda rng: "null", lambda rng: "true", lambda rng: "-1", lambda rng: "0", lambda rng: "1000000",
    lambda rng: "''", lambda rng: "[]", lambda rng: "{}", lambda rng: "<script>alert(1)</script>", lambda rng: "$x_$", lambda rng: "x" * 100_000,
    lambda rng: "${" * 50 + "seed" + "}" * 50, lambda rng: "${seed}${seed}${seed}", lambda rng: "2026-11-26", lambda rng: "0o17", lambda rng: "1_000",
)  # fmt: skip


def recipes_made_to_harm(rounds: int, rng: random.Random) -> harness.Count:
    """A hostile value at one key of a recipe, in the file or on the command line: read in seconds, refused in words or right, and no
    environment variable or password anywhere."""
    from fairquant.errors import UserError
    from fairquant.recipe import read_recipe
    from fairquant.registry import discover
    from fairquant.report.write import recipe_yaml

    registry, count = discover().registry, harness.Count()
    os.environ["FAIRQUANT_SECRET"] = SECRET
    Path("whole.yaml").write_text(yaml.safe_dump(harness.RECIPE))
    whole = yaml.safe_load(recipe_yaml(read_recipe("whole.yaml", registry=registry)))
    paths = [path for path in _paths(whole) if path]
    for number in range(rounds):
        path, value = rng.choice(paths), HOSTILE[number % len(HOSTILE)](rng)
        given, overrides = "seed: 1\n", [f"{'.'.join(path)}={value}"]
        if rng.random() < 0.5:
            lines = [f"{'  ' * depth}{key}:" for depth, key in enumerate(path)]
            given, overrides = "\n".join(lines) + f" {value}\n", []
        Path("hostile.yaml").write_text(given, encoding="utf-8", errors="surrogatepass")
        start, said, problem = time.monotonic(), "", ""
        try:
            said = recipe_yaml(read_recipe("hostile.yaml", overrides, registry=registry, searching=True))
        except UserError as error:
            said = str(error)
        except Exception as error:
            problem = f"{type(error).__name__}: {str(error)[:200]}"
        if SECRET in said or os.environ["HOME"] + "'" in said:
            problem = f"it tells a secret: {said[:200]}"
        if Path("harmed").exists():
            problem = "code was run"
        if (seconds := time.monotonic() - start) > MOST_SECONDS / 2:
            problem = f"took {seconds:.0f} s"
        count.add(problem and f"round {number}: {'.'.join(path)}: {value[:40]}: {problem}")
    return count


def _paths(content: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The keys of a recipe, sections too."""
    inner = content.items() if isinstance(content, dict) else ()
    return [path, *(each for key, value in inner for each in _paths(value, (*path, str(key))))]


if __name__ == "__main__":
    harness.start(str(__doc__), {"files": campaign, "recipes": recipes_made_to_harm}, 1000)
