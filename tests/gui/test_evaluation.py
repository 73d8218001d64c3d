"""The evaluation: where its figures come from, what follows the scrubber, what is asked and drawn."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPointF, Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from kd_engine import events as e
from kd_gui.panels import evaluation as panels
from kd_gui.panels.evaluation import EvaluationPanel
from kd_gui.plots.calibration import CalibrationPlot, Line
from kd_gui.plots.confusion import ConfusionPair
from kd_gui.plots.gap_bars import GapBars, sorted_gaps
from kd_gui.plots.gauge import Gauge
from kd_gui.plots.matrix import Matrix
from kd_gui.state import demo_evaluation, measures, rehearsal
from kd_gui.state import evaluation_words as words
from kd_gui.state.evaluation import Evaluation
from kd_gui.state.feed import Feed
from kd_gui.state.measures import Confusion
from kd_gui.state.phase import Phase
from kd_gui.state.samples import Samples
from kd_gui.state.studio import Studio
from kd_gui.theme import theme
from tests.gui.fake_engine import HELD_OUT, FakeEngine, save_samples, save_snapshot
from tests.gui.hosting import show_inside


@pytest.fixture
def feed(qtbot: QtBot) -> Feed:
    return Feed()


@pytest.fixture
def samples(qtbot: QtBot, tmp_path: Path) -> Samples:
    """A run's pictures and three snapshots."""
    made = Samples()
    made.load(save_samples(tmp_path / "samples.npz"))
    for epoch in range(3):
        with qtbot.waitSignal(made.epochs_changed):
            made.add_snapshot(epoch, save_snapshot(tmp_path / f"epoch_{epoch:03d}.npz", epoch))
    return made


@pytest.fixture
def evaluation(feed: Feed, samples: Samples) -> Evaluation:
    return Evaluation(feed, samples)


def run(feed: Feed, *, done: bool = True, measured: bool = True) -> None:
    """A run of the rehearsal, with full figures of the test part or without."""
    told = rehearsal.events(steps_per_epoch=5, until=None if done else 2)
    feed.take([one for one in told if not isinstance(one, e.Evaluated)])
    if done and measured:
        feed.take(demo_evaluation.results())


# ---- where figures come from


def test_before_a_run_there_is_nothing(evaluation: Evaluation) -> None:
    assert evaluation.empty
    assert evaluation.shown() is None
    assert evaluation.parts() == []


def test_a_finished_runs_log_is_enough(evaluation: Evaluation, feed: Feed) -> None:
    run(feed)
    shown = evaluation.shown()
    assert shown is not None
    assert (shown.part, shown.who, shown.images) == ("test", "student/last", 360)
    assert shown.teacher is not None
    assert shown.teacher.top1 == pytest.approx(demo_evaluation.results()[0].metrics["top1"])
    assert evaluation.students() == ["student/last", "student/best", "no KD/last"]
    assert evaluation.asking == ""


def test_a_live_run_shows_its_validation_part(evaluation: Evaluation, feed: Feed) -> None:
    run(feed, done=False)
    shown = evaluation.shown()
    assert shown is not None
    assert (shown.part, shown.epoch, shown.images) == ("validation", 2, HELD_OUT)
    assert shown.teacher is not None
    assert shown.teacher.top1 == 1.0
    assert shown.student.agreement == shown.student.top1  # that teacher is always right
    assert shown.student.kl == pytest.approx(feed.epochs["student"][1].validation["kl"])
    assert set(shown.rivals) == {"no KD"}


def test_the_matrix_of_validation_holds_every_image(evaluation: Evaluation, feed: Feed) -> None:
    run(feed, done=False)
    shown = evaluation.shown()
    assert shown is not None
    assert shown.student.confusion is not None
    assert shown.student.confusion.counts.sum() == HELD_OUT
    wrong = shown.student.confusion.counts.copy()
    np.fill_diagonal(wrong, 0)
    assert np.flatnonzero(wrong.sum(0)).tolist() == [3]  # what the fake student says when it does not know


def test_moving_the_scrubber_moves_the_matrices_to_that_epoch(
    evaluation: Evaluation, feed: Feed, samples: Samples, qtbot: QtBot
) -> None:
    run(feed)
    assert evaluation.part == "test"
    with qtbot.waitSignal(evaluation.changed):
        samples.set_epoch(1)
    shown = evaluation.shown()
    assert shown is not None
    assert (shown.part, shown.epoch) == ("validation", 1)
    early = shown.student.top1
    samples.set_epoch(None)
    newest = evaluation.shown()
    assert newest is not None
    assert (newest.part, newest.epoch) == ("validation", 2)
    assert newest.student.top1 != early
    evaluation.choose_part("test")
    assert evaluation.shown().part == "test"


