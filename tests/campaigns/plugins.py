"""Plugins that break their laws, or the process: in every role and hook, each is named, and the command ends in words.

    python tests/campaigns/plugins.py [--rounds 400] [--seed 0]

A round is one plugin, installed as a distribution of its own in a forked process, and `fairquant run` of a recipe that uses it. A
component that does harm ends the run with exit 2 and its name; a listener that does is named in a warning, and the run's
result is what it is without it.
"""

from __future__ import annotations

import importlib
import random
import shutil
import sys
from itertools import product
from pathlib import Path

import harness
import kill
import yaml

#: What a hostile function does, as the body of one that may return `good`.
HARM = {
    "raises": "raise RuntimeError('no')",
    "raises without a message": "raise RuntimeError",
    "raises what cannot be shown": "raise Unspeakable()",
    "raises BaseException": "raise Odd('no')",
    "exits with 0": "import sys; sys.exit(0)",
    "exits with 3": "import sys; sys.exit(3)",
    "exits with words": "raise SystemExit('good bye')",
    "raises GeneratorExit": "raise GeneratorExit",
    "raises StopIteration": "raise StopIteration",
    "recurses": "return recurse()",
    "returns None": "return None",
    "returns text": "return 'text'",
    "returns a number": "return 3",
    "returns a complex number": "return 3j",
    "returns a class": "return object",
    "returns nothing in a list": "return []",
    "returns NaN": "return float('nan')",
    "returns a tensor of another shape": "import torch; return torch.zeros(3, 2, 5)",
    "returns a complex tensor": "import torch; return torch.zeros(1, dtype=torch.complex64)",
}
#: Harm that a listener cannot do by what it returns.
BY_RETURNING = tuple(name for name in HARM if name.startswith("returns"))
MODULE = """
from dataclasses import dataclass
from typing import ClassVar
from fairquant.registry import hookimpl

class Odd(BaseException):
    pass

class Unspeakable(Exception):
    def __str__(self):
        raise ValueError("no words")

def recurse():
    return recurse()

def harm(*given, **named):
    {harm}
"""
COMPONENTS = {
    ("dataset", "check"): "def check(self): return harm()\n    def load(self, context): return None",
    ("dataset", "load"): "def check(self): return []\n    def load(self, context): return harm()",
    ("importance", "measure"): "def measure(self, *given): return harm()",
    ("reducer", "reduce"): "def reduce(self, *given): return harm()",
    ("allocator", "allocate"): "def allocate(self, problem): return harm()",
    ("quantizer", "build"): "def build(self, *given): return harm()",
    ("quantizer", "encode"): "def build(self, weight, bits, choices): return built('encode', bits)",
    ("quantizer", "forward"): "def build(self, weight, bits, choices): return built('forward', bits)",
    ("regularizer", "penalty"): "def penalty(self, step): return harm()",
    ("metric", "evaluate"): "needs: ClassVar[str] = 'confusion'\n    gap: ClassVar[bool] = False\n    def evaluate(self, given): return harm()",
    ("metric", "value"): "needs: ClassVar[str] = 'confusion'\n    gap: ClassVar[bool] = False\n"
    "    def evaluate(self, given):\n        from fairquant.roles import Rates\n        return Rates(harm())",
    ("metric", "sample"): "needs: ClassVar[str] = 'predictions'\n    gap: ClassVar[bool] = False\n    def evaluate(self, given): return harm()",
    ("reducer", "__post_init__"): "def __post_init__(self): harm()\n    def reduce(self, scores, names): return scores.mean(0)",
}  # fmt: skip
BUILT = """
def built(what, bits):
    from fairquant.roles.quantizer import WeightQuantizer
    class Theirs(WeightQuantizer):
        def forward(self, weight):
            return harm() if what == "forward" else weight
        def encode(self, weight):
            return harm()
    return Theirs(bits)
"""
HOOKS = (
    "fairquant_run_started", "fairquant_importance_done", "fairquant_plan_made", "fairquant_epoch_finished", "fairquant_run_finished",
)  # fmt: skip
PLACES = [*COMPONENTS, *(("listener", hook) for hook in HOOKS), ("module", "import"), ("module", "register")]


def source(role: str, place: str, harm: str) -> str:
    """The plugin's module: harm in one function of it."""
    text = MODULE.format(harm=HARM[harm])
    register = ["", "@hookimpl", "def fairquant_register(registry):"]
    if role == "listener":
        return text + f"\n@hookimpl\ndef {place}():\n    harm()\n"
    if role == "module":
        return text + ("\nharm()\n" if place == "import" else "") + "\n".join([*register, "    harm()", ""])
    component = f"\n@dataclass(frozen=True)\nclass Theirs:\n    {COMPONENTS[role, place]}\n"
    return (
        text + BUILT + component + "\n".join([*register, f"    registry.add({role!r}, 'theirs', 'hostile:Theirs')", ""])
    )


def installed(folder: Path, text: str) -> None:
    """The module as an installed distribution."""
    shutil.rmtree(folder, ignore_errors=True)
    about = folder / "hostile-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "hostile.py").write_text(text)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[fairquant]\nhostile = hostile\n")


def recipe_with(role: str) -> dict[str, object]:
    """A recipe that uses the plugin's component."""
    content: dict[str, object] = {**harness.RECIPE, "train": {"epochs": 1, "batch_size": 24}, "metrics": ["accuracy"]}
    if role in ("regularizer", "metric"):
        content |= {"regularizers": ["theirs"]} if role == "regularizer" else {"metrics": ["accuracy", "theirs"]}
    elif role not in ("listener", "module"):
        content |= {role: {"name": "theirs"}}
    return content


def campaign(rounds: int, rng: random.Random) -> harness.Count:
    """Every plugin once, in an order that the seed draws, as far as the rounds reach."""
    count, folder = harness.Count(), Path("plugin").absolute()
    every = [
        (place, harm) for place, harm in product(PLACES, HARM)
        if not (place[0] in ("listener", "module") or place[1] == "__post_init__") or harm not in BY_RETURNING
    ]  # fmt: skip
    rng.shuffle(every)
    Path("plain.yaml").write_text(yaml.safe_dump(recipe_with("listener")))
    import fairquant  # here, so that no forked process imports torch again

    expected = kill.result_of(fairquant.run("plain.yaml").folder)

    def prepare() -> None:
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()

    for (role, place), harm in every[:rounds]:
        installed(folder, source(role, place, harm))
        Path("plain.yaml").write_text(yaml.safe_dump(recipe_with(role)))
        shutil.rmtree("runs", ignore_errors=True)
        ended = harness.in_process(["run", "plain.yaml"], prepare)
        if role in ("listener", "module"):
            problem = ended.problem(0) or ("" if "hostile" in ended.err else "not named")
            if not problem and kill.result_of(next(Path("runs").glob("plain/*"))) != expected:
                problem = "another result"
        else:
            problem = ended.problem(2) or ("" if "theirs" in ended.err else f"not named: {ended.err.strip()[-150:]}")
        count.add(problem and f"{role} {place} {harm}: {problem}")
    return count


if __name__ == "__main__":
    harness.start(str(__doc__), {"plugins": campaign}, 400)
