"""The temperature lens: what teacher and student say about the chosen picture, softened at T."""

from __future__ import annotations

from PySide6.QtCore import QCoreApplication, Qt
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from kd_gui.plots.bars import ClassBars
from kd_gui.state.answers import SoftTargets
from kd_gui.state.samples import Samples
from kd_gui.theme.widgets import Caption, Card, Rule, Text

TOP = 5
_CERTAIN = 0.9  # the first class's probability from which the others are hardly heard
_EVEN = 1.6, 0.07  # all count as alike: at most so many times its even share, and so far from it to certainty


class SoftTargetsPanel(Card):
    """Both answers to one picture as bars, and what the temperature makes of them. It has no slider of
    its own: there is one T, and it stands among the live settings."""

    def __init__(self, samples: Samples, parent: QWidget | None = None) -> None:
        super().__init__("", parent)
        self._samples = samples
        self.entropy = Caption()
        self.ratio = Caption()
        self.divergence = Caption()
        self.scaled = Caption()
        self.teacher = ClassBars("teacher", TOP)
        self.student = ClassBars("student", TOP)
        self.explanation = Text("", "muted")
        self._lay_out()
        samples.loaded.connect(self._load)
        for signal in (samples.looks_changed, samples.temperature_changed):
            signal.connect(self.refresh)
        self._load()

    def refresh(self) -> None:
        """Draw what the samples say now."""
        soft, pictures = self._samples.soft_targets(TOP), self._samples.pictures
        self.set_title(self.tr("Soft targets at T = {:.1f}").format(self._samples.temperature))
        if soft is None or pictures is None:
            self._show_nothing()
            return
        names = [pictures.class_name(c) for c in soft.classes]
        label = int(pictures.labels[self._samples.current])
        marked = soft.classes.index(label) if label in soft.classes else -1
        self._show_figures(soft)
        for bars, values in ((self.teacher, soft.teacher), (self.student, soft.student)):
            if values is not None:
                bars.set_rows(names, values.tolist(), marked=marked, even=1 / soft.count)
        if soft.teacher is None:
            self.teacher.set_empty(
                self.tr("This experiment has no teacher: the student learns from labels alone.")
            )
        if soft.student is None:
            self.student.set_empty(
                self.tr("Press Distill: the student's answer to this picture appears here.")
            )
        self.explanation.setText(explain(soft, names))

    def _load(self) -> None:
        pictures = self._samples.pictures
        for bars in (self.teacher, self.student):
            bars.set_vocabulary(() if pictures is None else pictures.classes)
        self.refresh()

    def _show_nothing(self) -> None:
        for label in (self.entropy, self.ratio, self.scaled, self.explanation):
            label.setText("")
        self.divergence.setText(self.tr("student"))
        self.teacher.set_empty(self.tr("The teacher's answer appears here as soon as there are pictures."))
        self.student.set_empty(self.tr("Press Distill: the student's answer appears here."))

    def _show_figures(self, soft: SoftTargets) -> None:
        self.entropy.setText(self.tr("entropy {:.2f} nats").format(soft.entropy))
        rest = self.tr("top two {}").format(odds(soft.ratio))
        if soft.count > len(soft.classes):
            others = self.tr("{} others {:.2f}").format(soft.count - len(soft.classes), soft.rest)
            rest = f"{rest} · {others}"
        self.ratio.setText(rest)
        square = figure(soft.temperature**2)
        if soft.kl is None:
            self.divergence.setText(self.tr("student"))
            self.scaled.setText(f"T² = {square}")
        else:
            self.divergence.setText(self.tr("student · KL {:.4f}").format(soft.kl))
            self.scaled.setText(f"× T² {square} = {figure(soft.kl * soft.temperature**2)}")

    def _lay_out(self) -> None:
        self.header.addWidget(self.entropy)
        self.scaled.setToolTip(
            self.tr("The divergence times T² is what this picture adds to the loss, before its weight.")
        )
        self.explanation.setWordWrap(True)
        self.explanation.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.explanation.setMinimumHeight(3 * self.explanation.fontMetrics().lineSpacing())
        teacher = Caption(self.tr("teacher"), "teacher")
        self.divergence.setProperty("tone", "student")
        for left, right, bars in (
            (teacher, self.ratio, self.teacher),
            (self.divergence, self.scaled, self.student),
        ):
            line = QHBoxLayout()
            line.addWidget(left)
            line.addStretch(1)
            line.addWidget(right)
            block = QVBoxLayout()
            block.setSpacing(4)
            block.addLayout(line)
            block.addWidget(bars)
            self.body.addLayout(block)
        self.body.addStretch(1)
        self.body.addWidget(Rule())
        self.body.addWidget(self.explanation)


def explain(soft: SoftTargets, names: list[str]) -> str:
    """Two sentences on what this temperature does to this answer. names: of `soft.classes`."""
    if soft.teacher is None:
        return _tr("Without a teacher there are no soft targets to learn from. These are the student's own.")
    first, almost = names[0], _tr("{}, then {}").format(*names[1:3]) if len(names) > 2 else names[-1]
    square = figure(soft.temperature**2)
    if soft.teacher[0] >= _CERTAIN:
        return _tr(
            "Nearly all of the answer is {}, so the student hears little more than the label."
            " A higher temperature lets it hear what the picture almost is: {}."
        ).format(first, almost)
    if _is_even(float(soft.teacher[0]), soft.count):
        return _tr(
            "All classes are nearly alike now, so little is left of what the teacher knows."
            " A lower temperature brings {} forward again; T² = {} only keeps the gradient's scale."
        ).format(first, square)
    return _tr(
        "The temperature flattens the teacher's answer, so the student also learns what the picture"
        " almost is: {}. T² = {} keeps the gradient's scale."
    ).format(almost, square)


def _is_even(first: float, count: int) -> bool:
    share = 1 / count
    return first <= _EVEN[0] * share and first - share <= _EVEN[1] * (1 - share)


def odds(ratio: float) -> str:
    """ "1.9 : 1", "54 : 1", "over 999 : 1"."""
    if ratio > 999:
        return _tr("over 999 : 1")
    return f"{ratio:.1f} : 1" if ratio < 10 else f"{ratio:.0f} : 1"


def figure(value: float) -> str:
    """Three figures that matter, without an exponent: 0.040, 2.56, 64.0, 400."""
    if value < 1:
        return f"{value:.3f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _tr(text: str) -> str:
    return QCoreApplication.translate("SoftTargetsPanel", text)


def demo() -> QWidget:
    """The panel with made-up pictures, and a slider for the temperature, which stands elsewhere in the
    window."""
    from kd_gui.forms.slider import Groove
    from kd_gui.state.demo_samples import demo_samples

    samples = demo_samples()
    both, groove = QWidget(), Groove()
    samples.setParent(both)
    column = QVBoxLayout(both)
    column.addWidget(SoftTargetsPanel(samples), 1)
    column.addWidget(groove)
    groove.moved.connect(lambda share, _more: samples.set_temperature(20.0**share))
    samples.set_temperature(4.0)
    groove.place(0.463)
    return both


if __name__ == "__main__":
    from kd_gui.app import show_alone

    show_alone(demo, size=(420, 440))
