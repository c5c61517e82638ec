"""SIGKILL at random moments: runs with their full-precision models, studies on a journal, SQLite and PostgreSQL, and exports end with what they
would have ended with.

    python tests/campaigns/kill.py [--rounds 100] [--seed 0] [--what runs,studies,exports] [--postgresql URL]

A round is one kill. Work is done in forked processes, so that a kill costs no start of Python.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

RECIPE = {
    "seed": 1, "method": "fq-baq", "dataset": {"name": "synthetic-lesions", "images": 120},
    "model": {"name": "test_resnet", "image_size": 32}, "budget": {"average_bits": 2.5},
    "baseline": {"epochs": 1, "batch_size": 24, "augment": "flips"},
    "calibration": {"images": 24, "batch_size": 24},
    "train": {"epochs": 2, "batch_size": 24, "augment": "flips", "checkpoint_minutes": 0.002},
    "tracking": {"mlflow": None},
}  # fmt: skip
SEARCH = {
    "parameters": {
        "budget.average_bits": {"low": 1.0, "high": 4.0},
        "allocator.name": ["knapsack", "minimax"],
        "reducer.name": ["max", "mean"],
    },
    "objectives": {"worst-group-accuracy": "maximize", "bits": "minimize"}, "trials": 4,
}  # fmt: skip
GRID = {"budget.average_bits": [2.0, 3.0], "allocator.name": ["knapsack", "minimax"]}
MOST_KILLS = 6  # of one piece of work, after which it may end


@dataclass
class Count:
    """Kills, and pieces of work that were killed: tried, and held, which ended as if they had not been."""

    kills: int = 0
    tried: int = 0
    held: int = 0
    problems: tuple[str, ...] = ()

    def add(self, kills: int, problem: str) -> None:
        self.kills, self.tried, self.held = self.kills + kills, self.tried + 1, self.held + (not problem)
        self.problems += (problem,) if problem else ()


def killed_until_done(work: Callable[[], None], rng: random.Random, seconds: float) -> tuple[int, int]:
    """Do the work in forked processes that are killed within so many seconds, at most MOST_KILLS times; kills, and the exit status of
    the last one."""
    kills = 0
    while True:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with open(os.devnull, "w") as nowhere:
                    os.dup2(nowhere.fileno(), 1)
                work()
                status = 0
            finally:
                os._exit(status)
        deadline = time.monotonic() + (rng.uniform(0.0, seconds) if kills < MOST_KILLS else 600.0)
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return kills, os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1


def result_of(folder: Path) -> str:
    """Digest of what a run ended with: its model, its predictions, and its report without times and places."""
    total = hashlib.sha256()
    for name in ("model.safetensors", "predictions.npz", "bit_plan.csv"):
        total.update((folder / name).read_bytes())
    report = json.loads((folder / "report.json").read_text())
    for key in ("seconds", "timings", "versions", "notes"):
        report.pop(key, None)
    total.update(json.dumps(report, sort_keys=True).encode())
    return total.hexdigest()


def runs(rounds: int, rng: random.Random, folder: Path) -> Count:
    """Runs, each of which also trains its full-precision baseline."""
    import fairquant

    recipe = folder / "killed.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    start = time.monotonic()
    expected = result_of(fairquant.run(recipe, runs=folder / "reference").folder)
    seconds, count = time.monotonic() - start, Count()
    while count.kills < rounds:
        place = folder / f"run{count.tried}"
        kills, status = killed_until_done(
            lambda place=place: fairquant.run(recipe, runs=place) and None, rng, 0.8 * seconds
        )
        reports = list(place.glob("killed/*/report.json"))
        left = [file.name for file in place.rglob(".*.tmp")]
        problem = (
            f"run {count.tried}: exit {status}" if status else
            f"run {count.tried}: {len(reports)} reports" if len(reports) != 1 else
            f"run {count.tried}: another result" if result_of(reports[0].parent) != expected else
            f"run {count.tried}: {left[0]} is left" if left else ""
        )  # fmt: skip
        count.add(kills, problem)
    return count


def trials_of(folder: Path) -> str:
    """What a study ended with: every trial's number, state, parameters and values."""
    (file,) = folder.glob("killed/study-*/study.json")
    results = json.loads(file.read_text())["results"]
    kept = [
        {key: trial[key] for key in ("number", "state", "parameters", "validation", "problem")}
        for trial in results["trials"]
    ]
    return json.dumps([kept, results["front"]], sort_keys=True)


