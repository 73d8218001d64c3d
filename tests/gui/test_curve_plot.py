"""Ticks, thinning, and the plot that is zoomed, pointed at, and drawn only when something changed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, Qt

from kd_gui.plots import decimate, ticks
from kd_gui.plots.curve_plot import CurvePlot
from kd_gui.plots.fit import Scale, fit_y
from kd_gui.plots.overlay import Level
from kd_gui.plots.series import Series
from kd_gui.theme import theme
from tests.gui.hosting import show_inside

X = np.linspace(0.01, 10, 1000)
finite = st.floats(-1e6, 1e6, allow_nan=False)


def look() -> tuple[str, Qt.PenStyle]:
    return theme().tokens.student, Qt.PenStyle.SolidLine


@pytest.fixture
def plot(qtbot, dressed):
    plot = CurvePlot()
    plot.set_span(10.0, "epoch")
    put(plot, "a", 2 / X.clip(1))
    put(plot, "b", 1 / X.clip(1))
    show_inside(qtbot, plot, 560, 200)
    plot.redraw()
    return plot


@pytest.fixture
def dressed(qapp):
    from kd_gui.theme import apply

    apply(qapp)


def put(plot: CurvePlot, key: str, y: np.ndarray, stamp: object = 0, raw: np.ndarray | None = None) -> None:
    plot.show_series(Series(key, key.upper(), look), X[: len(y)], y, raw, stamp)


def drawn(plot: CurvePlot, key: str) -> tuple[np.ndarray, np.ndarray]:
    return plot.line(key).item.getData()


@given(finite, finite, st.integers(2, 12))
@example(19.0, 19.0, 2)
def test_a_nice_range_holds_both_ends_and_few_ticks(a, b, most):
    low, high = ticks.nice_range(min(a, b), max(a, b), most)
    slack = 1e-6 * (high - low)
    assert low <= min(a, b) + slack
    assert high >= max(a, b) - slack
    assert high > low
    lines = ticks.ticks(low, high, most)
    assert 2 <= len(lines) <= most + 3
    assert all(low - slack <= line <= high + slack for line in lines)


@given(st.integers(1, 400), st.integers(3, 12))
def test_epochs_are_counted_in_whole_numbers(total, most):
    values = ticks.count_ticks(0.0, float(total), most)
    assert values[0] == 0
    assert all(value == round(value) for value in values)
    assert len(values) <= most + 1 or total <= most


def test_the_last_epoch_has_a_tick_where_one_divides_the_total():
    assert ticks.count_ticks(0.0, 15.0, 7) == [0, 3, 6, 9, 12, 15]
    assert ticks.count_ticks(0.0, 8.0, 7) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [
        (0.0, 0.5, "0"),
        (0.5, 0.5, "0.5"),
        (1.0, 0.25, "1.00"),
        (1500.0, 500.0, "1,500"),
        (2.0, 1.0, "2"),
        (2.5, 2.5, "2.5"),
    ],
)
def test_a_tick_has_as_many_decimals_as_its_step(value, step, text):
    assert ticks.words(value, step) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.1234, "0.123"), (12.34, "12.3"), (1234.5, "1,234"), (2.5e-5, "2.5e-5"), (-0.5, "-0.500")],
)
def test_a_number_is_read_with_three_figures(value, text):
    assert ticks.short(value) == text


@given(st.integers(1, 5000), st.integers(20, 300))
def test_thinned_points_keep_the_extremes_of_the_whole(n, columns):
    y = np.random.default_rng(n).normal(size=n)
    x = np.arange(n, dtype=float)
    few_x, few_y = decimate.peaks(x, y, 0.0, float(n), columns)
    assert len(few_x) == len(few_y) <= 4 * columns + 4 * (n // columns + 1)
    assert few_y.min() == y.min()
    assert few_y.max() == y.max()
    assert (np.diff(few_x) >= 0).all()
    mean_x, mean_y = decimate.means(x, y, 0.0, float(n), columns)
    assert mean_y[-1] == y[-1], "the newest point is shown as it is"
    assert mean_x[0] == x[0]


def test_a_growing_curve_does_not_shimmer():
    y = np.random.default_rng(0).normal(size=900)
    x = np.arange(900, dtype=float)
    before = decimate.peaks(x[:700], y[:700], 0, 900, 100)
    after = decimate.peaks(x[:720], y[:720], 0, 900, 100)
    settled = 2 * (700 // 4)  # bins that were whole before
    np.testing.assert_array_equal(before[1][:settled], after[1][:settled])


def test_a_zoomed_line_leaves_the_frame_on_both_sides():
    x = np.arange(100.0)
    part = decimate.visible(x, 10.5, 20.5)
    assert (x[part][0], x[part][-1]) == (10.0, 21.0)


def test_the_fitted_range_is_round_and_within_its_limits():
    values = [np.array([52.0, 95.0])]
    assert fit_y(values, [97.5], Scale(low=0, high=100), 80) == (50, 100)
    assert fit_y([np.array([0.2, 1.7])], [], Scale(from_zero=True), 140) == (0, 2)
    assert fit_y([], [], Scale(low=0, high=100), 100) == (0, 100)
    low, high = fit_y([np.array([0.0, 0.03, 4.0])], [], Scale(log=True), 140)
    assert low <= np.log10(0.03)
    assert high >= np.log10(4.0)


def test_nothing_is_drawn_when_nothing_changed(plot, monkeypatch):
    told = []
    for key in ("a", "b"):
        item = plot.line(key).item
        monkeypatch.setattr(item, "setData", lambda *args, key=key: told.append(key))
    plot.redraw()
    put(plot, "a", 2 / X.clip(1))
    plot.redraw()
    assert told == []
    put(plot, "b", 1.01 / X.clip(1), stamp=1)
    plot.redraw()
    assert told == ["b"], "only the series that changed"


def test_a_drag_zooms_along_x_and_a_double_click_shows_all_again(plot, qtbot):
    frame = plot.frame
    left, right, y = int(frame.px(2.0)), int(frame.px(4.0)), int(frame.rect.center().y())
    drag(qtbot, plot, QPoint(left, y), QPoint(right, y + 2))
    assert plot.zoomed
    assert plot.frame.x0 == pytest.approx(2.0, abs=0.05)
    assert plot.frame.x1 == pytest.approx(4.0, abs=0.05)
    assert plot.frame.y1 < 1.3, "y is fitted to the part"
    qtbot.mouseDClick(plot.overlay, Qt.MouseButton.LeftButton, pos=QPoint(left, y))
    assert (plot.frame.x0, plot.frame.x1) == (0.0, 10.0)


def test_a_drag_across_zooms_both_ways(plot, qtbot):
    a = plot.frame.point(2.0, 0.5).toPoint()
    b = plot.frame.point(5.0, 1.5).toPoint()
    drag(qtbot, plot, a, b)
    assert plot.frame.y0 == pytest.approx(0.5, abs=0.05)
    assert plot.frame.y1 == pytest.approx(1.5, abs=0.05)


def test_a_click_without_a_drag_changes_nothing(plot, qtbot):
    before = plot.frame
    qtbot.mouseClick(plot.overlay, Qt.MouseButton.LeftButton, pos=QPoint(200, 80))
    assert plot.frame == before


def drag(qtbot, plot: CurvePlot, start: QPoint, end: QPoint) -> None:
    qtbot.mousePress(plot.overlay, Qt.MouseButton.LeftButton, pos=start)
    qtbot.mouseMove(plot.overlay, pos=(start + end) / 2)
    qtbot.mouseMove(plot.overlay, pos=end)
    qtbot.mouseRelease(plot.overlay, Qt.MouseButton.LeftButton, pos=end)


def test_the_crosshair_reads_every_line_that_is_shown(plot, qtbot):
    heard = []
    plot.pointed.connect(heard.append)
    qtbot.mouseMove(plot.overlay, pos=plot.frame.point(5.0, 0.5).toPoint())
    reading = plot.reading
    assert reading.x == pytest.approx(5.0, abs=0.05)
    assert [(row.title, row.value) for row in reading.rows] == [("A", "0.400"), ("B", "0.200")]
    assert heard[-1] == pytest.approx(5.0, abs=0.05)
    plot.toggle("a")
    assert [row.title for row in plot.reading.rows] == ["B"]
    plot.point_at(None)
    assert plot.reading is None


def test_the_read_out_names_the_change_it_stands_on(plot):
    plot.set_markers([(5.0, "T 4 → 8")])
    plot.point_at(5.0)
    assert "T 4 → 8" in plot.reading.title
    plot.point_at(8.0)
    assert "T 4" not in plot.reading.title


def test_a_legend_click_hides_and_a_shift_click_shows_one_alone(plot, qtbot):
    chip = plot.legend.chip("a")
    qtbot.mouseClick(chip, Qt.MouseButton.LeftButton)
    assert not plot.is_shown("a")
    assert not plot.line("a").item.isVisible()
    assert plot.frame.y1 == pytest.approx(1.0), "the fit forgets the hidden line"
    qtbot.mouseClick(chip, Qt.MouseButton.LeftButton)
    assert plot.is_shown("a")
    shift = Qt.KeyboardModifier.ShiftModifier
    qtbot.mouseClick(chip, Qt.MouseButton.LeftButton, shift)
    assert (plot.is_shown("a"), plot.is_shown("b")) == (True, False)
    qtbot.mouseClick(chip, Qt.MouseButton.LeftButton, shift)
    assert (plot.is_shown("a"), plot.is_shown("b")) == (True, True)


def test_a_logarithmic_axis_draws_exponents_and_reads_values(plot):
    plot.set_scale(Scale(log=True))
    plot.redraw()
    _, y = drawn(plot, "a")
    assert y[0] == pytest.approx(np.log10(2.0))
    plot.point_at(5.0)
    assert plot.reading.rows[0].value == "0.400"
    assert plot.reading.rows[0].y == pytest.approx(np.log10(0.4), abs=0.01)


def test_labels_of_markers_do_not_lie_over_each_other(plot):
    plot.set_markers([(4.0 + 0.1 * i, f"knob {i} → {i + 1}") for i in range(8)] + [(9.9, "T 4 → 8")])
    pills = [pill for _, _, pill in plot.overlay.marker_labels()]
    assert len(pills) >= 4
    assert not any(a.intersects(b) for i, a in enumerate(pills) for b in pills[:i])
    assert all(pill.right() <= plot.frame.rect.right() for pill in pills)


def test_markers_outside_the_zoom_have_no_label(plot):
    plot.set_markers([(1.0, "early"), (8.0, "late")])
    plot.zoom(5, 9)
    assert [text for _, text, _ in plot.overlay.marker_labels()] == ["late"]


def test_a_level_is_inside_the_fitted_range(plot):
    plot.set_levels([Level(7.0, "teacher", "#0072B2")])
    plot.redraw()
    assert plot.frame.y1 >= 7.0


def test_lines_that_are_not_kept_are_gone_and_may_come_again(plot):
    plot.keep(["b"])
    plot.redraw()
    assert plot.series() == ["b"]
    put(plot, "a", 3 / X.clip(1))
    plot.keep(["a", "b"])
    plot.redraw()
    assert plot.series() == ["a", "b"]
    assert drawn(plot, "a")[1].max() == pytest.approx(3.0)


def test_a_line_that_comes_again_is_as_hidden_as_it_was_left(plot):
    plot.toggle("a")
    plot.keep(["b"])
    put(plot, "a", 3 / X.clip(1))
    plot.redraw()
    assert not plot.is_shown("a")
    assert not plot.line("a").item.isVisible()


def test_raw_points_lie_behind_and_hide_with_their_line(plot):
    y = 2 / X.clip(1)
    put(plot, "a", y, stamp=1, raw=y + 0.1)
    plot.redraw()
    line = plot.line("a")
    assert line.raw_item.isVisible()
    assert line.raw_item.zValue() < line.item.zValue()
    plot.toggle("a")
    assert not line.raw_item.isVisible()


def test_the_curve_lies_where_the_frame_says(plot):
    """The pane's own pixels: a line at 1.0 is painted on the row of 1.0."""
    plot.keep([])
    put(plot, "flat", np.ones_like(X), stamp=1)
    plot.set_scale(Scale(low=0, high=2, from_zero=True))
    plot.redraw()
    picture = plot.grab().toImage()
    x = round(plot.frame.px(5.0))
    colors = [picture.pixelColor(x, row) for row in range(picture.height())]
    rows = [row for row, color in enumerate(colors) if color.red() - color.blue() > 90]  # orange
    assert rows, "the line is painted in its own colour"
    assert abs(np.mean(rows) + 0.5 - plot.frame.py(1.0)) <= 1.0


