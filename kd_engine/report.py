"""What the command line shows: a progress bar that follows the events, and tables.

Nothing is cut off to fit a narrow window, and what a user named is never read as markup: names are there to
be copied.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from kd_engine import events as e
from kd_engine.catalog import Catalog
from kd_engine.events import STUDENT, Event
from kd_engine.knobs import Knob
from kd_engine.store import RunInfo
from kd_engine.summary import FIGURES, closing_line, duration, figure, percent

FEW = 12  # names that stand on one line


def console(stderr: bool = False) -> Console:
    """Text as it is: long lines are left to the terminal."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


class Lines:
    """One event a line on stdout, as in events.jsonl, and nothing else; a failure is told on stderr too."""

    def show(self, event: Event) -> None:
        print(json.dumps(e.to_json(event)), flush=True)
        if isinstance(event, e.RunFailed):
            problem(_failure(event))

    def close(self) -> None:
        """Nothing to put back."""


class Progress:
    """A bar over a stage's steps, where there is a terminal; lines above it for what is worth keeping."""

    def __init__(self) -> None:
        self._console = console()
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            TimeRemainingColumn(),
        )
        self._bar = Bar(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        )
        self._task: TaskID | None = None
        self._before = 0  # steps of earlier stages
        self._step = 0
        self._resumed: e.RunResumed | None = None

    def show(self, event: Event) -> None:
        if isinstance(event, (e.RunStarted, e.RunResumed)):
            self._begin(event)
        elif isinstance(event, e.Preparing) and event.what in ("data", "teacher", "evaluate"):
            self._console.print(f"preparing: {event.what} {event.detail}".rstrip())
        elif isinstance(event, e.TeacherReady) and event.top1 is not None:
            self._console.print(f"teacher {event.model}: {percent(event.top1)} on the validation part")
        elif isinstance(event, e.StageStarted):
            self._stage(event)
        elif isinstance(event, e.StepDone) and event.student == STUDENT and self._task is not None:
            rate = f"loss {event.loss:.3f}, {event.samples_per_s:,.0f} images/s"
            self._step = event.step
            self._bar.update(self._task, completed=event.step - self._before, description=rate)
        elif isinstance(event, e.EpochDone):
            self._epoch(event)
        elif isinstance(event, e.Notice) and event.level == "error":
            problem(event.message)
        elif isinstance(event, e.Notice):
            self._console.print(f"{event.level}: {event.message}")
        elif isinstance(event, e.ENDS):
            self.close()
            self._end(event)

    def close(self) -> None:
        """Take the bar away and give the cursor back, also when the run was broken off."""
        self._bar.stop()

    def _begin(self, event: e.RunStarted | e.RunResumed) -> None:
        self._step = 0
        if isinstance(event, e.RunResumed):
            self._resumed, self._step = event, event.step
        verb = "run" if isinstance(event, e.RunStarted) else "going on with"
        self._console.print(f"{verb} {event.run} on {event.environment['device']}")

    def _stage(self, event: e.StageStarted) -> None:
        self._before = self._step
        if self._resumed is not None and self._resumed.stage == event.stage:
            self._before -= self._resumed.epoch * event.steps_per_epoch  # exact from the next epoch on
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(event.kind, total=event.epochs * event.steps_per_epoch)
        self._steps_per_epoch = event.steps_per_epoch
        self._bar.start()

    def _epoch(self, event: e.EpochDone) -> None:
        self._step = event.step
        self._before = event.step - event.epoch * self._steps_per_epoch
        top1 = event.validation.get("top1")
        shown = f"{percent(top1)} on validation" if top1 is not None else f"loss {event.train['loss']:.3f}"
        best = " (best)" if event.best and top1 is not None else ""
        self._console.print(f"epoch {event.epoch}: {event.student} {shown}{best}")

    def _end(self, event: Event) -> None:
        if isinstance(event, e.RunDone):
            self._console.print(closing_line(event.summary))
        elif isinstance(event, e.RunStopped) and not event.kept:
            self._console.print("Stopped and discarded.")
        elif isinstance(event, e.RunStopped):
            self._console.print(f"Stopped at step {event.step} and kept. Go on with: kd resume {event.run}")
        elif isinstance(event, e.RunFailed):
            problem(_failure(event))


def show_catalog(catalog: Catalog) -> None:
    """Every entry with its knobs, by kind; then what is unavailable, and why."""
    out = console()
    for kind in dict.fromkeys(entry.kind for entry in catalog.entries):
        out.print(f"\n{kind}", style="bold")
        for entry in catalog.of(kind):
            names = entry.facts.get("models") or [entry.name]
            shown = ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")
            out.print(f"  {shown}: {entry.help}" if entry.help else f"  {shown}")
            for knob in entry.knobs:
                out.print(f"      {_knob(knob)}", style="dim")
            for warning in filter(
                None, (entry.caution, entry.unavailable and f"unavailable: {entry.unavailable}")
            ):
                out.print(f"      {warning}", style="yellow")
    for broken in catalog.broken:
        out.print(f"\nunavailable: {broken['module']}: {broken['reason']}", style="yellow")


