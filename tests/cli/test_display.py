"""Progress on standard error: plain lines where the output is no terminal."""

from __future__ import annotations

import pytest

from fairquant.cli.display import Bars


@pytest.fixture
def bars():
    return Bars()


def test_without_a_terminal_a_bar_is_one_line_on_standard_error(bars, capsys):
    with bars:
        advance = bars.bar("training", 12)
        for _ in range(12):
            advance(1)
    captured = capsys.readouterr()
    assert captured.err == "training: 12 steps\n"
    assert captured.out == ""


def test_text_is_not_taken_for_markup(bars, capsys):
    bars.say("[red]bits[/red] [0, 4]")
    assert capsys.readouterr().err == "[red]bits[/red] [0, 4]\n"


def test_a_run_among_several_shows_its_stage_and_passes_on_warnings_only(bars, capsys):
    line = bars.named("fq-baq, seed 0")
    advance = line.bar("training", 2)
    (task,) = bars.progress.tasks
    assert (task.description, task.total) == ("fq-baq, seed 0: training", 2)
    advance(2)
    assert task.description == "fq-baq, seed 0: training, done"
    line.say("loading ...")
    line.say("warning: plugin 'x' failed")
    assert capsys.readouterr().err == "fq-baq, seed 0: warning: plugin 'x' failed\n"