def test_another_run_starts_afresh(evaluation: Evaluation, feed: Feed, samples: Samples) -> None:
    run(feed)
    evaluation.choose_student("no KD/last")
    samples.set_epoch(0)
    feed.take(rehearsal.events(steps_per_epoch=5, run="another"))
    feed.take(demo_evaluation.results())
    shown = evaluation.shown()
    assert shown is not None
    assert (shown.part, shown.who) == ("test", "student/last")


def test_a_rival_can_stand_in_the_students_place(evaluation: Evaluation, feed: Feed) -> None:
    run(feed)
    ours = evaluation.shown()
    evaluation.choose_student("no KD/last")
    theirs = evaluation.shown()
    assert ours is not None
    assert theirs is not None
    assert theirs.role == "rival"
    assert theirs.retention < ours.retention


# ---- asking


def test_nothing_is_asked_before_somebody_looks(evaluation: Evaluation, feed: Feed) -> None:
    asked: list[bool] = []
    evaluation.wanted.connect(asked.append)
    evaluation.allow(True)
    run(feed)
    assert asked == []
    evaluation.watch(True)
    assert asked == [False]
    evaluation.watch(False)
    evaluation.watch(True)
    assert asked == [False]  # once a run


def test_what_costs_a_pass_over_the_data_is_not_asked_by_itself(evaluation: Evaluation, feed: Feed) -> None:
    asked: list[bool] = []
    evaluation.wanted.connect(asked.append)
    evaluation.allow(True)
    evaluation.watch(True)
    run(feed, measured=False)
    feed.take([e.Evaluated(student="student", weights="last", metrics={"top1": 0.9})])
    assert asked == []
    evaluation.ask()
    assert asked == [False]
    evaluation.ask()
    assert asked == [False]  # one answer is on its way


def test_an_answer_brings_the_protocol_and_robustness(evaluation: Evaluation, feed: Feed) -> None:
    run(feed)
    evaluation.allow(True)
    evaluation.ask(robust=True)
    assert evaluation.asking == "robust"
    evaluation.take(feed.run, demo_evaluation.answer(corrupted=True))
    shown = evaluation.shown()
    assert shown is not None
    assert evaluation.asking == ""
    assert list(shown.student.robust) == ["noise", "blur", "contrast", "jpeg", "corrupted"]
    assert "seed 0" in words.protocol(shown, evaluation.protocol)


def test_an_answer_about_another_run_is_dropped(evaluation: Evaluation, feed: Feed) -> None:
    run(feed, measured=False)
    evaluation.take("another", demo_evaluation.answer())
    assert "test" not in evaluation.parts()


def test_a_refusal_is_told_and_can_be_asked_again(evaluation: Evaluation, feed: Feed) -> None:
    run(feed, measured=False)
    evaluation.allow(True)
    evaluation.ask()
    evaluation.refuse(feed.run, "No weights. Resume it.")
    assert evaluation.trouble == "No weights. Resume it."
    evaluation.ask()
    assert (evaluation.asking, evaluation.trouble) == ("plain", "")


def test_the_studio_asks_the_engine_about_the_shown_run(
    studio: Studio, fake: FakeEngine, qtbot: QtBot
) -> None:
    assert not studio.evaluation.may_ask
    studio.distill()
    qtbot.waitUntil(lambda: studio.phase is Phase.RUNNING, timeout=5000)
    assert not studio.evaluation.may_ask
    qtbot.waitUntil(lambda: studio.phase is Phase.DONE, timeout=5000)
    assert studio.evaluation.may_ask
    qtbot.waitUntil(lambda: "validation" in studio.evaluation.parts())
    assert studio.evaluation.part == "validation"  # this log tells accuracies only
    studio.evaluation.ask(robust=True)
    qtbot.waitUntil(lambda: "test" in studio.evaluation.parts())
    what, values = next(item for item in fake.heard if isinstance(item, tuple) and item[0] == "evaluate")
    assert what == "evaluate"
    assert (values["run"], values["robust"]) == (str(studio.folder()), True)


def test_a_dead_engine_does_not_leave_the_question_open(
    studio: Studio, fake: FakeEngine, qtbot: QtBot
) -> None:
    studio.distill()
    qtbot.waitUntil(lambda: studio.phase is Phase.DONE, timeout=5000)
    fake.ask = lambda what, **values: f"{what}-lost"  # type: ignore[method-assign]
    studio.evaluation.ask()
    assert studio.evaluation.asking == "plain"
    fake.die()
    qtbot.waitUntil(lambda: studio.evaluation.asking == "")
    assert "engine stopped" in studio.evaluation.trouble


