"""The table of runs: what the store holds, read only where it changed; the panel asks and never acts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PySide6.QtCore import QModelIndex, Qt

from kd_engine.errors import KdError
from kd_engine.store import LAST, RECIPE, SUMMARY, RunFolder, Store
from kd_gui.panels import runs as panels
from kd_gui.panels.run_delegate import ROW, RunDelegate
from kd_gui.panels.runs import RunsPanel, exportable
from kd_gui.state import rehearsal
from kd_gui.state.feed import Feed
from kd_gui.state.run_figures import BEST, NAME, RETENTION, SIZE, TEMPERATURE, TIME, duration, size
from kd_gui.state.runs import LIVE, STATUS, RunsModel, scan
from kd_gui.theme import apply
from tests.gui.hosting import show_inside


@pytest.fixture
def root(tmp_path) -> Path:
    rehearsal.fill_store(tmp_path)
    return tmp_path


@pytest.fixture
def model(qapp, qtbot, root):
    apply(qapp)
    model = RunsModel(Store(root))
    refresh(qtbot, model)
    return model


@pytest.fixture
def panel(qtbot, model):
    panel = RunsPanel(model)
    with qtbot.waitSignal(model.refreshed):
        show_inside(qtbot, panel, 568, 200)
    return panel


def refresh(qtbot, model: RunsModel) -> None:
    with qtbot.waitSignal(model.refreshed):
        model.refresh()


def cells(model: RunsModel, row: int) -> list[str]:
    return [model.index(row, column).data() for column in (NAME, TEMPERATURE, BEST, RETENTION, SIZE, TIME)]


def names(model: RunsModel) -> list[str]:
    return [model.run_at(row).name for row in range(model.rowCount())]


def finish(root: Path, name: str, **values: object) -> None:
    summary = {"status": "done", "students": {"student": {"top1_test_last": 0.5, "bytes": 1500}}, **values}
    RunFolder(root / name).write_json(SUMMARY, summary)


def test_the_model_keeps_qts_rules(model, qtmodeltester):
    qtmodeltester.check(model)


def test_the_sorted_model_keeps_qts_rules_too(panel, qtmodeltester):
    qtmodeltester.check(panel.proxy)


def test_runs_are_listed_newest_first_with_their_figures(model):
    assert cells(model, 1) == ["digits · T 1", "1", "93.1", "95.5 %", "312 kB", "0:31"]
    created = [model.run_at(row).created for row in range(model.rowCount())]
    assert created == sorted(created, reverse=True)


def test_what_is_not_known_is_a_dash_and_the_best_says_where_it_was_measured(model):
    assert cells(model, 0)[2:] == ["–", "–", "–", "–"]
    tip = Qt.ItemDataRole.ToolTipRole
    assert "validation" in model.index(2, BEST).data(tip)
    assert "test" in model.index(1, BEST).data(tip)


def test_an_empty_or_missing_folder_has_no_runs(qapp, qtbot, tmp_path):
    model = RunsModel(Store(tmp_path / "nothing"))
    refresh(qtbot, model)
    assert model.rowCount() == 0


def test_what_is_no_run_is_passed_over(qtbot, model, root):
    (root / "notes").mkdir()
    (root / "broken").mkdir()
    (root / "broken" / "recipe.json").write_text("{", encoding="utf-8")
    before = names(model)
    refresh(qtbot, model)
    assert names(model) == before


def test_a_scan_reads_only_what_changed(root, monkeypatch):
    store = Store(root)
    infos, kept = scan(store, {})
    read: list[str] = []
    original = Store.info
    monkeypatch.setattr(Store, "info", lambda self, run: read.append(run.name) or original(self, run))
    again, kept = scan(store, kept)
    unsettled = {info.name for info in infos if info.status == "interrupted"}
    assert set(read) == unsettled, "a run without an end is looked at each time"
    assert again == infos
    read.clear()
    done = next(info.name for info in infos if info.status == "done")
    finish(root, done, retention=0.123)
    infos, _ = scan(store, kept)
    assert set(read) == {*unsettled, done}
    assert next(info for info in infos if info.name == done).summary["retention"] == 0.123


def test_opening_many_runs_reads_recipe_and_summary_of_each_once_and_nothing_else(tmp_path, monkeypatch):
    for i in range(30):
        Store(tmp_path).create({"version": 1, "name": f"n{i}", "stages": []}).close()
    runs = [path for path in tmp_path.iterdir() if path.is_dir()]
    for run in runs:
        finish(tmp_path, run.name)
    read: list[tuple[str, str]] = []
    original = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda self: read.append((self.parent.name, self.name)) or original(self)
    )
    monkeypatch.setattr(RunFolder, "locked", lambda self: pytest.fail("a finished run is not going"))
    infos, _ = scan(Store(tmp_path), {})
    assert len(infos) == 30
    assert sorted(read) == sorted((run.name, name) for run in runs for name in (RECIPE, SUMMARY))


def test_the_newest_run_is_found_without_reading_the_others(root, monkeypatch):
    read = []
    original = RunFolder.read_json
    monkeypatch.setattr(RunFolder, "read_json", lambda self, n: read.append(self.name) or original(self, n))
    newest = Store(root).newest()
    assert set(read) == {newest.name}
    assert newest == Store(root).runs()[0]


def test_scrolling_paints_the_rows_that_are_in_sight_and_no_others(qtbot, qapp, tmp_path, monkeypatch):
    rehearsal.fill_store(tmp_path, count=300)
    painted = []
    original = RunDelegate.paint  # replaced before the first painting: Qt remembers whose it called
    monkeypatch.setattr(RunDelegate, "paint", lambda *args: painted.append(args[3].row()) or original(*args))
    panel = RunsPanel(RunsModel(Store(tmp_path)))
    show_inside(qtbot, panel, 568, 200)
    qtbot.waitUntil(lambda: panel.proxy.rowCount() == 300)
    bar, view = panel.table.verticalScrollBar(), panel.table.viewport()
    for value in (bar.maximum() // 2, bar.maximum()):
        bar.setValue(value)
        painted.clear()
        view.repaint()
        assert 0 < len(set(painted)) <= view.height() // ROW + 2


def test_a_folder_that_cannot_be_read_is_told(qapp, qtbot, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    model = RunsModel(Store(tmp_path / "file"))
    with qtbot.waitSignal(model.trouble) as told:
        model.refresh()
    assert isinstance(told.args[0], KdError)


def test_new_finished_and_deleted_runs_appear_where_they_belong(qtbot, model, root, qtmodeltester):
    kept = QPersistent(model, 3)
    shutil.rmtree(root / model.run_at(1).name)
    live = model.run_at(0).name
    finish(root, live, retention=0.9)
    new = Store(root).create({"version": 1, "name": "newest", "stages": []})
    new.close()
    refresh(qtbot, model)
    assert names(model)[0] == new.name
    assert cells(model, 1)[3] == "90.0 %"
    assert model.rowCount() == 5
    assert kept.name() == model.run_at(kept.index.row()).name, "a selection stays on its run"
    qtmodeltester.check(model)


class QPersistent:
    """A persistent index and the name that it was made for."""

    def __init__(self, model: RunsModel, row: int) -> None:
        from PySide6.QtCore import QPersistentModelIndex

        self.index = QPersistentModelIndex(model.index(row, 0))
        self._name = model.run_at(row).name

    def name(self) -> str:
        return self._name


def test_asking_often_is_one_more_look_not_many(qtbot, model, monkeypatch):
    asked = []
    ask = model._reading.ask
    monkeypatch.setattr(model._reading, "ask", lambda *args: asked.append(1) or ask(*args))
    with qtbot.waitSignal(model.refreshed):
        for _ in range(20):
            model.refresh()
    assert len(asked) == 2


def test_another_store_replaces_the_rows_and_late_answers_are_ignored(qtbot, model, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    rehearsal.fill_store(other, count=2)
    model.refresh()
    with qtbot.waitSignal(model.refreshed):
        model.set_store(Store(other))
    assert model.rowCount() == 2
    qtbot.wait(20)
    assert model.rowCount() == 2


def test_the_live_run_is_marked_and_shows_what_is_known_so_far(qtbot, model):
    name, feed = model.run_at(0).name, Feed()
    model.follow(feed)
    model.set_live(name)
    feed.take(rehearsal.events(until=6, steps_per_epoch=20, run=name))
    index = model.index(0, NAME)
    assert (index.data(LIVE), index.data(STATUS), index.data()) == (True, "live", "digits · live")
    assert cells(model, 0)[1] == "8", "the temperature in force, not the one it began with"
    assert cells(model, 0)[2] == f"{100 * feed.best('student').validation['top1']:.1f}"
    model.set_live("")
    assert not model.index(0, NAME).data(LIVE)


def test_looking_at_another_run_does_not_change_the_live_row(model):
    feed = Feed()
    model.follow(feed)
    model.set_live(model.run_at(0).name)
    before = cells(model, 0)
    feed.take(rehearsal.events(until=6, steps_per_epoch=5, run="something else"))
    assert cells(model, 0) == before


def test_a_live_row_is_only_told_of_when_a_figure_moves(model):
    feed = Feed()
    model.follow(feed)
    model.set_live(model.run_at(0).name)
    events = rehearsal.events(until=6, steps_per_epoch=20, run=model.run_at(0).name)
    feed.take(events[:-4])
    told = []
    model.dataChanged.connect(lambda *_: told.append(1))
    feed.run_changed.emit()
    assert told == []


def test_columns_sort_by_figures_with_the_unknown_last_either_way(panel):
    for order in (Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder):
        panel.table.sortByColumn(BEST, order)
        shown = [panel.proxy.index(row, BEST).data() for row in range(panel.proxy.rowCount())]
        known = [float(text) for text in shown if text != "–"]
        assert shown[-1] == "–"
        assert known == sorted(known, reverse=order == Qt.SortOrder.DescendingOrder)
    panel.proxy.sort(-1)
    assert panel.proxy.mapToSource(panel.proxy.index(0, 0)).row() == 0, "newest first again"


def test_the_demo_shows_a_live_run(qtbot, qapp):
    apply(qapp)
    panel = panels.demo()
    show_inside(qtbot, panel, 568, 200)
    qtbot.waitUntil(lambda: panel.content.filled)
    assert panel.proxy.index(0, NAME).data() == "digits · live"


def test_choosing_a_row_asks_to_look_at_it(panel, qtbot):
    cell = panel.table.visualRect(panel.proxy.index(1, NAME)).center()
    with qtbot.waitSignal(panel.chosen) as chosen:
        qtbot.mouseClick(panel.table.viewport(), Qt.MouseButton.LeftButton, pos=cell)
    assert chosen.args == [panel.current().name]
    assert panel.current().title == "digits · T 1"


def test_showing_a_selection_is_not_a_choice(panel, model):
    heard = []
    panel.chosen.connect(heard.append)
    panel.select(model.run_at(1).name)
    assert panel.current().name == model.run_at(1).name
    panel.select("")
    assert panel.current() is None
    assert heard == []


@pytest.mark.parametrize(
    ("row", "export", "resume", "delete"),
    [(1, True, False, True), (2, True, True, True), (0, True, True, True)],
)
def test_a_run_offers_what_can_be_done_with_it(panel, model, row, export, resume, delete):
    panel.select(model.run_at(row).name)
    offered = [panel.action(key).isEnabled() for key in ("export", "resume", "delete")]
    assert offered == [export, resume, delete]


def test_the_live_run_offers_nothing(panel, model):
    panel.select(model.run_at(0).name)
    model.set_live(model.run_at(0).name)
    assert not any(panel.action(key).isEnabled() for key in ("export", "resume", "delete"))


def test_an_action_asks_about_the_selected_run(panel, model, qtbot):
    panel.select(model.run_at(2).name)
    for key, signal in (
        ("export", panel.export_asked),
        ("resume", panel.resume_asked),
        ("delete", panel.delete_asked),
    ):
        with qtbot.waitSignal(signal) as asked:
            panel.action(key).trigger()
        assert asked.args == [model.run_at(2).name]
    assert (model._store.root / model.run_at(2).name).exists(), "the panel asks, it deletes nothing"


def test_an_empty_store_offers_the_button_that_fills_it(qtbot, qapp, tmp_path):
    apply(qapp)
    panel = RunsPanel(RunsModel(Store(tmp_path)))
    show_inside(qtbot, panel, 568, 200)
    assert not panel.content.filled
    with qtbot.waitSignal(panel.start_asked):
        panel.content.empty.button.click()


def test_a_hidden_panel_leaves_the_disk_alone(panel):
    assert panel._timer.isActive()
    panel.host.hide()
    assert not panel._timer.isActive()
    panel.host.show()
    assert panel._timer.isActive()


def test_only_runs_that_left_weights_can_be_exported(model):
    assert [exportable(model.run_at(row)) for row in range(5)] == [True, True, True, True, True]
    folder = model.run_at(2).folder
    (folder / LAST).unlink()
    info = Store(folder.parent).info(RunFolder(folder))
    assert not exportable(info)


@pytest.mark.parametrize(
    ("count", "text"),
    [(999, "999 B"), (312_000, "312 kB"), (1_090_000, "1.1 MB"), (45_000_000, "45.0 MB"), (2.5e9, "2.5 GB")],
)
def test_sizes_in_words(count, text):
    assert size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (72.4, "1:12"), (7390, "2:03:10")])
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text


def test_a_summary_from_elsewhere_does_not_break_the_table(qtbot, model, root):
    for name, text in zip(
        names(model), ("[]", "{}", '{"students": null}', '{"students": {}}', "x"), strict=True
    ):
        (root / name / "summary.json").write_text(text, encoding="utf-8")
    refresh(qtbot, model)
    assert model.rowCount() == 5
    assert model.index(0, 0, QModelIndex()).isValid()


def test_the_order_is_the_stores_own(model, root):
    assert names(model) == [info.name for info in Store(root).runs()]
