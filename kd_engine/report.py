"""What the command line shows: a progress bar that follows the events, and tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from kd_engine import events as e
from kd_engine.catalog import Catalog
from kd_engine.events import STUDENT, Event
from kd_engine.knobs import Knob
from kd_engine.store import RunInfo
from kd_engine.summary import closing_line

SHOWN = ("top1", "top5", "nll", "agreement", "kl", "retention", "parameters", "macs", "bytes")


def jsonl(event: Event) -> None:
    """One event a line, as in events.jsonl."""
    print(json.dumps(e.to_json(event)), flush=True)


class Progress:
    """A bar over all steps; lines above it for what is worth keeping."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._errors = Console(stderr=True, highlight=False)
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self._bar = Bar(*columns, console=self._console, transient=True)
        self._task: TaskID | None = None
        self._steps_before = 0

    def show(self, event: Event) -> None:
        if isinstance(event, (e.RunStarted, e.RunResumed)):
            self._console.print(f"run {event.run} on {event.environment['device']}", soft_wrap=True)
        elif isinstance(event, e.Preparing) and event.what in ("data", "teacher", "evaluate"):
            self._console.print(f"preparing: {event.what} {event.detail}".rstrip())
        elif isinstance(event, e.TeacherReady) and event.top1 is not None:
            self._console.print(f"teacher {event.model}: {event.top1:.1%} on the validation part")
        elif isinstance(event, e.StageStarted):
            total = event.epochs * event.steps_per_epoch
            self._task = self._bar.add_task(event.kind, total=total)
            self._bar.start()
        elif isinstance(event, e.StepDone) and event.student == STUDENT and self._task is not None:
            rate = f"loss {event.loss:.3f}, {event.samples_per_s:,.0f} images/s"
            self._bar.update(self._task, completed=event.step, description=rate)
        elif isinstance(event, e.EpochDone):
            self._epoch(event)
        elif isinstance(event, e.Notice):
            self._console.print(f"{event.level}: {event.message}", soft_wrap=True)
        elif isinstance(event, e.ENDS):
            self._bar.stop()
            self._end(event)

    def _epoch(self, event: e.EpochDone) -> None:
        top1 = event.validation.get("top1")
        shown = f"{top1:.1%} on validation" if top1 is not None else f"loss {event.train['loss']:.3f}"
        self._console.print(f"epoch {event.epoch}: {event.student} {shown}{' (best)' if event.best else ''}")

    def _end(self, event: Event) -> None:
        if isinstance(event, e.RunDone):
            self._console.print(closing_line(event.summary), soft_wrap=True)
        elif isinstance(event, e.RunStopped):
            kept = f"Stopped at step {event.step} and kept. Go on with: kd resume {event.run}"
            self._console.print(kept if event.kept else "Stopped and discarded.", soft_wrap=True)
        elif isinstance(event, e.RunFailed):
            more = f" Go on with: kd resume {event.run}" if event.resumable else ""
            text = f"kd: {event.message} {event.hint}".rstrip()
            self._errors.print(text + more, soft_wrap=True, markup=False)


def show_catalog(catalog: Catalog) -> None:
    """Every entry with its knobs, by kind; then what is unavailable, and why."""
    console = Console(highlight=False)
    for kind in dict.fromkeys(entry.kind for entry in catalog.entries):
        console.print(f"\n{kind}", style="bold")
        for entry in catalog.of(kind):
            names = entry.facts.get("models") or [entry.name]
            shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
            console.print(f"  {shown}: {entry.help}", soft_wrap=True, markup=False)
            for knob in entry.knobs:
                console.print(f"      {_knob(knob)}", soft_wrap=True, markup=False, style="dim")
            for warning in filter(
                None, (entry.caution, entry.unavailable and f"unavailable: {entry.unavailable}")
            ):
                console.print(f"      {warning}", soft_wrap=True, markup=False, style="yellow")
    for broken in catalog.broken:
        console.print(f"\nunavailable: {broken['module']}: {broken['reason']}", markup=False, style="yellow")


def show_runs(runs: list[RunInfo], root: Path) -> None:
    console = Console(highlight=False)
    if not runs:
        console.print(f"No runs in {root} yet. Start one with: kd run quickstart", soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("run", "name", "status", "T", "top-1", "retention", "time"):
        table.add_column(name, justify="left" if name in ("run", "name", "status") else "right")
    for info in runs:
        row = run_row(info)
        table.add_row(
            row["run"],
            row["name"],
            row["status"],
            _number(row["temperature"], "g"),
            _number(row["top1_test"], ".1%"),
            _number(row["retention"], ".1%"),
            _number(row["seconds"], ".0f", " s"),
        )
    console.print(table)


def run_row(info: RunInfo) -> dict[str, Any]:
    """A run as plain values: one row of `kd runs`."""
    student = info.summary.get("students", {}).get(STUDENT, {})
    return {
        "run": info.name,
        "name": info.title,
        "status": info.status,
        "resumable": info.resumable,
        "temperature": info.summary.get("temperature"),
        "top1_test": student.get("top1_test_last"),
        "retention": info.summary.get("retention"),
        "gain": info.summary.get("gain"),
        "seconds": info.summary.get("seconds"),
        "folder": str(info.folder),
    }


def show_figures(figures: dict[str, dict[str, Any]]) -> None:
    """Metrics of several models side by side, then per class for each."""
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in figures:
        table.add_column(name, justify="right")
    for metric in SHOWN:
        values = [metrics.get(metric) for metrics in figures.values()]
        if any(value is not None for value in values):
            table.add_row(metric, *(_figure(metric, value) for value in values))
    console.print(table)


def _figure(metric: str, value: Any) -> str:
    if value is None:
        return ""
    if metric in ("top1", "top5", "agreement", "retention"):
        return f"{value:.2%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _knob(knob: Knob) -> str:
    default = "null" if knob.default is None else knob.default
    live = ", live" if knob.live else ""
    return f"{knob.name}: {knob.expected()}, default {default}{live}. {knob.help}"


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"
