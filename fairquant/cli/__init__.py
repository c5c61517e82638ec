"""The command line: one file per command. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import logging
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
from fairquant.cli.ending import ending, flush_streams, leave_later, prepare_streams

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
    """Run a command and end the process with its status: 0; 2 for a user's mistake, in words; 130 for Ctrl-C, 143 for SIGTERM, 129
    for SIGHUP; 1 for a bug, with its traceback."""
    from fairquant.signals import ignore, terminate_by_exception

    prepare_streams()
    terminate_by_exception()
    with ending() as status:
        app()  # ends by SystemExit
    ignore()  # to the very end: what Python does at exit would show them as tracebacks
    flush_streams(status)
    logging.shutdown()
    leave_later(status)
    sys.exit(status.code)
