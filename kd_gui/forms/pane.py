"""What stands inside a section or a card: it shows a part of the draft, and finds the problems that concern
it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from PySide6.QtWidgets import QVBoxLayout, QWidget

from kd_engine.errors import Problem
from kd_engine.knobs import Knob
from kd_gui.forms.form import Form
from kd_gui.state.draft import Draft
from kd_gui.theme.widgets import GAP, Caption


class Slot(QWidget):
    """Room for one widget that is made anew when its key changes."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.key: Any = None
        self.content: QWidget | None = None
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self.hide()

    def fill(self, key: Any, make: Callable[[], QWidget]) -> QWidget:
        """The widget for `key`: the one that is here, or a new one."""
        if self.content is None or self.key != key:
            self.clear()
            self.key, self.content = key, make()
            self._column.addWidget(self.content)
            self.show()
        return self.content

    def clear(self) -> None:
        if self.content is not None:
            self._column.removeWidget(self.content)
            self.content.hide()
            self.content.deleteLater()  # later: it may be the sender of the signal that led here
            self.content = None
            self.hide()


class Pane(QWidget):
    """A column of controls over the draft."""

    def __init__(self, draft: Draft, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.draft = draft
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(GAP)
        self.rest = Caption(tone="bad")  # problems that belong here but to no single control
        self.rest.setWordWrap(True)
        self.rest.hide()
        self.column.addWidget(self.rest)

    def refresh(self) -> None:
        """Show the draft as it is now."""
        raise NotImplementedError

    def forms(self) -> list[Form]:
        """The forms that are here now."""
        return self.findChildren(Form)

    def show_problems(self, problems: Iterable[Problem]) -> None:
        """Each at its control; those without one in a line on top."""
        left = list(problems)
        for form in self.forms():
            left = form.show_problems(left)
        self.rest.setText("\n".join(problem.message for problem in left))
        self.rest.setVisible(bool(left))


class KnobsPane(Pane):
    """Settings of one or more places in the recipe, and nothing else."""

    def __init__(
        self, draft: Draft, places: Mapping[str, Sequence[Knob]], parent: QWidget | None = None
    ) -> None:
        """places: the knobs to show, by where they stand in the recipe."""
        super().__init__(draft, parent)
        for path, knobs in places.items():
            self.column.addWidget(Form(knobs, values_at(draft, path), path).bind(draft))

    def refresh(self) -> None:
        for form in self.forms():
            form.set_values(values_at(self.draft, form.path))


def values_at(draft: Draft, path: str) -> Mapping[str, Any]:
    """The settings at a place of the draft; "" is its top."""
    found: Mapping[str, Any] = draft.value(path) if path else draft.document
    return found


def form_into(slot: Slot, draft: Draft, key: Any, knobs: Sequence[Knob], path: str) -> None:
    """A form for `knobs` in `slot`, made anew when `key` or the path changed, with the draft's values."""
    if not knobs:
        slot.clear()
        return
    form = slot.fill((key, path), lambda: Form(knobs, {}, path).bind(draft))
    assert isinstance(form, Form)
    form.set_values(values_at(draft, path))
