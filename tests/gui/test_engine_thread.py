"""Messages reach the GUI thread in order, rare ones at once, and stopping leaves nothing behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from pytestqt.qtbot import QtBot

from kd_engine.events import Continued, StepDone
from kd_engine.remote import Gone
from kd_gui.engine_thread import MOST_AT_ONCE, EngineThread


def step(number: int) -> StepDone:
    told: dict[str, Any] = {"terms": {}, "weighted": {}, "lr": 0.1, "samples_per_s": 1.0}
    return StepDone(stage=0, epoch=0, step=number, student="student", loss=1.0, **told)


class Source:
    """Says what it was given, in the pieces it was given."""

    def __init__(self, *pieces: Sequence[Any]) -> None:
        self.pieces = list(pieces)
        self.error: Exception | None = None

    def messages(self, timeout: float) -> Sequence[Any]:
        if self.error is not None:
            raise self.error
        if not self.pieces:
            time.sleep(0.005)
        return self.pieces.pop(0) if self.pieces else []


def test_messages_come_in_order_on_the_gui_thread(qtbot: QtBot) -> None:
    taken: list[Any] = []
    threads: set[int] = set()

    def take(messages: Sequence[Any]) -> None:
        threads.add(threading.get_ident())
        taken.extend(messages)

    said = [step(1), step(2), Continued(step=2), step(3)]
    thread = EngineThread(Source(said[:1], said[1:3], said[3:]), take)
    thread.start()
    qtbot.waitUntil(lambda: len(taken) == 4)
    thread.stop()
    assert taken == said
    assert threads == {threading.get_ident()}


def test_a_rare_message_does_not_wait_for_the_timer(qtbot: QtBot) -> None:
    taken: list[Any] = []
    source = Source()
    thread = EngineThread(source, taken.extend)
    thread.start()
    thread._curves.stop()  # so that only the wake-up can deliver
    source.pieces.append([step(1), Continued(step=1)])
    qtbot.waitUntil(lambda: len(taken) == 2)
    thread.stop()


def test_a_flood_is_taken_in_several_turns(qtbot: QtBot) -> None:
    sizes: list[int] = []
    flood = [step(i) for i in range(2 * MOST_AT_ONCE + 5)]
    thread = EngineThread(Source(flood), lambda messages: sizes.append(len(messages)))
    thread.start()
    qtbot.waitUntil(lambda: sum(sizes) == len(flood))
    thread.stop()
    assert max(sizes) == MOST_AT_ONCE


def test_an_engine_that_cannot_be_heard_is_reported_as_gone(qtbot: QtBot, caplog: Any) -> None:
    taken: list[Any] = []
    source = Source()
    source.error = ValueError("broken pipe")
    thread = EngineThread(source, taken.extend)
    thread.start()
    qtbot.waitUntil(lambda: taken != [])
    thread.stop()
    assert taken == [Gone("ValueError: broken pipe")]
    assert "cannot be heard" in caplog.text


def test_stop_ends_the_thread_and_may_be_called_again(qtbot: QtBot) -> None:
    thread = EngineThread(Source(), lambda messages: None)
    thread.start()
    assert thread.running
    thread.stop()
    assert not thread.running
    thread.stop()


def test_a_thread_that_was_never_started_can_be_stopped(qtbot: QtBot) -> None:
    EngineThread(Source(), lambda messages: None).stop()


def test_words_tick_four_times_a_second(qtbot: QtBot) -> None:
    thread = EngineThread(Source(), lambda messages: None)
    thread.start()
    with qtbot.waitSignals([thread.text_tick] * 2, timeout=1500):
        pass
    thread.stop()