def show_runs(runs: list[RunInfo], root: Path) -> None:
    """One run a line, newest first."""
    if not runs:
        console().print(f"No runs in {root} yet. Start one with: kd run quickstart")
        return
    rows = []
    for row in map(run_row, runs):
        status = f"{row['status']}, resumable" if row["resumable"] else row["status"]
        gain, seconds, heat = _number(row["gain"]), _number(row["seconds"]), _number(row["temperature"])
        rows.append(
            [
                row["run"],
                status,
                *("" if share is None else percent(share) for share in map(_number, _shares(row))),
                "" if gain is None else f"{100 * gain:+.1f}",
                "" if heat is None else f"{heat:g}",
                "" if seconds is None else duration(seconds),
                row["name"],
            ]
        )
    table(["run", "status", "top-1", "retention", "gain", "T", "time", "name"], rows, left=(0, 1, 7))


def run_row(info: RunInfo) -> dict[str, Any]:
    """A run as plain values: one row of `kd runs`."""
    students = info.summary.get("students")
    student = students.get(STUDENT) if isinstance(students, Mapping) else None
    return {
        "run": info.name,
        "name": info.title,
        "status": info.status,
        "resumable": info.resumable,
        "temperature": info.summary.get("temperature"),
        "top1_test": student.get("top1_test_last") if isinstance(student, Mapping) else None,
        "retention": info.summary.get("retention"),
        "gain": info.summary.get("gain"),
        "seconds": info.seconds,
        "folder": str(info.folder),
    }


def show_figures(figures: dict[str, dict[str, Any]], classes: Sequence[str], protocol: str = "") -> None:
    """Metrics of several models side by side, section by section; then, class by class, how much of it is
    found, how often its name is right (F1: both in one number), and how many points more or less of it than
    the teacher finds: of the last weights, where there are several models. Below, why what is missing could
    not be measured, and the protocol."""
    rows: list[list[str]] = []
    section = ""
    for name, (label, written, part) in FIGURES.items():
        cells = [_cell(metrics, name, written) for metrics in figures.values()]
        if any(cells):
            if part != section:
                section = part
                rows += [[""] * (len(cells) + 1), [section, *[""] * len(cells)]]
            rows.append([f"  {label}", *cells])
    table(["", *figures], rows, left=(0,))
    name = "last" if "last" in figures else next(iter(figures))
    print()
    _show_classes(name, figures[name], classes)
    if why := _unmeasured(figures.values()):
        print("\n" + "\n".join(why))
    if protocol:
        print(f"\n{protocol}")


def show_probe(numbers: Mapping[str, float], label: str, classes: Sequence[str]) -> None:
    """What a probe measured, in words."""
    print(f"class: {label}")
    for name, value in numbers.items():
        if name.endswith("_class"):
            text = classes[int(value)]
        else:
            text = percent(value) if name.endswith(("_confidence", "_on_object")) else f"{value:.3f}"
        print(f"{name.replace('_', ' ')}: {text}")


def problem(text: str) -> None:
    """Tell what is wrong, on stderr."""
    print(f"kd: {text}", file=sys.stderr)


def _failure(event: e.RunFailed) -> str:
    more = f" Go on with: kd resume {event.run}" if event.resumable else ""
    return f"{event.message} {event.hint}".rstrip() + more


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> None:
    """Columns as wide as their longest cell: lines may be longer than the window, and nothing is cut off."""
    out = console()
    widths = [max(cell_len(line[i]) for line in (heads, *rows)) for i in range(len(heads))]
    for k, line in enumerate((heads, *rows)):
        cells = [
            text + " " * (width - cell_len(text)) if i in left else " " * (width - cell_len(text)) + text
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        out.print("  ".join(cells).rstrip(), style="bold" if k == 0 else None)


def _show_classes(name: str, metrics: Mapping[str, Any], classes: Sequence[str]) -> None:
    measures = ("recall", "precision", "f1")
    gaps = metrics.get("gaps")
    rows = []
    for i, (label, found) in enumerate(zip(classes, metrics["per_class"], strict=True)):
        gap = [] if gaps is None else ["" if gaps[i] is None else f"{100 * gaps[i]:+.1f}"]
        rows.append([label, *(percent(found[measure]) for measure in measures), *gap, str(found["support"])])
    heads = [*measures, *([] if gaps is None else ["recall - teacher's"]), "images"]
    table([f"class ({name})", *heads], rows, left=(0,))


def _cell(metrics: Mapping[str, Any], name: str, written: Callable[[float], str]) -> str:
    value = figure(metrics, name)
    if value is None:
        return "not measurable here" if name in metrics.get("unmeasured", {}) else ""
    return written(value)


def _unmeasured(models: Iterable[Mapping[str, Any]]) -> list[str]:
    """Why a figure could not be measured, each reason once."""
    reasons = {(name, why) for metrics in models for name, why in metrics.get("unmeasured", {}).items()}
    return [f"{FIGURES[name].label}: not measurable here: {why}" for name, why in sorted(reasons)]


def _shares(row: Mapping[str, Any]) -> tuple[Any, Any]:
    return row["top1_test"], row["retention"]


def _number(value: Any) -> float | None:
    """A number, or None for anything else: what a file from elsewhere says may be of any kind."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _knob(knob: Knob) -> str:
    if knob.default is None and not knob.optional:
        default = "required"
    else:
        default = f"default {json.dumps(knob.default)}"
    live = ", live" if knob.live else ""
    return f"{knob.name}: {knob.expected()}, {default}{live}. {knob.help}"
