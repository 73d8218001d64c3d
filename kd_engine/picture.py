"""Draw what a probe saw as one PNG: the image, the teacher's and the student's heat, and their difference,
on one scale, each with a line that says what it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kd_engine.disk import replacing

TILE = 224  # pixels
GAP = 8
LINE = 16  # height of a line of text
SHOWN = 10  # bars of the most probable classes
INK, FAINT, ORANGE = "#1f2328", "#f4f4f1", "#d55e00"
# Anchors of matplotlib's magma and of a blue-white-red map, evenly spaced; colours between them are mixed.
MAGMA = ("000004", "1c1044", "4f127b", "812581", "b5367a", "e55064", "fb8761", "fec287", "fcfdbf")
DIVERGING = ("0072b2", "7fb8d8", "f4f4f1", "eaae7f", "d55e00")

Arrays = Mapping[str, np.ndarray]
Tile = tuple[Image.Image, str, str]  # a picture, and two lines below it


def save(probed: Path, out: Path) -> None:
    """Read a probe's .npz (see kd_engine.answers.probe) and write the picture. Vectors are drawn as bars.
    StoreError when the disk refuses."""
    with np.load(probed) as arrays:
        tiles = list(_tiles(arrays))
    sheet = Image.new("RGB", (len(tiles) * (TILE + GAP) + GAP, TILE + 2 * LINE + 3 * GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (picture, *lines) in enumerate(tiles):
        left = GAP + i * (TILE + GAP)
        sheet.paste(picture, (left, GAP))
        for k, text in enumerate(lines):
            _write(pen, (left, 2 * GAP + TILE + k * LINE), text, TILE)
    with replacing(out.expanduser()) as temporary:
        sheet.save(temporary, format="PNG")


def colour(values: np.ndarray, anchors: tuple[str, ...]) -> np.ndarray:
    """(H, W) in 0 to 1 as (H, W, 3) uint8."""
    table = np.array([[int(anchor[i : i + 2], 16) for i in (0, 2, 4)] for anchor in anchors], dtype=float)
    places = np.linspace(0, 1, len(anchors))
    channels = [np.interp(values, places, table[:, i]) for i in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def _tiles(arrays: Arrays) -> Iterator[Tile]:
    """The image, what each model sees in it, and, of two heatmaps, where they differ."""
    image = arrays["image"].transpose(1, 2, 0)
    classes = [str(name) for name in arrays["classes"]]
    yield _enlarge(image), "image", f"shows: {classes[int(arrays['label'])]}"
    roles = [role for role in ("teacher", "student") if role in arrays]
    heats = [arrays[role] for role in roles]
    for role, heat in zip(roles, heats, strict=True):
        answer = _answer(arrays[f"{role}_logits"], classes)
        if heat.ndim == 1:
            yield _bars(heat, classes), f"{role}: {answer}", f"the {min(SHOWN, len(heat))} likeliest classes"
        else:
            blended = _blend(image, colour(heat, MAGMA))
            yield _enlarge(blended), f"{role}: {answer}", str(arrays[f"{role}_tap"])
    if len(heats) == 2 and heats[0].ndim == 2:
        difference = _enlarge(colour((heats[1] - heats[0] + 1) / 2, DIVERGING))
        yield difference, "difference: orange where the", "student looks more, blue: teacher"


def _answer(logits: np.ndarray, classes: list[str]) -> str:
    shares = _softmax(logits)
    return f"{classes[int(shares.argmax())]}, {shares.max():.0%} sure"


def _softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max())
    normed: np.ndarray = shares / shares.sum()
    return normed


def _enlarge(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.BICUBIC)


def _blend(image: np.ndarray, heat: np.ndarray, opacity: float = 0.65) -> np.ndarray:
    return np.asarray((1 - opacity) * image + opacity * heat, dtype=np.uint8)


def _bars(logits: np.ndarray, classes: list[str]) -> Image.Image:
    """Class probabilities as horizontal bars with names and numbers, the likeliest on top."""
    shares = _softmax(logits)
    tile = Image.new("RGB", (TILE, TILE), FAINT)
    pen = ImageDraw.Draw(tile)
    best = np.argsort(-shares, kind="stable")[:SHOWN]
    height = TILE // SHOWN
    for row, k in enumerate(best):
        top, name, room = row * height, 80, TILE - 80 - 48
        _write(pen, (4, top + 3), classes[k], name - 8)
        pen.rectangle((name, top + 4, name + round(shares[k] * room), top + height - 4), fill=ORANGE)
        _write(pen, (TILE - 44, top + 3), f"{shares[k]:.1%}", 44)
    return tile


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int) -> None:
    """A line of text, cut to `width` pixels. Pillow's own font is Latin; other letters become boxes."""
    font = ImageFont.load_default(12)
    cut = text = text.replace("×", "x").replace("\n", " ")
    while len(cut) > 1 and pen.textlength(cut, font) > width:
        text = text[:-1]
        cut = text + ".."
    pen.text(place, cut, fill=INK, font=font)
