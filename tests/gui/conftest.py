"""What the tests of the window share: a dressed application, a studio over a fake
engine."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QEvent, QSettings
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from kd_engine.catalog import Entry
from kd_gui import theme
from kd_gui.state import example
from kd_gui.state.phase import Phase
from kd_gui.state.studio import Studio
from tests.gui.fake_engine import FakeEngine


@pytest.fixture(scope="session")
def qapp_cls() -> type[QApplication]:
    return QApplication


@pytest.fixture(autouse=True)
def dressed(qapp: QApplication) -> Iterator[None]:
    """Our theme, light; settings start empty; deferred deletions are done before the next test.

    As in the program, cyclic garbage is collected on the GUI thread only, and here at one place, so that a
    crash of Qt's falls upon the test that made the objects, each time.
    """
    gc.disable()
    gc.freeze()  # what other tests left need not be looked at again
    qapp.setOrganizationName("kd-studio")
    qapp.setApplicationName("kd-studio")
    QSettings().clear()
    theme.apply(qapp)
    theme.theme().set_dark(False)
    yield
    qapp.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    gc.enable()


@pytest.fixture
def fake() -> FakeEngine:
    """Slow enough that a test can step in, quick enough that a run takes a moment."""
    return FakeEngine(catalog(), pace=0.002)


def catalog() -> dict[str, Any]:
    """The example's, with a format to export to."""
    told = example.catalog().to_json()
    format = Entry(
        "exporters", "safetensors", "Safetensors", "Weights and card.", (), facts={"suffix": ".safetensors"}
    )
    told["entries"].append(format.to_json())
    return told


def document(epochs: int = 3) -> dict[str, Any]:
    """The example experiment, short."""
    made = example.document()
    made["stages"][0]["epochs"] = epochs
    return made


@pytest.fixture
def make_studio(qapp: QApplication, tmp_path: Path) -> Iterator[Callable[[FakeEngine], Studio]]:
    """Studios with the example experiment, started; shut down after the test."""
    made: list[Studio] = []

    def make(engine: FakeEngine, *, start: bool = True) -> Studio:
        studio = Studio(engine, tmp_path / "runs")
        studio.draft.load_document(document(), "example")
        made.append(studio)
        if start:
            studio.start()
        return studio

    yield make
    for studio in made:
        studio.shut_down()
        studio.deleteLater()


@pytest.fixture
def studio(make_studio: Callable[[FakeEngine], Studio], fake: FakeEngine, qtbot: QtBot) -> Studio:
    """One that is ready to distil."""
    made = make_studio(fake)
    qtbot.waitUntil(lambda: made.phase is Phase.READY)
    return made
