"""The evaluation's pages on classes: what is confused, which classes fall behind, how sure the models are."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from kd_gui.plots.calibration import CalibrationPlot, Line
from kd_gui.plots.confusion import ConfusionPair
from kd_gui.plots.gap_bars import GapBars, sorted_gaps
from kd_gui.plots.matrix import Matrix
from kd_gui.state import evaluation_words as words
from kd_gui.state.evaluation import Shown
from kd_gui.state.measures import LARGEST, Confusion
from kd_gui.theme.widgets import GAP, Caption, Elided, Segmented, Wrapped, set_tone

MISTAKES = 3  # lines of what is mixed up most


class ConfusionPage(QWidget):
    """`picked(row, column)`: a cell was clicked."""

    picked = Signal(int, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown: Shown | None = None
        self.pair = ConfusionPair()
        self.worst = Caption()
        self.read_out = Elided()
        self.figures = Segmented({"count": self.tr("counts"), "percent": "%"})
        self.figures.setToolTip(self.tr("Images, or percent of the images of the true class"))
        self.figures.chosen.connect(lambda key: self.pair.set_percent(key == "percent"))
        self.pair.pointed.connect(self._read)
        self.pair.picked.connect(self.picked)
        last = QHBoxLayout()
        last.setSpacing(GAP)
        last.addWidget(self.read_out, 1)
        last.addWidget(self.figures)
        column = _column(self)
        column.addWidget(self.pair, 100)
        column.addLayout(last)
        column.addWidget(self.worst)
        column.addStretch(1)

    def show_(self, shown: Shown) -> None:
        self._shown = shown
        role = shown.role
        title = self.tr("{who} · {top1}")
        matrices = [
            Matrix(
                title.format(who=words.name(shown), top1=words.share(shown.student.top1)),
                role,
                shown.student.confusion,
            )
        ]
        if shown.teacher is not None:
            taught = title.format(who=self.tr("teacher"), top1=words.share(shown.teacher.top1))
            matrices.insert(0, Matrix(taught, "teacher", shown.teacher.confusion))
        self.pair.show_matrices(matrices, shown.classes)
        self._fit()
        lines = words.worst(shown.classes, self._both(shown), MISTAKES)
        head = self.tr("What the {who} mixes up most").format(who=words.name(shown))
        self.worst.setText("\n".join([head, *lines]) if lines else "")
        self._read(*self.pair.cell)

    def _both(self, shown: Shown) -> list[tuple[str, Confusion | None]]:
        both = [(words.name(shown), shown.student.confusion)]
        if shown.teacher is not None:
            both.insert(0, (self.tr("teacher"), shown.teacher.confusion))
        return both

    def _fit(self) -> None:
        """No more height than makes the matrices larger: what is written stands right below them."""
        self.pair.setMaximumHeight(self.pair.natural_height(self.width()))

    def _read(self, row: int, column: int) -> None:
        shown = self._shown
        if shown is None:
            return
        if shown.student.confusion is None:
            most = self.tr("No matrices for more than {count} classes; Classes has them all.")
            said = most.format(count=LARGEST) if len(shown.classes) > LARGEST else self.tr("Not kept.")
        elif row < 0:
            said = self.tr("rows: truth · columns: answer")
        else:
            said = words.cell(shown.classes, row, column, self._both(shown))
        self.read_out.setText(said)
        self.pair.setAccessibleDescription(said)
        set_tone(self.read_out, "muted" if row < 0 else "")
        self.read_out.update()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()


class ClassesPage(QWidget):
    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.bars = GapBars()
        self.legend = Wrapped()
        self.coarse = Caption("", "faint")
        self.none = Caption()
        self.none.setAlignment(Qt.AlignmentFlag.AlignCenter)
        scroll = QScrollArea(widgetResizable=True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(self.bars)
        scroll.viewport().setAutoFillBackground(False)
        self.bars.setAutoFillBackground(False)
        column = _column(self)
        column.addWidget(self.legend)
        column.addWidget(scroll, 1)
        column.addWidget(self.none)
        column.addWidget(self.coarse)

    def show_(self, shown: Shown) -> None:
        gaps, student, teacher = shown.gaps, shown.student, shown.teacher
        if gaps is None or teacher is None or student.recall is None or teacher.recall is None:
            self.bars.show_gaps(())
            self.none.setText(self.tr("There is no teacher to compare with."))
            self.legend.set_text("")
            self.coarse.setText("")
            self.none.show()
            return
        self.none.hide()
        support = student.support if student.support is not None else teacher.support
        assert support is not None
        found = sorted_gaps(shown.classes, gaps, teacher.recall, student.recall, support)
        self.bars.show_gaps(found)
        behind = sum(one.gap < 0 for one in found)
        line = self.tr(
            "Recall of the {who} less the teacher's, in points · behind in {behind} of {count} classes"
        )
        self.legend.set_text(line.format(who=words.name(shown), behind=behind, count=len(found)))
        self.coarse.setText(words.one_image(support))


class CalibrationPage(QWidget):
    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plot = CalibrationPlot()
        self.legend = Wrapped(
            self.tr("How often a model is right, in %, when it is so and so sure · hollow: few images")
        )
        self.teacher, self.student = Wrapped("", "teacher"), Wrapped("", "student")
        column = _column(self)
        column.addWidget(self.legend)
        column.addWidget(self.plot, 1)
        column.addWidget(self.teacher)
        column.addWidget(self.student)

    def show_(self, shown: Shown) -> None:
        lines = []
        if shown.teacher is not None and shown.teacher.bins is not None:
            lines.append(Line(self.tr("teacher"), "teacher", shown.teacher.bins))
        if shown.student.bins is not None:
            lines.append(Line(words.name(shown), shown.role, shown.student.bins))
        self.plot.show_lines(lines)
        self.teacher.setVisible(shown.teacher is not None)
        if shown.teacher is not None:
            self.teacher.set_text("■  " + words.sureness(self.tr("teacher"), shown.teacher))
        self.student.set_text("●  " + words.sureness(words.name(shown), shown.student))
        set_tone(self.student, "student" if shown.ours else "muted")


def _column(widget: QWidget) -> QVBoxLayout:
    column = QVBoxLayout(widget)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(GAP)
    return column
