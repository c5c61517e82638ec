"""SIGKILL at random moments: runs with their full-precision models, comparisons, studies on a journal, SQLite and PostgreSQL, and exports
end with what they would have ended with.

    python tests/campaigns/kill.py [--rounds 100] [--seed 0] [--what runs,comparisons,studies,exports]

A round is one kill. Work is done in forked processes, so that a kill costs no start of Python. Studies use PostgreSQL as well where
FAIRQUANT_TEST_POSTGRESQL names an empty database.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import harness
import yaml
from harness import RECIPE, Count

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
#: An empty PostgreSQL database for studies, such as postgresql+psycopg://user@host/name.
DATABASE = "FAIRQUANT_TEST_POSTGRESQL"


def killed_until_done(
    work: Callable[[], object], rng: random.Random, seconds: float, most: int = MOST_KILLS
) -> tuple[int, int]:
    """Do the work in forked processes that are killed, with all that they started, within so many seconds, at most so often;
    kills, and the exit status of the last one."""
    kills = 0
    while True:
        child = harness.started(work, Path("killed.txt").absolute())
        deadline = time.monotonic() + (rng.uniform(0.0, seconds) if kills < most else 600.0)
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return kills, os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.killpg(child, signal.SIGKILL)
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


def runs(rounds: int, rng: random.Random) -> Count:
    """Runs, each of which also trains its full-precision baseline."""
    import fairquant

    folder = Path.cwd()
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
        count.add(problem, kills)
    return count


def comparisons(rounds: int, rng: random.Random) -> Count:
    """Comparisons of three methods, in one process and in two."""
    module = importlib.import_module("fairquant.study.compare")
    folder, methods = Path.cwd(), ["fq-qat-ptq", "uniform-3-ptq", "fq-baq-ptq"]
    recipe = folder / "killed.yaml"
    recipe.write_text(yaml.safe_dump({**RECIPE, "method": "fq-baq-ptq", "budget": {"average_bits": 3}}))

    def compare(place: Path, jobs: int) -> None:
        module.compare(recipe, methods=methods, seeds=[1], jobs=jobs, runs=place)

    start = time.monotonic()
    compare(folder / "reference", 1)
    seconds, expected, count = time.monotonic() - start, table_of(folder / "reference"), Count()
    while count.kills < rounds:
        place, jobs = folder / f"comparison{count.tried}", 1 + count.tried % 2
        work = lambda place=place, jobs=jobs: compare(place, jobs)
        kills, status = killed_until_done(work, rng, 0.9 * seconds)
        problem = f"exit {status}" if status else "" if table_of(place) == expected else "another table"
        count.add(problem and f"comparison {count.tried} ({jobs} jobs): {problem}", kills)
    return count


def table_of(folder: Path) -> str:
    """What a comparison ended with, without times and places."""
    (file,) = folder.glob("killed/compare*/compare.json")
    content = json.loads(file.read_text())

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {
                key: plain(each)
                for key, each in value.items()
                if key not in ("seconds", "folder", "folders", "timings")
            }
        return [plain(each) for each in value] if isinstance(value, list) else value

    return json.dumps(plain(content), sort_keys=True)


def trials_of(folder: Path) -> str:
    """What a study ended with: every trial's number, state, parameters and values."""
    (file,) = folder.glob("killed/study-*/study.json")
    results = json.loads(file.read_text())["results"]
    kept = [
        {key: trial[key] for key in ("number", "state", "parameters", "validation", "problem")}
        for trial in results["trials"]
    ]
    return json.dumps([kept, results["front"]], sort_keys=True)


def studies(rounds: int, rng: random.Random) -> Count:
    """Studies by every sampler whose trials do not depend on each other's order, and TPE with one worker, on every storage."""
    folder, postgresql = Path.cwd(), os.environ.get(DATABASE)
    module = importlib.import_module("fairquant.study.search")
    importlib.import_module("fairquant.study.queue").HEARTBEAT_SECONDS = (1, 2)
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
        kills, status = killed_until_done(work, rng, 0.5 * seconds)
        where = f"study {count.tried} ({sampler}, {storage})"
        problem = (
            f"{where}: exit {status}" if status else "" if trials_of(place) == wanted else f"{where}: another result"
        )
        count.add(problem, kills)
    return count


def turns(samplers: Sequence[str], storages: Sequence[str]) -> Iterator[tuple[str, str]]:
    while True:
        for storage in storages:
            for sampler in samplers:
                yield sampler, storage


def exports(rounds: int, rng: random.Random) -> Count:
    """Exports: the file is the whole one, or none, and nothing is left beside it."""
    import fairquant
    from fairquant.export.onnx import ExportOptions, export_onnx

    folder = Path.cwd()
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
        count.add(problem, kills)
    return count


PARTS = {"runs": runs, "comparisons": comparisons, "studies": studies, "exports": exports}

if __name__ == "__main__":
    harness.start(str(__doc__), PARTS, 100)
