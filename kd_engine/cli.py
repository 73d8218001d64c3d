"""`kd`: the command line. Exit codes: 0 done, 1 the run failed, 2 the request was wrong, 130 interrupted
(resumable)."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from kd_engine import catalog as catalogs
from kd_engine import report
from kd_engine.allocation import keep_freed
from kd_engine.check import check as check_recipe
from kd_engine.cli_follow import FAILED, INTERRUPTED, WRONG, follow
from kd_engine.cli_options import JsonOption, RecipeArgument, RunsOption, SetOption, app, document_of
from kd_engine.document import parse_change
from kd_engine.errors import KdError, Problem, RecipeError, shown
from kd_engine.recipe import Recipe
from kd_engine.store import EVENTS, Store
from kd_engine.threads import wait_asleep

LOG = logging.getLogger("kd_engine")

JsonLines = Annotated[
    bool, typer.Option("--jsonl", help="One event a line (JSON) instead of a progress bar.")
]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's name, a part of it, its folder, or last.")
]
WeightsOption = Annotated[
    str, typer.Option(metavar="WHICH", help="The last weights, or those of the best epoch on validation.")
]


@app.command()
def catalog(as_json: JsonOption = False) -> None:
    """What exists, with its knobs; what is unavailable, and why."""
    found = catalogs.load()
    if as_json:
        _print_json(found.to_json())
    else:
        report.show_catalog(found)


@app.command()
def check(recipe: RecipeArgument, set_: SetOption = None) -> None:
    """Name all problems of a recipe at once."""
    problems = check_recipe(document_of(recipe, set_), catalogs.load())
    if problems:
        raise RecipeError(problems)
    print(f"{recipe}: no problems.")


@app.command()
def run(
    recipe: RecipeArgument, set_: SetOption = None, runs: RunsOption = None, jsonl: JsonLines = False
) -> None:
    """Run a recipe: a progress bar, then the figures.

    Ctrl+C stops the run and keeps it; `kd resume last` goes on. A stored run's folder in place of a recipe
    repeats that run, with the changes that were made while it was live.
    """
    from kd_engine.session import Session

    if not set_ and _is_run(recipe):
        follow(Session.repeat(recipe, runs), jsonl)
    else:
        follow(Session(Recipe.from_document(document_of(recipe, set_)), runs), jsonl)


@app.command()
def resume(run: RunArgument, runs: RunsOption = None, jsonl: JsonLines = False) -> None:
    """Go on with a run from its last checkpoint."""
    from kd_engine.session import Session

    follow(Session.resume(run, runs), jsonl)


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
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run's name, a part of it, its folder, or last.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Instead of a run: a model's name, ...")
    ] = None,
    weights: Annotated[str | None, typer.Option(metavar="FILE", help="... its checkpoint file ...")] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="... and a dataset's name, a folder of images or an .npz."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="With --model: a knob of the model or the data, as in model.shortcut=A. Repeatable.",
        ),
    ] = None,
    robust: Annotated[
        bool,
        typer.Option(
            "--robust", help="Also on images with noise, blurred, with less contrast, and after JPEG."
        ),
    ] = False,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a stored run, or a model from a file, on the test part: accuracy, closeness to the teacher,
    cost. --robust makes four more passes."""
    from kd_engine import answers

    given = (model, weights, data)
    if (run is None) == (None in given) or (run is not None and (any(given) or set_)):
        way = "name a run, or give --model, --weights and --data (and then --set)"
        raise RecipeError([Problem("", way)])
    if model is not None and weights is not None and data is not None:
        document = _evaluation(data, set_ or ())
        try:
            answer = answers.evaluate_model(model, weights, document["data"], document["model"], robust)
        except RecipeError as error:
            raise RecipeError([_as_asked(problem, data) for problem in error.problems]) from None
    else:
        answer = answers.evaluate_run(str(run), runs, robust)
    for note in answer["notes"]:
        print(f"note: {note}", file=sys.stderr)
    if as_json:
        _print_json(answer["figures"])
    else:
        report.show_figures(answer["figures"], answer["classes"], answer["protocol"])


