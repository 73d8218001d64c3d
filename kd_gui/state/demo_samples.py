"""Made-up sample pictures, with a teacher and a student that learns, for panels shown alone and for their
tests.

Colourful shapes on textured grounds, as the dataset `scenes` has them; the heat is painted, no model is
asked.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QImage, QPainter, QPen, QPolygonF

from kd_gui.state.sample_files import read_pictures, read_snapshot
from kd_gui.state.samples import Samples

CLASSES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "moon", "diamond", "hexagon")
_CONFUSED = {0: 4, 4: 0, 1: 8, 8: 1, 2: 3, 3: 5, 5: 3, 6: 7, 7: 6, 9: 0}  # what each is most easily taken for


def demo_samples(epochs: int = 9) -> Samples:
    """Samples with all pictures and a student's snapshots, as after a run of so many epochs; -1: before
    any run."""
    samples = Samples()
    with tempfile.TemporaryDirectory() as folder:
        path, snapshots = write(Path(folder), epochs=max(epochs, 0))
        samples.load(path)
        for epoch, file in enumerate(snapshots[: epochs + 1]):
            samples.take_snapshot(read_snapshot(epoch, file, read_pictures(path)))
    samples.select(3)
    return samples


def write(
    folder: Path, *, count: int = 24, size: int = 48, epochs: int = 9, seed: int = 3
) -> tuple[Path, list[Path]]:
    """A file of pictures and one of each epoch's snapshot (from epoch 0, before any step), below `folder`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    drawn = [_scene(int(label), size, rng) for label in labels]
    images, masks = (np.stack(part) for part in zip(*drawn, strict=True))
    teacher = np.stack([_logits(int(label), rng) for label in labels])
    heats = np.stack([_heat(mask, 0.06, rng) for mask in masks])
    samples = folder / "samples.npz"
    np.savez(
        samples,
        images=images.transpose(0, 3, 1, 2),
        labels=labels,
        indices=np.arange(count) * 7 + 11,
        classes=np.array(CLASSES),
        masks=masks,
        teacher_logits=teacher,
        teacher_heat=heats,
        teacher_tap=np.array("last stage, 6×6, 64 channels"),
    )
    return samples, _snapshots(folder, teacher, heats, masks, epochs, rng)


def _snapshots(
    folder: Path,
    teacher: np.ndarray,
    heats: np.ndarray,
    masks: np.ndarray,
    epochs: int,
    rng: np.random.Generator,
) -> list[Path]:
    wander = rng.normal(0, 2.2, teacher.shape)
    first = np.stack([_heat(np.roll(mask, (9, -14), (0, 1)), 0.55, rng) for mask in masks])
    last = np.stack([_heat(mask, 0.22, rng) for mask in masks])
    paths = []
    for epoch in range(epochs + 1):
        grown = 1 - np.exp(-3.2 * epoch / max(epochs, 1))
        logits = grown * (0.82 * teacher + 0.55 * wander) + (1 - grown) * 0.5 * wander
        heat = (1 - grown) * first + grown * (0.55 * last + 0.45 * heats)
        path = folder / f"epoch_{epoch:03d}.npz"
        heat = heat / heat.max(axis=(1, 2), keepdims=True)
        np.savez(path, epoch=epoch, student_logits=logits, student_heat=heat.astype(np.float32))
        paths.append(path)
    return paths


def _logits(label: int, rng: np.random.Generator) -> np.ndarray:
    logits = rng.normal(0, 1.1, len(CLASSES))
    logits[label] += 7.5 + rng.normal(0, 0.8)
    logits[_CONFUSED[label]] += 4.2 + rng.normal(0, 1.4)
    return logits


def _heat(mask: np.ndarray, stray: float, rng: np.random.Generator) -> np.ndarray:
    """A coarse map as a late stage has it, 1 at its peak, mostly on the mask; `stray`: how much is
    elsewhere."""
    size, cells = mask.shape[0], 6
    inside = mask.reshape(cells, size // cells, cells, size // cells).mean((1, 3))
    coarse = inside * rng.uniform(0.7, 1.0, inside.shape) + stray * rng.random(inside.shape) ** 2 + 0.03
    image = QImage(cells, cells, QImage.Format.Format_Grayscale8)
    for y in range(cells):
        for x in range(cells):
            value = int(255 * coarse[y, x] / coarse.max())
            image.setPixelColor(x, y, QColor(value, value, value))
    fit, smooth = Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation
    fine = _pixels(image.scaled(size, size, fit, smooth)).astype(np.float32)[..., 0]
    return np.asarray(fine / max(fine.max(), 1.0))


def _scene(label: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(picture (S, S, 3) uint8, mask (S, S) bool)."""
    image = QImage(size, size, QImage.Format.Format_RGB32)
    hue = rng.random()
    image.fill(QColor.fromHsvF(hue, 0.35, 0.45 + 0.3 * rng.random()))
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    for _ in range(40):  # texture and distractors
        painter.setBrush(QColor.fromHsvF((hue + rng.normal(0, 0.08)) % 1, 0.4, rng.uniform(0.35, 0.85), 0.5))
        extent = float(rng.uniform(3, 12))
        painter.drawRect(QRectF(rng.uniform(-4, size), rng.uniform(-4, size), extent, extent / 2))
    middle = QPointF(*rng.uniform(0.34, 0.66, 2) * size)
    radius = rng.uniform(0.2, 0.3) * size
    ink = QColor.fromHsvF((hue + rng.uniform(0.3, 0.7)) % 1, 0.85, 0.95)
    _shape(painter, CLASSES[label], middle, radius, ink)
    painter.end()
    blank = QImage(size, size, QImage.Format.Format_RGB32)
    blank.fill(Qt.GlobalColor.black)
    painter = QPainter(blank)
    _shape(painter, CLASSES[label], middle, radius, QColor("white"))
    painter.end()
    return _pixels(image), _pixels(blank)[..., 0] > 127


def _shape(painter: QPainter, name: str, middle: QPointF, radius: float, ink: QColor) -> None:
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QBrush(ink))
    if name in ("circle", "ring", "moon"):
        around = QRectF(middle.x() - radius, middle.y() - radius, 2 * radius, 2 * radius)
        if name == "ring":
            painter.setPen(QPen(ink, radius * 0.5))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            around.adjust(radius * 0.25, radius * 0.25, -radius * 0.25, -radius * 0.25)
        if name == "moon":
            painter.drawChord(around, 60 * 16, 230 * 16)
        else:
            painter.drawEllipse(around)
        return
    corners = {"square": 4, "diamond": 4, "triangle": 3, "hexagon": 6, "star": 10, "cross": 12, "heart": 9}[
        name
    ]
    turn = np.pi / 4 if name == "square" else 0.0
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) - np.pi / 2 + turn
    reach = np.full(corners, radius)
    if name == "star":
        reach[1::2] *= 0.45
    elif name == "cross":
        reach[0::3] *= 0.4
        angles = angles + np.pi / 4
    elif name == "heart":
        reach[0] *= 0.35
    painter.drawPolygon(
        QPolygonF(
            [
                QPointF(middle.x() + r * np.cos(a), middle.y() + r * np.sin(a))
                for a, r in zip(angles, reach, strict=True)
            ]
        )
    )


def _pixels(image: QImage) -> np.ndarray:
    """(H, W, 3) uint8; a copy."""
    plain = image.convertToFormat(QImage.Format.Format_RGB888)
    rows = np.frombuffer(plain.constBits(), np.uint8).reshape(plain.height(), plain.bytesPerLine())
    return np.array(rows[:, : plain.width() * 3].reshape(plain.height(), plain.width(), 3))
