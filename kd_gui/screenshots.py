"""Render the window in every state, light and dark, in two sizes: `python -m kd_gui.screenshots OUT [--run
FOLDER]`.

A real run is played back into a real window: its log is taken as if it came from the engine just now. Without
a run to play, the first preset is trained for that. Draws offscreen; files are called STATE-LOOK-SIZE.png.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_engine import events as e
from kd_engine.document import preset_files, read_document
from kd_engine.events import Event
from kd_engine.recipe import Recipe
from kd_engine.store import RunFolder

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

    from kd_gui.main_window import MainWindow
    from kd_gui.state.studio import Studio

SIZES = ((1280, 800), (1024, 700))
SHARE = 0.62  # how far the run has come in the pictures of a running one
PATIENCE_S = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m kd_gui.screenshots", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder for the pictures")
    parser.add_argument(
        "--run", type=Path, metavar="FOLDER", help="a finished run to show (default: train one)"
    )
    told = parser.parse_args(argv)
    if told.run is not None:
        files = render(told.out, told.run)
    else:
        with tempfile.TemporaryDirectory() as runs:
            document = read_document(next(iter(preset_files())))
            files = render(told.out, train(document, Path(runs)))
    print(f"{len(files)} pictures in {told.out}")
    return 0


def train(document: Mapping[str, Any], runs: Path) -> Path:
    """Run a recipe headless; the run's folder. RuntimeError when it fails, KdError when its engine dies."""
    from kd_engine.remote import RemoteSession

    *_, end = RemoteSession(Recipe.from_document(document), runs)
    if isinstance(end, e.RunFailed):
        raise RuntimeError(f"{end.message} {end.hint}")
    assert isinstance(end, e.RunDone)  # nobody could ask it to stop
    return runs / end.run


def render(out: Path, run: Path) -> list[Path]:
    """The pictures of every state that `run`, a finished one, went through."""
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    from kd_gui.app import application, settings_aside

    with settings_aside():
        application()
        out.mkdir(parents=True, exist_ok=True)
        folder = RunFolder(run.absolute())
        with _window(folder) as (window, studio):
            return _Album(out, window, studio, folder).fill()


@contextmanager
def _window(run: RunFolder) -> Iterator[tuple[MainWindow, Studio]]:
    from kd_engine import catalog
    from kd_engine.remote import Engine
    from kd_gui.log import Log
    from kd_gui.main_window import MainWindow
    from kd_gui.state.studio import Studio

    studio = Studio(Engine(), run.folder.parent)
    window = MainWindow(studio, Log())
    if (known := catalog.cached()) is not None:
        studio.draft.set_catalog(known)
    _experiment_of(studio, run)
    window.show()
    try:
        yield window, studio
    finally:
        window.hide()
        studio.shut_down()
        window.deleteLater()


def _experiment_of(studio: Studio, run: RunFolder) -> None:
    """The preset that the run was started from, or its recipe where it is none."""
    recipe = run.recipe()
    titles = {title: name for name, title in studio.draft.presets().items()}
    if recipe["name"] in titles:
        studio.load_preset(titles[recipe["name"]])
    else:
        studio.draft.load_document(recipe, recipe["name"])


