"""What is to be run: teacher, student, dataset, the live sliders, and every other setting folded away
below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from kd_engine.errors import Problem
from kd_engine.knobs import Knob, knobs_of
from kd_engine.recipe_knobs import DataKnobs, HardwareKnobs
from kd_gui.forms.facts import data_line, model_line, model_tip, role_words
from kd_gui.forms.methods import MethodsPane
from kd_gui.forms.pane import KnobsPane, Pane
from kd_gui.forms.panes import DatasetPane, ModelPane, NamedPane, RivalsPane
from kd_gui.forms.pick_card import PickCard
from kd_gui.forms.scrolling import reveal, settle
from kd_gui.forms.section import Section
from kd_gui.forms.stages import StagesPane
from kd_gui.panels.live import LivePanel
from kd_gui.state import edits
from kd_gui.state.draft import Draft
from kd_gui.theme.widgets import SPACE, Caption, Card, IconButton

SEED = Knob(
    "seed", "int", 0, "Seed", "Chooses initial weights and the order of batches.", low=0, high=2**31 - 1
)


@dataclass
class _Holder:
    """A card or a section, and which problems belong to it."""

    box: PickCard | Section
    owns: Callable[[str], bool]


class ExperimentPanel(QScrollArea):
    """Cards to pick, live sliders, sections; scrolls where the window is short. `live`: the live panel
    inside."""

    def __init__(self, draft: Draft, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.draft = draft
        self._stages: Any = None
        self._locked = False
        self._holders: dict[str, _Holder] = {}
        self.live = LivePanel(draft)
        self._lay_out()
        draft.changed.connect(self.refresh)
        draft.catalog_changed.connect(self._start_over)
        draft.facts_changed.connect(self._facts)
        draft.history_changed.connect(self._offer_history)
        self.undo.clicked.connect(draft.undo)
        self.redo.clicked.connect(draft.redo)
        self.reset.clicked.connect(draft.reset)
        self._offer_history()
        self.refresh()

    def set_locked(self, locked: bool) -> None:
        """While a run is going only live settings may change."""
        self._locked = locked
        for holder in self._holders.values():
            self._lock(holder.box)
        self._offer_history()

    def section(self, key: str) -> Section:
        """A section by key: "methods", "data", "optimizer", "training", "rivals", "stages", "hardware"; with
        several stages those of a later one end in its number, as "methods.1"."""
        box = self._holders[key].box
        assert isinstance(box, Section)
        return box

    def card(self, key: str) -> PickCard:
        """The card "teacher", "student" or "dataset"; with more models "more_teachers.0" and the like, and
        "stages.0.student" for the assistant that a stage trains."""
        box = self._holders[key].box
        assert isinstance(box, PickCard)
        return box

    def refresh(self) -> None:
        """Show the draft as it is now."""
        self.skeleton.setVisible(not self.draft.ready)
        self.reset.setEnabled(self.draft.modified)
        self._cards.setVisible(self.draft.ready)
        self.live.setVisible(self.draft.ready)
        self.settings.setVisible(self.draft.ready)
        if not self.draft.ready:
            self._stages = None
            return
        document = self.draft.document
        parts = (tuple(edits.models_at(document)), tuple(stage["stage"] for stage in document["stages"]))
        if parts != self._stages:
            self._stages = parts
            self._build()
        for holder in self._holders.values():
            if isinstance(holder.box.content, Pane):
                holder.box.content.refresh()
        self._say_titles(document)
        self._facts()

    def _lay_out(self) -> None:
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(264)
        inside = QWidget()
        inside.setProperty("role", "pane")
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        self.experiment = Card(self.tr("Experiment"))
        self.undo = IconButton("undo", self.tr("Undo"))
        self.redo = IconButton("redo", self.tr("Redo"))
        self.reset = IconButton("reset", self.tr("Back to the experiment as it was loaded"))
        self.experiment.header.setSpacing(2)
        for button in (self.undo, self.redo, self.reset):
            self.experiment.header.addWidget(button)
        self.trouble = Caption(tone="bad")
        self.trouble.setWordWrap(True)
        self.trouble.hide()
        self.skeleton = Caption(self.tr("The engine is telling what there is…"))
        self.skeleton.setWordWrap(True)
        self._cards = QWidget()
        self._cards_column = QVBoxLayout(self._cards)
        self._cards_column.setContentsMargins(0, 0, 0, 0)
        self._cards_column.setSpacing(6)
        for part in (self.skeleton, self.trouble, self._cards):
            self.experiment.body.addWidget(part)
        self.settings = Card()
        self.settings.body.setSpacing(0)
        for card in (self.experiment, self.live, self.settings):
            column.addWidget(card)
        column.addStretch(1)
        self.setWidget(inside)

    def _start_over(self) -> None:
        self._stages = None
        self.refresh()

    def _build(self) -> None:
        """Cards and sections anew; those that were open stay open."""
        known, before = set(self._holders), self.verticalScrollBar().value()
        opened = {key for key, holder in self._holders.items() if holder.box.is_open()}
        for holder in self._holders.values():
            holder.box.hide()
            holder.box.setParent(None)
            holder.box.deleteLater()
        self._holders = {}
        draft = self.draft
        for path, role in edits.models_at(draft.document).items():
            color = "teacher" if role[0] == "teacher" else "student"
            self._add_card(path, role_words(role), lambda path=path: ModelPane(draft, path), color)
        self._add_card("dataset", self.tr("Dataset"), lambda: DatasetPane(draft), "line")
        stages = draft.document["stages"]
        if len(stages) > 1:
            self._add_data()
        for i, stage in enumerate(stages):
            self._add_stage(i, stage["stage"], several=len(stages) > 1)
        kinds = {f"stages.{i}.stage" for i in range(len(stages))} | {"stages"}
        self._add_section("stages", "", lambda: StagesPane(draft), kinds.__contains__)
        hardware = knobs_of(HardwareKnobs)
        places = {"hardware": hardware}
        self._add_section("hardware", "", lambda: KnobsPane(draft, places), _below("hardware"))
        kinds_open = {key.partition(".")[0] for key in opened}
        for key, holder in self._holders.items():
            holder.box.show()  # at once: what is shown only by the next event has no height yet
            if key in opened or (key not in known and key.partition(".")[0] in kinds_open):
                holder.box.set_open(True)
        if before:
            self._go_back_to(before, opened)

    def _add_stage(self, i: int, name: str, *, several: bool) -> None:
        draft, path, end = self.draft, f"stages.{i}", f".{i}" if i else ""
        assert draft.catalog is not None
        entry = draft.catalog.entry("stages", name)
        parts, before = entry.facts["parts"], f"{i + 1} · " if several else ""
        own = [knob for knob in entry.knobs if not knob.live]
        named = {"optimizer": self.tr("Optimizer"), "schedule": self.tr("Schedule")}
        if "methods" in parts:
            self._add_section(
                f"methods{end}", before, lambda: MethodsPane(draft, path), _below(f"{path}.methods")
            )
        if not several:
            self._add_data()
        self._add_section(
            f"optimizer{end}",
            before,
            lambda: NamedPane(draft, path, named),
            _below(f"{path}.optimizer", f"{path}.schedule"),
        )
        places = {path: own} if i else {path: own, "": [SEED]}
        owned = {f"{path}.{knob.name}" for knob in own} | {"seed"}
        self._add_section(f"training{end}", before, lambda: KnobsPane(draft, places), owned.__contains__)
        if "rivals" in parts:
            self._add_section(
                f"rivals{end}", before, lambda: RivalsPane(draft, path), _below(f"{path}.rivals")
            )

    def _add_data(self) -> None:
        data = knobs_of(DataKnobs)
        names = {f"data.{knob.name}" for knob in data}
        self._add_section("data", "", lambda: KnobsPane(self.draft, {"data": data}), names.__contains__)

    def _add_card(self, key: str, words: str, build: Callable[[], QWidget], color: str) -> None:
        card = PickCard(words, build, color)
        card.made.connect(lambda _content: self._made(key))
        own = {f"data.{knob.name}" for knob in knobs_of(DataKnobs)}
        below = _below("data" if key == "dataset" else key)
        self._holders[key] = _Holder(card, lambda path: below(path) and path not in own)
        self._cards_column.addWidget(card)

    def _add_section(
        self, key: str, before: str, build: Callable[[], QWidget], owns: Callable[[str], bool]
    ) -> None:
        section = Section(before, build)
        section.made.connect(lambda _content: self._made(key))
        section.setProperty("before", before)
        section.button.clicked.connect(lambda: reveal(self, section))
        self._holders[key] = _Holder(section, owns)
        self.settings.body.addWidget(section)

    def _go_back_to(self, place: int, opened: set[str]) -> None:
        """Where it was scrolled to before its parts were made anew, or where what was edited now is."""
        settle(self)
        self.verticalScrollBar().setValue(place)
        for key in sorted({"stages", "methods"} & opened & self._holders.keys()):
            reveal(self, self.section(key))

    def _made(self, key: str) -> None:
        holder = self._holders[key]
        self._lock(holder.box)
        if isinstance(holder.box.content, Pane):
            holder.box.content.show_problems([p for p in self.draft.problems if holder.owns(p.path)])

    def _lock(self, box: PickCard | Section) -> None:
        if box.content is not None:
            box.content.setEnabled(not self._locked)

    def _say_titles(self, document: edits.Document) -> None:
        assert self.draft.catalog is not None
        words = {
            "methods": self.tr("Methods"),
            "data": self.tr("Data and augmentation"),
            "optimizer": self.tr("Optimizer and schedule"),
            "training": self.tr("Training"),
            "rivals": self.tr("Rivals"),
            "stages": self.tr("Stages ({})").format(len(document["stages"])),
            "hardware": self.tr("Hardware"),
        }
        total = len(self.draft.catalog.of("methods"))
        for key, holder in self._holders.items():
            if not isinstance(holder.box, Section):
                continue
            name, _, number = key.partition(".")
            title = words[name]
            stage = f"stages.{number or 0}"
            if name == "methods":
                count = len(edits.methods_at(document, stage))
                title = self.tr("Methods ({} of {})").format(count, total)
            elif name == "rivals":
                title = self.tr("Rivals ({})").format(len(edits.rivals_at(document, stage)))
            holder.box.set_title(holder.box.property("before") + title)

    def _facts(self) -> None:
        if not self.draft.ready or not self._holders:
            return
        for path, role in edits.models_at(self.draft.document).items():
            name = self.draft.value(path)["model"]
            said = model_line(self.draft, path, role), model_tip(self.draft, path)
            self.card(path).say(name, *said)
        self.card("dataset").say(*data_line(self.draft))
        self._show_problems(self.draft.problems)

    def _show_problems(self, problems: list[Problem]) -> None:
        for holder in self._holders.values():
            mine = [problem for problem in problems if holder.owns(problem.path)]
            holder.box.set_wrong(bool(mine))
            if isinstance(holder.box.content, Pane):
                holder.box.content.show_problems(mine)
        self.live.show_problems(problems)
        first = _told(problems[0]) if problems else ""
        more = self.tr(" (and {} more)").format(len(problems) - 1) if len(problems) > 1 else ""
        self.trouble.setText(first + more)
        self.trouble.setVisible(bool(problems))

    def _offer_history(self) -> None:
        text = self.draft.undo_text
        self.undo.setEnabled(text is not None)
        self.redo.setEnabled(self.draft.redo_text is not None)
        self.undo.setToolTip(self.tr("Undo: {}").format(text) if text else self.tr("Undo"))


def _told(problem: Problem) -> str:
    """ "epochs: got 0, expected ..."."""
    name = problem.path.rsplit(".", 1)[-1].replace("_", " ")
    return f"{name}: {problem.message}" if name and not name.isdigit() else problem.message


def _below(*places: str) -> Callable[[str], bool]:
    """Whether a path is one of these places or lies below one."""
    return lambda path: any(path == place or path.startswith(f"{place}.") for place in places)


def demo() -> QWidget:
    """The example experiment with its facts."""
    from kd_gui.state import example

    draft = Draft()
    draft.set_catalog(example.catalog())
    draft.load_document(example.document(), "example")
    draft.set_facts(example.facts())
    panel = ExperimentPanel(draft)
    draft.setParent(panel)
    panel.resize(264, 700)
    return panel


if __name__ == "__main__":
    from kd_gui.app import show_alone

    show_alone(demo)
