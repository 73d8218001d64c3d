"""The evaluation: confusion matrices side by side, gaps by class, calibration and retention of one run."""

from __future__ import annotations

from PySide6.QtCore import QSize, Signal
from PySide6.QtGui import QHideEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QMenu, QSizePolicy, QStackedLayout, QWidget

from kd_gui.panels.empty import Empty
from kd_gui.panels.evaluation_pages import CalibrationPage, ClassesPage, ConfusionPage
from kd_gui.panels.retention import RetentionPage
from kd_gui.state import evaluation_words as words
from kd_gui.state.evaluation import Evaluation, Shown
from kd_gui.theme.widgets import GAP, Caption, Card, IconButton, PillButton, Segmented, Wrapped, set_tone

LEAST = 340
NARROW = 460  # below it the card's name makes room for the choice of pages


class EvaluationPanel(Card):
    """`start_asked()`: the empty panel's button, before any run. `closed()`: back to the curves."""

    start_asked = Signal()
    closed = Signal()

    def __init__(self, evaluation: Evaluation, parent: QWidget | None = None) -> None:
        super().__init__("", parent)
        self.set_title(self.tr("Evaluation"))
        self._evaluation = evaluation
        self._fresh = False
        self._page: QWidget | None = None
        self.confusion, self.classes = ConfusionPage(), ClassesPage()
        self.calibration, self.retention = CalibrationPage(), RetentionPage()
        self._pages: dict[str, QWidget] = {
            "confusion": self.confusion,
            "classes": self.classes,
            "calibration": self.calibration,
            "retention": self.retention,
        }
        self.choice = Segmented(
            {
                "confusion": self.tr("Confusion"),
                "classes": self.tr("Classes"),
                "calibration": self.tr("Calibration"),
                "retention": self.tr("Retention"),
            }
        )
        self.part = Segmented({"test": self.tr("test part"), "validation": self.tr("validation")})
        self.who = PillButton()
        self.who.setProperty("menu", "true")
        self._whos = QMenu(self.who)
        self.who.setMenu(self._whos)
        self.epoch = Caption()
        self.epoch.setToolTip(self.tr("Moves with the slider below the pictures"))
        self.back = PillButton(self.tr("Curves"))
        self.back.setToolTip(self.tr("Back to the curves"))
        self.small_back = IconButton("close", self.tr("Back to the curves"))  # where the header is full
        self.protocol, self.state = Wrapped("", "muted"), Wrapped("", "bad")
        self.empty = Empty(" ", " ")
        self._lay_out()
        self._connect()
        self.refresh()

    def _lay_out(self) -> None:
        self.header.addWidget(self.choice)
        self.header.addWidget(self.back)
        self.controls = QWidget()
        row = QHBoxLayout(self.controls)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(GAP)
        row.addWidget(self.part)
        row.addWidget(self.epoch)
        row.addStretch(1)
        row.addWidget(self.who)
        row.addWidget(self.small_back)
        self.stack = QStackedLayout()
        for page in (self.empty, *self._pages.values()):
            self.stack.addWidget(page)
        self.body.addWidget(self.controls)
        self.body.addLayout(self.stack, 1)
        self.body.addWidget(self.state)
        self.body.addWidget(self.protocol)

    def _connect(self) -> None:
        evaluation = self._evaluation
        self.choice.chosen.connect(self.refresh)
        self.part.chosen.connect(evaluation.choose_part)
        for back in (self.back, self.small_back):
            back.clicked.connect(lambda _checked=False: self.closed.emit())
        self.empty.asked.connect(self._press)
        self.confusion.picked.connect(evaluation.look_at)
        self.retention.robustness_asked.connect(lambda: evaluation.ask(robust=True))
        evaluation.changed.connect(self._on_change)

    def show_page(self, name: str) -> None:
        """confusion, classes, calibration or retention."""
        self.choice.set_current(name)
        self.refresh()

    def refresh(self) -> None:
        """Draw what the evaluation says now."""
        evaluation = self._evaluation
        shown = evaluation.shown()
        self._fresh = True
        for widget in (self.choice, self.protocol):
            widget.setVisible(shown is not None)
        self.controls.setVisible(bool(evaluation.parts()))
        self.state.setVisible(bool(evaluation.trouble))
        self.state.set_text(evaluation.trouble)
        self._fit()
        self._show_controls(shown)
        if shown is None:
            self._show_empty()
            return
        if self.choice.current() == "calibration" and shown.student.bins is None:
            self._show_unmeasured(shown)
        else:
            self._show_page(shown)
        self.protocol.set_text(words.protocol(shown, evaluation.protocol))
        told = evaluation.protocol.get("text", "") if shown.part == "test" else ""
        self.protocol.setToolTip("\n".join([told, *evaluation.notes]).strip())
        unfinished = shown.part == "test" and evaluation.protocol.get("status", "done") != "done"
        set_tone(self.protocol, "warn" if unfinished else "muted")

    def _show_page(self, shown: Shown) -> None:
        name, evaluation = self.choice.current(), self._evaluation
        if name == "confusion":
            self.confusion.show_(shown)
        elif name == "classes":
            self.classes.show_(shown)
        elif name == "calibration":
            self.calibration.show_(shown)
        else:
            self.retention.show_(shown, evaluation.asking, evaluation.may_ask)
        self._turn_to(self._pages[name])

    def _turn_to(self, page: QWidget) -> None:
        """Only the page that is seen says how much room it needs."""
        if page is self._page:
            return
        self._page = page
        preferred, ignored = QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Ignored
        for one in (self.empty, *self._pages.values()):
            policy = preferred if one is page else ignored
            one.setSizePolicy(policy, policy)
        self.stack.setCurrentWidget(page)

    def _show_controls(self, shown: Shown | None) -> None:
        evaluation = self._evaluation
        parts, students = evaluation.parts(), evaluation.students()
        self.part.button("validation").setEnabled("validation" in parts)
        self.part.button("test").setEnabled("test" in parts or not evaluation.live)
        if evaluation.part is not None:
            self.part.set_current(evaluation.part)
        self.epoch.setVisible(shown is not None and shown.epoch is not None)
        if shown is not None and shown.epoch is not None:
            self.epoch.setText(self.tr("epoch {epoch}").format(epoch=shown.epoch))
        self.who.setVisible(shown is not None and shown.part == "test" and len(students) > 1)
        if [action.data() for action in self._whos.actions()] != students:
            self._whos.clear()
            for name in students:
                action = self._whos.addAction(words.student_title(name))
                action.setData(name)
                action.triggered.connect(lambda _=False, name=name: self._evaluation.choose_student(name))

    def _show_empty(self) -> None:
        evaluation = self._evaluation
        self._turn_to(self.empty)
        if evaluation.empty:
            self.empty.say(
                self.tr(
                    "Which classes the student confuses, where it falls behind its teacher, how sure it is "
                    "and what it keeps: all that appears here."
                ),
                self.tr("Distill"),
            )
        elif evaluation.live:
            self.empty.say(self.tr("The first figures come with the first epoch, on validation."), "")
        else:
            self.empty.say(
                self.tr("This run's models were not measured on the test part yet."), self._measure_words()
            )
            self.empty.button.setEnabled(evaluation.may_ask and not evaluation.asking)

    def _show_unmeasured(self, shown: Shown) -> None:
        """A page that needs more than predictions."""
        evaluation = self._evaluation
        self._turn_to(self.empty)
        if shown.part == "validation" and not evaluation.live:
            words_ = self.tr("Of the validation part only the answers are kept, not how sure they were.")
            self.empty.say(words_, self.tr("Show the test part"))
        elif evaluation.live:
            self.empty.say(
                self.tr("How sure the models are is measured on the test part, once, when the run ends."), ""
            )
        else:
            words_ = self.tr("How sure the models are was not measured on the test part yet.")
            self.empty.say(words_, self._measure_words())
            self.empty.button.setEnabled(evaluation.may_ask and not evaluation.asking)

    def _measure_words(self) -> str:
        if self._evaluation.asking:
            return self.tr("Measuring…")
        return self.tr("Measure on the test part")

    def _press(self) -> None:
        evaluation = self._evaluation
        if evaluation.empty:
            self.start_asked.emit()
        elif evaluation.part == "validation":
            evaluation.choose_part("test")
        else:
            evaluation.ask()

    def _on_change(self) -> None:
        if self.isVisible():
            self.refresh()
        else:
            self._fresh = False

    def _fit(self) -> None:
        """Where it is narrow, the card's name gives way, and the way back stands a line lower."""
        wide = self.width() >= NARROW
        shown = self._evaluation.shown()
        self.title.setVisible(wide or shown is None)
        self.back.setVisible(wide or shown is None)
        self.small_back.setVisible(not wide)
        if shown is not None:
            self.who.setText(words.student_title(shown.who) if wide else words.short_title(shown.who))

    # ---- Qt ------------------------------------------------------------------------------------------------
    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._evaluation.watch(True)
        if not self._fresh:
            self.refresh()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._evaluation.watch(False)

    def minimumSizeHint(self) -> QSize:
        """Narrower than all of the header needs: its name and a word give way then."""
        return QSize(LEAST, super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()


def demo() -> QWidget:
    """The evaluation of a finished run, made up."""
    from kd_gui.state import demo_evaluation

    evaluation = demo_evaluation.finished()
    panel = EvaluationPanel(evaluation)
    evaluation.setParent(panel)
    panel.resize(568, 520)
    return panel


if __name__ == "__main__":
    from kd_gui.app import show_alone

    show_alone(demo)
