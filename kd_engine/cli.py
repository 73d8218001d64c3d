"""`kd`: the command line. Exit codes: 0 done, 1 the run failed, 2 the request was wrong, 130 interrupted
(resumable)."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kd_engine import catalog as catalogs
from kd_engine import events as e
from kd_engine import recipe as recipes
from kd_engine import report
from kd_engine.check import check as check_recipe
from kd_engine.commands import Stop
from kd_engine.errors import DataError, KdError, Problem, RecipeError, StoreError, WeightsError
from kd_engine.store import Store

if TYPE_CHECKING:
    from kd_engine.session import Session

FAILED, WRONG, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    help="Knowledge distillation from the command line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RunsOption = Annotated[Path | None, typer.Option("--runs", help="The folder of runs (default: the user's).")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change one value: path=value. Repeatable.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Plain JSON instead of a table.")]


@app.command()
def catalog(as_json: JsonOption = False) -> None:
    """What exists, with its knobs; what is unavailable, and why."""
    found = catalogs.load()
    if as_json:
        _print_json(found.to_json())
    else:
        report.show_catalog(found)


@app.command()
def check(
    recipe: Annotated[str, typer.Argument(help="A preset's name or a recipe file.")], set_: SetOption = None
) -> None:
    """Name all problems of a recipe at once."""
    problems = check_recipe(_document(recipe, set_), catalogs.load())
    if problems:
        raise RecipeError(problems)
    print(f"{recipe}: no problems.")


@app.command()
def run(
    recipe: Annotated[
        str, typer.Argument(help="A preset's name, a recipe file, or a run's folder to repeat.")
    ],
    set_: SetOption = None,
    runs: RunsOption = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="One event a line instead of a progress bar.")
    ] = False,
) -> None:
    """Run a recipe: a progress bar, then the figures. Ctrl+C stops and keeps; `kd resume` goes on."""
    from kd_engine.session import Session

    if Path(recipe, "events.jsonl").is_file() and not set_:
        _follow(Session.repeat(recipe, runs), jsonl)
    else:
        _follow(Session(recipes.Recipe.from_document(_document(recipe, set_)), runs), jsonl)


@app.command()
def resume(
    run: Annotated[str, typer.Argument(help="A run's name, a part of it, its folder, or last.")],
    runs: RunsOption = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="One event a line instead of a progress bar.")
    ] = False,
) -> None:
    """Go on with a run from its last checkpoint."""
    from kd_engine.session import Session

    _follow(Session.resume(run, runs), jsonl)


@app.command()
def runs(runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """All runs, newest first."""
    found = Store(runs).runs()
    if as_json:
        _print_json([report.run_row(info) for info in found])
    else:
        report.show_runs(found, Store(runs).root)


@app.command()
def evaluate(
    run: Annotated[str | None, typer.Argument(help="A stored run.")] = None,
    model: Annotated[str | None, typer.Option(help="Instead of a run: a model's name ...")] = None,
    weights: Annotated[str | None, typer.Option(help="... its checkpoint file ...")] = None,
    data: Annotated[
        str | None, typer.Option(help="... and a dataset's name, a folder of images or an .npz.")
    ] = None,
    set_: SetOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a stored run, or a model from a file, on the test part."""
    from kd_engine import answers

    if run is not None:
        figures = answers.evaluate_run(run, runs)
    elif model and weights and data:
        changes = dict(recipes.parse_change(text) for text in set_ or ())
        document: dict[str, Any] = {"model": {}, "data": _data_section(data)}
        for path, value in changes.items():
            if path.split(".")[0] not in document:
                raise RecipeError([Problem(path, "expected model.KNOB=VALUE or data.KNOB=VALUE")])
            recipes.set_at(document, path, value)
        figures = {model: answers.evaluate_model(model, weights, document["data"], document["model"])}
    else:
        raise RecipeError([Problem("", "name a run, or give --model, --weights and --data")])
    if as_json:
        _print_json(figures)
    else:
        report.show_figures(figures)


