"""`kd bench` and `kd advise`: what several runs say, as commands beside those of kd_engine.cli."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from kd_engine import report
from kd_engine.cli import (
    FAILED,
    INTERRUPTED,
    RecipeArgument,
    RunsOption,
    SetOption,
    app,
    document_of,
    interrupts,
)
from kd_engine.errors import Problem, RecipeError
from kd_engine.recipe import Recipe
from kd_engine.store import Store
from kd_engine.summary import duration

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
