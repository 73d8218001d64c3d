"""What the student learns by: the methods of a stage, each with its settings, and a pop-up to add one of
many."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from kd_engine.catalog import Entry
from kd_engine.errors import Problem
from kd_gui.forms.method_menu import MethodMenu
from kd_gui.forms.pane import Pane, Slot, form_into
from kd_gui.state import edits
from kd_gui.state.draft import Draft
from kd_gui.theme.widgets import GAP, Caption, Elided, IconButton, Rule, in_lines


class MethodRow(QWidget):
    """One method of a stage: its title, what to beware of, what is wrong with it, its settings."""

    def __init__(self, draft: Draft, path: str, entry: Entry, parent: QWidget | None = None) -> None:
        """path: where it stands, as in "stages.0.methods.1"."""
        super().__init__(parent)
        self.draft, self.path, self.entry = draft, path, entry
        self.title = Elided(entry.title)
        self.setToolTip(in_lines("\n".join(t for t in (entry.help, entry.source) if t)))
        self.remove = IconButton("close", self.tr("Remove {}").format(entry.title))
        self.remove.clicked.connect(self._take_away)
        self.caution = Caption(entry.caution, "warn")
        self.wrong = Caption(entry.unavailable, "bad")
        self._settings = Slot()
        head = QHBoxLayout()
        head.setSpacing(GAP)
        head.addWidget(self.title, 1)
        head.addWidget(self.remove)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        column.addLayout(head)
        for label in (self.wrong, self.caution):
            label.setWordWrap(True)
            label.setVisible(bool(label.text()))
            column.addWidget(label)
        column.addWidget(self._settings)
        self.refresh()

    def refresh(self) -> None:
        form_into(self._settings, self.draft, self.entry.name, self.entry.knobs, self.path)

    def show_problems(self, problems: Iterable[Problem]) -> None:
        """Why it cannot work here, beside what is wrong with its settings."""
        told = [problem.message for problem in problems]
        self.wrong.setText("\n".join([self.entry.unavailable] * bool(self.entry.unavailable) + told))
        self.wrong.setVisible(bool(self.wrong.text()))

    def _take_away(self) -> None:
        stage, _, index = self.path.rpartition(".methods.")
        changed = edits.without_method(self.draft.document, stage, int(index))
        self.draft.edit(self.tr("Remove {}").format(self.entry.title), changed)


class MethodsPane(Pane):
    """The methods of a stage, and the button that adds one."""

    def __init__(self, draft: Draft, stage: str, parent: QWidget | None = None) -> None:
        super().__init__(draft, parent)
        self.stage = stage
        self.rows: list[MethodRow] = []
        self.menu: MethodMenu | None = None
        self._slot = Slot()
        self.none = Caption(self.tr("No method: the student learns from the labels alone."))
        self.none.setWordWrap(True)
        self.adding = QPushButton(self.tr("Add a method…"))
        self.adding.clicked.connect(self.offer)
        for part in (self._slot, self.none, self.adding):
            self.column.addWidget(part)
        self.refresh()

    def refresh(self) -> None:
        chosen = tuple(edits.methods_at(self.draft.document, self.stage))
        self.none.setVisible(not chosen)
        if not chosen:
            self.rows = []
            self._slot.clear()
            return
        self._slot.fill(chosen, lambda: self._list(chosen))
        for row in self.rows:
            row.refresh()

    def offer(self) -> None:
        """Open the pop-up with all methods."""
        self.menu = MethodMenu(self.draft, self.stage, self)
        self.menu.chosen.connect(self.add)
        self.menu.open_beside(self.adding)

    def add(self, name: str) -> None:
        """One method more, and the stage before this one that it may want."""
        catalog = self.draft.catalog
        assert catalog is not None
        changed = edits.with_method(self.draft.document, self.stage, name, catalog)
        self.draft.edit(self.tr("Add {}").format(catalog.entry("methods", name).title), changed)

    def row(self, name: str) -> MethodRow:
        """The first row of a method; StopIteration when the stage has none."""
        return next(row for row in self.rows if row.entry.name == name)

    def show_problems(self, problems: Iterable[Problem]) -> None:
        left = list(problems)
        for row in self.rows:
            mine = [p for p in left if p.path in (row.path, f"{row.path}.method")]
            row.show_problems(mine)
            left = [p for p in left if p not in mine]
        super().show_problems(left)

    def _list(self, chosen: tuple[str, ...]) -> QWidget:
        catalog = self.draft.catalog
        assert catalog is not None
        made = QWidget()
        column = QVBoxLayout(made)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GAP)
        self.rows = []
        for i, name in enumerate(chosen):
            if i:
                column.addWidget(Rule())
            row = MethodRow(self.draft, f"{self.stage}.methods.{i}", catalog.entry("methods", name))
            self.rows.append(row)
            column.addWidget(row)
        return made
