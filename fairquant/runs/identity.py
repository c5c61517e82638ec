"""What a run's result depends on: its recipe, and the content that the recipe only names. A folder holds one of these."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from fairquant.files import write_atomically
from fairquant.recipe.schema import Recipe
from fairquant.registry import Plugins
from fairquant.registry.registry import OURS
from fairquant.roles import Splits
from fairquant.runs.folder import run_folder

#: The file of a run's folder.
IDENTITY = "identity.json"
IMAGES, TABLE = "images", "table"
#: What is said where the content under a key has changed; other keys are said as they are.
WORDS = {
    IMAGES: "the image files",
    TABLE: "labels, groups or splits",
    "classes": "the names of the classes",
    "groups": "the names of the groups",
    "model.weights": "the file model.weights",
    "budget.latency_table": "the file budget.latency_table",
}
Identity = Mapping[str, str]


def identity_of(recipe: Recipe, splits: Splits, plugins: Plugins) -> Identity:
    """Digests, by what they are of: the data as loaded, files that the recipe names, and plugins that it takes components from
    (their version and source)."""
    table = hashlib.sha256()
    for split in (splits.train, splits.validation, splits.test):
        table.update(json.dumps(split.ids).encode())
        table.update(np.ascontiguousarray(split.labels).tobytes() + np.ascontiguousarray(split.groups).tobytes())
    content = {
        "recipe": recipe.digest(),
        IMAGES: splits.fingerprint,
        TABLE: f"{len(splits.train)}+{len(splits.validation)}+{len(splits.test)} images {table.hexdigest()}",
        "classes": json.dumps(splits.class_names),
        "groups": json.dumps(splits.group_names),
    }
    for key, file in (("model.weights", recipe.model.weights), ("budget.latency_table", recipe.budget.latency_table)):
        if file is not None:
            content[key] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return content | dict(_plugins(recipe, plugins))


def _plugins(recipe: Recipe, plugins: Plugins) -> Iterator[tuple[str, str]]:
    """Version and source of every distribution, other than this one, that the recipe has a component of."""
    for role, component in recipe.components():
        entry = next((each for each in plugins.registry.entries(role) if each.name == component.name), None)
        if entry is not None and entry.origin != OURS:
            package = type(component.value).__module__.partition(".")[0]
            yield f"plugin {entry.origin}", f"{entry.version} {source_digest(package)}"


def source_digest(package: str) -> str:
    """SHA-256 of the Python files of a package; empty where they cannot be found."""
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None:
        return ""
    place = Path(file)
    total = hashlib.sha256()
    for each in sorted(place.parent.rglob("*.py")) if place.name == "__init__.py" else [place]:
        total.update(each.read_bytes())
    return total.hexdigest()


def digest_of(identity: Identity) -> str:
    """One SHA-256 of all of it."""
    return hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()


def place_of(recipe: Recipe, runs: Path, identity: Identity) -> tuple[Path, str]:
    """The folder of this recipe with this content, and what is other in the folder that it would have had; "" where nothing is."""
    first = run_folder(recipe, runs)
    if not first.exists() or not holds_run(first):
        return first, ""
    stored = read_identity(first)
    if stored == identity:
        return first, ""
    return first.with_name(f"{first.name}-{digest_of(identity)[:8]}"), what_changed(stored, identity)


def holds_run(folder: Path) -> bool:
    """Whether a run has begun in the folder."""
    return (folder / "recipe.yaml").exists() or (folder / IDENTITY).exists()


def read_identity(folder: Path) -> Identity:
    """What the folder was made for; {} where that is not known."""
    try:
        stored = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(stored, dict):
        return {}
    return {str(key): str(value) for key, value in stored.items()}


def write_identity(folder: Path, identity: Identity) -> None:
    write_atomically(folder / IDENTITY, (json.dumps(dict(identity), indent=1) + "\n").encode())


def what_changed(stored: Identity, now: Identity) -> str:
    """In words: labels, groups or splits (60+20+20 images, now 54+18+18)."""
    if not stored:
        return "it does not say what its data were"
    changed = [key for key in (*now, *(stored.keys() - now.keys())) if stored.get(key) != now.get(key)]
    if TABLE in changed and IMAGES in changed:
        changed.remove(IMAGES)  # its digest covers the table, too
    return " and ".join(_said(key, stored.get(key, ""), now.get(key, "")) for key in changed)


def _said(key: str, before: str, now: str) -> str:
    words = WORDS.get(key, key)
    counts = before.partition(" ")[0], now.partition(" ")[0]
    if key == TABLE and counts[0] != counts[1]:
        return f"{words} ({counts[0]} images, now {counts[1]})"
    if key.startswith("plugin ") and before and now and counts[0] != counts[1]:
        return f"{words} ({counts[0]}, now {counts[1]})"
    return f"the source of {words}" if key.startswith("plugin ") and before and now else words
