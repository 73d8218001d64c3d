"""The row that starts, pauses and stops a run, names the experiment, and says how far it has come."""

from __future__ import annotations

from PySide6.QtCore import QEasingCurve, QRectF, QSize, QVariantAnimation, Signal
from PySide6.QtGui import QAction, QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QMenu,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from kd_gui.actions import Actions
from kd_gui.state import phase as phases
from kd_gui.state import wording
from kd_gui.state.phase import Phase, primary
from kd_gui.state.studio import Studio
from kd_gui.theme import font, icon, theme
from kd_gui.theme.widgets import GAP, SPACE, Elided, Text, with_role

PULSE_MS = 900
ICONS = {"distill": "play", "pause": "pause", "go_on": "play"}


class PrimaryButton(QPushButton):
    """The one large button. `pulse` draws a ring around it once, as when the engine has become ready."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        with_role(self, "primary")
        self.setMinimumWidth(124)  # the widest of its words
        self._ring = 0.0
        self._pulse = QVariantAnimation(self, duration=PULSE_MS, startValue=1.0, endValue=0.0)
        self._pulse.setEasingCurve(QEasingCurve.Type.OutCubic)
        self._pulse.valueChanged.connect(self._set_ring)

    def pulse(self) -> None:
        self._pulse.start()

    @property
    def pulsing(self) -> bool:
        return self._pulse.state() == QVariantAnimation.State.Running

    def _set_ring(self, value: float) -> None:
        self._ring = value
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if not self._ring:
            return
        color = QColor(theme().tokens.on_student)
        color.setAlphaF(0.85 * self._ring)
        inset = 2.5 + 3.0 * (1.0 - self._ring)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(color, 1.5))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(inset, inset, -inset, -inset), 4, 4)
        painter.end()


class TopBar(QFrame):
    """Buttons stand for actions; the rest is read from the studio four times a second, or when its state
    changes."""

    preset_chosen = Signal(str)

    def __init__(self, studio: Studio, actions: Actions, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "bar")
        self.setFixedHeight(48)
        self._studio = studio
        self._actions = actions
        self.primary = PrimaryButton(self)
        self.primary.clicked.connect(self._press)
        self.step = self._menu_button(self.tr("Step"), ("step_batch", "step_epoch"))
        self.stop = self._menu_button(self.tr("Stop"), ("stop_and_keep", "discard"))
        self.preset = self._menu_button("", ())
        self.preset.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self.preset.setMinimumWidth(120)
        self.back = _button(actions["back"], self)
        self.export = _button(actions["export"], self)
        self.export.setText(self.tr("Export…"))
        self.theme = QPushButton(self, objectName="theme", toolTip=actions["theme_toggle"].toolTip())
        self.theme.setAccessibleName(self.tr("Light or dark"))
        self.theme.clicked.connect(actions["theme_toggle"].trigger)
        self.theme.setFixedWidth(34)
        with_role(self.theme, "quiet")
        self._progress = self._make_progress()
        self._lay_out()
        studio.state_changed.connect(self.refresh)
        studio.text_tick.connect(self.refresh_progress)
        studio.feed.run_changed.connect(self._started_or_ended)
        studio.draft.changed.connect(self._name_preset)
        theme().changed.connect(self._tint)
        self._said = ""
        self._name_preset()
        self._tint()
        self.refresh()

    def refresh(self) -> None:
        """Follow the phase."""
        studio, what = self._studio, primary(self._studio.phase)
        words = {"distill": self.tr("Distill"), "pause": self.tr("Pause"), "go_on": self.tr("Continue")}
        self.primary.setText(words[what])
        self.primary.setEnabled(self._actions[what].isEnabled())
        self.primary.setToolTip(self._actions[what].toolTip())
        self.primary.setIcon(icon(ICONS[what], self._primary_ink()))
        self.step.setEnabled(studio.can("step_batch"))
        self.stop.setEnabled(studio.can("discard"))
        self.preset.setEnabled(studio.can("preset"))
        self.export.setEnabled(studio.can("export"))
        self.back.setVisible(bool(studio.show.stored))
        self.back.setText(self.tr("Back to live") if studio.live else self.tr("Back"))
        self.refresh_progress()

    def refresh_progress(self) -> None:
        """What is going on, in words and as a bar; nothing while nothing is."""
        studio, feed = self._studio, self._studio.feed
        left, right, share = self._words()
        self.where.setText(left)
        self.left.setText(right)
        self.bar.setVisible(share is not None)
        self.bar.setValue(round(1000 * (share or 0.0)))
        self._progress.setVisible(bool(left))
        self._said = feed.status + studio.phase.name

    def _words(self) -> tuple[str, str, float | None]:
        """(where the run is, what is left, share done)."""
        studio, feed, now = self._studio, self._studio.feed, self._studio.feed.progress
        epoch = self.tr("epoch {epoch} of {epochs}").format(epoch=now.epoch, epochs=now.epochs)
        if studio.show.stored:
            info = studio.runs.find(studio.show.stored)
            title = info.title if info is not None else studio.show.stored
            return self.tr("looking at {run}").format(run=title), "", None
        if studio.phase is Phase.PREPARING:
            return wording.preparing(feed.preparing), "", 0.0
        if studio.phase is Phase.STOPPING:
            return self.tr("stopping"), "", now.fraction
        if studio.phase is Phase.PAUSED:
            return epoch, self.tr("paused"), now.fraction
        if studio.phase is Phase.RUNNING:
            if feed.preparing is not None:
                return wording.preparing(feed.preparing), "", now.fraction
            return epoch, wording.time_left(now.eta) if now.eta is not None else "", now.fraction
        if studio.phase in phases.ENDED and studio.live:
            ended = {
                Phase.DONE: self.tr("done"),
                Phase.STOPPED: self.tr("stopped"),
                Phase.FAILED: self.tr("failed"),
            }
            took = self.tr("in {time}").format(time=wording.duration(feed.seconds)) if feed.seconds else ""
            return f"{ended[studio.phase]} · {epoch}", took, now.fraction
        return "", "", None

    def _started_or_ended(self) -> None:
        """Between two ticks, only a turn of the run is worth a redraw."""
        if self._said != self._studio.feed.status + self._studio.phase.name:
            self.refresh_progress()

    def _press(self) -> None:
        self.window().setFocus()  # or Qt would hand the keys to the next button while this one is disabled
        self._actions[primary(self._studio.phase)].trigger()

    def _name_preset(self, _path: str = "") -> None:
        draft = self._studio.draft
        title = draft.title or self.tr("none")
        changed = " •" if draft.modified else ""
        self.preset.setText(self.tr("Preset: {title}").format(title=title) + changed)
        self.preset.setToolTip(self.tr("Changed since it was loaded") if changed else "")
        menu = self.preset.menu()
        if not menu.actions():
            menu.setToolTipsVisible(True)
            for name, words in draft.presets().items():
                action = menu.addAction(words)
                action.setToolTip(draft.note(name))
                action.triggered.connect(lambda _checked=False, name=name: self.preset_chosen.emit(name))

    def _primary_ink(self) -> str:
        tokens = theme().tokens
        return tokens.on_student if self.primary.isEnabled() else tokens.faint

    def _tint(self) -> None:
        self.theme.setIcon(icon("sun" if theme().tokens.dark else "moon"))
        self.primary.setIcon(icon(ICONS[primary(self._studio.phase)], self._primary_ink()))

    def _menu_button(self, text: str, names: tuple[str, ...]) -> QPushButton:
        button = QPushButton(text, self)
        button.setProperty("menu", "true")
        menu = QMenu(button)
        for name in names:
            menu.addAction(self._actions[name])
        button.setMenu(menu)
        return button

    def _make_progress(self) -> QWidget:
        block = QWidget(self)
        block.setMinimumWidth(120)
        block.setMaximumWidth(240)
        block.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.where = Elided("", parent=block)
        self.where.setFont(font("text"))
        self.left = Text("", "muted", block)
        self.bar = QProgressBar(block, maximum=1000, textVisible=False)
        self.bar.setAccessibleName(self.tr("Progress of the run"))
        words = QHBoxLayout()
        words.addWidget(self.where, 1)
        words.addWidget(self.left)
        column = QVBoxLayout(block)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        column.addLayout(words)
        column.addWidget(self.bar)
        return block

    def _lay_out(self) -> None:
        row = QHBoxLayout(self)
        row.setContentsMargins(16, 0, 16, 0)
        row.setSpacing(GAP)
        for widget in (self.primary, self.step, self.stop):
            row.addWidget(widget)
        row.addSpacing(2 * SPACE - GAP)
        row.addWidget(self.preset)
        row.addStretch(1)
        row.addWidget(self._progress, 2)
        row.addWidget(self.back)
        row.addSpacing(SPACE)
        row.addWidget(self.export)
        row.addWidget(self.theme)


def _button(action: QAction, parent: QWidget) -> QPushButton:
    """A button that stands for an action; its words without the mnemonic."""
    button = QPushButton(action.text().replace("&", ""), parent, toolTip=action.toolTip())
    button.setIconSize(QSize(16, 16))
    button.clicked.connect(action.trigger)
    return button
