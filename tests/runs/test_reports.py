"""report.json read and checked, and the runs below a folder."""

from __future__ import annotations

import json

import pytest
from helpers.reports import run_report, write_report

from fairquant.errors import UserError
from fairquant.runs.reports import answer_of, find_runs, read_report


def test_runs_are_found_at_any_depth_and_other_folders_are_none(tmp_path):
    write_report(tmp_path / "b" / "deep" / "run")
    write_report(tmp_path / "a")
    for name, file in {"comparison": "compare.json", "study": "study.json", "other": "report.json"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text('{"tool": "another", "metrics": {}}')
    write_report(tmp_path / "a" / "checkpoints")
    found = find_runs(tmp_path)
    assert [run.folder for run in found.finished] == [tmp_path / "a", tmp_path / "b" / "deep" / "run"]
    assert (found.damaged, found.unfinished) == ((), ())
    assert found.finished[0].finished == (tmp_path / "a" / "report.json").stat().st_mtime


def test_a_folder_with_a_recipe_and_no_report_is_unfinished(tmp_path):
    write_report(tmp_path / "done")
    (tmp_path / "done" / "recipe.yaml").write_text("")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.yaml").write_text("")
    assert find_runs(tmp_path).unfinished == (tmp_path / "begun",)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"bits": {}}, "bits.average"), ({"artifact": None}, "artifact"), ({"metrics": {"accuracy": 0.5}}, "metrics.accuracy"),
     ({"accept": {"answer": 3}}, "accept"), ({"seed": "one"}, "seed"), ({"bits": {"average": float("nan")}}, "bits.average")],
)  # fmt: skip
def test_a_damaged_report_is_named_with_what_is_wrong_and_the_others_are_found(change, named, tmp_path):
    write_report(tmp_path / "good")
    write_report(tmp_path / "bad", **change)
    with pytest.raises(UserError, match=f"bad/report.json: damaged: {named} missing"):
        read_report(tmp_path / "bad" / "report.json")
    found = find_runs(tmp_path)
    assert len(found.finished) == len(found.damaged) == 1
    assert f"bad/report.json: damaged: {named}" in found.damaged[0]


def test_a_report_that_is_cut_off_or_foreign_or_missing_is_refused(tmp_path):
    file = tmp_path / "report.json"
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_report(file)
    file.write_text(json.dumps(run_report())[:-40])
    with pytest.raises(UserError, match="damaged or cut off"):
        read_report(file)
    file.write_text("[1, 2]")
    with pytest.raises(UserError, match="not a report of fairquant"):
        read_report(file)


def test_a_report_answers_for_its_metrics_and_its_limits(tmp_path):
    write_report(tmp_path / "old", accept=None)  # of a version that had no limits
    write_report(tmp_path / "new", accept={"answer": "CANNOT TELL", "limits": []})
    new, old = find_runs(tmp_path).finished
    assert (answer_of(old.report), answer_of(new.report)) == (None, "CANNOT TELL")
    assert (old.metric("accuracy"), old.metric("no-such")) == (0.75, None)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        find_runs(tmp_path / "nowhere")
