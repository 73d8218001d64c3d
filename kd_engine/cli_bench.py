"""`kd bench` and `kd advise`: what several runs say, as commands beside those of kd_engine.cli."""

from __future__ import annotations

import json
import os
import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from kd_engine import report
from kd_engine.cli_follow import FAILED, INTERRUPTED, interrupts
from kd_engine.cli_options import RecipeArgument, RunsOption, SetOption, app, document_of
from kd_engine.disk import replacing
from kd_engine.document import set_at
from kd_engine.errors import Problem, RecipeError
from kd_engine.recipe import Recipe
from kd_engine.store import Store
from kd_engine.summary import duration

NOTHING_KEPT = "kd: stopping after this step; a pilot leaves nothing behind\n"

OutOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Where the tables go (default: a folder in the folder of runs, named after it)."
    ),
]


@app.command()
def bench(
    recipe: RecipeArgument,
    set_: SetOption = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Runs: seeds from the recipe's own up.")] = 5,
    runs: RunsOption = None,
    out: OutOption = None,
    jobs: Annotated[
        int, typer.Option(metavar="N", help="Runs at once, each in a process; no figure depends on it.")
    ] = 1,
    vary_data: Annotated[
        bool,
        typer.Option("--vary-data", help="The seed chooses validation part, subset and labels, too."),
    ] = False,
) -> None:
    """Run a recipe over several seeds: one table with means, spread and gain.

    The same call again goes on where it was stopped; more --seeds add runs. A run computes with one CPU
    thread, unless the recipe sets hardware.threads, and keeps no snapshots.
    """
    from kd_engine import bench_plan, bench_table, tables
    from kd_engine.bench import Bench

    document = bench_plan.settled(Recipe.from_document(document_of(recipe, set_)))
    _require_counts(seeds, jobs, document["hardware"]["threads"])
    store = Store(runs)
    folder = out or store.root / bench_plan.folder_name("bench", document, vary_data)
    plan = bench_plan.Plan.open(folder, document, vary_data)
    asked = plan.seeds(seeds)
    work = Bench(plan, asked, store, jobs)
    with interrupts(lambda _: work.stop()) as signals, closing(iter(work)) as moving:
        for told in moving:
            _show_progress(told)
    if signals and not work.complete:
        _tell("Stopped; every run is kept. The same command goes on with them.")
        sys.exit(INTERRUPTED)
    found = bench_table.make_table(plan, asked, store)
    tables.show_bench(found)
    for file in tables.write_bench(found, folder):
        print(file)
    if found.problems:
        report.problem(f"{len(found.problems)} of {seeds} runs have no figures: see above.")
        sys.exit(FAILED)


@app.command()
def advise(
    recipe: RecipeArgument,
    set_: SetOption = None,
    epochs: Annotated[int, typer.Option(metavar="N", help="Epochs of the pilot, at most.")] = 3,
    subset: Annotated[int, typer.Option(metavar="N", help="Training images of the pilot, at most.")] = 1000,
    runs: RunsOption = None,
    out: OutOption = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the recipe with the advice in it, where there is any."),
    ] = None,
) -> None:
    """Suggest temperature and weights from a short pilot, with the evidence.

    A few epochs on a part of the training images, several settings side by side on one teacher pass, judged
    on the validation part; no model answers on the test part. The recipe stays as it is: the advice is
    printed as --set options.
    """
    from kd_engine import advise as advising
    from kd_engine import bench_plan, heat, pilot, tables

    _require_pilot(epochs, subset, write)
    document = document_of(recipe, set_)
    checked = Recipe.from_document(document)
    planned = pilot.make_pilot(checked, epochs, subset)
    root = Store(runs).root
    trial = pilot.Trial(planned, root)
    _tell(f"A pilot with {len(planned.settings)} settings and plain training, side by side.")
    with interrupts(lambda _: trial.stop(), NOTHING_KEPT):
        try:
            for done, of in trial:
                _tell(f"epoch {done} of {of}")
        except pilot.PilotFailed as failure:
            report.problem(str(failure))
            sys.exit(FAILED)
    if trial.outcome is None:
        sys.exit(INTERRUPTED)
    found = advising.judge(planned, trial.outcome)
    folder = out or root / bench_plan.folder_name("advice", {**planned.document, "name": checked.name})
    tables.show_advice(found)
    heat.save(found, folder / "advice.png")
    for file in (*tables.write_advice(found, folder), folder / "advice.png"):
        print(file)
    _offer(found.changes, document, recipe, set_ or [], write)


def _require_pilot(epochs: int, subset: int, write: Path | None) -> None:
    problems = [
        Problem(option, f"got {value}, expected {low} or more")
        for option, value, low in (("--epochs", epochs, 1), ("--subset", subset, 10))
        if value < low
    ]
    if write is not None and write.exists():
        problems.append(Problem("--write", f"{write} is there already. Choose another name"))
    if problems:
        raise RecipeError(problems)


def _offer(
    changes: dict[str, float], document: dict[str, Any], recipe: str, given: list[str], write: Path | None
) -> None:
    """Say how to follow the advice, and write the recipe where that was asked for."""
    if not changes:
        if write is not None:
            _tell(f"{write} was not written: there is nothing to change.")
        return
    options = [*given, *(f"{path}={value:g}" for path, value in changes.items())]
    print("\nTo follow it:")
    print(" ".join(["kd run", shlex.quote(recipe), *(f"--set {shlex.quote(option)}" for option in options)]))
    if write is not None:
        for path, value in changes.items():
            set_at(document, path, value)
        Recipe.from_document(document)  # what is written can be run
        with replacing(write) as temporary:
            temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(write)


def _require_counts(seeds: int, jobs: int, threads: int) -> None:
    """RecipeError for numbers that cannot be, and for more threads than there are cores: those would wait for
    each other."""
    problems = []
    if not 1 <= seeds <= 1000:
        problems.append(Problem("--seeds", f"got {seeds}, expected 1 to 1000"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = max(1, cores // threads)
    if not 1 <= jobs <= most:
        why = f"{cores} cores, and {threads} thread(s) a run (hardware.threads)"
        problems.append(Problem("--jobs", f"got {jobs}, expected 1 to {most}: there are {why}"))
    if problems:
        raise RecipeError(problems)


def _show_progress(told: Any) -> None:
    """One line a step on stderr: standard output is the table's."""
    words = {
        "kept": told.message,
        "started": f"started, run {told.run}",
        "resumed": f"going on with run {told.run}",
        "epoch": f"epoch {told.epoch} of {told.epochs}",
        "stopped": f"stopped after epoch {told.epoch}",
        "done": "done",
    }
    line = (
        f"[{told.done}/{told.of}] seed {told.seed}: {words.get(told.what) or f'{told.what}: {told.message}'}"
    )
    if told.what in ("epoch", "done") and told.eta_s is not None:
        line += f", about {duration(told.eta_s)} left"
    _tell(line)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
