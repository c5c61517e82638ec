"""What comparisons and studies are of: a folder holds one recipe with one content, as a run's does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from fairquant.recipe import Recipe
from fairquant.registry import Plugins
from fairquant.runs.data import load_data
from fairquant.runs.folder import Display
from fairquant.runs.identity import Identity, identity_of, read_identity, what_changed, write_identity

#: Key of an identity under which the question stands: what is compared, or what is searched.
QUESTION = "question"


def content_of(recipe: Recipe, question: object, plugins: Plugins, display: Display) -> Identity:
    """Digests of the recipe with its data, and of the question that is asked of it."""
    asked = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
    return {**identity_of(recipe, load_data(recipe, display, plugins.registry), plugins), QUESTION: asked}


def folder_of(kind: str, place: Path, identity: Identity) -> Path:
    """place/<kind>-<digest>: other data, or another question, have another folder."""
    content = json.dumps(dict(identity), sort_keys=True)
    return place / f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def begin(folder: Path, identity: Identity, display: Display) -> None:
    """Make the folder, and say where the same question was asked of other content before."""
    if read_identity(folder) == identity:
        return
    kind = folder.name.partition("-")[0]
    for other in sorted(folder.parent.glob(f"{kind}-*")):
        stored = read_identity(other)
        if (
            other != folder
            and stored.get(QUESTION) == identity[QUESTION]
            and stored.get("recipe") == identity["recipe"]
        ):
            display.say(
                f"{other} is of other content: {what_changed(stored, identity)}. This one goes to {folder.name}"
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_identity(folder, identity)
