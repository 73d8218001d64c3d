"""What the student sees: sample pictures, and where teacher and student look in the chosen one, epoch by
epoch."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, QSettings, QSize, Qt, Signal
from PySide6.QtGui import QAction, QHideEvent, QKeyEvent, QPaintEvent, QShowEvent
from PySide6.QtWidgets import (
    QHBoxLayout,
    QMenu,
    QSizePolicy,
    QStyle,
    QStyleOptionButton,
    QStylePainter,
    QVBoxLayout,
    QWidget,
)

from kd_gui.forms.slider import Groove
from kd_gui.plots import colors
from kd_gui.plots.heatmap import HeatPictures, TileText
from kd_gui.plots.strip import SampleStrip, Thumb
from kd_gui.state.said import FILTERS, Look
from kd_gui.state.samples import AUTO, Map, Samples
from kd_gui.theme.widgets import GAP, Caption, Card, PillButton, Segmented, Text

_OPACITY = "sees/opacity"


class _Pill(PillButton):
    """A pill with a menu that ends in an ellipsis where its words do not fit."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("", parent)
        self.setProperty("menu", "true")
        self.setStyleSheet("padding-right: 20px;")  # the arrow's room
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:
        return QSize(72, super().minimumSizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        option = QStyleOptionButton()
        self.initStyleOption(option)
        room = self.width() - 32  # without the rounded end, the arrow and the border
        option.text = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, room)
        painter = QStylePainter(self)
        painter.drawControl(QStyle.ControlElement.CE_PushButton, option)


class Chooser(QWidget):
    """A choice as a pill that opens a menu; plain words where there is nothing to choose. `chosen(key)`."""

    chosen = Signal(str)

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.words = Text("", "muted")
        self.button = _Pill()
        self.button.setAccessibleName(name)
        self.menu = QMenu(self)
        self.button.setMenu(self.menu)
        self.menu.triggered.connect(self._choose)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.words)
        row.addWidget(self.button)
        self.setFixedHeight(22)
        self.offer({}, "")

    def offer(self, choices: dict[str, str], current: str) -> None:
        """choices: keys with their words; current: a key."""
        self.menu.clear()
        for key, words in choices.items():
            action = QAction(words, self.menu, checkable=True, checked=key == current)
            action.setData(key)
            self.menu.addAction(action)
        words = choices.get(current, "")
        self.words.setText(words)
        self.button.setText(words)
        self.words.setVisible(len(choices) < 2)
        self.button.setVisible(len(choices) > 1)
        self.setVisible(bool(words))

    def _choose(self, action: QAction) -> None:
        self.chosen.emit(action.data())