# ---- words


def test_a_cell_says_who_takes_what_for_what_how_often() -> None:
    teacher, student = (Confusion(np.array(c)) for c in ([[35, 1], [0, 4]], [[32, 4], [0, 4]]))
    both = [("teacher", teacher), ("student", student)]
    assert words.cell(("5", "3"), 0, 1, both) == "5 seen as 3: teacher 1 of 36 (3 %), student 4 of 36 (11 %)"
    assert words.cell(("5", "3"), 1, 1, both[1:]) == "3 found: 4 of 4 (100 %)"


def test_a_class_without_images_has_no_percent() -> None:
    assert (
        words.cell(("a", "b"), 1, 0, [("", Confusion(np.array([[1, 0], [0, 0]])))]) == "b seen as a: 0 of 0"
    )


def test_an_unfinished_runs_test_figures_carry_their_warning(evaluation: Evaluation, feed: Feed) -> None:
    run(feed)
    shown = evaluation.shown()
    assert shown is not None
    assert "spends the test part" in words.protocol(shown, {"status": "stopped"})
    assert "spends" not in words.protocol(shown, {"status": "done", "seed": 3})


# ---- the panel


@pytest.fixture
def panel(qtbot: QtBot, evaluation: Evaluation) -> EvaluationPanel:
    made = EvaluationPanel(evaluation)
    show_inside(qtbot, made, 568, 520)
    return made


def test_the_demo_shows_every_page(qtbot: QtBot) -> None:
    panel = panels.demo()
    show_inside(qtbot, panel, 568, 520)
    for page in ("confusion", "classes", "calibration", "retention"):
        panel.show_page(page)
        assert panel.stack.currentWidget() is panel._pages[page]
        panel.grab()
    assert panel.retention.gauge.figure().endswith("%")


def test_the_empty_panel_offers_a_run(panel: EvaluationPanel, qtbot: QtBot) -> None:
    assert panel.stack.currentWidget() is panel.empty
    with qtbot.waitSignal(panel.start_asked):
        panel.empty.button.click()


def test_an_unmeasured_run_offers_the_measuring(panel: EvaluationPanel, feed: Feed, qtbot: QtBot) -> None:
    run(feed, measured=False)
    panel._evaluation.allow(True)
    assert panel.part.current() == "validation"
    panel.part.button("test").click()
    assert panel.empty.button.text() == "Measure on the test part"
    with qtbot.waitSignal(panel._evaluation.wanted):
        panel.empty.button.click()
    assert panel.empty.button.text() == "Measuring…"
    assert not panel.empty.button.isEnabled()
    panel._evaluation.take(feed.run, demo_evaluation.answer())
    assert panel.stack.currentWidget() is panel.confusion


def test_a_live_run_does_not_offer_the_test_part(panel: EvaluationPanel, feed: Feed) -> None:
    run(feed, done=False)
    assert not panel.part.button("test").isEnabled()
    panel.show_page("calibration")
    assert "once, when the run ends" in panel.empty.words.text()
    assert not panel.empty.button.isVisible()


def test_calibration_of_the_validation_part_leads_to_the_test_part(
    panel: EvaluationPanel, feed: Feed, samples: Samples
) -> None:
    run(feed)
    samples.set_epoch(1)
    panel.show_page("calibration")
    assert panel.empty.button.text() == "Show the test part"
    panel.empty.button.click()
    assert panel.stack.currentWidget() is panel.calibration


def test_pointing_reads_out_both_models(panel: EvaluationPanel, feed: Feed) -> None:
    run(feed)
    pair = panel.confusion.pair
    rect = pair.rect_of(1)
    step = rect.width() / 10
    QTest.mouseMove(pair, QPointF(rect.left() + 1.5 * step, rect.top() + 8.5 * step).toPoint())
    assert pair.cell == (8, 1)
    said = panel.confusion.read_out.text()
    assert said.startswith("8 seen as 1: teacher ")
    assert "student" in said
    pair.point_at(-1, -1)
    assert "seen as" not in panel.confusion.read_out.text()


def test_a_click_on_a_mistake_looks_at_a_picture_of_it(
    panel: EvaluationPanel, feed: Feed, samples: Samples, qtbot: QtBot
) -> None:
    run(feed, done=False)
    label, said = int(samples.pictures.labels[5]), samples.predictions(5)[1]
    panel.confusion.pair.picked.emit(label, said)
    assert samples.predictions(samples.current)[1] == said
    assert samples.pictures.labels[samples.current] == label
    before = samples.current
    nobody = next(
        (row, column)
        for row in range(10)
        for column in range(10)
        if panel._evaluation.example(row, column) is None
    )
    panel.confusion.pair.picked.emit(*nobody)
    assert samples.current == before