def studies(rounds: int, rng: random.Random, folder: Path, postgresql: str | None) -> Count:
    """Studies by every sampler whose trials do not depend on each other's order, and TPE with one worker, on every storage."""
    import importlib

    module = importlib.import_module("fairquant.study.search")
    module.HEARTBEAT_SECONDS = (1, 2)
    count = Count()
    samplers, expected = ("random", "tpe", "qmc", "grid"), {}
    seconds = 1.0
    for sampler in samplers:
        parameters = GRID if sampler == "grid" else SEARCH["parameters"]
        content = {**RECIPE, "method": "fq-qat-ptq", "search": {**SEARCH, "parameters": parameters, "sampler": sampler}}
        (folder / sampler).mkdir()
        (folder / sampler / "killed.yaml").write_text(yaml.safe_dump(content))
        start = time.monotonic()
        module.search(folder / sampler / "killed.yaml", runs=folder / f"reference-{sampler}")
        seconds, expected[sampler] = time.monotonic() - start, trials_of(folder / f"reference-{sampler}")
    for sampler, storage in turns(samplers, ["journal", "sqlite", *(["postgresql"] if postgresql else [])]):
        if count.kills >= rounds:
            return count
        place = folder / f"study{count.tried}"
        url = {"journal": None, "sqlite": f"sqlite:///{place}.db", "postgresql": postgresql}[storage]
        recipe = folder / sampler / "killed.yaml"
        if storage == "postgresql":  # a study of its own in the one database
            recipe = place / "killed.yaml"
            place.mkdir()
            recipe.write_text(
                (folder / sampler / "killed.yaml").read_text().replace("seed: 1\n", f"seed: {1000 + count.tried}\n")
            )
            module.search(recipe, runs=folder / f"reference-{place.name}")
        wanted = expected[sampler] if storage != "postgresql" else trials_of(folder / f"reference-{place.name}")
        work = lambda recipe=recipe, place=place, url=url: module.search(recipe, runs=place, storage=url) and None
        kills, status = killed_until_done(work, rng, 0.9 * seconds)
        where = f"study {count.tried} ({sampler}, {storage})"
        problem = (
            f"{where}: exit {status}" if status else "" if trials_of(place) == wanted else f"{where}: another result"
        )
        count.add(kills, problem)
    return count


def turns(samplers: Sequence[str], storages: Sequence[str]) -> Iterator[tuple[str, str]]:
    while True:
        for storage in storages:
            for sampler in samplers:
                yield sampler, storage


def exports(rounds: int, rng: random.Random, folder: Path) -> Count:
    """Exports: the file is the whole one, or none, and nothing is left beside it."""
    import fairquant
    from fairquant.export.onnx import ExportOptions, export_onnx

    recipe = folder / "killed.yaml"
    recipe.write_text(
        yaml.safe_dump({**RECIPE, "method": "uniform-4-ptq", "budget": {"average_bits": 4}, "baseline": {"epochs": 0}})
    )
    artifact = fairquant.run(recipe, runs=folder / "exported").folder / "model.safetensors"
    options, count = ExportOptions(activations="fp32"), Count()
    start = time.monotonic()
    export_onnx(artifact, folder / "reference.onnx", options, None)
    seconds, expected = time.monotonic() - start, (folder / "reference.onnx").read_bytes()
    while count.kills < rounds:
        out = folder / f"export{count.tried}" / "model.onnx"
        kills, status = killed_until_done(
            lambda out=out: export_onnx(artifact, out, options, None) and None, rng, 0.9 * seconds
        )
        whole = out.exists() and out.read_bytes() == expected
        problem = (
            f"export {count.tried}: exit {status}" if status else "" if whole else f"export {count.tried}: another file"
        )
        count.add(kills, problem)
    return count


@contextmanager
def own_places(folder: Path) -> Iterator[None]:
    """The cache and the current folder in `folder`."""
    before, cache = Path.cwd(), os.environ.get("FAIRQUANT_CACHE")
    os.chdir(folder)
    os.environ["FAIRQUANT_CACHE"] = str(folder / "cache")
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.pop("FAIRQUANT_CACHE") if cache is None else os.environ.update(FAIRQUANT_CACHE=cache)


def campaign(what: str, rounds: int, seed: int, postgresql: str | None = None) -> Count:
    """One part of the campaign in a folder of its own."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name, own_places(Path(name)):
        folder = Path(name)
        if what == "studies":
            return studies(rounds, rng, folder, postgresql)
        return {"runs": runs, "exports": exports}[what](rounds, rng, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--what", default="runs,studies,exports")
    parser.add_argument("--postgresql", help="an empty database, such as postgresql+psycopg://user@host/name")
    options = parser.parse_args()
    failed = False
    for what in options.what.split(","):
        count = campaign(what, options.rounds, options.seed, options.postgresql)
        print(f"{what}: {count.kills} kills of {count.tried}, {count.held} held (seed {options.seed})", flush=True)
        for problem in count.problems:
            print(f"  {problem}", flush=True)
        failed |= bool(count.problems)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