@app.command()
def probe(
    run: Annotated[str, typer.Argument(help="A stored run.")],
    probe: Annotated[str, typer.Option(help="What to look with, such as attention or grad-cam.")],
    sample: Annotated[int, typer.Option(help="A sample's number in the part.")],
    tap: Annotated[str, typer.Option(help="Where to look, such as stage2; auto is the last stage.")] = "auto",
    part: Annotated[str, typer.Option(help="train, validation or test.")] = "validation",
    weights: Annotated[str, typer.Option(help="last or best.")] = "last",
    out: Annotated[Path | None, typer.Option(help="A .png or an .npz to write.")] = None,
    runs: RunsOption = None,
) -> None:
    """Look at one sample with teacher and student of a stored run."""
    from kd_engine import answers, picture

    if out is not None and out.suffix not in (".png", ".npz"):
        raise RecipeError([Problem("--out", f"got {out}, expected a name that ends in .png or .npz")])
    arrays = out if out is not None and out.suffix == ".npz" else None
    told = answers.probe(run, runs, probe, sample, tap=tap, part=part, which=weights, out=arrays)
    if out is not None and out.suffix == ".png":
        picture.save(Path(told["path"]), out)
        told["path"] = str(out)
    for name, value in told["numbers"].items():
        print(f"{name}: {value:.3f}")
    print(told["path"])


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="A stored run.")],
    format: Annotated[str, typer.Option(help="A format's name: see `kd catalog`.")],
    out: Annotated[Path, typer.Option(help="The file to write; a model card in Markdown lies beside it.")],
    weights: Annotated[str, typer.Option(help="last or best.")] = "last",
    runs: RunsOption = None,
) -> None:
    """Write a stored run's student for others to use."""
    from kd_engine import answers

    told = answers.export(run, runs, format, out, which=weights)
    print(f"{told['path']} ({told['bytes']:,} bytes), model card {told['card_path']}. Load it with:")
    print(f"\n{told['code']}")


def main() -> None:
    """Run the command line; a user's mistake ends in a line on stderr, not in a traceback."""
    try:
        app()
    except (RecipeError, StoreError, DataError, WeightsError, KdError) as error:
        print(f"kd: {error}", file=sys.stderr)
        sys.exit(WRONG)
    except BrokenPipeError:
        sys.exit(FAILED)


def _document(recipe: str, changes: list[str] | None) -> dict[str, Any]:
    document = recipes.read_document(recipe)
    for text in changes or ():
        path, value = recipes.parse_change(text)
        try:
            recipes.set_at(document, path, value)
        except (IndexError, ValueError, TypeError, AttributeError):
            raise RecipeError([Problem(path, "no such place in the recipe")]) from None
    return document


def _data_section(data: str) -> dict[str, Any]:
    """A dataset by name, a folder of images, or an .npz."""
    place = Path(data).expanduser()
    if place.is_dir():
        return {"dataset": "image-folder", "path": str(place)}
    if place.is_file():
        return {"dataset": "arrays", "path": str(place)}
    return {"dataset": data}


def _follow(session: Session, jsonl: bool) -> None:
    """Iterate a session to its end, and leave with the exit code that tells how it ended."""
    show: Callable[[e.Event], None] = report.jsonl if jsonl else report.Progress().show
    interrupted = False
    with _interrupts(session) as asked:
        for event in session:
            show(event)
            if isinstance(event, e.Paused) and event.why == "nan":
                session.send(Stop(keep=True))  # nobody is here to change the learning rate
                interrupted = True
    if isinstance(event, e.RunDone):
        return
    if isinstance(event, e.RunStopped) and asked and not interrupted:
        sys.exit(INTERRUPTED)
    if isinstance(event, e.RunFailed) and event.error == "recipe":
        sys.exit(WRONG)
    sys.exit(FAILED)


@contextmanager
def _interrupts(session: Session) -> Iterator[list[int]]:
    """Ctrl+C and a polite kill stop the run and keep it; a second one ends at once. Yields the signals so
    far."""
    asked: list[int] = []

    def stop(number: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        session.send(Stop(keep=True))

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=1, ensure_ascii=False))