def test_robustness_comes_on_demand(panel: EvaluationPanel, feed: Feed) -> None:
    run(feed)
    panel._evaluation.allow(True)
    panel._evaluation.take(feed.run, demo_evaluation.answer())
    panel.show_page("retention")
    assert panel.retention.measure.isVisible()
    asked: list[bool] = []
    panel._evaluation.wanted.connect(asked.append)
    panel.retention.measure.click()
    assert asked == [True]
    assert panel.retention.measure.text() == "Measuring…"
    panel._evaluation.take(feed.run, demo_evaluation.answer(corrupted=True))
    assert not panel.retention.measure.isVisible()
    assert "JPEG" in panel.retention.robust.texts()


def test_retention_tells_size_and_speed(panel: EvaluationPanel, feed: Feed) -> None:
    run(feed)
    panel.show_page("retention")
    said = panel.retention.facts.texts()
    assert "×3.5" in said
    assert "320 kB" in said
    assert "1.1 MB" in said


def test_a_student_that_beats_its_teacher_and_one_that_loses_are_told_as_such(
    panel: EvaluationPanel, feed: Feed
) -> None:
    run(feed)
    told = demo_evaluation.answer()
    told["models"]["teacher/last"]["top1"], told["models"]["student/last"]["top1"] = 0.80, 0.88
    told["models"]["no KD/last"]["top1"] = 0.70
    panel._evaluation.take(feed.run, told)
    panel.show_page("retention")
    assert panel.retention.gauge.figure() == "110.0 %"
    assert "180.0 %" in panel.retention.facts.texts()
    told["models"]["student/last"]["top1"] = 0.65
    panel._evaluation.take(feed.run, told)
    assert panel.retention.gauge.figure() == "81.2 %"
    assert "−50.0 %" in panel.retention.facts.texts()


def test_without_a_teacher_there_is_one_matrix_and_no_gap(panel: EvaluationPanel, feed: Feed) -> None:
    told = [one for one in demo_evaluation.results() if one.student != "teacher"]
    run(feed, measured=False)
    feed.take(told)
    assert len(panel.confusion.pair.matrices) == 1
    panel.show_page("classes")
    assert "no teacher" in panel.classes.none.text()
    panel.show_page("retention")
    assert panel.retention.gauge.figure() == "–"


def test_a_hidden_panel_draws_nothing_until_it_is_shown(panel: EvaluationPanel, feed: Feed) -> None:
    panel.hide()
    run(feed)
    assert not panel.confusion.pair.matrices
    panel.show()
    assert len(panel.confusion.pair.matrices) == 2


def test_a_narrow_panel_keeps_its_way_back(qtbot: QtBot, evaluation: Evaluation, feed: Feed) -> None:
    run(feed)
    panel = EvaluationPanel(evaluation)
    show_inside(qtbot, panel, 346, 520)
    assert panel.width() == 346
    assert not panel.back.isVisible()
    with qtbot.waitSignal(panel.closed):
        panel.small_back.click()
    for button in (panel.choice.button(name) for name in ("confusion", "retention")):
        qtbot.waitUntil(lambda button=button: button.width() >= button.sizeHint().width())
        assert panel.rect().contains(button.mapTo(panel, button.rect().bottomRight()))


# ---- plots


def pair_of(qtbot: QtBot, classes: int, width: int = 540, height: int = 320) -> ConfusionPair:
    told = [
        measures.figures(demo_evaluation.told(top1, classes, 12, seed))
        for seed, top1 in enumerate((0.97, 0.9))
    ]
    made = ConfusionPair()
    show_inside(qtbot, made, width, height)
    matrices = [
        Matrix(role, role, one.confusion) for role, one in zip(("teacher", "student"), told, strict=True)
    ]
    made.show_matrices(matrices, [f"class {i}" for i in range(classes)])
    return made


