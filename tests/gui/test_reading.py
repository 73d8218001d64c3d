"""Reading off the GUI thread: order, errors, forgetting, and again after the thread has ended."""

from __future__ import annotations

import threading

from PySide6.QtCore import QThread
from pytestqt.qtbot import QtBot

from kd_engine.errors import StoreError
from kd_gui.state.reading import Reading


def test_results_come_in_order_in_this_thread_and_were_read_in_another(qtbot: QtBot) -> None:
    reading, came = Reading(), []
    here = threading.get_ident()
    reading.done.connect(lambda tag, result: came.append((tag, result, QThread.currentThread())))
    for i in range(5):
        reading.ask(i, lambda i=i: (i * i, threading.get_ident() != here))
    qtbot.waitUntil(lambda: len(came) == 5)
    assert [(tag, result) for tag, result, _ in came] == [(i, (i * i, True)) for i in range(5)]
    assert all(thread is QThread.currentThread() for _, _, thread in came)


def test_it_reads_again_after_its_thread_has_ended(qtbot: QtBot) -> None:
    reading = Reading()
    for turn in range(3):
        with qtbot.waitSignal(reading.done) as done:
            reading.ask(turn, lambda: "read")
        assert done.args == [turn, "read"]
        qtbot.waitUntil(lambda: all(thread.name != "reading" for thread in threading.enumerate()))


def test_an_error_meant_for_people_is_the_result_and_the_next_file_is_read(qtbot: QtBot) -> None:
    reading, came = Reading(), []
    reading.done.connect(lambda tag, result: came.append(result))

    def fails() -> object:
        raise StoreError("gone.npz: cannot be read.")

    reading.ask("a", fails)
    reading.ask("b", lambda: 7)
    qtbot.waitUntil(lambda: len(came) == 2)
    assert isinstance(came[0], StoreError)
    assert came[1] == 7


def test_what_was_forgotten_is_never_read(qtbot: QtBot) -> None:
    reading, read = Reading(), []
    going, go_on = threading.Event(), threading.Event()

    def first() -> object:
        going.set()
        go_on.wait(5)
        return "first"

    reading.ask(1, first)
    reading.ask(2, lambda: read.append(2))
    assert going.wait(5)
    reading.forget()
    with qtbot.waitSignal(reading.done) as done:
        go_on.set()
    assert done.args == [1, "first"]
    with qtbot.waitSignal(reading.done) as done:
        reading.ask(3, lambda: "third")
    assert done.args == [3, "third"]
    assert read == []
