"""Every action of the window, declared once: words, shortcut, help. What is enabled follows the phase table
alone."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QCoreApplication, QObject, Qt
from PySide6.QtGui import QAction, QActionGroup, QKeySequence

from kd_gui.state import phase as phases
from kd_gui.state.studio import Studio


def _(text: str) -> str:
    """Marks a text for translation where it is declared; `Actions` translates it."""
    return text


@dataclass(frozen=True)
class Spec:
    """keys: shortcuts, the first is the one that is shown. group: its heading on the sheet of keys."""

    name: str
    text: str
    keys: tuple[str, ...] = ()
    help: str = ""
    group: str = ""
    checkable: bool = False


RUN, FILE, EDIT, VIEW, HELP = _("Run"), _("File"), _("Edit"), _("View"), _("Help")
SPECS = (
    Spec("distill", _("&Distill"), ("Ctrl+R",), _("Start a run of the experiment as it stands (Enter)"), RUN),
    Spec("pause", _("&Pause"), ("Space",), _("Stand still after this step"), RUN),
    Spec("go_on", _("&Continue"), ("Space",), _("Go on after a pause"), RUN),
    Spec("step_batch", _("Step one &batch"), ("F10",), _("Make one optimizer step, then pause"), RUN),
    Spec("step_epoch", _("Step one &epoch"), ("Ctrl+F10",), _("Go on to the epoch's end, then pause"), RUN),
    Spec("stop_and_keep", _("&Stop and keep"), ("Ctrl+.",), _("Save a checkpoint and end the run"), RUN),
    Spec("discard", _("Discard the &run…"), ("Ctrl+Shift+.",), _("End the run and remove its folder"), RUN),
    Spec("back", _("&Back to the live run"), ("Esc",), _("Stop looking at the stored run"), RUN),
    Spec("open_recipe", _("&Open recipe…"), ("Ctrl+O",), _("Load an experiment from a file"), FILE),
    Spec("open_runs", _("Open runs &folder…"), ("Ctrl+Shift+O",), _("Keep runs in another folder"), FILE),
    Spec("cache", _("&Teacher cache…"), (), _("What is kept of teachers' answers"), FILE),
    Spec("save_recipe", _("&Save recipe as…"), ("Ctrl+S",), _("Write it to a file that kd can run"), FILE),
    Spec("export", _("&Export student…"), ("Ctrl+E",), _("Write the trained student to a file"), FILE),
    Spec("quit", _("&Quit"), ("Ctrl+Q",), "", FILE),
    Spec("undo", _("&Undo"), ("Ctrl+Z",), "", EDIT),
    Spec("redo", _("&Redo"), ("Ctrl+Shift+Z", "Ctrl+Y"), "", EDIT),
    Spec("reset", _("R&eset the experiment"), ("Ctrl+Shift+R",), _("Back to how it was loaded"), EDIT),
    Spec("evaluation", _("E&valuation"), ("Ctrl+Shift+E",), _("Class by class, and how sure"), VIEW, True),
    Spec("theme_toggle", _("Light or dark"), ("Ctrl+T",), _("Switch between light and dark"), VIEW),
    Spec("theme_system", _("As the &system"), (), "", VIEW, True),
    Spec("theme_light", _("&Light"), (), "", VIEW, True),
    Spec("theme_dark", _("&Dark"), (), "", VIEW, True),
    Spec("log", _("&Log"), ("Ctrl+L",), _("Show what happened behind the scenes"), VIEW, True),
    Spec("keys", _("&Keys"), ("?", "F1"), _("Show all keys"), HELP),
    Spec("about", _("&About"), (), "", HELP),
)  # fmt: skip


class Actions(QObject):
    """The QActions by name; `actions["pause"]`. They follow the studio; what they do, the window connects."""

    def __init__(self, studio: Studio, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._studio = studio
        self._actions = {spec.name: self._make(spec) for spec in SPECS}
        themes = QActionGroup(self)
        for name in ("theme_system", "theme_light", "theme_dark"):
            themes.addAction(self[name])
        studio.state_changed.connect(self.refresh)
        self.refresh()

    def __getitem__(self, name: str) -> QAction:
        return self._actions[name]

    def all(self) -> list[QAction]:
        return list(self._actions.values())

    def refresh(self) -> None:
        """Enable what the phase and the facts allow."""
        phase, facts = self._studio.phase, self._studio.facts()
        for name, action in self._actions.items():
            action.setEnabled(phases.enabled(name, phase, facts))
        live = bool(self._studio.live)
        self["back"].setText(self.tr("&Back to the live run") if live else self.tr("&Back to the experiment"))

    def _make(self, spec: Spec) -> QAction:
        action = QAction(translated(spec.text), self, checkable=spec.checkable, objectName=spec.name)
        action.setShortcuts([QKeySequence(key) for key in spec.keys])
        action.setShortcutContext(Qt.ShortcutContext.WindowShortcut)
        plain = translated(spec.text).replace("&", "")
        shown = (
            f" ({action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)})" if spec.keys else ""
        )
        action.setToolTip((translated(spec.help) if spec.help else plain) + shown)
        return action


def translated(text: str) -> str:
    return QCoreApplication.translate("actions", text)