class _Album:
    """One window, led through its states."""

    def __init__(self, out: Path, window: MainWindow, studio: Studio, run: RunFolder) -> None:
        self._out = out
        self._window = window
        self._studio = studio
        self._run = run
        self._files: list[Path] = []

    def fill(self) -> list[Path]:
        studio, events = self._studio, list(self._run.events())
        self._take("boot")
        studio.start()
        self._until(lambda: bool(studio.draft.facts))
        studio.notices.withdraw_all()
        self._take("ready")
        training = next(i for i, event in enumerate(events) if isinstance(event, e.StageStarted))
        middle = self._middle(events)
        self._play(events[:training])
        self._take("preparing")
        self._play(events[training:middle])
        self._until(lambda: bool(studio.samples.epochs))
        self._take("running")
        self._now = events[middle - 1].time  # as if no time went by while the pictures were taken
        self._play([e.Paused(step=studio.feed.step, time=self._now)])
        self._take("paused")
        self._dialog("question-close", lambda: self._window.dialogs.ask_close(lambda key: None))
        self._play([e.Continued(step=studio.feed.step, time=self._now)])
        self._notices()
        self._play(events[middle:])
        self._until(lambda: len(studio.samples.epochs) > 1)
        studio.runs.set_store(studio.store)  # its row as the store has it, no longer as it was live
        self._rest()
        self._take("done")
        self._evaluation()
        self._dialog("export", self._window.dialogs.export_shown)
        self._dialog("keys", lambda: self._window.actions_["keys"].trigger())
        studio.notices.withdraw_all()
        studio.live = ""
        pictured = bool(studio.samples.epochs)  # they are read after the curves
        studio.look_at(self._run.name)
        self._until(lambda: studio.feed.status == "done" and bool(studio.samples.epochs) == pictured)
        self._take("stored")
        return self._files

    def _evaluation(self) -> None:
        """Its pages, then an early epoch on the validation part."""
        studio, window = self._studio, self._window
        window.show_evaluation()
        studio.notices.withdraw_all()
        self._until(lambda: not studio.evaluation.asking)
        for page in ("confusion", "classes", "calibration", "retention"):
            window.evaluation.show_page(page)
            self._rest()
            self._take(f"evaluation-{page}")
        epochs = studio.samples.epochs
        studio.samples.set_epoch(epochs[len(epochs) // 3])
        window.evaluation.show_page("confusion")
        self._take("evaluation-epoch")
        studio.samples.set_epoch(None)
        window.actions_["evaluation"].trigger()

    def _notices(self) -> None:
        """What is told when things go wrong."""
        studio, document = self._studio, self._run.recipe()
        for name, event in (
            ("nan", e.Paused(step=412, why="nan")),
            (
                "memory",
                e.RunFailed(run="", error="memory", message="Out of memory at batch size 128.", hint=""),
            ),
            ("died", e.RunFailed(run="", error="engine_died", message="The engine stopped.", resumable=True)),
        ):
            studio.tidings.follow(event, document, 0.5)
            self._take(f"notice-{name}")
            studio.notices.withdraw_all()

    def _middle(self, events: Sequence[Event]) -> int:
        steps = max(getattr(event, "step", 0) for event in events)
        return next(i for i, event in enumerate(events) if getattr(event, "step", 0) >= SHARE * steps)

    def _play(self, events: Sequence[Event]) -> None:
        """As if the engine said it now."""
        self._studio.take(events)
        for event in events:
            if isinstance(event, e.KnobChanged):
                self._studio.draft.correct(event.path, event.new)  # as if it had been dragged here
        self._studio.text_tick.emit()
        self._rest()

    def _dialog(self, name: str, show: Callable[[], object]) -> None:
        show()
        dialog = self._window.dialogs.current
        assert dialog is not None
        self._take(name, dialog, sizes=SIZES[:1])
        dialog.reject()
        self._rest()

    def _take(
        self, name: str, widget: QWidget | None = None, sizes: Sequence[tuple[int, int]] = SIZES
    ) -> None:
        from kd_gui.theme import theme

        for size in sizes:
            self._window.resize(*size)
            for look in ("light", "dark"):
                theme().set_dark(look == "dark")
                self._rest()
                file = self._out / f"{name}-{look}-{size[0]}.png"
                (widget or self._window).grab().save(str(file))
                self._files.append(file)
        theme().set_dark(False)
        self._window.resize(*SIZES[0])

    def _rest(self, seconds: float = 0.15) -> None:
        """Let layouts, readers and timers come to rest."""
        ends = time.monotonic() + seconds
        self._until(lambda: time.monotonic() > ends)

    def _until(self, holds: Callable[[], bool]) -> None:
        from PySide6.QtWidgets import QApplication

        ends = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > ends:
                raise RuntimeError(f"the window did not come to rest after {PATIENCE_S:.0f} s")
            QApplication.processEvents()
            time.sleep(0.005)


if __name__ == "__main__":
    sys.exit(main())
