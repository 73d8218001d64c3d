"""The live panel: every live setting, on its way until the engine answers, put back when it refuses."""

from __future__ import annotations

import pytest

from kd_engine.errors import Problem
from kd_gui.panels import live
from kd_gui.panels.live import LivePanel
from kd_gui.state import edits, example
from kd_gui.state.draft import Draft
from kd_gui.theme.widgets import Title

T = "stages.0.methods.1.temperature"
LR = "stages.0.optimizer.lr"


@pytest.fixture
def draft(qapp: object) -> Draft:
    made = Draft()
    made.set_catalog(example.catalog())
    made.load_document(example.document(), "example")
    return made


@pytest.fixture
def panel(qtbot, draft: Draft) -> LivePanel:
    made = LivePanel(draft)
    qtbot.addWidget(made)
    return made


def test_every_live_setting_has_a_row_named_by_what_it_does(panel: LivePanel) -> None:
    assert [row.label_text for row in panel.rows.values()] == [
        "Temperature",
        "Attention transfer",
        "Soft targets",
        "Label loss",
        "Learning rate",
    ]
    assert [row.value() for row in panel.rows.values()] == [4.0, 1000.0, 0.9, 0.1, 0.05]


def test_two_settings_of_one_name_say_whose_they_are(draft: Draft, panel: LivePanel) -> None:
    stage = draft.document["stages"][0]
    stages = [stage, {**stage, "rivals": []}]
    draft.load_document(edits.with_value(draft.document, "stages", stages), "two stages")
    names = [row.focusProxy().accessibleName() for row in panel.rows.values()]
    assert len(set(names)) == len(names) == 10
    assert "Temperature, stage 2" in names
    headings = [label.text() for label in panel.findChildren(Title) if "·" in label.text()]
    assert headings == ["1 · Distil", "2 · Distil"]


def test_an_edit_reaches_the_draft_and_another_edit_of_the_draft_the_row(
    draft: Draft, panel: LivePanel
) -> None:
    panel.rows[T].offer(8.0)
    assert draft.value(T) == 8.0
    draft.undo()
    assert panel.rows[T].value() == 4.0


def test_nothing_is_on_its_way_while_no_run_is_going(panel: LivePanel) -> None:
    panel.rows[T].offer(8.0)
    assert panel.pending() == []


def test_an_edit_is_on_its_way_until_the_engine_confirms_the_newest(draft: Draft, panel: LivePanel) -> None:
    panel.set_running(True)
    assert panel.hint.text() == "applies at the next step"
    panel.rows[T].offer(6.0)
    panel.rows[T].offer(8.0, more=True)
    assert panel.pending() == [T]
    panel.confirm(T, 6.0)
    assert panel.pending() == [T]
    panel.confirm(T, 8.0)
    assert panel.pending() == []


def test_a_refused_edit_says_why_and_shows_what_is_in_force(draft: Draft, panel: LivePanel) -> None:
    panel.set_running(True)
    draft.set_value(LR, 0.1)
    panel.confirm(LR, 0.1)
    draft.set_value(LR, 5.0)
    heard: list[object] = []
    draft.live_edited.connect(lambda *edit: heard.append(edit))
    panel.refuse(LR, "the run is stopping")
    assert draft.value(LR) == panel.rows[LR].value() == 0.1
    assert panel.rows[LR].problem() == "the run is stopping"
    assert panel.pending() == []
    assert heard == []
    draft.set_value(LR, 0.2)
    panel.show_problems([])
    assert panel.rows[LR].problem() == ""
    assert panel.pending() == [LR]


def test_the_end_of_a_run_leaves_nothing_on_its_way(draft: Draft, panel: LivePanel) -> None:
    panel.set_running(True)
    draft.set_value(T, 8.0)
    panel.set_running(False)
    assert panel.pending() == []
    assert panel.hint.text() == "can change during a run"


def test_an_answer_about_a_setting_that_is_gone_is_no_error(draft: Draft, panel: LivePanel) -> None:
    panel.set_running(True)
    draft.edit("drop", edits.without_method(draft.document, "stages.0", 1))
    panel.confirm(T, 8.0)
    panel.refuse(T, "gone")
    assert T not in panel.rows


def test_a_problem_stands_at_its_slider(draft: Draft, panel: LivePanel) -> None:
    panel.show_problems([Problem(T, "too cold")])
    assert panel.rows[T].problem() == "too cold"
    assert panel.rows[LR].problem() == ""


def test_rows_are_kept_while_only_values_change(draft: Draft, panel: LivePanel) -> None:
    row = panel.rows[T]
    draft.set_value(T, 8.0)
    assert panel.rows[T] is row


def test_without_a_catalog_the_panel_says_what_will_appear(qtbot) -> None:
    panel = LivePanel(Draft())
    qtbot.addWidget(panel)
    assert panel.rows == {}
    assert not panel.empty.isHidden()


def test_the_demo_shows_an_edit_on_its_way(qtbot) -> None:
    panel = live.demo()
    qtbot.addWidget(panel)
    assert isinstance(panel, LivePanel)
    assert len(panel.pending()) == 1