def test_a_tour_through_the_themes_recolours_lines(plot):
    before = plot.line("a").item.opts["pen"].color().name()
    theme().set_dark(True)
    try:
        after = plot.line("a").item.opts["pen"].color().name()
    finally:
        theme().set_dark(False)
    assert before != after
    assert plot.line("a").item.opts["pen"].color().name() == before


def test_ticks_rise():
    for low, high in pairwise([0.0, 0.3, 7.0, 1000.0]):
        values = ticks.ticks(low, high, 6)
        assert values == sorted(set(values))


def test_a_lone_point_is_drawn_as_a_short_dash(plot):
    put(plot, "a", np.array([0.5]), stamp="first epoch")
    plot.redraw()
    x, y = drawn(plot, "a")
    assert len(x) == 2
    assert x[0] < X[0] < x[1]
    assert (y == 0.5).all()


def test_what_a_line_may_paint_on_covers_the_view_and_its_margin_also_when_zoomed(plot):
    for change in (lambda: None, lambda: plot.zoom(2.0, 2.5), plot.fit, lambda: plot.resize(900, 120)):
        change()
        seen = plot._box.viewRect()
        for key in plot.series():
            for item in (plot.line(key).item, plot.line(key).raw_item):
                assert item.boundingRect().contains(seen)
                assert item.boundingRect() == item.boundingRect().normalized()
