"""The fold of a run's events into curves, epochs, progress and markers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_engine import events as e
from kd_engine.events import STUDENT
from kd_gui.state import rehearsal
from kd_gui.state.clock import Clock
from kd_gui.state.curves import Curve, Smoother
from kd_gui.state.feed import Feed
from kd_gui.state.markers import knob_name
from kd_gui.state.race import standing

TEMPERATURE = "stages.0.methods.0.temperature"


def fed(**options) -> Feed:
    feed = Feed()
    feed.take(rehearsal.events(**options))
    return feed


def changed(step: int, old: float, new: float, time: float, path: str = TEMPERATURE) -> e.KnobChanged:
    return e.KnobChanged(time=time, step=step, path=path, old=old, new=new)


def test_a_curve_holds_what_was_appended_and_leaves_out_what_is_not_a_number():
    curve = Curve()
    x = np.arange(1000.0)
    y = np.where(x % 7 == 0, np.nan, x * 2)
    for part in np.array_split(np.arange(1000), 13):
        curve.extend(x[part], y[part])
    wanted = x % 7 != 0
    np.testing.assert_array_equal(curve.x, x[wanted])
    np.testing.assert_array_equal(curve.y, y[wanted])


def test_a_cut_curve_goes_on_from_the_cut():
    curve = Curve()
    curve.extend([1, 2, 3, 4], [1, 2, 3, 4])
    curve.cut(2.0)
    curve.extend([2.5], [9])
    assert curve.x.tolist() == [1, 2, 2.5]
    assert curve.y.tolist() == [1, 2, 9]


def reference_mean(y: np.ndarray, weight: float) -> np.ndarray:
    """The corrected exponential mean from its definition: weights w^k over their sum."""
    out = []
    for end in range(1, len(y) + 1):
        weights = weight ** np.arange(end)[::-1]
        out.append((weights * y[:end]).sum() / weights.sum())
    return np.array(out)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
    st.sampled_from([0.0, 0.3, 0.6, 0.9, 0.99]),
    st.booleans(),
)
def test_smoothing_in_pieces_equals_the_definition(pieces, weight, broken):
    total = sum(pieces)
    y = np.random.default_rng(total).normal(size=total)
    curve, smoother, done = Curve(), Smoother(), 0
    breaks = (total / 2,) if broken else ()
    for piece in pieces:
        curve.extend(np.arange(done, done + piece), y[done : done + piece])
        done += piece
        smoothed = smoother.follow(curve, weight, breaks)
    split = sum(x <= total / 2 for x in range(total)) if broken else total
    expected = np.concatenate((reference_mean(y[:split], weight), reference_mean(y[split:], weight)))
    np.testing.assert_allclose(smoothed, expected, atol=1e-9)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.8, 0.99])
@pytest.mark.parametrize("breaks", [(), (0.5, 700.0, 700.5, 2000.0)])
def test_many_points_at_once_are_smoothed_as_one_by_one(weight, breaks):
    y = np.random.default_rng(3).normal(size=1001)
    whole, pieces, at_once, one_by_one = Curve(), Curve(), Smoother(), Smoother()
    for i, value in enumerate(y):
        pieces.extend([i], [value])
        one_by_one.follow(pieces, weight, breaks)
    for part in (slice(0, 3), slice(3, 900), slice(900, 1001)):
        whole.extend(np.arange(1001)[part], y[part])
        at_once.follow(whole, weight, breaks)
    expected = one_by_one.follow(pieces, weight, breaks)
    np.testing.assert_allclose(at_once.follow(whole, weight, breaks), expected, atol=1e-12)


def test_a_term_that_comes_later_lies_where_it_was_told():
    feed = fed(epochs=4, until=1, steps_per_epoch=4, rivals=())

    def report(step: int, terms: dict[str, float]) -> e.StepDone:
        told = {"terms": terms, "weighted": terms, "lr": 0.1, "samples_per_s": 1.0}
        return e.StepDone(stage=0, epoch=1, step=step, student=STUDENT, loss=1.0, **told)

    feed.take([report(5, {"kd": 1.0}), report(6, {"kd": 1.0, "late": 3.0}), report(7, {"late": 4.0})])
    assert feed.curves[STUDENT].terms["late"].x.tolist() == [1.5, 1.75]
    assert feed.curves[STUDENT].terms["late"].y.tolist() == [3.0, 4.0]
    assert feed.curves[STUDENT].terms["kd"].x.tolist()[-2:] == [1.25, 1.5]
    feed.take([report(8, {"kd": 5.0}), report(9, {"kd": 6.0, "late": 7.0})])
    assert feed.curves[STUDENT].terms["late"].y.tolist() == [3.0, 4.0, 7.0]
    assert feed.curves[STUDENT].terms["kd"].y.tolist()[-2:] == [5.0, 6.0]


def test_nothing_is_told_of_what_was_only_folded_in(qtbot):
    feed, told = Feed(), []
    feed.curves_changed.connect(lambda: told.append("curves"))
    feed.fold(rehearsal.events(epochs=2, steps_per_epoch=3))
    assert told == []
    feed.tell()
    feed.tell()
    assert told == ["curves"]


def test_a_smoother_starts_again_when_the_curve_was_cut():
    curve, smoother = Curve(), Smoother()
    curve.extend([0, 1, 2, 3], [5, 5, 50, 50])
    smoother.follow(curve, 0.5)
    curve.cut(1)
    curve.extend([2, 3, 4], [5, 5, 5])
    np.testing.assert_allclose(smoother.follow(curve, 0.5), 5.0)


def test_every_report_lies_on_its_curve_in_epochs():
    feed = fed(epochs=4, until=2.5, steps_per_epoch=10)
    assert feed.students == [STUDENT, "no KD"]
    curves = feed.curves[STUDENT]
    np.testing.assert_allclose(curves.loss.x, np.arange(1, 26) / 10)
    assert set(curves.terms) == {"kd", "label", "at"}
    total = sum(curve.y for curve in curves.weighted.values())
    np.testing.assert_allclose(curves.loss.y, total)
    assert set(feed.curves["no KD"].terms) == {"label"}


def test_one_call_and_many_calls_tell_the_same():
    events = rehearsal.events(epochs=3, steps_per_epoch=7)
    whole, pieces = Feed(), Feed()
    whole.take(events)
    for event in events:
        pieces.take([event])
    for name in whole.students:
        np.testing.assert_array_equal(whole.curves[name].loss.y, pieces.curves[name].loss.y)
        assert whole.epochs[name] == pieces.epochs[name]
    assert whole.progress == pieces.progress
    assert whole.markers == pieces.markers


def test_each_signal_comes_once_a_call_and_only_when_it_is_relevant(qtbot):
    feed, told = Feed(), []
    feed.curves_changed.connect(lambda: told.append("curves"))
    feed.epochs_changed.connect(lambda: told.append("epochs"))
    feed.run_changed.connect(lambda: told.append("run"))
    events = rehearsal.events(epochs=3, steps_per_epoch=7)
    feed.take(events)
    assert sorted(told) == ["curves", "epochs", "run"]
    told.clear()
    feed.take([])
    feed.take([e.SnapshotSaved(stage=0, epoch=1, step=1, path="x.npz")])
    assert told == []
    feed.take([e.Notice(level="info", code="x", message="x")])
    assert told == ["run"]


def test_epoch_metrics_come_as_arrays_and_missing_ones_are_left_out():
    feed = fed(epochs=5, until=3, steps_per_epoch=4)
    x, y = feed.metric(STUDENT, "validation", "top1")
    assert x.tolist() == [1, 2, 3]
    assert y.tolist() == [epoch.validation["top1"] for epoch in feed.epochs[STUDENT]]
    assert feed.metric(STUDENT, "validation", "nothing")[0].size == 0
    assert feed.metric("nobody", "validation", "top1")[0].size == 0


def test_the_best_epoch_is_the_highest_on_validation():
    feed = fed(epochs=15, steps_per_epoch=4)
    best = feed.best(STUDENT)
    assert best.validation["top1"] == max(epoch.validation["top1"] for epoch in feed.epochs[STUDENT])


def test_a_resumed_run_drops_what_lies_after_its_step():
    feed = fed(epochs=15, until=9.5, steps_per_epoch=10)
    assert len(feed.markers) == 1
    resumed = e.RunResumed(
        run=feed.run, folder="", recipe=rehearsal.recipe(), environment={}, stage=0, epoch=3, step=30
    )
    feed.take([resumed])
    assert feed.curves[STUDENT].loss.x[-1] == 3.0
    assert feed.curves["no KD"].weighted["label"].x[-1] == 3.0
    assert [epoch.x for epoch in feed.epochs[STUDENT]] == [1, 2, 3]
    assert feed.markers == []
    assert feed.progress.step == 30
    feed.take([event for event in rehearsal.events(steps_per_epoch=10) if getattr(event, "step", 0) > 30])
    np.testing.assert_allclose(feed.curves[STUDENT].loss.x, np.arange(1, 151) / 10)
    assert [epoch.x for epoch in feed.epochs[STUDENT]] == list(range(1, 16))


def test_another_run_starts_from_nothing():
    feed = fed(epochs=2, steps_per_epoch=3)
    feed.take(rehearsal.events(epochs=2, until=1, steps_per_epoch=3, rivals=(), name="scenes"))
    assert feed.students == [STUDENT]
    assert len(feed.curves[STUDENT].loss) == 3
    assert feed.summary is None
    assert set(feed.curves) == {STUDENT}


def test_stages_stand_side_by_side_on_one_axis():
    feed = Feed()
    recipe = {**rehearsal.recipe(2), "stages": [{"epochs": 2, "methods": []}, {"epochs": 3, "methods": []}]}

    def stage(index: int, epochs: int, pace: int) -> e.StageStarted:
        return e.StageStarted(
            stage=index,
            kind="train",
            epochs=epochs,
            steps_per_epoch=pace,
            students=[STUDENT],
            model="cnn",
            parameters=1,
            classes=[],
        )

    def step(index: int, number: int) -> e.StepDone:
        return e.StepDone(
            stage=index,
            epoch=0,
            step=number,
            student=STUDENT,
            loss=1.0,
            terms={},
            weighted={},
            lr=0.1,
            samples_per_s=1.0,
        )

    feed.take([e.RunStarted(run="r", folder="", recipe=recipe, environment={})])
    feed.take([stage(0, 2, 4), step(0, 4), step(0, 8), stage(1, 3, 10), step(1, 18), step(1, 38)])
    assert feed.curves[STUDENT].loss.x.tolist() == [1, 2, 3, 5]
    assert feed.progress.fraction == 1.0
    done = e.EpochDone(
        stage=1, epoch=2, step=28, student=STUDENT, train={}, validation={}, best=False, seconds=1
    )
    feed.take([done])
    assert feed.last(STUDENT).x == 4.0


def test_a_marker_says_what_changed_and_the_recipe_follows():
    feed = fed(epochs=15, until=9, steps_per_epoch=10)
    (marker,) = feed.markers
    assert marker.text == "T 4 → 8"
    assert marker.x == marker.step / 10
    assert feed.temperature == 8.0


def test_one_drag_of_a_slider_is_one_marker():
    feed = fed(epochs=15, until=1, steps_per_epoch=10)
    feed.take([changed(10 + i, 4.0 + i, 5.0 + i, 100.0 + 0.1 * i) for i in range(5)])
    assert [marker.text for marker in feed.markers] == ["T 4 → 9"]
    feed.take([changed(20, 9.0, 4.0, 110.0)])
    assert [marker.text for marker in feed.markers] == ["T 4 → 9", "T 9 → 4"]
    feed.take([changed(21, 4.0, 6.0, 120.0), changed(22, 6.0, 4.0, 120.5)])
    assert len(feed.markers) == 2, "a knob that is put back within one drag leaves no marker"


def test_a_change_that_is_made_again_after_a_resume_is_one_marker():
    feed = fed(epochs=15, until=1, steps_per_epoch=10)
    feed.take([changed(10, 4.0, 9.0, 100.0)])
    again = e.RunResumed(
        run=feed.run, folder="", recipe=rehearsal.recipe(), environment={}, stage=0, epoch=1, step=10
    )
    feed.take([again, changed(10, 4.0, 9.0, 5000.0)])
    assert [marker.text for marker in feed.markers] == ["T 4 → 9"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (TEMPERATURE, "T"),
        ("stages.0.methods.1.weight", "at weight"),
        ("stages.0.label_weight", "labels"),
        ("stages.0.optimizer.lr", "lr"),
        ("stages.0.rivals.0.label_weight", "no KD: labels"),
        ("stages.9.methods.0.weight", "method weight"),
    ],
)
def test_a_knob_is_named_in_a_word_or_two(path, name):
    assert knob_name(path, rehearsal.recipe()) == name


def test_progress_counts_epochs_from_one_and_ends_at_all():
    feed = fed(epochs=15, until=8.5, steps_per_epoch=10)
    assert (feed.progress.epoch, feed.progress.epochs) == (9, 15)
    assert feed.progress.fraction == pytest.approx(8.5 / 15)
    done = fed(epochs=15, steps_per_epoch=10)
    assert (done.progress.epoch, done.progress.fraction, done.progress.eta) == (15, 1.0, None)
    assert (done.status, done.live) == ("done", False)


def test_time_left_is_hidden_until_it_means_something():
    assert fed(epochs=15, until=1, steps_per_epoch=10).progress.eta is None
    feed = fed(epochs=15, until=9, steps_per_epoch=60)
    assert feed.progress.eta == pytest.approx(6 * 60 * 0.05, rel=0.01)
    assert feed.steps_per_s == pytest.approx(20.0)


def test_pauses_do_not_count_as_work():
    clock = Clock()
    for step in range(101):
        clock.step(step * 0.1, step)
    clock.pause(10.0)
    clock.go_on(1000.0)
    for step in range(101, 201):
        clock.step(1000.0 + (step - 100) * 0.1, step)
    assert clock.active == pytest.approx(20.0)
    assert clock.eta(200, 400) == pytest.approx(20.0)


def test_a_run_that_is_resumed_days_later_was_not_at_work_between():
    clock = Clock()
    clock.step(0.0, 0)
    clock.step(5.0, 50)
    clock.restart()
    clock.step(1e6, 50)
    clock.step(1e6 + 5, 100)
    assert clock.active == pytest.approx(10.0)
    assert clock.eta(100, 200) == pytest.approx(10.0)


def test_the_race_is_on_validation_while_live_and_on_test_when_done():
    live = standing(fed(epochs=15, until=6, steps_per_epoch=5))
    assert live.part == "validation"
    assert live.retention == pytest.approx(live.rows[0][1] / 0.975)
    done = standing(fed(epochs=15, steps_per_epoch=5))
    assert done.part == "test"
    assert dict(done.rows) == {STUDENT: 0.956, "no KD": 0.758}
    assert done.retention == pytest.approx(0.956 / 0.972)
    assert done.gain == pytest.approx(0.198)


def test_the_race_never_mixes_validation_and_test():
    feed = fed(epochs=15, until=6, steps_per_epoch=5)
    feed.take([e.Evaluated(student=STUDENT, weights="last", metrics={"top1": 0.9})])
    assert standing(feed).part == "validation"
    feed.take([e.Evaluated(student="no KD", weights="last", metrics={"top1": 0.95})])
    stand = standing(feed)
    assert stand.part == "test"
    assert stand.gain == pytest.approx(-0.05), "a rival that leads is told as it is"


def test_an_empty_race_has_no_numbers():
    stand = standing(Feed())
    assert (stand.rows, stand.retention, stand.gain) == ((), None, None)


def test_a_feed_is_clean_after_clear_and_usable_again():
    feed = fed(epochs=3, steps_per_epoch=5)
    feed.clear()
    assert feed.empty
    assert feed.markers == []
    feed.take(rehearsal.events(epochs=3, steps_per_epoch=5))
    assert feed.status == "done"
    assert len(feed.curves[STUDENT].loss) == 15


def test_a_log_without_an_ending_is_closed_by_its_reader():
    feed = fed(epochs=15, until=3, steps_per_epoch=5)
    feed.close("interrupted")
    assert not feed.live
    assert feed.progress.eta is None


def test_a_failure_is_kept_with_its_words():
    feed = fed(epochs=15, until=3, steps_per_epoch=5)
    feed.take([e.RunFailed(run=feed.run, error="memory", message="out of memory", hint="batch 64")])
    assert feed.status == "failed"
    assert feed.failure.hint == "batch 64"


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"device": "cpu", "device_name": "x86_64"}, "CPU"),
        ({"device": "cuda", "device_name": "NVIDIA H200"}, "NVIDIA H200"),
        ({}, ""),
    ],
)
def test_the_device_is_one_word(environment, word):
    feed = Feed()
    feed.take([e.RunStarted(run="r", folder="", recipe={}, environment=environment)])
    assert feed.device == word
