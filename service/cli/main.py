"""The Typer application ``linewise`` and its commands, in the order of the help.

Commands import torch, FastAPI and OpenCV when they run, so that ``linewise --help`` answers at once.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from linewise.service.cli import evaluate, load_test, read, serve, train
from linewise.service.cli.common import fail

EXIT_INTERRUPTED = 130  # as shells report the end by SIGINT


class InterruptibleGroup(TyperGroup):
    """Group of commands that end with one line on Ctrl+C."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; exit with 130 if it is interrupted."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            fail("interrupted", EXIT_INTERRUPTED)


app = typer.Typer(
    cls=InterruptibleGroup,
    name="linewise",
    help="Reads lines of text in pictures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command(cls=serve.ServeCommand)(serve.serve)
for command in (
    read.read, load_test.load, evaluate.evaluate, evaluate.bench, train.fonts, train.synth, train.draw, train.train,
    train.average, evaluate.calibrate, evaluate.promote, train.language, evaluate.evaluate_pages, train.train_pages,
    train.export, serve.mcp,
):  # fmt: skip
    app.command()(command)
# The arguments are those of another program; `linewise.__main__` starts it without this module.
app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)(serve.tesseract)
