"""What a run's result depends on: its recipe, and the content that the recipe only names. A folder holds one of these."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from fairquant.files import write_atomically
from fairquant.recipe.events import Report
from fairquant.recipe.schema import Recipe
from fairquant.registry import Plugins
from fairquant.registry.registry import OURS
from fairquant.roles import Splits
from fairquant.runs.folder import Run, run_folder
from fairquant.runs.source import source_digest

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
    found: dict[tuple[str, str], set[str]] = {}
    for role, component in recipe.components():
        entry = next((each for each in plugins.registry.entries(role) if each.name == component.name), None)
        if entry is not None and entry.origin != OURS:
            package = type(component.value).__module__.partition(".")[0]
            found.setdefault((entry.origin, entry.version), set()).add(package)
    for (origin, version), packages in sorted(found.items()):
        digests = [source_digest(package, origin) for package in sorted(packages)]
        yield f"plugin {origin}", f"{version} {hashlib.sha256(''.join(digests).encode()).hexdigest()}"


def digest_of(identity: Identity) -> str:
    """One SHA-256 of all of it."""
    return hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()


def place_of(recipe: Recipe, runs: Path, identity: Identity) -> tuple[Path, str]:
    """The folder of this recipe with this content, and what is other in the folder that it would have had; "" where nothing is."""
    first = run_folder(recipe, runs)
    if _is_free(first, identity):
        return first, ""
    digest = digest_of(identity)
    names = [f"{first.name}-{digest[:length]}" for length in (8, 16, 32, 64)]
    folder = next(
        (each for name in names if _is_free(each := first.with_name(name), identity)), first.with_name(names[0])
    )
    return folder, what_changed(read_identity(first), identity)


def _is_free(folder: Path, identity: Identity) -> bool:
    """Whether a folder holds nothing yet, or this content."""
    return not folder.exists() or not holds_run(folder) or read_identity(folder) == identity


def unfit(report: Report, run: Run) -> str:
    """Why a finished run's report does not tell this run's result; "" where it does."""
    made_for: object = report.get("identity")
    if made_for is not None and made_for != digest_of(run.identity):
        return "its report is of another run"
    artifact: object = report.get("artifact")
    if not isinstance(artifact, dict) or not {"path", "sha256"} <= artifact.keys():  # of a trial, which keeps no file
        return ""
    file = run.folder / str(artifact["path"])
    if not file.is_file():
        return f"{file.name} is gone"
    if hashlib.sha256(file.read_bytes()).hexdigest() != artifact["sha256"]:
        return f"{file.name} is not the file that its report is about"
    return ""


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
