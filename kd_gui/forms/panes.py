"""The parts of an experiment with a choice in them: models, dataset, optimizer, rivals. All from the
catalog."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from kd_engine.catalog import Catalog, Entry
from kd_gui.forms.facts import role_words
from kd_gui.forms.field import QuietCombo
from kd_gui.forms.fields import WIDTH
from kd_gui.forms.pane import Pane, Slot, form_into
from kd_gui.forms.switch import Switch
from kd_gui.forms.weights import WeightsField
from kd_gui.state import edits
from kd_gui.state.bundled import teacher_for
from kd_gui.state.draft import Draft
from kd_gui.theme import font, title_font
from kd_gui.theme.widgets import GAP, Caption, Elided, Text


def catalog_of(draft: Draft) -> Catalog:
    """The draft's catalog. Panes are made only once there is one."""
    assert draft.catalog is not None
    return draft.catalog


class ModelPane(Pane):
    """A model by family, its weights, its family's settings."""

    def __init__(self, draft: Draft, role: str, parent: QWidget | None = None) -> None:
        """role: where it stands in the recipe: "student", "more_teachers.0", "stages.0.student"."""
        super().__init__(draft, parent)
        self.role = role
        self.combo = QuietCombo()
        self.combo.setAccessibleName(self.tr("Model"))
        self.combo.setMaxVisibleItems(24)
        self._fill()
        self.combo.activated.connect(self._choose)
        self._weights, self._settings = Slot(), Slot()
        self.note = Caption()
        self.note.setWordWrap(True)
        for part in (self.combo, self._weights, self._settings, self.note):
            self.column.addWidget(part)
        self.others = self._others() if edits.is_teacher(role) else None
        self.refresh()

    def refresh(self) -> None:
        section = self.draft.value(self.role)
        model, weights = section["model"], section["weights"]
        if self.combo.findData(model) < 0:
            self.combo.addItem(model, model)  # built by its family's pattern, though not listed
        self.combo.setCurrentIndex(self.combo.findData(model))
        family = catalog_of(self.draft).family(model)
        self._weights.fill((model, weights), lambda: self._weights_field(model, weights, family))
        form_into(self._settings, self.draft, model, family.knobs if family else (), self.role)
        self.note.setText(family.caution if family else "")
        self.note.setVisible(bool(self.note.text()))

    def _others(self) -> QPushButton:
        """Lets another teacher stand beside this one; or lets this one go, which stands beside the first."""
        if self.role == "teacher":
            made = QPushButton(self.tr("Add a teacher"))
            made.setToolTip(
                self.tr("It stands beside this one for methods of several teachers; others hear the first.")
            )
            made.clicked.connect(self._add_teacher)
        else:
            made = QPushButton(self.tr("Remove this teacher"))
            made.clicked.connect(self._remove_teacher)
        self.column.addWidget(made)
        return made

    def _add_teacher(self) -> None:
        self.draft.edit(self.tr("Add a teacher"), edits.with_teacher(self.draft.document))

    def _remove_teacher(self) -> None:
        self.draft.edit(self.tr("Remove a teacher"), edits.without_teacher(self.draft.document, self.role))

    def _fill(self) -> None:
        for family in catalog_of(self.draft).of("models"):
            self.combo.addItem(family.title)
            _disable(self.combo, self.combo.count() - 1)
            self.combo.setItemData(self.combo.count() - 1, title_font(), Qt.ItemDataRole.FontRole)
            for model in family.facts["models"]:
                self.combo.addItem(model, model)
                if family.unavailable:
                    _disable(self.combo, self.combo.count() - 1, family.unavailable)

    def _weights_field(self, model: str, weights: str | None, family: Entry | None) -> WeightsField:
        published = str(family.facts.get("published") or "") if family is not None else ""
        field = WeightsField(model, weights, published=published)
        field.chosen.connect(lambda chosen: self.draft.set_value(f"{self.role}.weights", chosen))
        return field

    def _choose(self, index: int) -> None:
        model = self.combo.itemData(index)
        if model is None or model == self.draft.value(self.role)["model"]:
            return
        dataset = self.draft.value("data.dataset")
        found = teacher_for(dataset, model) if edits.is_teacher(self.role) else None
        fits = found is not None and found.model == model
        weights, knobs = (found.weights, found.knobs) if found and fits else (None, None)
        text = self.tr("Change {} to {}").format(
            role_words(edits.models_at(self.draft.document)[self.role]), model
        )
        self.draft.edit(text, edits.with_model(self.draft.document, self.role, model, weights, knobs))


