"""The last line: where it computes and how fast, what is saved, and how to see all keys."""

from __future__ import annotations

from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QWidget

from kd_gui.actions import Actions
from kd_gui.state import wording
from kd_gui.state.phase import LIVE, Phase
from kd_gui.state.studio import Studio
from kd_gui.theme.widgets import Text, with_role


class StatusLine(QFrame):
    """Read anew four times a second."""

    def __init__(self, studio: Studio, actions: Actions, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "bar")
        self.setFixedHeight(32)
        self._studio = studio
        self.machine = Text("", "muted", self)
        self.saved = Text("", "muted", self)
        self.kept = Text("", "muted", self)
        self.keys = QPushButton(self.tr("? keys"), self, toolTip=actions["keys"].toolTip())
        self.keys.clicked.connect(actions["keys"].trigger)
        with_role(self.keys, "quiet")
        row = QHBoxLayout(self)
        row.setContentsMargins(16, 0, 8, 0)
        row.setSpacing(20)
        row.addWidget(self.machine)
        row.addWidget(self.saved)
        row.addWidget(self.kept)
        row.addStretch(1)
        row.addWidget(self.keys)
        studio.text_tick.connect(self.refresh)
        studio.state_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        self.machine.setText(" · ".join(self._machine()))
        saved = self._studio.feed.saved_at
        self.saved.setText("" if saved is None else self.tr("saved at epoch {epoch}").format(epoch=saved))
        cache = next((one for one in reversed(self._studio.feed.notices) if one.code == "cache"), None)
        self.kept.setText("" if cache is None else wording.kept(cache))
        self.kept.setToolTip("" if cache is None else cache.message)

    def _machine(self) -> list[str]:
        studio, feed = self._studio, self._studio.feed
        if studio.phase is Phase.BOOT:
            return [self.tr("the engine is loading; the temperature lens works already")]
        said = [feed.device] if feed.device else []
        pace = feed.steps_per_s
        if studio.phase in LIVE and not studio.show.stored and pace:
            said.append(self.tr("{pace} steps/s").format(pace=f"{pace:.0f}" if pace >= 10 else f"{pace:.1f}"))
        return said or [self.tr("ready")]