@app.command()
def probe(
    run: RunArgument,
    probe: Annotated[
        str, typer.Option(metavar="NAME", help="What to look with: attention, grad-cam, soft-targets, ...")
    ],
    sample: Annotated[int, typer.Option(metavar="I", help="A sample's number in the part, from 0.")],
    tap: Annotated[
        str, typer.Option(metavar="NAME", help="Where to look, as in stage2; auto: the last stage.")
    ] = "auto",
    part: Annotated[
        str, typer.Option(metavar="PART", help="Of the data: train, validation or test.")
    ] = "validation",
    weights: WeightsOption = "last",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A picture (.png) or arrays (.npz) to write. Without: arrays in the run."
        ),
    ] = None,
    runs: RunsOption = None,
) -> None:
    """Look at one sample with teacher and student of a stored run."""
    from kd_engine import answers, picture

    if out is not None and out.suffix not in (".png", ".npz"):
        raise RecipeError([Problem("--out", f"got {out}, expected a name that ends in .png or .npz")])
    with tempfile.TemporaryDirectory() as folder:
        drawn = out is not None and out.suffix == ".png"
        arrays = Path(folder, "probe.npz") if drawn else out
        told = answers.probe(run, runs, probe, sample, tap=tap, part=part, which=weights, out=arrays)
        if drawn and out is not None:
            picture.save(Path(told["path"]), out)
            told["path"] = str(out)
    report.show_probe(told["numbers"], told["label"], told["classes"])
    print(told["path"])


@app.command()
def export(
    run: RunArgument,
    format: Annotated[
        str, typer.Option(metavar="NAME", help="safetensors, pt2, ...: `kd catalog` lists the exporters.")
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="PATH", help="The file to write; a model card in Markdown lies beside it."),
    ],
    weights: WeightsOption = "last",
    runs: RunsOption = None,
) -> None:
    """Write a stored run's student for others to use."""
    from kd_engine import answers

    told = answers.export(run, runs, format, out, which=weights)
    print(f"{told['path']} ({told['bytes']:,} bytes), model card {told['card_path']}. Load it with:")
    print(f"\n{told['code']}")


def main() -> None:
    """Run the command line; a user's mistake ends in a line on stderr, not in a traceback."""
    _be_quiet()
    wait_asleep(os.environ)
    keep_freed()
    before = signal.signal(signal.SIGINT, lambda *_: sys.exit(INTERRUPTED))
    try:
        app()
    except KdError as error:
        _tell(error)
        sys.exit(WRONG)
    except BrokenPipeError:  # whoever read our output has gone: not even Python's last flush may meet it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        report.problem("Out of memory. Close other programs, or take a smaller model or fewer images.")
        sys.exit(FAILED)
    finally:
        signal.signal(signal.SIGINT, before)


def _be_quiet() -> None:
    """Only what we say reaches the user: no library's warnings, no logged tracebacks (a failed run keeps its
    own), and no error where the terminal lacks a letter."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    if not LOG.handlers:
        LOG.addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # what a test puts in their place may be no real stream
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def _tell(error: KdError) -> None:
    problems = error.problems if isinstance(error, RecipeError) else ()
    if len(problems) > 1:
        report.problem("\n  ".join((f"{len(problems)} problems:", *map(str, problems))))
    else:
        report.problem(str(error))


def _out_of_memory(error: Exception) -> bool:
    from kd_engine.failures import is_out_of_memory

    return is_out_of_memory(error)


def _evaluation(data: str, changes: Iterable[str]) -> dict[str, Any]:
    """`model` (its knobs) and `data` (a section) as --data and --set ask."""
    document: dict[str, Any] = {"model": {}, "data": _data_section(data)}
    for text in changes:
        path, value = parse_change(text)
        section, _, knob = path.partition(".")
        if section not in document or not knob or "." in knob or path == "data.dataset":
            raise RecipeError([Problem(path, "expected model.KNOB=VALUE or data.KNOB=VALUE")])
        if path in ("model.model", "model.weights"):
            raise RecipeError([Problem(path, "say it with --model and --weights")])
        document[section][knob] = value
    return document


def _as_asked(problem: Problem, data: str) -> Problem:
    """A problem of the recipe that an evaluation makes, in the words of the options that asked for it."""
    if problem.path == "data.dataset":
        return Problem("--data", f"{problem.message}; nor is there a folder or a file {shown(data)}")
    known = {"student.model": "--model", "student.weights": "--weights"}
    path = known.get(problem.path) or problem.path.replace("student.", "model.", 1)
    return Problem(path, problem.message)


def _is_run(recipe: str) -> bool:
    try:
        return Path(recipe, EVENTS).is_file()
    except OSError:  # too long a name
        return False


def _data_section(data: str) -> dict[str, Any]:
    """A dataset by name, a folder of images, or an .npz."""
    try:
        place = Path(data).expanduser()
        if place.is_dir():
            return {"dataset": "image-folder", "path": str(place)}
        if place.is_file():
            return {"dataset": "arrays", "path": str(place)}
    except (OSError, RuntimeError):  # too long a name; the home of nobody
        pass
    return {"dataset": data}


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=1, ensure_ascii=False))


from kd_engine import cli_bench, cli_cache  # noqa: E402, F401 (their commands stand after ours)
