"""Draw a pilot's findings as one PNG: temperature across, weights down, accuracy as heat and as a number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kd_engine.advise import Advice, Finding
from kd_engine.disk import replacing
from kd_engine.picture import INK, MAGMA, ORANGE, colour

CELL = (132, 64)  # pixels
LEFT, TOP, GAP, LINE = 132, 64, 12, 18
DARKEST, LIGHTEST = 0.25, 0.95  # of the colours: the ends leave no contrast to the page


def save(advice: Advice, out: Path) -> None:
    """Write the picture; a border for the recipe's own setting, a dot for the best. StoreError when the disk
    refuses."""
    tried = [finding for finding in advice.findings if finding.setting is not None]
    plain = next(finding for finding in advice.findings if finding.setting is None)
    columns = sorted({finding.setting.temperature for finding in tried if finding.setting})
    rows = sorted({_row(finding) for finding in tried})
    size = (LEFT + len(columns) * CELL[0] + GAP, TOP + len(rows) * CELL[1] + 3 * LINE + GAP)
    sheet = Image.new("RGB", (max(size[0], 560), size[1]), "white")
    pen = ImageDraw.Draw(sheet)
    _text(pen, (GAP, GAP), advice.name, 14)
    for k, temperature in enumerate(columns):
        _text(pen, (LEFT + k * CELL[0] + 8, TOP - LINE), f"T = {temperature:g}")
    for k, (_, weight, labels) in enumerate(rows):
        _text(pen, (GAP, TOP + k * CELL[1] + 12), f"method {weight:g}")
        _text(pen, (GAP, TOP + k * CELL[1] + 30), f"labels {labels:g}")
    shades = _shades([finding.top1 for finding in tried], max(finding.noise for finding in tried))
    for finding, shade in zip(tried, shades, strict=True):
        assert finding.setting is not None
        place = columns.index(finding.setting.temperature), rows.index(_row(finding))
        _cell(pen, place, finding, shade, finding is tried[0])
    foot = TOP + len(rows) * CELL[1] + 6
    _text(
        pen, (GAP, foot), f"validation top-1, %, ± one standard error; plain training: {100 * plain.top1:.1f}"
    )
    _text(pen, (GAP, foot + LINE), "border: the recipe's own; dot: the best; below: KL to the teacher, nats")
    with replacing(out) as temporary:
        sheet.save(temporary, format="PNG")


def _row(finding: Finding) -> tuple[float, float, float]:
    assert finding.setting is not None
    return finding.setting.share, finding.setting.weight, finding.setting.label_weight


def _shades(values: Sequence[float], noise: float) -> np.ndarray:
    """Colours (K, 3) of the values, the lightest for the highest; differences within noise stay small."""
    high = max(values)
    low = min(*values, high - noise)
    spread = (np.array(values) - low) / ((high - low) or 1.0)
    shades: np.ndarray = colour((DARKEST + spread * (LIGHTEST - DARKEST))[None], MAGMA)[0]
    return shades


def _cell(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], finding: Finding, shade: np.ndarray, best: bool
) -> None:
    left, top = LEFT + place[0] * CELL[0], TOP + place[1] * CELL[1]
    box = (left, top, left + CELL[0] - 4, top + CELL[1] - 4)
    pen.rectangle(box, fill=tuple(int(part) for part in shade))
    light = shade @ np.array([0.299, 0.587, 0.114]) > 140
    ink = INK if light else "white"
    _text(pen, (left + 8, top + 8), f"{100 * finding.top1:.1f} ± {100 * finding.error:.1f}", 14, ink)
    if finding.kl is not None:
        _text(pen, (left + 8, top + 34), f"KL {finding.kl:.3f}", 12, ink)
    if finding.own:
        pen.rectangle(box, outline=ORANGE, width=4)
    if best:
        pen.ellipse((box[2] - 20, top + 10, box[2] - 10, top + 20), fill=ink)


def _text(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int = 12, ink: str = INK
) -> None:
    pen.text(place, text.replace("\n", " "), fill=ink, font=ImageFont.load_default(size))
