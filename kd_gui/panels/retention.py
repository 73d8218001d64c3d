"""What the student keeps of its teacher: the gauge, the figures beside it, and accuracy on spoilt images."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from kd_gui.plots.gauge import Gauge
from kd_gui.state import evaluation_words as words
from kd_gui.state import measures, run_figures, wording
from kd_gui.state.evaluation import Shown
from kd_gui.state.measures import CORRUPTED, CORRUPTIONS, Figures
from kd_gui.theme.widgets import GAP, SPACE, Caption, Elided, PillButton, Text, Title, Tone, Wrapped

LEAST = 280
SMALL, LARGE, TALL = 190, 240, 330  # the gauge's width, and the height from which the larger one fits
NARROW = 440  # below it the gauge stands over its figures


class RetentionPage(QWidget):
    """`robustness_asked()`: its button was pressed."""

    robustness_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.gauge = Gauge()
        self.facts = _Table(self.tr("measure"))
        self.robust = _Table(self.tr("accuracy on"))
        self.robust_title = Title(self.tr("Accuracy on spoilt images, %"))
        self.robust_words = Wrapped(
            self.tr("Noise, blur, lost contrast and JPEG on the test images: how much accuracy is left?")
        )
        self.measure = PillButton(self.tr("Measure robustness"))
        self.measure.clicked.connect(lambda _checked=False: self.robustness_asked.emit())
        self._top = row = QHBoxLayout()
        row.setSpacing(2 * SPACE)
        row.addWidget(self.gauge, 0, Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop)
        row.addWidget(self.facts, 1, Qt.AlignmentFlag.AlignVCenter)
        ask = QHBoxLayout()
        ask.setSpacing(GAP)
        ask.addWidget(self.robust_words, 1)
        ask.addWidget(self.measure, 0, Qt.AlignmentFlag.AlignVCenter)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GAP)
        column.addLayout(row)
        column.addSpacing(SPACE)
        column.addWidget(self.robust_title)
        column.addLayout(ask)
        column.addWidget(self.robust)
        column.addStretch(1)
        self.setMinimumWidth(LEAST)

    def show_(self, shown: Shown, asking: str, may_ask: bool) -> None:
        student, teacher = shown.student, shown.teacher
        rival = next(iter(shown.rivals), None)
        level = shown.rivals[rival] if rival is not None else None
        taught = teacher.top1 if teacher is not None else None
        taught_bytes = teacher.bytes if teacher is not None else None
        taught_ms = teacher.latency_ms if teacher is not None else None
        self.gauge.show_share(
            shown.retention,
            self.tr("of the teacher's accuracy")
            if teacher is not None
            else self.tr("no teacher in this run"),
            level / taught if level is not None and taught and shown.ours else None,
            rival or "",
        )
        rows = [
            (self.tr("accuracy"), words.share(taught), words.share(student.top1), ""),
            (self.tr("same answer"), "", words.share(student.agreement), ""),
            (self.tr("KL, nats"), "", "–" if student.kl is None else f"{student.kl:.3f}", ""),
        ]
        if shown.part == "test":
            rows += [
                _compared(self.tr("size"), _size, taught_bytes, student.bytes),
                _compared(self.tr("one image"), _ms, taught_ms, student.latency_ms),
            ]
        closed = measures.gap_closed(student.top1, level, taught)
        if closed is not None and shown.ours:
            rows.append((self.tr("gap closed"), "", wording.percent(closed).replace("-", "−"), ""))
            self.facts.setToolTip(
                self.tr("Gap closed: how far from {rival}'s accuracy to the teacher's").format(rival=rival)
            )
        heads: list[tuple[str, Tone]] = [(self.tr("teacher"), "teacher"), (words.name(shown), _tone(shown))]
        self.facts.show_rows(heads, rows)
        self._show_robust(shown, asking, may_ask)

    def _show_robust(self, shown: Shown, asking: str, may_ask: bool) -> None:
        there, test = bool(shown.student.robust), shown.part == "test"
        self.robust.setVisible(there)
        ours = shown.ours
        for widget in (self.robust_words, self.measure):
            widget.setVisible(test and not there and ours)
        self.robust_title.setVisible(test and (there or ours))
        self.measure.setText(self.tr("Measuring…") if asking == "robust" else self.tr("Measure robustness"))
        self.measure.setEnabled(may_ask and not asking)
        if there:
            titles = {
                "noise": self.tr("noise"),
                "blur": self.tr("blur"),
                "contrast": self.tr("contrast"),
                "jpeg": "JPEG",
                CORRUPTED: self.tr("mean"),
            }
            heads = [self.tr("as it is"), *(titles[name] for name in (*CORRUPTIONS, CORRUPTED))]
            rows: list[tuple[str, Tone, list[str]]] = [
                (words.name(shown), _tone(shown), _accuracies(shown.student))
            ]
            if shown.teacher is not None:
                rows.insert(0, (self.tr("teacher"), "teacher", _accuracies(shown.teacher)))
            self.robust.show_across(heads, rows)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        narrow = self.width() < NARROW
        directions = QBoxLayout.Direction
        self._top.setDirection(directions.TopToBottom if narrow else directions.LeftToRight)
        self.gauge.set_width(SMALL if narrow or self.height() < TALL else LARGE)


class _Table(QWidget):
    """A few figures in lines and columns, right-aligned; made anew when they change."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(SPACE)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnStretch(0, 1)
        self._said: object = None

    def show_rows(self, heads: list[tuple[str, Tone]], rows: list[tuple[str, str, str, str]]) -> None:
        """rows: what it is, two figures, and how many times the one is the other."""
        if self._is_new((heads, rows)):
            for i, (text, tone) in enumerate(heads):
                self._put(Caption(text, tone), 0, i + 1)
            for line, (what, *values, ratio) in enumerate(rows, start=1):
                self._grid.addWidget(Elided(what, "muted"), line, 0)
                for i, value in enumerate(values):
                    self._put(Text(value), line, i + 1)
                self._put(Text(ratio, "good"), line, len(values) + 1)

    def show_across(self, heads: list[str], rows: list[tuple[str, Tone, list[str]]]) -> None:
        """A line for each model."""
        if self._is_new((heads, rows)):
            for i, text in enumerate(heads):
                self._put(Caption(text), 0, i + 1)
            for line, (who, tone, values) in enumerate(rows, start=1):
                self._grid.addWidget(Caption(who, tone), line, 0)
                for i, value in enumerate(values):
                    self._put(Text(value), line, i + 1)

    def texts(self) -> list[str]:
        """Everything that is written."""
        return [label.text() for label in self.findChildren(QLabel) if label.text()]

    def _put(self, label: QLabel, line: int, place: int) -> None:
        self._grid.addWidget(label, line, place, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)

    def _is_new(self, said: object) -> bool:
        """Whether that is not what stands there; if so, nothing stands there any more."""
        if said == self._said:
            return False
        self._said = said
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.setParent(None)
                widget.deleteLater()
        return True


def _compared(
    what: str, in_words: Callable[[float | None], str], teacher: float | None, student: float | None
) -> tuple[str, str, str, str]:
    ratio = words.times(teacher, student)
    return what, in_words(teacher), in_words(student), "" if ratio == "–" else ratio


def _accuracies(figures: Figures) -> list[str]:
    """On the images as they are, then spoilt, in percent."""
    found = [figures.top1, *(figures.robust.get(name) for name in (*CORRUPTIONS, CORRUPTED))]
    return ["–" if one is None else f"{100 * one:.1f}" for one in found]


def _tone(shown: Shown) -> Tone:
    return "student" if shown.ours else "muted"


def _size(count: float | None) -> str:
    return "–" if count is None else run_figures.size(count)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g} ms" if value < 10 else f"{value:.0f} ms"
