"""The program as it is started: exit codes, the first paint, a signal; and the first minute with a real
engine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QSettings, Qt
from pytestqt.qtbot import QtBot

from kd_engine.document import read_document
from kd_engine.remote import Engine
from kd_gui.app import application, restore
from kd_gui.log import Log
from kd_gui.main_window import MainWindow
from kd_gui.state.phase import Phase
from kd_gui.state.studio import Studio
from kd_gui.views.export_dialog import ExportDialog
from tests.gui.conftest import catalog
from tests.gui.fake_engine import FakeEngine

KD_GUI = [sys.executable, "-m", "kd_gui"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if name not in environment}
    kept = {name: value for name, value in environment.items() if value}
    return subprocess.run(
        [*KD_GUI, *arguments], capture_output=True, text=True, timeout=60, env={**known, **kept}
    )


def test_without_a_display_it_says_so_and_names_the_way_out() -> None:
    bare = dict.fromkeys(("QT_QPA_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY", "XDG_SESSION_TYPE"), "")
    ended = run(**bare)
    assert ended.returncode == 2
    assert "make demo" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_preset_that_is_not_there_is_told_with_those_that_are() -> None:
    ended = run("--preset", "quickstrat")
    assert ended.returncode == 2
    assert "quickstart" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_it_paints_without_torch_starts_the_engine_and_ends_on_a_signal(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*KD_GUI, "--timing", "--runs", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert re.fullmatch(r"first paint: \d+ ms\n", line), line
        if Path(f"/proc/{process.pid}/maps").exists():
            assert "torch" not in Path(f"/proc/{process.pid}/maps").read_text()
        process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in complaints


@pytest.fixture
def studio(qtbot: QtBot, tmp_path: Path) -> Iterator[Studio]:
    """One in which nothing was loaded yet."""
    made = Studio(FakeEngine(catalog()), tmp_path)
    yield made
    made.deleteLater()


def test_the_last_experiment_is_restored_on_top_of_its_preset(studio: Studio) -> None:
    left = read_document("quickstart")
    left["stages"][0]["epochs"] = 7
    QSettings().setValue("experiment/preset", "quickstart")
    QSettings().setValue("experiment/document", json.dumps(left))
    restore(studio)
    assert studio.draft.value("stages.0.epochs") == 7
    assert studio.draft.modified
    assert not studio.draft.undo_text


@pytest.mark.parametrize("kept", ["not json", '{"stages": 3}', "[1]"])
def test_settings_that_make_no_sense_lead_to_the_first_preset(studio: Studio, kept: str) -> None:
    QSettings().setValue("experiment/preset", "gone")
    QSettings().setValue("experiment/document", kept)
    restore(studio)
    assert studio.draft.preset == "quickstart"


@pytest.fixture
def real(qtbot: QtBot, tmp_path: Path) -> Iterator[MainWindow]:
    """A window with a short experiment over a real engine."""
    application()
    studio = Studio(Engine(), tmp_path / "runs")
    document = read_document("quickstart")
    document["stages"][0]["epochs"] = 2
    document["data"]["subset"] = 256
    studio.draft.load_document(document, "quickstart")
    log = Log()
    window = MainWindow(studio, log)
    window.first_painted.connect(studio.start)
    window.show()
    yield window
    if window.dialogs.current is not None:
        window.dialogs.current.reject()
    window.hide()
    studio.shut_down()
    window.deleteLater()
    studio.deleteLater()


@pytest.mark.slow
def test_the_first_minute_with_a_real_engine(real: MainWindow, qtbot: QtBot, tmp_path: Path) -> None:
    studio = real._studio
    qtbot.waitUntil(lambda: studio.phase is Phase.READY, timeout=60_000)
    qtbot.waitUntil(lambda: bool(studio.draft.facts) and studio.samples.pictures is not None, timeout=60_000)
    assert studio.draft.problems == []
    qtbot.mouseClick(real.top.primary, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: studio.phase is Phase.RUNNING, timeout=60_000)
    path = studio.draft.temperature_path()
    assert path is not None
    studio.draft.set_value(path, 8.0)
    qtbot.waitUntil(lambda: studio.phase is Phase.DONE, timeout=120_000)
    assert [marker.new for marker in studio.feed.markers] == [8.0]
    assert studio.notices.find("end") is not None
    qtbot.waitUntil(lambda: studio.samples.epochs == [0, 1, 2])
    real.actions_["export"].trigger()
    dialog = real.dialogs.current
    assert isinstance(dialog, ExportDialog)
    dialog.path.setText(str(tmp_path / "student.safetensors"))
    qtbot.mouseClick(dialog.save, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: dialog.message.text().startswith("Saved"), timeout=60_000)
    assert (tmp_path / "student.safetensors").stat().st_size > 100_000
    assert len(dialog.code.text().splitlines()) == 3
