"""The cells of a comparison."""

from __future__ import annotations

import queue
from pathlib import Path
from types import SimpleNamespace

import pytest

from fairquant.errors import Infeasible, UserError
from fairquant.recipe.presets import library
from fairquant.report.comparison import Outcome, Subject
from fairquant.runs.folder import Quiet
from fairquant.study import grid
from fairquant.study.grid import Cell, Job, _Relay, _Sender, chosen_methods, make_cells, run_cell, run_cells

QUICKSTART = Subject("quickstart")


def test_cells_go_seed_by_seed_and_a_method_with_bits_of_its_own_takes_no_budget():
    cells = make_cells([QUICKSTART], ["fp32", "uniform-4", "fq-qat"], [2.5, 3.0], [0, 1])
    assert [cell.row for cell in cells[:4]] == ["fp32", "uniform-4", "fq-qat @ 2.5", "fq-qat @ 3"]
    assert [cell.seed for cell in cells] == [0] * 4 + [1] * 4
    assert cells[3].overrides == ("method=fq-qat", "seed=0", "budget.average_bits=3")
    assert make_cells([QUICKSTART], ["fq-qat"], [], [5]) == [Cell(QUICKSTART, "fq-qat", None, 5)]


def test_methods_by_name_or_all():
    everything = chosen_methods("all")
    assert everything[0] == "fp32"
    assert {"fairgrape", "fairquantize", "fairprune", "hawq", "impq", "fmpq", "nir", "fq-qat", "fq-baq"} <= set(
        everything
    )
    assert chosen_methods("fq-qat, fp32") == ("fq-qat", "fp32")
    with pytest.raises(UserError, match="no method is called 'fq-qt'. Did you mean 'fq-qat'"):
        chosen_methods("fq-qt")


def test_all_takes_every_preset_and_each_untrained_plan_once():
    everything = chosen_methods("all")
    assert {
        "adq",
        "iterative-qat",
        "iterative-qat-ptq",
        "uniform-2-ptq",
        "fq-qat-ptq",
        "fq-baq-ptq",
        "fairgrape-ptq",
        "hawq-ptq",
        "impq-ptq",
    } <= set(everything)
    assert not {"fq-block-ptq", "fp32-ptq"} & set(everything)  # fq-qat-ptq's plan again, and no plan
    assert everything[:3] == ("fp32", "uniform-8", "uniform-8-ptq")
    assert library().load_method("fairgrape-ptq")["allocator"] == library().load_method("fairgrape")["allocator"]
    assert library().load_method("fq-qat-ptq")["train"] == {"post_training": True}
    assert "regularizers" not in library().load_method("fq-qat-ptq")


JOB = Job(overrides=("seed=9",), demo=True, runs=Path("runs"))
CELL = Cell(QUICKSTART, "fq-qat", 3.0, 1)


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (Infeasible("2 bits exceed it"), "cannot meet the budget: 2 bits exceed it"), (UserError(["a", "b"]), "2 problem(s)\n  a\n  b"),
        (MemoryError("full"), "MemoryError: full"),
    ],
)  # fmt: skip
def test_what_goes_wrong_with_a_cell_is_its_outcome(monkeypatch, error, problem):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(grid, "run", fails)
    assert run_cell(CELL, JOB, Quiet()) == Outcome(CELL, None, None, problem)


def test_the_cells_overrides_come_after_the_comparisons(monkeypatch):
    calls = []
    monkeypatch.setattr(
        grid,
        "run",
        lambda *arguments, **options: calls.append(arguments) or SimpleNamespace(folder=Path("f"), report={}),
    )
    assert run_cell(CELL, JOB, Quiet()).folder == Path("f")
    assert calls == [("quickstart", "seed=9", "method=fq-qat", "seed=1", "budget.average_bits=3")]


def test_cells_run_one_after_the_other_and_are_reported_as_they_end(monkeypatch):
    monkeypatch.setattr(grid, "run_cell", lambda cell, job, display: Outcome(cell, None, None, "x"))
    done = []
    cells = make_cells([QUICKSTART], ["fp32", "uniform-4"], [], [0])
    assert run_cells(cells, JOB, 1, lambda cell: Quiet(), done.append) == done
    assert [outcome.cell for outcome in done] == cells


def test_messages_of_workers_reach_the_display_of_their_cell():
    messages, shown = queue.Queue(), []

    def display(cell):
        return SimpleNamespace(
            say=lambda text: shown.append((cell.seed, text)),
            bar=lambda what, total: lambda steps: shown.append((cell.seed, what, total, steps)),
        )

    cells = [Cell(QUICKSTART, "a", None, 0), Cell(QUICKSTART, "a", None, 1)]
    relay = _Relay(messages=messages, displays=[None, None], cells=cells, make=display)
    worker = _Sender(1, messages)
    advance = worker.bar("training", 10)
    advance(4)
    worker.say("done")
    relay.pass_on(0.01)
    assert shown == [(1, "training", 10, 4), (1, "done")]
