"""Numbers to colours and pictures: lookup tables, arrays to images, masks to outlines."""

from __future__ import annotations

from functools import cache

import numpy as np
from PySide6.QtGui import QColor, QImage, QLinearGradient, QPainterPath

from kd_engine import paths
from kd_gui.theme import Tokens

_STEEP = 0.7  # of the difference's colours: 1 would be linear


@cache
def heat_table() -> np.ndarray:
    """Magma (public domain, by Smith and van der Walt) as (256,) uint32 0xffRRGGBB.

    From a file of our own: pyqtgraph has it, too, but takes a quarter of a second to import, and the first
    picture is drawn before that."""
    file = paths.resources() / "colors" / "magma.csv"
    return _packed(255 * np.loadtxt(file, delimiter=",", comments=";")[:, :3])


def difference_table(tokens: Tokens) -> np.ndarray:
    """(511,) uint32 for student − teacher from −255 to 255: the teacher's colour, the surface for equal,
    the student's colour. Steeper near the middle, where most differences lie; the scale beside it shows
    the same."""
    return _diverging(tokens.teacher, tokens.surface, tokens.student)


@cache
def _diverging(low: str, middle: str, high: str) -> np.ndarray:
    inks = [QColor(color) for color in (low, middle, high)]
    ends = [np.array((ink.red(), ink.green(), ink.blue()), dtype=np.float64) for ink in inks]
    way = np.linspace(0.0, 1.0, 256)[:, None]
    away = way**_STEEP
    down = ends[1] + (ends[0] - ends[1]) * away[::-1]
    up = ends[1] + (ends[2] - ends[1]) * away
    return _packed(np.concatenate([down, up[1:]]))


@cache
def ramp(low: str, high: str) -> np.ndarray:
    """(256,) uint32 from one colour to another."""
    inks = [QColor(color) for color in (low, high)]
    ends = [np.array((ink.red(), ink.green(), ink.blue()), dtype=np.float64) for ink in inks]
    return _packed(ends[0] + (ends[1] - ends[0]) * np.linspace(0.0, 1.0, 256)[:, None])


def difference_levels(teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    """Student − teacher (both (H, W) uint8) as indices into `difference_table`: 255 where they are equal."""
    return student.astype(np.int16) - teacher.astype(np.int16) + 255


def to_image(colors: np.ndarray) -> QImage:
    """(H, W) uint32 0xffRRGGBB as an image that owns its pixels."""
    rows = np.ascontiguousarray(colors)
    height, width = rows.shape
    return QImage(rows.data, width, height, width * 4, QImage.Format.Format_RGB32).copy()


def picture(image: np.ndarray) -> QImage:
    """(H, W, 3) uint8 as an image that owns its pixels."""
    rows = np.ascontiguousarray(image)
    height, width = rows.shape[:2]
    return QImage(rows.data, width, height, width * 3, QImage.Format.Format_RGB888).copy()


def outline(mask: np.ndarray) -> QPainterPath:
    """The border of a mask (H, W) as a path in the unit square: marching squares at half height of the
    mask blurred by a pixel, so that it is as smooth as what was drawn."""
    height, width = mask.shape
    level = _blurred(mask) - 0.5
    inside = level > 0
    corners = (inside[:-1, :-1], inside[:-1, 1:], inside[1:, 1:], inside[1:, :-1])  # clockwise from top left
    kinds = np.sum([corner.astype(np.int8) << i for i, corner in enumerate(corners)], axis=0)
    path = QPainterPath()
    for y, x in np.argwhere((kinds > 0) & (kinds < 15)).tolist():
        values = [float(level[y + dy, x + dx]) for dy, dx in _CORNERS]
        crossed = [_crossing(values, edge) for edge in range(4) if _differ(values, edge)]
        for start, end in zip(crossed[::2], crossed[1::2], strict=True):
            # Pixel i's middle is at i + 1/2, and the blurred mask has one more row and column around.
            path.moveTo((x + start[0] - 0.5) / width, (y + start[1] - 0.5) / height)
            path.lineTo((x + end[0] - 0.5) / width, (y + end[1] - 0.5) / height)
    return path


_CORNERS = ((0, 0), (0, 1), (1, 1), (1, 0))  # of a cell: (down, right), clockwise from top left


def _differ(values: list[float], edge: int) -> bool:
    return (values[edge] > 0) != (values[(edge + 1) % 4] > 0)


def _crossing(values: list[float], edge: int) -> tuple[float, float]:
    """Where a cell's edge, from its corner `edge` to the next, crosses zero: (right, down) in the cell."""
    (y0, x0), (y1, x1) = _CORNERS[edge], _CORNERS[(edge + 1) % 4]
    share = values[edge] / (values[edge] - values[(edge + 1) % 4])
    return x0 + share * (x1 - x0), y0 + share * (y1 - y0)


def _blurred(mask: np.ndarray) -> np.ndarray:
    """(H + 2, W + 2): the mask with a border of nothing, each pixel the mean of 3×3; what was one stays
    above a half in its middle, so no object vanishes that is three pixels wide."""
    wide = np.pad(mask.astype(np.float32), 2)
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    return np.asarray((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9.0)


def set_stops(gradient: QLinearGradient, table: np.ndarray, count: int = 17) -> None:
    """Make a gradient run through a table, first entry to last."""
    for i in range(count):
        gradient.setColorAt(i / (count - 1), QColor(int(table[i * (len(table) - 1) // (count - 1)])))


def _packed(rgb: np.ndarray) -> np.ndarray:
    """(N, 3) numbers 0 to 255 as (N,) uint32 0xffRRGGBB."""
    parts = np.rint(rgb).astype(np.uint32)
    return np.asarray(0xFF000000 | parts[:, 0] << 16 | parts[:, 1] << 8 | parts[:, 2], dtype=np.uint32)