class Scrubber(QWidget):
    """The epoch that is looked at, as a slider over the snapshots there are."""

    def __init__(self, samples: Samples, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._samples = samples
        self.words = Caption()
        self.words.setMinimumWidth(76)
        self.groove = Groove()
        self.groove.color = "muted"
        self.groove.setAccessibleName(self.tr("Epoch"))
        self.groove.setToolTip(self.tr("Go back to what the student saw after an earlier epoch."))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(GAP)
        row.addWidget(self.words)
        row.addWidget(self.groove, 1)
        self.groove.moved.connect(self._scrub)
        samples.epochs_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        epochs, epoch = self._samples.epochs, self._samples.epoch
        self.groove.setEnabled(len(epochs) > 1)
        if not epochs:
            self.words.setText(self.tr("no epoch yet"))
            self.groove.place(0.0)
            return
        at = len(epochs) - 1 if epoch is None else epochs.index(epoch)
        self.words.setText(self.tr("epoch {} of {}").format(epochs[at], epochs[-1]))
        self.groove.place(at / (len(epochs) - 1) if len(epochs) > 1 else 1.0)

    def _scrub(self, share: float, _more: bool) -> None:
        epochs = self._samples.epochs
        if epochs:
            self._samples.set_epoch(epochs[round(share * (len(epochs) - 1))])
        self.refresh()  # the handle stands at epochs only


class SeesPanel(Card):
    """The strip, three tiles on one scale, the choice of map and tap, and the epoch. Hold D to swap the
    models."""

    def __init__(self, samples: Samples, parent: QWidget | None = None) -> None:
        super().__init__(self.tr("What the student sees"), parent)
        self._samples = samples
        self._drawn: tuple[object, int] = (None, -1)  # the picture that the tiles hold
        self._why = ""
        titles = (self.tr("all"), self.tr("disagree"), self.tr("wrong"))
        self.filter = Segmented(dict(zip(FILTERS, titles, strict=True)))
        self.strip = SampleStrip()
        self.pictures = HeatPictures()
        self.pictures.setToolTip(self.tr("Hold D to see teacher and student in each other's place."))
        self.map = Chooser(self.tr("Kind of map"))
        self.place = Chooser(self.tr("Place in the models"))
        self.similarity = Caption("", "")
        self.scrubber = Scrubber(samples)
        self.opacity = Groove()
        self._lay_out()
        self._connect()
        self._load()

    def set_opacity(self, opacity: float) -> None:
        """How much the heat covers the pictures, 0 to 1; remembered."""
        self.pictures.set_opacity(opacity)
        QSettings().setValue(_OPACITY, opacity)

    def set_blink(self, on: bool) -> None:
        """Teacher and student in each other's place while `on`."""
        self.pictures.set_swapped(on)

    def _lay_out(self) -> None:
        self.header.addWidget(self.filter)
        choice = QHBoxLayout()
        choice.setSpacing(GAP)
        for chooser in (self.map, self.place):
            choice.addWidget(chooser)
        choice.addStretch(1)
        choice.addWidget(self.similarity)
        self.opacity.color = "muted"
        self.opacity.setFixedWidth(72)
        self.opacity.setAccessibleName(self.tr("Opacity of the heat"))
        self.opacity.setToolTip(self.tr("How much the heat covers the picture."))
        kept = QSettings().value(_OPACITY, 0.6)
        self.pictures.set_opacity(float(str(kept)))
        self.opacity.place(self.pictures.opacity)
        sliders = QHBoxLayout()
        sliders.setSpacing(GAP)
        sliders.addWidget(self.scrubber, 1)
        sliders.addSpacing(GAP)
        sliders.addWidget(Caption(self.tr("heat")))
        sliders.addWidget(self.opacity)
        below = QVBoxLayout()
        below.setSpacing(4)
        below.addLayout(choice)
        below.addLayout(sliders)
        self.body.addWidget(self.strip)
        self.body.addWidget(self.pictures, 1)
        self.body.addLayout(below)

    def _connect(self) -> None:
        samples = self._samples
        self.filter.chosen.connect(samples.set_filter)
        self.strip.chosen.connect(samples.select)
        self.strip.moved.connect(samples.move)
        self.opacity.moved.connect(self._cover)
        self.map.chosen.connect(self._choose_map)
        self.place.chosen.connect(self._choose_place)
        samples.loaded.connect(self._load)
        samples.shown_changed.connect(self._show_strip)
        samples.selected.connect(self._show_current)
        samples.looks_changed.connect(self._show_looks)
        samples.choices_changed.connect(self._show_choices)
        samples.trouble.connect(self._tell)

    def _load(self) -> None:
        pictures = self._samples.pictures
        self.strip.set_images(
            [] if pictures is None else [colors.picture(image) for image in pictures.images]
        )
        self._show_strip()
        self._show_current()
        self._show_choices()
        self._show_looks()

    def _show_strip(self) -> None:
        samples = self._samples
        self.filter.set_current(samples.filter)
        self.strip.set_thumbs([self._thumb(index) for index in samples.shown], self._why_empty())

    def _thumb(self, index: int) -> Thumb:
        pictures = self._samples.pictures
        assert pictures is not None
        wrong, differs = self._samples.marks(index)
        teacher, student = (pictures.class_name(c) for c in self._samples.predictions(index))
        words = [pictures.class_name(int(pictures.labels[index])) or self.tr("no label")]
        if teacher:
            words.append(self.tr("teacher: {}").format(teacher))
        if student:
            words.append(self.tr("student: {}").format(student))
        return Thumb(index, wrong, differs, " · ".join(words))

    def _why_empty(self) -> str:
        samples = self._samples
        if samples.pictures is None:
            return self.tr("Pictures appear here as soon as the data has been read.")
        if not samples.epochs:
            return self.tr("No student has answered yet. Press Distill, and its mistakes gather here.")
        if samples.filter == "wrong":
            return self.tr("The student is right about all {} pictures.").format(samples.pictures.count)
        return self.tr("Teacher and student agree on all {} pictures.").format(samples.pictures.count)

    def _show_current(self) -> None:
        self._why = ""
        self.strip.set_current(self._samples.current)

    def _show_looks(self) -> None:
        look = self._samples.look()
        self._show_picture(look)
        if look is None:
            self.similarity.setText("")
            self.pictures.set_heats(None, None)
            return
        self.pictures.set_heats(look.teacher_heat, look.student_heat)
        self.pictures.set_texts(*self._texts(look))
        self.pictures.set_empty(*self._empty())
        alike = look.similarity
        self.similarity.setText("" if alike is None else self.tr("similarity {:.2f}").format(alike))
        self._show_place(look)

    def _show_picture(self, look: Look | None) -> None:
        wanted = (self._samples.pictures, self._samples.current)
        if wanted != self._drawn:
            self._drawn = wanted
            self.pictures.set_picture(*((None, None) if look is None else (look.image, look.mask)))

    def _texts(self, look: Look) -> tuple[TileText, TileText, TileText]:
        teacher = self._text(self.tr("teacher"), look, look.teacher_says, look.teacher_on_object)
        student = self._text(self.tr("student"), look, look.student_says, look.student_on_object)
        if look.newest:
            student = TileText(student.title, student.says, student.wrong, self.tr("newest student"))
        return teacher, student, TileText(self.tr("difference"))

    def _text(self, title: str, look: Look, says: int | None, on_object: float | None) -> TileText:
        pictures = self._samples.pictures
        assert pictures is not None
        wrong = look.label is not None and says is not None and says != look.label
        notes = []
        if wrong:
            notes.append(self.tr("it is: {}").format(pictures.class_name(look.label)))
        if on_object is not None:
            share = self.tr("{:.0f} %") if wrong else self.tr("{:.0f} % on the object")
            notes.append(share.format(100 * on_object))
        return TileText(title, pictures.class_name(says), wrong, " · ".join(notes))

    def _empty(self) -> tuple[str, str, str]:
        samples = self._samples
        if (samples.map, samples.tap) != (samples.maps[0].name, AUTO):
            asking = self._why or self.tr("Looking…")
            return asking, asking, ""
        if samples.epochs:
            return "", self.tr("This student has no map to show."), ""
        return "", self.tr("Press Distill to see where the student looks."), ""

    def _tell(self, why: str) -> None:
        self._why = why
        self.pictures.set_empty(*self._empty())

    def _show_choices(self) -> None:
        samples = self._samples
        self._why = ""
        self.map.offer({one.name: one.title for one in samples.maps}, samples.map)
        look = samples.look()
        if look is not None:
            self._show_place(look)

    def _show_place(self, look: Look) -> None:
        """The tap in words: from the catalogue of places, else as the last answer named it."""
        places = self._current_map().places
        if places:
            chosen = places[0].name if self._samples.tap == AUTO else self._samples.tap
            self.place.offer({place.name: _short(place.words) for place in places}, chosen)
        else:
            self.place.offer({AUTO: _short(look.place)} if look.place else {}, AUTO)

    def _current_map(self) -> Map:
        return next(one for one in self._samples.maps if one.name == self._samples.map)

    def _choose_map(self, name: str) -> None:
        self._samples.choose(name)

    def _choose_place(self, name: str) -> None:
        self._samples.choose(self._samples.map, name)

    def _cover(self, share: float, _more: bool) -> None:
        self.set_opacity(share)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.window().installEventFilter(self)  # D reaches the window when no field in it takes letters

    def hideEvent(self, event: QHideEvent) -> None:
        self.window().removeEventFilter(self)
        self.set_blink(False)
        super().hideEvent(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.WindowDeactivate:
            self.set_blink(False)  # the release of the key goes elsewhere
        if isinstance(event, QKeyEvent) and _is_plain_d(event):
            if not event.isAutoRepeat():
                self.set_blink(event.type() == QEvent.Type.KeyPress)
            return event.type() in (QEvent.Type.KeyPress, QEvent.Type.KeyRelease)
        return super().eventFilter(watched, event)


def _is_plain_d(event: QKeyEvent) -> bool:
    plain = event.modifiers() in (Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ShiftModifier)
    return event.key() == Qt.Key.Key_D and plain


def _short(words: str) -> str:
    """A place without its channels: "last stage, 8×8"."""
    return ", ".join(words.split(", ")[:2])


def demo() -> QWidget:
    """The panel with made-up pictures and a made-up run of nine epochs."""
    from kd_gui.state.demo_samples import demo_samples

    samples = demo_samples()
    panel = SeesPanel(samples)
    samples.setParent(panel)
    return panel


if __name__ == "__main__":
    from kd_gui.app import show_alone

    show_alone(demo, size=(400, 330))