def test_both_matrices_share_one_scale(qtbot: QtBot) -> None:
    pair = pair_of(qtbot, 2)
    weak, strong = Confusion(np.array([[9, 1], [0, 10]])), Confusion(np.array([[2, 8], [0, 10]]))
    pair.show_matrices([Matrix("a", "student", weak), Matrix("b", "student", strong)], ["0", "1"])
    picture = pair.grab().toImage()

    def ink(place: int) -> str:
        rect = pair.rect_of(place)
        return picture.pixelColor(
            round(rect.left() + 0.95 * rect.width()), round(rect.top() + 0.05 * rect.height())
        ).name()

    assert pair.scale == pytest.approx(0.8)
    assert ink(1).upper() == theme().tokens.student
    assert ink(0) != ink(1)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_a_cell_is_found_where_it_is_drawn(qtbot: QtBot, classes: int) -> None:
    pair = pair_of(qtbot, classes)
    for place in (0, 1):
        rect = pair.rect_of(place)
        step = rect.width() / classes
        assert rect.right() <= pair.width() + 1
        assert rect.bottom() <= pair.height()
        at = QPointF(rect.left() + (classes - 0.5) * step, rect.top() + 0.5 * step)
        assert pair.cell_at(at) == (0, classes - 1)
    assert pair.cell_at(QPointF(pair.rect_of(0).right() + 4, 60)) == (-1, -1)


def test_arrow_keys_go_from_cell_to_cell(qtbot: QtBot) -> None:
    pair = pair_of(qtbot, 3)
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Right, Qt.Key.Key_Right, Qt.Key.Key_Right, Qt.Key.Key_Right):
        qtbot.keyClick(pair, key)
    assert pair.cell == (0, 2)


@pytest.mark.parametrize("classes", [10, 100, 200])
def test_pointing_is_drawn_within_a_frame(qtbot: QtBot, classes: int) -> None:
    """16 ms, with room for a slow machine: the matrices themselves are drawn once."""
    pair = pair_of(qtbot, classes)
    pair.grab()
    took = []
    for i in range(8):
        started = time.perf_counter()
        pair.point_at(i % classes, 1)
        pair.repaint()
        took.append(time.perf_counter() - started)
    assert min(took) < 0.016


def test_gaps_stand_worst_first_and_leave_out_what_was_not_seen(qtbot: QtBot) -> None:
    recalls = np.array([0.9, 1.0, 0.5, np.nan]), np.array([1.0, 0.8, 1.0, np.nan])
    gaps = sorted_gaps("abcd", recalls[0] - recalls[1], recalls[1], recalls[0], np.array([5, 5, 5, 0]))
    assert [one.name for one in gaps] == ["c", "a", "b"]
    bars = GapBars()
    show_inside(qtbot, bars, 400, 90)
    bars.show_gaps(gaps)
    picture = bars.grab().toImage()
    tokens = theme().tokens
    colors = {
        row: {picture.pixelColor(round(bars.zero()) + side, 15 + 30 * row).name().upper() for side in (-4, 4)}
        for row in (0, 2)
    }
    assert tokens.teacher in colors[0]
    assert tokens.student in colors[2]
    assert "c −50.0" in bars.accessibleDescription()


def test_equal_recalls_need_no_room_and_no_bar(qtbot: QtBot) -> None:
    ones = np.ones(3)
    bars = GapBars()
    show_inside(qtbot, bars, 400, 90)
    bars.show_gaps(sorted_gaps("abc", ones - ones, ones, ones, np.array([4, 4, 4])))
    bars.grab()
    assert bars.span > 0


def test_a_point_lies_at_its_confidence_and_accuracy(qtbot: QtBot) -> None:
    plot = CalibrationPlot()
    show_inside(qtbot, plot, 400, 300)
    bins = measures.figures(demo_evaluation.told(0.8, seed=2)).bins
    assert bins is not None
    plot.show_lines([Line("student", "student", bins)])
    last = int(np.flatnonzero(bins.count)[-1])
    where = plot.place(bins.confidence[last], bins.accuracy[last])
    seen = plot.grab().toImage().pixelColor(where.toPoint()).name().upper()
    assert seen == theme().tokens.student
    plot.point_at(last)
    assert f"of {int(bins.count[last])}" in plot.read_out()


@pytest.mark.parametrize("share", [None, 0.0, 0.5, 1.0, 3.0])
def test_the_gauge_draws_whatever_was_measured(qtbot: QtBot, share: float | None) -> None:
    gauge = Gauge()
    show_inside(qtbot, gauge, 190, 167)
    gauge.show_share(share, "of the teacher's accuracy", 0.9, "no KD")
    gauge.grab()
    assert gauge.figure() == ("–" if share is None else f"{100 * share:.1f} %")


def test_pages_change_with_the_theme(qtbot: QtBot) -> None:
    panel = panels.demo()
    show_inside(qtbot, panel, 568, 520)
    light = panel.confusion.pair.grab().toImage()
    theme().set_dark(True)
    assert panel.confusion.pair.grab().toImage() != light
