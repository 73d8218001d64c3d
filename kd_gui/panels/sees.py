"""What the student sees: sample pictures, and where teacher and student look in the chosen one, epoch by
epoch."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, QSettings, Qt
from PySide6.QtGui import QHideEvent, QKeyEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from kd_gui.forms.slider import Groove
from kd_gui.panels.looking import Chooser, Scrubber
from kd_gui.plots import colors
from kd_gui.plots.heatmap import HeatPictures, TileText
from kd_gui.plots.strip import SampleStrip, Thumb
from kd_gui.state.maps import ATTENTION, AUTO
from kd_gui.state.said import FILTERS, Look
from kd_gui.state.samples import Samples
from kd_gui.theme.widgets import GAP, Caption, Card, Segmented

_OPACITY = "sees/opacity"


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
        if (samples.map, samples.tap) != (ATTENTION, AUTO):
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
        chosen = self._samples.chosen_map
        if chosen.places:
            offered = {place.name: _short(place.words) for place in chosen.places}
            self.place.offer(offered, chosen.key(self._samples.tap))
        else:
            self.place.offer({AUTO: _short(look.place)} if look.place else {}, AUTO)

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
