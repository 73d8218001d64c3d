"""The window over a fake engine: actions in every phase, the close question, and the first minute from launch
to a file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QLineEdit, QPushButton
from pytestqt.qtbot import QtBot

from kd_engine import commands as c
from kd_gui.actions import SPECS
from kd_gui.log import Log
from kd_gui.main_window import MainWindow
from kd_gui.panels.loss import LossPanel
from kd_gui.state.phase import RULES, Phase, enabled
from kd_gui.state.studio import Studio
from kd_gui.theme import theme
from kd_gui.views.cache_dialog import CacheDialog
from kd_gui.views.export_dialog import ExportDialog
from kd_gui.views.question import Question
from tests.gui.conftest import catalog
from tests.gui.fake_engine import FakeEngine

T = "stages.0.methods.1.temperature"


@pytest.fixture
def log(qapp: QApplication) -> Iterator[Log]:
    made = Log()
    yield made
    made.deleteLater()


@pytest.fixture
def make_window(
    make_studio: Callable[..., Studio], log: Log, qtbot: QtBot
) -> Iterator[Callable[[FakeEngine], MainWindow]]:
    made: list[MainWindow] = []

    def make(engine: FakeEngine) -> MainWindow:
        studio = make_studio(engine, start=False)
        window = MainWindow(studio, log)
        window.first_painted.connect(studio.start)
        made.append(window)
        window.show()
        return window

    yield make
    for window in made:
        if window.dialogs.current is not None:
            window.dialogs.current.reject()
        window.hide()
        window.deleteLater()


@pytest.fixture
def window(make_window: Callable[[FakeEngine], MainWindow], fake: FakeEngine, qtbot: QtBot) -> MainWindow:
    made = make_window(fake)
    reach(qtbot, made, Phase.READY)
    return made


def reach(qtbot: QtBot, window: MainWindow, phase: Phase) -> None:
    qtbot.waitUntil(lambda: studio_of(window).phase is phase, timeout=5000)


def activate(qtbot: QtBot, window: MainWindow) -> None:
    """Give the window the keys. Asked again: the offscreen platform forgets what is asked too early."""

    def active() -> bool:
        window.activateWindow()
        return window.isActiveWindow()

    qtbot.waitUntil(active)


def studio_of(window: MainWindow) -> Studio:
    return window._studio


def click(qtbot: QtBot, button: QPushButton) -> None:
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def pause(qtbot: QtBot, window: MainWindow) -> None:
    click(qtbot, window.top.primary)
    reach(qtbot, window, Phase.RUNNING)
    window.actions_["pause"].trigger()
    reach(qtbot, window, Phase.PAUSED)


def question(window: MainWindow) -> Question:
    asked = window.dialogs.current
    assert isinstance(asked, Question)
    return asked


# ---- actions


@pytest.mark.parametrize("phase", list(Phase), ids=lambda phase: phase.name)
def test_every_action_follows_the_table_in_every_phase(window: MainWindow, phase: Phase) -> None:
    studio = studio_of(window)
    studio.phase = phase
    studio.state_changed.emit()
    facts = studio.facts()
    names = [spec.name for spec in SPECS]
    shown = {name: window.actions_[name].isEnabled() for name in names}
    assert shown == {name: enabled(name, phase, facts) for name in names}
    assert window.top.primary.isEnabled() == (phase not in (Phase.BOOT, Phase.PREPARING, Phase.STOPPING))
    studio.phase = Phase.READY


def test_every_action_has_a_rule_and_words() -> None:
    assert {spec.name for spec in SPECS} <= set(RULES)
    assert all(spec.text for spec in SPECS)


def test_no_two_actions_that_can_be_enabled_together_share_a_key() -> None:
    for phase in Phase:
        keys = [key for spec in SPECS for key in spec.keys if phase in RULES[spec.name].phases]
        assert len(keys) == len(set(keys)), phase


def test_the_large_button_says_what_it_does(window: MainWindow, qtbot: QtBot) -> None:
    assert window.top.primary.text() == "Distill"
    pause(qtbot, window)
    assert window.top.primary.text() == "Continue"
    click(qtbot, window.top.primary)
    reach(qtbot, window, Phase.DONE)
    assert window.top.primary.text() == "Distill"


def test_space_pauses_and_goes_on(window: MainWindow, fake: FakeEngine, qtbot: QtBot) -> None:
    fake.pace = 0.005
    activate(qtbot, window)
    click(qtbot, window.top.primary)
    reach(qtbot, window, Phase.RUNNING)
    qtbot.keyClick(window, Qt.Key.Key_Space)
    reach(qtbot, window, Phase.PAUSED)
    qtbot.keyClick(window, Qt.Key.Key_Space)
    reach(qtbot, window, Phase.RUNNING)


def test_enter_starts_a_run_but_not_from_a_field(window: MainWindow, qtbot: QtBot) -> None:
    field = QLineEdit(window)
    field.show()
    activate(qtbot, window)
    field.setFocus()
    qtbot.waitUntil(field.hasFocus)
    qtbot.keyClick(field, Qt.Key.Key_Return)
    assert studio_of(window).phase is Phase.READY
    window.setFocus()
    qtbot.keyClick(window, Qt.Key.Key_Return)
    assert studio_of(window).phase is Phase.PREPARING


def test_the_button_pulses_once_when_the_engine_is_ready(
    make_window: Callable[[FakeEngine], MainWindow], qtbot: QtBot
) -> None:
    engine = FakeEngine(catalog(), slow_boot=True)
    window = make_window(engine)
    qtbot.waitUntil(lambda: engine.started)
    assert not window.top.primary.pulsing
    engine.boot()
    qtbot.waitUntil(lambda: window.top.primary.pulsing)
    qtbot.waitUntil(lambda: not window.top.primary.pulsing)


def test_settings_are_locked_while_a_run_is_live_and_live_ones_are_not(
    window: MainWindow, qtbot: QtBot
) -> None:
    pause(qtbot, window)
    assert window.live.rows[T].isEnabled()
    studio_of(window).draft.set_value(T, 9.0)
    qtbot.waitUntil(lambda: window.live.pending() == [])
    assert [m.new for m in studio_of(window).feed.markers] == [9.0]


def test_progress_names_the_step_then_the_epoch_then_the_end(
    window: MainWindow, fake: FakeEngine, qtbot: QtBot
) -> None:
    fake.pace = 0.01
    said: list[str] = []
    studio_of(window).feed.run_changed.connect(lambda: said.append(window.top.where.text()))
    studio_of(window).text_tick.connect(lambda: said.append(window.top.where.text()))
    click(qtbot, window.top.primary)
    assert window.top.where.text() == "getting ready"
    reach(qtbot, window, Phase.RUNNING)
    qtbot.waitUntil(lambda: window.top.where.text() == "epoch 2 of 3", timeout=5000)
    fake.pace = 0
    reach(qtbot, window, Phase.DONE)
    qtbot.waitUntil(lambda: window.top.where.text().startswith("done"))
    assert window.top.bar.value() == 1000


def test_the_status_line_tells_where_it_computes_and_what_is_saved(window: MainWindow, qtbot: QtBot) -> None:
    click(qtbot, window.top.primary)
    reach(qtbot, window, Phase.DONE)
    qtbot.waitUntil(lambda: window.status.saved.text() == "saved at epoch 3")
    assert window.status.machine.text() == "CPU"


# ---- closing


def test_closing_without_a_run_asks_nothing(window: MainWindow) -> None:
    assert window.close()
    assert window.dialogs.current is None


def test_cancelling_the_close_question_keeps_window_and_run(window: MainWindow, qtbot: QtBot) -> None:
    pause(qtbot, window)
    assert not window.close()
    click(qtbot, question(window).buttons[""])
    assert window.isVisible()
    assert studio_of(window).phase is Phase.PAUSED
    assert window.dialogs.current is None
    assert not window.close()  # and it asks again
    question(window)


def test_escape_is_cancel(window: MainWindow, qtbot: QtBot) -> None:
    pause(qtbot, window)
    window.close()
    qtbot.keyClick(question(window), Qt.Key.Key_Escape)
    assert window.isVisible()
    assert studio_of(window).phase is Phase.PAUSED


def test_stop_and_save_closes_when_the_run_is_saved(window: MainWindow, qtbot: QtBot) -> None:
    pause(qtbot, window)
    window.close()
    click(qtbot, question(window).buttons["stop"])
    qtbot.waitUntil(lambda: not window.isVisible())
    [info] = studio_of(window).store.runs()
    assert info.status == "stopped"
    assert info.resumable


def test_discard_closes_and_removes_the_folder(window: MainWindow, qtbot: QtBot) -> None:
    pause(qtbot, window)
    window.close()
    click(qtbot, question(window).buttons["discard"])
    qtbot.waitUntil(lambda: not window.isVisible())
    assert studio_of(window).store.runs() == []


def test_keep_training_closes_at_once_and_lets_the_engine_go(
    window: MainWindow, fake: FakeEngine, qtbot: QtBot
) -> None:
    pause(qtbot, window)
    window.close()
    click(qtbot, question(window).buttons["train"])
    qtbot.waitUntil(lambda: not window.isVisible())
    assert fake.detached
    assert not fake.closed
    assert not fake.asked(c.Stop)


def test_a_run_that_ends_while_the_question_is_open_lets_the_window_close(
    window: MainWindow, fake: FakeEngine, qtbot: QtBot
) -> None:
    fake.pace = 0.002
    click(qtbot, window.top.primary)
    reach(qtbot, window, Phase.RUNNING)
    window.close()
    reach(qtbot, window, Phase.DONE)
    click(qtbot, question(window).buttons["stop"])
    qtbot.waitUntil(lambda: not window.isVisible())


def test_only_one_dialog_is_open_at_a_time(window: MainWindow, qtbot: QtBot) -> None:
    window.actions_["keys"].trigger()
    first = window.dialogs.current
    window.actions_["about"].trigger()
    assert window.dialogs.current is first


def test_discarding_asks_first(window: MainWindow, qtbot: QtBot) -> None:
    pause(qtbot, window)
    window.actions_["discard"].trigger()
    assert studio_of(window).phase is Phase.PAUSED
    click(qtbot, question(window).buttons["discard"])
    reach(qtbot, window, Phase.STOPPED)
    assert studio_of(window).store.runs() == []


# ---- what is remembered, and how it looks


def test_size_columns_and_experiment_are_as_they_were_left(
    make_window: Callable[[FakeEngine], MainWindow], fake: FakeEngine, qtbot: QtBot
) -> None:
    first = make_window(fake)
    reach(qtbot, first, Phase.READY)
    first.resize(1024, 720)  # the offscreen display is small
    qtbot.waitUntil(lambda: isinstance(first.loss, LossPanel))
    first.columns.setSizes([250, 400, 320])
    QApplication.processEvents()
    sizes = first.columns.sizes()
    first.close()
    second = make_window(FakeEngine(catalog()))
    QApplication.processEvents()
    assert (second.width(), second.height()) == (1024, 720)
    qtbot.waitUntil(lambda: isinstance(second.loss, LossPanel) and second.columns.sizes() == sizes)


def test_the_theme_button_switches_between_light_and_dark(window: MainWindow, qtbot: QtBot) -> None:
    assert not theme().tokens.dark
    click(qtbot, window.top.theme)
    assert theme().tokens.dark
    assert window.actions_["theme_dark"].isChecked()
    click(qtbot, window.top.theme)
    assert not theme().tokens.dark


@pytest.mark.parametrize("size", [(1280, 800), (1024, 700)], ids=["large", "small"])
def test_at_the_promised_sizes_nothing_asks_for_more_width(
    window: MainWindow, qtbot: QtBot, size: tuple[int, int]
) -> None:
    click(qtbot, window.top.primary)
    reach(qtbot, window, Phase.DONE)
    window.resize(*size)
    QApplication.processEvents()
    assert (window.width(), window.height()) == size
    for button in (window.top.primary, window.top.step, window.top.stop, window.top.export, window.top.back):
        assert not button.isVisible() or button.width() >= button.minimumSizeHint().width(), button.text()


def test_the_log_appears_and_takes_lines_from_other_threads(
    window: MainWindow, log: Log, qtbot: QtBot
) -> None:
    window.actions_["log"].trigger()
    assert window.log_view.isVisible()
    thread = threading.Thread(target=log.add, args=("from elsewhere",))
    thread.start()
    thread.join()
    qtbot.waitUntil(lambda: "from elsewhere" in window.log_view.text.toPlainText())


# ---- the first minute


def test_the_first_minute_from_launch_to_an_exported_file(
    make_window: Callable[[FakeEngine], MainWindow], qtbot: QtBot, tmp_path: Path
) -> None:
    engine = FakeEngine(catalog(), pace=0.01)
    window = make_window(engine)
    studio = studio_of(window)

    # a window with a filled-in experiment; the engine wakes after the first paint
    assert studio.draft.document["student"]["model"] == "resnet8"
    with qtbot.waitSignal(studio.became_ready):
        pass
    qtbot.waitUntil(lambda: window.top.primary.isEnabled())

    # Enter: curves and pictures
    qtbot.keyClick(window, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: studio.feed.curves.get("student") is not None and studio.feed.step > 3)
    qtbot.waitUntil(lambda: bool(studio.samples.epochs))

    # drag the temperature: the bars soften at once, a marker lands on the curve
    before = studio.samples.soft_targets()
    studio.draft.set_value(T, 8.0)
    after = studio.samples.soft_targets()
    assert before is not None
    assert after is not None
    assert after.entropy > before.entropy
    qtbot.waitUntil(lambda: [m.text for m in studio.feed.markers] == ["T 4 → 8"])

    # done: what it is worth, and the way to take it away
    reach(qtbot, window, Phase.DONE)
    [card] = window.notice_bar.cards
    assert card.text.text().startswith("Student keeps 98.0 % of the teacher")
    click(qtbot, card.buttons[0])
    dialog = window.dialogs.current
    assert isinstance(dialog, ExportDialog)
    assert dialog.path.text().endswith(".safetensors")
    dialog.path.setText(str(tmp_path / "student.safetensors"))
    click(qtbot, dialog.save)
    qtbot.waitUntil(lambda: dialog.message.text().startswith("Saved"))
    assert (tmp_path / "student.safetensors").is_file()
    assert len(dialog.code.text().splitlines()) == 3
    click(qtbot, dialog.copy)
    assert QApplication.clipboard().text() == dialog.code.text()
    dialog.reject()
    assert window.close()


# ---- evaluation


def test_the_evaluation_takes_the_curves_place_and_gives_it_back(window: MainWindow, qtbot: QtBot) -> None:
    before = window.rows.sizes()
    assert not window.evaluation.isVisible()
    activate(qtbot, window)
    qtbot.keyClick(
        window, Qt.Key.Key_E, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    )
    assert window.evaluation.isVisible()
    assert not window.loss.isVisible()
    assert not window.race.isVisible()
    assert window.runs.isVisible()
    window.evaluation.back.click()
    assert not window.evaluation.isVisible()
    assert window.rows.sizes() == before
    assert not window.actions_["evaluation"].isChecked()


def test_a_finished_run_can_be_looked_at_closely(window: MainWindow, qtbot: QtBot) -> None:
    click(qtbot, window.top.primary)
    reach(qtbot, window, Phase.DONE)
    post = studio_of(window).notices.find("end")
    assert post is not None
    offer = next(offer for offer in post.offers if offer.label == "Evaluation")
    studio_of(window).notices.take(post, offer)
    assert window.evaluation.isVisible()
    qtbot.waitUntil(lambda: window.evaluation.confusion.isVisible())


def test_the_race_leads_to_the_evaluation(window: MainWindow, qtbot: QtBot) -> None:
    assert not window.race.more.isVisible()
    click(qtbot, window.top.primary)
    reach(qtbot, window, Phase.DONE)
    click(qtbot, window.race.more)
    assert window.evaluation.isVisible()


def test_the_next_start_has_the_curves_again(window: MainWindow) -> None:
    before = window.rows.sizes()
    window.actions_["evaluation"].trigger()
    window._remember()
    assert window.rows.sizes() == before
    assert window.loss.isVisible()


def test_the_teacher_cache_opens_from_the_menu(window: MainWindow, qtbot: QtBot) -> None:
    window.actions_["cache"].trigger()
    dialog = window.dialogs.current
    assert isinstance(dialog, CacheDialog)
    qtbot.waitUntil(lambda: dialog.total.text().endswith("in all"))
