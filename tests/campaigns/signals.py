"""Signals at random moments: SIGINT, SIGTERM and SIGHUP, once or twice, to the process or, as a terminal does, to all of its group,
while runs, comparisons and studies go on. The command says that it stopped, never with a traceback, and resumes to the same result.

    python tests/campaigns/signals.py [--rounds 20] [--seed 0] [--what runs,comparisons,studies]
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import harness
import kill
import yaml

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
COMPARE = ["compare", "killed.yaml", "--methods", "fq-qat-ptq,uniform-3-ptq,fq-baq-ptq", "--seeds", "1"]
Command = tuple[str, list[str], Callable[[Path], str]]
COMMANDS: tuple[Command, ...] = (
    ("run", ["run", "killed.yaml"], lambda runs: kill.result_of(next(runs.glob("killed/*/report.json")).parent)),
    ("compare", COMPARE, kill.table_of),
    ("compare in 2 processes", [*COMPARE, "--jobs", "2"], kill.table_of),
    ("study", ["study", "study/killed.yaml"], kill.trials_of),
    ("study in 2 processes", ["study", "study/killed.yaml", "--jobs", "2"], kill.trials_of),
)


def campaign(commands: Sequence[Command], rounds: int, rng: random.Random) -> harness.Count:
    """One signal, or two, to each command in turn; then the command to its end."""
    import fairquant.api
    import fairquant.study.search  # here, so that no forked process imports torch again  # noqa: F401

    count, expected, seconds = harness.Count(), {}, {}
    content = {**harness.RECIPE, "method": "fq-baq-ptq", "budget": {"average_bits": 3}}
    Path("killed.yaml").write_text(yaml.safe_dump(content))
    # random: two workers find the same trials in any order
    search = {**kill.SEARCH, "sampler": "random", "trials": 3}
    Path("study").mkdir()  # a study is found by its recipe's name
    Path("study/killed.yaml").write_text(yaml.safe_dump({**content, "method": "fq-qat-ptq", "search": search}))
    for number in range(rounds):
        name, arguments, result = commands[number % len(commands)]
        if name not in expected:
            start, place = time.monotonic(), Path(f"reference{number}").absolute()
            os.environ["FAIRQUANT_RUNS"] = str(place)
            harness.in_process(arguments)
            expected[name], seconds[name] = result(place), time.monotonic() - start
        place = Path(f"round{number}").absolute()
        os.environ["FAIRQUANT_RUNS"] = str(place)
        sent = [rng.choice(SIGNALS) for _ in range(rng.choice([1, 1, 2]))]
        group, out = rng.random() < 0.5, Path("output.txt").absolute()
        child = harness.started(harness.command(arguments), out)
        time.sleep(rng.uniform(0.05, 1.0) * seconds[name])
        for each in sent:
            try:
                os.killpg(child, each) if group else os.kill(child, each)
            except ProcessLookupError:
                break
            time.sleep(rng.choice([0.0, 0.1, 0.5]))
        problem = harness.ended(child, out, 120).problem(0, *(128 + each for each in SIGNALS))
        if not problem:
            problem = harness.in_process(arguments).problem(0) or (
                "" if result(place) == expected[name] else "another result"
            )
        shown = "+".join(each.name for each in sent) + (" to all" if group else "")
        count.add(problem and f"round {number}: {name}, {shown}: {problem}")
    return count


if __name__ == "__main__":
    kinds = {"runs": COMMANDS[:1], "comparisons": COMMANDS[1:3], "studies": COMMANDS[3:]}
    harness.start(str(__doc__), {name: partial(campaign, commands) for name, commands in kinds.items()}, 20)
