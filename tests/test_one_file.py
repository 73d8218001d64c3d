"""Adding a method is one file: dropped into a plug-in folder it is everywhere, and no list was edited."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd_engine import Recipe, Session, catalog, cli
from kd_engine.events import RunDone, StepDone
from kd_engine.registry import find
from kd_gui.panels.experiment import ExperimentPanel
from kd_gui.state.draft import Draft
from tests.contracts.test_methods import check_method

TOY = '''
"""A toy: the distance between logits, stretched."""

from kd_engine.knobs import knob
from kd_engine.methods import Method, MethodKnobs


class ToyKnobs(MethodKnobs):
    stretch: float = knob(2.0, "How far differences are stretched.", low=1, high=9, live=True)


class Toy(Method):
    name = "toy"
    title = "Toy distance"
    help = "For a test."
    source = "Nobody 2026"
    Knobs = ToyKnobs

    def terms(self, student, teacher, target):
        apart = student.logits.float() - teacher.logits.float()
        return {self.name: self.knobs.stretch * apart.square().mean()}
'''
CHANGES = {
    "data.subset": 60,
    "stages.0.epochs": 1,
    "stages.0.batch_size": 30,
    "stages.0.methods": [{"method": "toy", "stretch": 3.0}],
    "stages.0.rivals": [],
    "student": {"model": "cnn", "width": 2},
}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugins" / "methods").mkdir(parents=True)
    (tmp_path / "plugins" / "methods" / "toy.py").write_text(TOY)
    monkeypatch.setenv("KD_PLUGINS", str(tmp_path / "plugins"))


@pytest.mark.usefixtures("toy")
def test_it_is_in_the_catalog_and_keeps_the_contract() -> None:
    entry = catalog.load().entry("methods", "toy")
    assert entry.title == "Toy distance"
    assert {"weight", "stretch"} <= {knob.name for knob in entry.knobs}
    check_method(find("methods", "toy"))


@pytest.mark.usefixtures("toy")
def test_the_command_line_lists_it_and_checks_its_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["kd", "catalog"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None)
    assert "stretch: 1 to 9, default 2.0, live" in capsys.readouterr().out
    change = 'stages.0.methods.0={"method": "toy", "stretch": 10}'
    monkeypatch.setattr("sys.argv", ["kd", "check", "quickstart", "--set", change])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "stages.0.methods.0.stretch: got 10, expected 1 to 9" in capsys.readouterr().err


@pytest.mark.usefixtures("toy")
def test_a_run_learns_by_it(tmp_path: Path) -> None:
    *events, end = Session(Recipe.load("quickstart").with_changes(CHANGES), tmp_path / "runs")
    assert isinstance(end, RunDone), end
    terms = [event.terms for event in events if isinstance(event, StepDone)]
    assert terms
    assert all(term["toy"] > 0 for term in terms)


@pytest.mark.usefixtures("toy")
def test_the_window_offers_it_with_a_slider(qtbot) -> None:
    draft = Draft()
    draft.set_catalog(catalog.load())
    draft.load_preset("quickstart")
    panel = ExperimentPanel(draft)
    qtbot.addWidget(panel)
    section = panel.section("methods")
    section.set_open(True)
    section.content.offer()
    section.content.menu.find.setText("toy")
    section.content.menu.pick()
    assert draft.value("stages.0.methods.2.stretch") == 2.0
    assert "Stretch" in {row.label_text for row in panel.live.rows.values()}
