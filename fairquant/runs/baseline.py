"""The full-precision baseline: trained once, cached by content, shared by every method on the same data and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from fairquant.data.ranks import barrier, is_leader
from fairquant.files import folder_lock, remove_temporary, write_atomically
from fairquant.recipe.schema import Recipe
from fairquant.roles import Splits
from fairquant.runs.folder import Run
from fairquant.training.checkpoints import put_aside, state_digest
from fairquant.training.loop import Trainer, train
from fairquant.training.model import Model
from fairquant.training.selection import Measures

#: Key of the metadata that holds what the weights were trained for (`baseline_key`), and `state_digest` of the tensors.
DIGEST = "digest"


def train_baseline(recipe: Recipe, run: Run, splits: Splits, model: Model) -> None:
    """Leave `model.network` trained in full precision, from the cache where that has been done before."""
    key = baseline_key(recipe, splits, run.identity)
    folder = run.runs / "baselines" / key
    network = model.network
    with folder_lock(folder, blocking=True) if is_leader() else nullcontext():
        barrier()
        stored = folder / "model.safetensors"
        if (state := _stored(stored, model, key)) is not None:
            network.load_state_dict(state)
            run.log(f"baseline: taken from {folder}")
            return
        if recipe.baseline.epochs:
            trainer = Trainer(
                model=model, train=splits.train, validation=splits.validation, seed=recipe.seed, made_for=key,
                checkpoint=folder / "train.pt", measures=Measures(metrics=recipe.selection), on_step=run.steps("full precision"),
                on_epoch=lambda epoch, values: run.epoch("baseline", epoch, values),
                on_resume=lambda epoch, step: run.tell(f"full precision: resumed after {epoch} epochs and {step} steps"),
            )  # fmt: skip
            train(trainer, recipe.baseline)
        if not is_leader():
            return
        remove_temporary(folder)
        # a copy of each: safetensors takes no two names for the same memory
        final = {
            name: value.cpu().clone(memory_format=torch.contiguous_format)
            for name, value in network.state_dict().items()
        }
        write_atomically(stored, save(final, {DIGEST: f"{key} {state_digest(final)}"}))
        (folder / "train.pt").unlink(missing_ok=True)


def _stored(file: Path, model: Model, key: str) -> dict[str, Tensor] | None:
    """The weights in the cache; None where there are none, or not those that were written for this key: they are trained again."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as opened:
            digest = (opened.metadata() or {}).get(DIGEST)
        state: dict[str, Tensor] = load_file(file)
        own = model.network.state_dict()
        fits = state.keys() == own.keys() and all(state[name].shape == own[name].shape for name in own)
        if fits and f"{key} {state_digest({name: state[name] for name in own})}" == digest:
            return state
    except (OSError, SafetensorError, RuntimeError):
        pass
    put_aside(file)
    return None


def baseline_key(recipe: Recipe, splits: Splits, identity: Mapping[str, str] | None = None) -> str:
    """Hash of data, model, settings and seed, and of the plugins whose metrics may choose the epoch."""
    identity = identity or {}
    weights, stopping = recipe.model.weights, recipe.baseline.early_stopping
    used = {recipe.baseline.select, None if stopping is None else stopping.metric}
    content = {
        "data": splits.fingerprint,
        "classes": splits.class_names,
        "model": asdict(recipe.model),
        "weights": hashlib.sha256(Path(weights).read_bytes()).hexdigest() if weights else None,
        "settings": asdict(recipe.baseline),
        "selection": [component.to_dict() for component in recipe.selection if component.label in used],
        "seed": recipe.seed,
        "plugins": {name: digest for name, digest in identity.items() if name.startswith("plugin ")}
        if used - {None}
        else {},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
