"""Start the window: what can be wrong with the display is said before Qt is touched, torch is imported in the
child only."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kd_gui import startup

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication, QWidget

    from kd_gui.engine_thread import Engine
    from kd_gui.state.studio import Studio

STARTED = time.monotonic()  # near enough where the system does not tell when the process began


def main(argv: Sequence[str] | None = None) -> int:
    """The window, until it is closed. Exit codes: 0, or 2 when the request or the display is wrong."""
    told = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    if (why := startup.problem(os.environ)) is not None:
        print(why, file=sys.stderr)
        return 2
    app = application()
    from kd_gui.collector import Collector
    from kd_gui.log import Log
    from kd_gui.main_window import MainWindow
    from kd_gui.state.notices import Offer, Post
    from kd_gui.state.studio import Studio
    from kd_gui.theme import theme

    log = Log(app)
    if told.dark or told.light:
        theme().set_dark(told.dark)
    studio = Studio(_engine(told.in_process), _runs(told.runs), app)
    window = MainWindow(studio, log)

    def report(text: str) -> None:
        look = Offer(studio.tr("Show the log"), window.show_log)
        studio.notices.post(Post("uncaught", "error", text, "", (look,)))

    log.failed.connect(report)
    log.install()
    if (problem := _open(studio, window.open_path, told.preset, told.what)) is not None:
        print(problem, file=sys.stderr)
        studio.shut_down()
        return 2
    collector = Collector(app)
    window.first_painted.connect(studio.start)
    window.first_painted.connect(collector.start)
    if told.timing:
        window.first_painted.connect(lambda: print(f"first paint: {_age_ms():.0f} ms", flush=True))
    for name in (signal.SIGINT, signal.SIGTERM):
        # exit, not quit: nobody is asked; a live run is stopped and kept
        signal.signal(name, lambda _number, _frame: app.exit())
    window.show()
    code = app.exec()
    studio.shut_down()
    collector.stop()
    log.uninstall()
    return code


def application() -> QApplication:
    """The one QApplication, named and dressed."""
    from PySide6.QtWidgets import QApplication

    from kd_gui import theme

    app = QApplication.instance() or QApplication(sys.argv[:1])
    assert isinstance(app, QApplication)
    app.setOrganizationName("kd-studio")
    app.setApplicationName("kd-studio")
    app.setApplicationDisplayName("KD Studio")
    theme.apply(app)
    return app


@contextmanager
def settings_aside() -> Iterator[Path]:
    """A temporary folder, in which windows keep their settings meanwhile: the user's stays as it was left."""
    from PySide6.QtCore import QSettings

    with tempfile.TemporaryDirectory() as folder:
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, folder)
        yield Path(folder)


def show_alone(factory: Callable[[], QWidget], *, size: tuple[int, int] | None = None) -> None:
    """Show one widget with its demo data until it is closed: `python -m kd_gui.panels.NAME`."""
    if (why := startup.problem(os.environ)) is not None:
        sys.exit(why)
    app = application()
    widget = factory()
    if size is not None:
        widget.resize(*size)
    widget.show()
    sys.exit(app.exec())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("kd-gui", description="A desktop studio for knowledge distillation.")
    parser.add_argument(
        "what", nargs="?", metavar="RECIPE|RUN", help="a recipe file or a run's folder to open"
    )
    parser.add_argument(
        "--runs", type=Path, metavar="DIR", help="the folder of runs (default: $KD_RUNS, or yours)"
    )
    parser.add_argument("--preset", metavar="NAME", help="start with this bundled experiment")
    parser.add_argument(
        "--in-process", action="store_true", help="train in this process, to debug the engine"
    )
    look = parser.add_mutually_exclusive_group()
    look.add_argument("--dark", action="store_true", help="dark, whatever the system says")
    look.add_argument("--light", action="store_true", help="light, whatever the system says")
    parser.add_argument("--timing", action="store_true", help=argparse.SUPPRESS)
    return parser


def _engine(in_process: bool) -> Engine:
    from kd_engine.remote import Engine, LocalEngine

    return LocalEngine() if in_process else Engine()


def _runs(told: Path | None) -> Path:
    from kd_engine import paths

    return (told or paths.runs()).absolute()


def _open(
    studio: Studio, open_path: Callable[[str], None], preset: str | None, what: str | None
) -> str | None:
    """Fill in the experiment: what was named, or as it was left, or the first preset. Returns what is
    wrong."""
    from kd_engine import catalog
    from kd_engine.errors import KdError

    known = catalog.cached()
    if known is not None:
        studio.draft.set_catalog(known)
    try:
        if preset is not None:
            studio.draft.load_preset(preset)
        elif what is not None and not Path(what).is_dir():
            studio.open_recipe(what)
        else:
            restore(studio)
    except KdError as error:
        return str(error)
    studio.show.experiment(studio.draft.preset)
    if what is not None and Path(what).is_dir():
        open_path(what)
    return None


def restore(studio: Studio) -> None:
    """The experiment as it was left; the first preset when there is none, or when it no longer makes
    sense."""
    from PySide6.QtCore import QSettings

    from kd_engine.errors import KdError

    settings = QSettings()
    presets = studio.draft.presets()
    name = str(settings.value("experiment/preset") or "")
    studio.draft.load_preset(name if name in presets else next(iter(presets)))
    try:
        document = json.loads(str(settings.value("experiment/document") or "null"))
        if isinstance(document, dict) and document:
            studio.draft.edit(studio.tr("As it was left"), document)
    except (ValueError, KdError) as error:
        import logging

        logging.getLogger(__name__).warning("the last experiment cannot be restored: %s", error)
    studio.draft.forget_history()


def _age_ms() -> float:
    """Milliseconds since this process began."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
        return 1000 * (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, ValueError):
        return 1000 * (time.monotonic() - STARTED)


if __name__ == "__main__":
    sys.exit(main())
