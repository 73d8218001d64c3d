"""The program `kd`, with the arguments and options that several of its commands take. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kd_engine.document import parse_change, preset_files, read_document, set_at
from kd_engine.errors import Problem, RecipeError

app = typer.Typer(
    help="Knowledge distillation from the command line: a small student learns from a large teacher.\n\n"
    "Begin with `kd run quickstart`; then `kd runs`, `kd evaluate last`, `kd probe last --probe attention "
    "--sample 0 --out look.png`, `kd export last --format safetensors --out student.safetensors`. "
    "RUN is a run's name, an unambiguous part of it, its folder, or `last`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RunsOption = Annotated[
    Path | None,
    typer.Option("--runs", metavar="DIR", help="The folder of runs (default: $KD_RUNS, or the user's own)."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change one value of the recipe, as in stages.0.epochs=3 or student.model=resnet14. Repeatable.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Plain JSON instead of a table.")]
RecipeArgument = Annotated[
    str,
    typer.Argument(metavar="RECIPE", help=f"A recipe file, or a preset: {', '.join(preset_files())}."),
]


def document_of(recipe: str, changes: list[str] | None) -> dict[str, Any]:
    document = read_document(recipe)
    for text in changes or ():
        path, value = parse_change(text)
        try:
            set_at(document, path, value)
        except (IndexError, ValueError, TypeError, AttributeError):
            raise RecipeError([Problem(path, "no such place in the recipe")]) from None
    return document
