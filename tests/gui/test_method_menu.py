"""Choosing one of many methods: found by any word, grouped as the engine says, marked where it cannot work;
and whatever the engine has can be added to an experiment that runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QApplication

from kd_engine import answers, paths
from kd_engine import catalog as catalogs
from kd_engine.catalog import Catalog
from kd_engine.recipe import Recipe
from kd_engine.registry import discover
from kd_gui.forms.method_menu import MethodMenu
from kd_gui.forms.methods import MethodsPane
from kd_gui.panels.experiment import ExperimentPanel
from kd_gui.state import edits, example
from kd_gui.state.draft import Draft
from kd_gui.state.methods import cited, families

FOLDER = Path(paths.__file__).parent / "methods"
FILES = sorted(file.stem for file in FOLDER.glob("[!_]*.py"))  # not from the catalog: that may take torch


@pytest.fixture
def draft(qapp: object) -> Draft:
    made = Draft()
    made.set_catalog(example.catalog())
    made.load_document(example.document(), "example")
    return made


@pytest.fixture
def menu(qtbot, draft: Draft) -> MethodMenu:
    made = MethodMenu(draft, "stages.0")
    qtbot.addWidget(made)
    return made


def names(menu: MethodMenu) -> list[str]:
    return [offer.entry.name for offer in menu.offers()]


def go_to(menu: MethodMenu, name: str) -> None:
    """What a user does: down the list, to the method."""
    for _ in menu.offers():
        current = menu.current()
        if current is not None and current.entry.name == name:
            return
        menu.step(1)
    raise AssertionError(f"{name} is not in the list")


# -- the pop-up ----------------------------------------------------------------------------------------------


def test_methods_stand_by_family_in_the_catalogs_order(draft: Draft) -> None:
    found = [(family.name, [o.entry.name for o in family.offers]) for family in families(draft, "stages.0")]
    assert found == [("logits", ["kd"]), ("features", ["fitnet", "nst"]), ("attention", ["at"])]


def test_a_method_is_found_by_its_name_its_paper_its_year_and_its_family(menu: MethodMenu) -> None:
    for text, expected in (
        ("fit", ["fitnet"]),
        ("zagoruyko", ["at"]),
        ("2015", ["kd", "fitnet"]),
        ("features", ["fitnet", "nst"]),
        ("hints romero", ["fitnet"]),
        ("", ["kd", "fitnet", "nst", "at"]),
    ):
        menu.find.setText(text)
        assert names(menu) == expected, text
        assert menu.current() == menu.offers()[0]
    menu.find.setText("no such thing")
    assert names(menu) == []
    assert not menu.nothing.isHidden()
    assert menu.about.title.text() == ""


def test_arrows_move_over_headings_and_return_takes(qtbot, menu: MethodMenu) -> None:
    assert menu.current().entry.name == "kd"
    qtbot.keyClick(menu.find, Qt.Key.Key_Up)
    assert menu.current().entry.name == "kd"
    qtbot.keyClick(menu.find, Qt.Key.Key_Down)
    assert menu.current().entry.name == "fitnet"
    with qtbot.waitSignal(menu.chosen) as heard:
        qtbot.keyClick(menu.find, Qt.Key.Key_Return)
    assert heard.args == ["fitnet"]


def test_the_pointer_chooses_where_it_moves_and_not_where_it_lies(qtbot, menu: MethodMenu) -> None:
    menu.show()
    qtbot.waitExposed(menu)
    rows = [menu.list.visualRect(menu.list.model().index(row, 0)).center() for row in (3, 6)]  # fitnet, at

    def move(where: QPoint) -> None:
        there = menu.list.viewport().mapToGlobal(where)
        none = Qt.MouseButton.NoButton
        event = QMouseEvent(
            QEvent.Type.MouseMove, QPointF(where), QPointF(there), none, none, Qt.KeyboardModifier.NoModifier
        )
        QApplication.sendEvent(menu.list.viewport(), event)

    move(rows[0])
    assert menu.current().entry.name == "kd"
    move(rows[1])
    assert menu.current().entry.name == "at"
    menu.step(-1)
    move(rows[1])
    assert menu.current().entry.name == "nst"


def test_what_is_in_use_or_unavailable_is_not_taken(qtbot, menu: MethodMenu) -> None:
    for name in ("kd", "nst"):
        menu.find.setText(name)
        with qtbot.assertNotEmitted(menu.chosen):
            menu.pick()
    assert menu.about.refusal.text() == "needs a GPU"


def test_the_whole_story_stands_below_the_list(qtbot, draft: Draft) -> None:
    draft.set_facts({"methods": [{"fitnet": "no common stage"}]})
    menu = MethodMenu(draft, "stages.0")
    qtbot.addWidget(menu)
    menu.find.setText("hints")
    about = menu.about
    assert about.source.text().startswith("Romero et al.: FitNets")
    assert about.refusal.text() == "no common stage"
    menu.find.setText("zagoruyko")
    assert "below the plain student" in about.caution.text()
    assert about.refusal.isHidden()


def test_refusals_are_forgotten_with_the_models_they_were_about(draft: Draft) -> None:
    told = {"methods": [{"fitnet": "no common stage"}]}
    draft.set_facts(told)
    draft.set_value("stages.0.epochs", 3)
    assert draft.refusals(0) == told["methods"][0]
    draft.edit("cnn", edits.with_model(draft.document, "student", "cnn", None))
    assert draft.refusals(0) == {}


def test_the_menu_is_painted_with_every_kind_of_line(qtbot, draft: Draft) -> None:
    draft.set_facts({"methods": [{"fitnet": "no common stage"}]})
    menu = MethodMenu(draft, "stages.0")
    qtbot.addWidget(menu)
    assert not menu.grab().isNull()


@pytest.mark.parametrize(
    ("source", "short"),
    [
        ("Zagoruyko, Komodakis: Paying More Attention, ICLR 2017. arXiv:1612.03928", "Zagoruyko, ICLR 2017"),
        ("Hinton, Vinyals, Dean: Distilling the Knowledge, 2015. arXiv:1503.02531", "Hinton, 2015"),
        ("Romero et al.: FitNets, ICLR 2015", "Romero, ICLR 2015"),
        ("Touvron et al.: Training transformers. arXiv:2012.12877", "Touvron"),
        ("Ours, after Snell, Swersky: Prototypical Networks, 2017.", "after Snell, 2017"),
        ("Nobody 2026", "Nobody 2026"),
        ("", ""),
    ],
)
def test_a_source_is_cited_in_short(source: str, short: str) -> None:
    assert cited(source) == short


# -- methods with a first stage of their own -----------------------------------------------------------------


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return catalogs.load()


@pytest.fixture
def quickstart(qapp: object, catalog: Catalog) -> Draft:
    made = Draft()
    made.set_catalog(catalog)
    made.load_preset("quickstart")
    return made


def test_a_first_stage_comes_along_and_only_once(quickstart: Draft, catalog: Catalog) -> None:
    document = quickstart.document
    both = edits.with_method(document, "stages.0", "ft", catalog)
    first, main = both["stages"]
    assert [method["phase"] for method in first["methods"]] == ["paraphrase"]
    assert (first["label_weight"], first["rivals"], first["epochs"]) == (0.0, [], 2)
    assert {"ft", "kd", "at"} == set(edits.methods_at(both, "stages.1"))
    assert main["rivals"] == document["stages"][0]["rivals"]
    again = edits.without_method(both, "stages.1", edits.methods_at(both, "stages.1").index("ft"))
    assert edits.with_method(again, "stages.1", "ft", catalog) == both


def test_one_that_only_prepares_does_not_stand_beside_the_labels(quickstart: Draft, catalog: Catalog) -> None:
    document = quickstart.document
    prepared = edits.with_method(document, "stages.0", "fsp", catalog)
    assert edits.methods_at(prepared, "stages.0") == ["fsp"]
    assert prepared["stages"][1] == document["stages"][0]


def test_no_first_stage_where_none_could_come_before(quickstart: Draft, catalog: Catalog) -> None:
    document = quickstart.document
    mutual = edits.with_stage_kind(document, 0, "mutual", catalog)
    assert len(edits.with_method(mutual, "stages.0", "ab", catalog)["stages"]) == 1
    assistant = edits.with_assistant(edits.with_stage(document), 0, True)
    assert len(edits.with_method(assistant, "stages.1", "ab", catalog)["stages"]) == 2
    assert len(edits.with_method(assistant, "stages.0", "ab", catalog)["stages"]) == 3


# -- every method that there is ------------------------------------------------------------------------------


def offering(qtbot, draft: Draft) -> tuple[ExperimentPanel, MethodsPane]:
    """The form, with the menu of methods open in it."""
    panel = ExperimentPanel(draft)
    qtbot.addWidget(panel)
    panel.section("methods").set_open(True)
    pane = panel.section("methods").content
    assert isinstance(pane, MethodsPane)
    pane.offer()
    return panel, pane


@pytest.mark.parametrize("file", FILES)
def test_every_method_can_be_added_from_the_form_and_then_runs_or_says_why_not(
    qtbot, quickstart: Draft, catalog: Catalog, file: str
) -> None:
    plugins = discover("methods").plugins.values()
    name = next(plugin.name for plugin in plugins if plugin.__module__ == f"kd_engine.methods.{file}")
    document = edits.with_value(quickstart.document, "stages.0.methods", [])
    quickstart.load_document(document, "no methods")
    quickstart.set_facts(answers.describe(document))
    panel, pane = offering(qtbot, quickstart)
    go_to(pane.menu, name)
    refused = pane.menu.current().refusal
    pane.menu.pick()

    added = quickstart.document
    assert any(name in edits.methods_at(added, f"stages.{i}") for i in range(len(added["stages"])))
    Recipe.from_document(added, catalog)
    quickstart.set_facts(answers.describe(added))
    told = [problem.message for problem in quickstart.problems]
    if refused:
        assert told == [refused]
        assert panel.section("methods").content.row(name).wrong.text() == refused
    else:
        assert told == []
    shown = {row.label_text for row in panel.live.rows.values() if row.isVisibleTo(panel)}
    assert len(shown) <= 9
    caution = catalog.entry("methods", name).caution
    assert panel.section("methods").content.row(name).caution.text() == caution
    quickstart.undo()
    assert quickstart.document == document


def test_what_mixed_images_forbid_is_marked_before_and_after_it_is_added(qtbot, quickstart: Draft) -> None:
    quickstart.set_value("data.mix", "mixup")
    quickstart.set_facts(answers.describe(quickstart.document))
    _, pane = offering(qtbot, quickstart)
    marked = {offer.entry.name: offer.refusal for offer in pane.menu.offers()}
    assert not marked["dist"]
    assert not marked["multi-teacher"]
    assert "'dkd' asks which class an image is of" in marked["dkd"]
    go_to(pane.menu, "dkd")
    assert pane.menu.about.refusal.text() == marked["dkd"]
    pane.menu.pick()
    assert pane.row("dkd").wrong.text() == marked["dkd"]
    quickstart.set_value("data.mix", "none")
    assert quickstart.refusals(0) == {}
    assert pane.row("dkd").wrong.text() == ""


def test_every_method_belongs_to_a_family_that_the_catalog_explains(
    quickstart: Draft, catalog: Catalog
) -> None:
    found = families(quickstart, "stages.0")
    assert all(family.help for family in found)
    assert sorted(offer.entry.name for family in found for offer in family.offers) == sorted(
        catalog.names("methods")
    )
    assert all(cited(offer.entry.source) for family in found for offer in family.offers)
    assert found[0].offers[0].entry.name == "kd"
