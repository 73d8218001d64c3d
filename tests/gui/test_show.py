"""A stored run on its way to the panels: read elsewhere, folded in chunk by chunk, drawn a few times."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from kd_engine import events as e
from kd_engine.events import STUDENT, Event
from kd_engine.store import EVENTS, RECIPE, SUMMARY
from kd_gui.state import rehearsal, show
from kd_gui.state.feed import Feed
from kd_gui.state.samples import Samples
from kd_gui.state.show import Show


def store_run(folder: Path, events: list[Event], status: str = "done") -> Path:
    folder.mkdir()
    (folder / RECIPE).write_text(json.dumps(rehearsal.recipe()), encoding="utf-8")
    (folder / SUMMARY).write_text(json.dumps({"status": status}), encoding="utf-8")
    lines = [json.dumps(e.to_json(event)) + "\n" for event in events]
    (folder / EVENTS).write_text("".join(lines), encoding="utf-8")
    return folder


def shown(qtbot: QtBot, folder: Path) -> tuple[Feed, list[str]]:
    """The feed after `folder` was shown, and what its views were told on the way."""
    feed = Feed()
    stage, told = Show(feed, Samples()), []
    for name in ("curves", "epochs", "run"):
        getattr(feed, f"{name}_changed").connect(lambda name=name: told.append(name))
    stage.run(folder)
    with qtbot.waitSignal(stage.changed):
        pass
    return feed, told


@pytest.mark.parametrize("epochs", [2, 30])
def test_however_long_a_log_its_curves_are_drawn_three_times(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    monkeypatch.setattr(show, "CHUNK", 50)
    events = rehearsal.events(epochs=epochs, steps_per_epoch=40)
    feed, told = shown(qtbot, store_run(tmp_path / "run", events))
    assert len(events) > 3 * show.CHUNK
    assert told.count("curves") == 3, "when the old run goes, after the first chunk, and at the end"
    assert len(feed.curves[STUDENT].loss) == epochs * 40


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_a_log_read_in_chunks_tells_what_the_run_told(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(show, "CHUNK", chunk)
    events = rehearsal.events(epochs=3, steps_per_epoch=9)
    feed, live = shown(qtbot, store_run(tmp_path / "run", events))[0], Feed()
    live.take(events)
    for name in live.students:
        for one, other in zip(feed.curves[name].all(), live.curves[name].all(), strict=True):
            np.testing.assert_array_equal(one.x, other.x)
            np.testing.assert_array_equal(one.y, other.y)
    assert (feed.epochs, feed.progress, feed.status) == (live.epochs, live.progress, live.status)


def test_a_log_whose_length_is_a_whole_number_of_chunks_comes_to_its_end(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = rehearsal.events(epochs=2, steps_per_epoch=9)
    monkeypatch.setattr(show, "CHUNK", len(events) // 2)
    feed, _ = shown(qtbot, store_run(tmp_path / "run", events[: len(events) // 2 * 2]))
    assert len(feed.curves[STUDENT].loss) == 18


def test_a_run_chosen_while_another_is_read_is_the_one_that_is_shown(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "CHUNK", 5)
    feed = Feed()
    stage = Show(feed, Samples())
    first = store_run(tmp_path / "first", rehearsal.events(epochs=9, run="first"))
    second = store_run(tmp_path / "second", rehearsal.events(epochs=2, run="second"))
    stage.run(first)
    qtbot.waitUntil(lambda: feed.run == "first")
    stage.run(second)
    qtbot.waitUntil(lambda: feed.run == "second" and feed.status == "done")
    assert feed.total_epochs == 2
    assert len(feed.curves[STUDENT].loss) == 2 * 60


def test_a_resumed_log_shows_what_holds(qtbot: QtBot, tmp_path: Path) -> None:
    events = rehearsal.events(epochs=5, until=3, steps_per_epoch=4)
    saved = e.CheckpointSaved(stage=0, epoch=1, step=4, path="", bytes=1, ms=1.0)
    resumed = e.RunResumed(
        run=events[0].run,  # type: ignore[attr-defined]
        folder="",
        recipe=rehearsal.recipe(5),
        environment={},
        stage=0,
        epoch=1,
        step=4,
    )
    feed, _ = shown(qtbot, store_run(tmp_path / "run", [*events, saved, resumed], "interrupted"))
    assert feed.curves[STUDENT].loss.x.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert feed.status == "interrupted"
