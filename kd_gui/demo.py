"""The main job without a screen: train the first preset, export the student, render the window; `make demo`.

Everything lands in ./demo: runs/, the student with its card, screenshots/. The last line says what the
student is worth."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from kd_engine import events as e
from kd_engine.document import preset_files, read_document
from kd_engine.errors import KdError
from kd_engine.events import STUDENT, Event
from kd_engine.remote import Answer, Engine, Gone

FORMAT = "safetensors"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes as of `kd run`: 0 done, 1 the run failed, 130 interrupted."""
    parser = argparse.ArgumentParser("python -m kd_gui.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="where everything lands")
    parser.add_argument("--preset", default=next(iter(preset_files())), help="the bundled recipe to run")
    told = parser.parse_args(argv)
    out = told.out.absolute()
    engine = Engine()
    engine.start()
    try:
        done = run(engine, read_document(told.preset), out / "runs")
        exported = export(engine, out / "runs" / done.run, out / f"student.{FORMAT}")
    except KdError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the run is kept and can be resumed.", file=sys.stderr)
        return 130
    finally:
        engine.close()
    print(f"exported    {exported['path']} ({exported['bytes'] / 1000:.0f} kB), card {exported['card_path']}")
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    from kd_gui.screenshots import render
    from kd_gui.state.wording import done_line

    files = render(out / "screenshots", out / "runs" / done.run)
    print(f"rendered    {len(files)} pictures in {out / 'screenshots'}")
    print(f"{done_line(done.summary)}.")
    return 0


def run(engine: Engine, document: dict[str, Any], runs: Path) -> e.RunDone:
    """Train with a progress bar. KdError when the run fails."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console()) as progress:
        task = progress.add_task("starting", total=None)
        engine.run(document, runs)
        while True:
            for message in engine.messages(timeout=1.0):
                if isinstance(message, e.RunDone):
                    progress.update(task, description="done")
                    return message
                if isinstance(message, e.RunFailed):
                    raise KdError(message.message, message.hint)
                if isinstance(message, Gone):
                    raise KdError(message.reason)
                if isinstance(message, Event):
                    _show(progress, task, message)


def _show(progress: Progress, task: Any, event: Event) -> None:
    if isinstance(event, e.Preparing):
        progress.update(task, description=f"{event.what} {event.detail}".strip())
    elif isinstance(event, e.StageStarted):
        progress.update(task, description=event.kind, total=event.epochs * event.steps_per_epoch)
    elif isinstance(event, e.StepDone) and event.student == STUDENT:
        progress.update(task, completed=event.step)
    elif isinstance(event, e.EpochDone) and event.student == STUDENT and "top1" in event.validation:
        words = f"epoch {event.epoch}, {100 * event.validation['top1']:.1f} % on validation"
        progress.update(task, description=words)


def export(engine: Engine, run: Path, path: Path) -> dict[str, Any]:
    """Write the student to `path`: {path, card_path, bytes, code}. KdError when that fails."""
    asked = engine.ask("export", run=run, runs=run.parent, format=FORMAT, path=path, which="last")
    while True:
        for message in engine.messages(timeout=1.0):
            if isinstance(message, Answer) and message.id == asked:
                if message.values is None:
                    raise KdError(message.error, message.hint)
                return message.values
            if isinstance(message, Gone):
                raise KdError(message.reason)


if __name__ == "__main__":
    sys.exit(main())