class DatasetPane(Pane):
    """A dataset and its own settings."""

    def __init__(self, draft: Draft, parent: QWidget | None = None) -> None:
        super().__init__(draft, parent)
        self.combo = QuietCombo()
        self.combo.setAccessibleName(self.tr("Dataset"))
        for entry in catalog_of(draft).of("datasets"):
            away = "" if entry.facts.get("offline", True) else self.tr("  (download)")
            self.combo.addItem(entry.title + away, entry.name)
            if entry.unavailable:
                _disable(self.combo, self.combo.count() - 1, entry.unavailable)
        self.combo.activated.connect(self._choose)
        self.help = Caption()
        self.help.setWordWrap(True)
        self._settings = Slot()
        for part in (self.combo, self.help, self._settings):
            self.column.addWidget(part)
        self.refresh()

    def refresh(self) -> None:
        name = self.draft.value("data.dataset")
        self.combo.setCurrentIndex(self.combo.findData(name))
        entry = catalog_of(self.draft).entry("datasets", name)
        notes = [entry.help, entry.caution, *self.draft.facts.get("data", {}).get("notes", ())]
        self.help.setText("\n".join(note for note in notes if note))
        self.help.setVisible(bool(self.help.text()))
        form_into(self._settings, self.draft, name, entry.knobs, "data")

    def _choose(self, index: int) -> None:
        name = self.combo.itemData(index)
        if name != self.draft.value("data.dataset"):
            text = self.tr("Change dataset to {}").format(name)
            self.draft.edit(text, self._fitting(edits.with_dataset(self.draft.document, name), name))

    def _fitting(self, document: edits.Document, dataset: str) -> edits.Document:
        """With a bundled teacher for the new dataset, where the old one was bundled and there is one."""
        teacher = document["teacher"]
        if teacher is None or not str(teacher["weights"]).startswith("bundled:"):
            return document
        found = teacher_for(dataset, teacher["model"])
        if found is None:
            return document
        return edits.with_model(document, "teacher", found.model, found.weights, found.knobs)


class NamedPane(Pane):
    """One or more choices by name, each with its own settings: optimizer and schedule."""

    def __init__(
        self, draft: Draft, stage: str, parts: dict[str, str], parent: QWidget | None = None
    ) -> None:
        """parts: key in the recipe ("optimizer") to its words."""
        super().__init__(draft, parent)
        self.stage = stage
        self.combos: dict[str, QuietCombo] = {}
        self._slots: dict[str, Slot] = {}
        for part, words in parts.items():
            self._add(part, words)
        self.refresh()

    def refresh(self) -> None:
        for part, combo in self.combos.items():
            path = f"{self.stage}.{part}"
            name = self.draft.value(path)["name"]
            combo.setCurrentIndex(combo.findData(name))
            knobs = catalog_of(self.draft).knobs(f"{part}s", name)
            form_into(self._slots[part], self.draft, name, knobs, path)

    def _add(self, part: str, words: str) -> None:
        combo = QuietCombo()
        combo.setAccessibleName(words)
        for entry in catalog_of(self.draft).of(f"{part}s"):
            combo.addItem(entry.title, entry.name)
        combo.activated.connect(lambda index, part=part: self._choose(part, index))
        line = QHBoxLayout()
        line.setSpacing(GAP)
        line.addWidget(Elided(words), 1)
        combo.setFixedWidth(WIDTH + 12)
        line.addWidget(combo)
        self.combos[part], self._slots[part] = combo, Slot()
        self.column.addLayout(line)
        self.column.addWidget(self._slots[part])

    def _choose(self, part: str, index: int) -> None:
        name, path = self.combos[part].itemData(index), f"{self.stage}.{part}"
        if name != self.draft.value(path)["name"]:
            changed = edits.with_named(self.draft.document, path, name, catalog_of(self.draft))
            self.draft.edit(self.tr("Change {} to {}").format(part, name), changed)


class RivalsPane(Pane):
    """Students to race against: the plain one on or off, and those that the recipe brought."""

    def __init__(self, draft: Draft, stage: str, parent: QWidget | None = None) -> None:
        super().__init__(draft, parent)
        self.stage = stage
        self.switches: dict[str, Switch] = {}
        self._slot = Slot()
        self.column.addWidget(self._slot)
        about = Caption(self.tr("The same student, seed and batches, learning from the labels alone."))
        about.setWordWrap(True)
        self.column.addWidget(about)
        self.refresh()

    def refresh(self) -> None:
        here = edits.rivals_at(self.draft.document, self.stage)
        names = tuple(dict.fromkeys([edits.NO_KD, *here]))
        self._slot.fill(names, lambda: self._list(names))
        for name, switch in self.switches.items():
            switch.setChecked(name in here)

    def _list(self, names: tuple[str, ...]) -> QWidget:
        made = QWidget()
        column = QVBoxLayout(made)
        column.setContentsMargins(0, 0, 0, 0)
        self.switches = {}
        for name in names:
            switch = Switch()
            title = self.tr("Without distillation") if name == edits.NO_KD else name
            switch.setAccessibleName(title)
            switch.clicked.connect(lambda on, name=name: self._turn(name, on))
            label = Text(title)
            label.setFont(font("text"))
            line = QHBoxLayout()
            line.addWidget(label, 1)
            line.addWidget(switch)
            column.addLayout(line)
            self.switches[name] = switch
        return made

    def _turn(self, name: str, on: bool) -> None:
        document = self.draft.document
        if on:
            changed = edits.with_plain_rival(document, self.stage)
            self.draft.edit(self.tr("Race against {}").format(name), changed)
        else:
            changed = edits.without_rival(document, self.stage, name)
            self.draft.edit(self.tr("Do not race against {}").format(name), changed)


def _disable(combo: QuietCombo, index: int, why: str = "") -> None:
    """Show an item that cannot be chosen: a heading, or something unavailable and why."""
    item = combo.model().item(index)
    item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEnabled)
    item.setToolTip(why)
