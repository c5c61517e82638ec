"""The command line: one file per command. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import sys

import typer

from fairquant.cli import (
    audit,
    bench,
    compare,
    data,
    diff,
    export,
    plugins,
    predict,
    recipes,
    run,
    runs,
    show,
    study,
    ui,
    validate,
)
from fairquant.errors import UserError

app = typer.Typer(
    name="fairquant", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Fair mixed-precision quantization: a small model, and an audit of what happened to each subgroup.",
)  # fmt: skip
app.command("run")(run.run)
app.command("compare")(compare.compare)
app.add_typer(study.app, name="study")
app.command("runs")(runs.runs)
app.command("diff")(diff.diff)
app.command("export")(export.export)
app.command("audit")(audit.audit)
app.command("predict")(predict.predict)
app.command("bench")(bench.bench)
app.command("validate")(validate.validate)
app.command("show")(show.show)
app.add_typer(recipes.app, name="recipes")
app.add_typer(plugins.app, name="plugins")
app.add_typer(data.app, name="data")
app.command("ui")(ui.ui)


def main() -> None:
    """User errors: their text, exit 2. Ctrl-C: exit 130. Bugs: a traceback, exit 1."""
    try:
        app()
    except UserError as error:
        print(f"fairquant: error: {error.render()}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        raise SystemExit(0) from None
