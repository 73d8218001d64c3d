"""Draw what a probe saw as one PNG: the image, the teacher's and the student's heat, and their difference,
on one scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

TILE = 224  # pixels
GAP = 8
# Anchors of matplotlib's magma and of a blue-white-red map, evenly spaced; colours between them are mixed.
MAGMA = ("000004", "1c1044", "4f127b", "812581", "b5367a", "e55064", "fb8761", "fec287", "fcfdbf")
DIVERGING = ("0072b2", "7fb8d8", "f4f4f1", "eaae7f", "d55e00")


def save(probed: Path, out: Path) -> None:
    """Read a probe's .npz (see kd_engine.gallery) and write the picture. Vectors are drawn as bars."""
    with np.load(probed) as arrays:
        image = arrays["image"].transpose(1, 2, 0)
        tiles = [image]
        heats = [arrays[role] for role in ("teacher", "student") if role in arrays]
    if heats[0].ndim == 1:
        tiles += [_bars(logits) for logits in heats]
    else:
        tiles += [_blend(image, colour(heat, MAGMA)) for heat in heats]
        if len(heats) == 2:
            tiles.append(colour((heats[1] - heats[0] + 1) / 2, DIVERGING))
    sheet = Image.new("RGB", (len(tiles) * (TILE + GAP) - GAP, TILE), "white")
    for i, tile in enumerate(tiles):
        sheet.paste(
            Image.fromarray(tile).resize((TILE, TILE), Image.Resampling.BILINEAR), (i * (TILE + GAP), 0)
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)


def colour(values: np.ndarray, anchors: tuple[str, ...]) -> np.ndarray:
    """(H, W) in 0 to 1 as (H, W, 3) uint8."""
    table = np.array([[int(anchor[i : i + 2], 16) for i in (0, 2, 4)] for anchor in anchors], dtype=float)
    places = np.linspace(0, 1, len(anchors))
    channels = [np.interp(values, places, table[:, i]) for i in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def _blend(image: np.ndarray, heat: np.ndarray, opacity: float = 0.65) -> np.ndarray:
    return np.asarray((1 - opacity) * image + opacity * heat, dtype=np.uint8)


def _bars(logits: np.ndarray) -> np.ndarray:
    """Class probabilities as horizontal bars, first class on top."""
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    rows = np.linspace(0, len(shares), TILE, endpoint=False).astype(int)
    filled = np.arange(TILE)[None, :] < (shares[rows] * TILE)[:, None]
    return np.where(filled[..., None], np.array([0xD5, 0x5E, 0x00]), np.array([0xF4, 0xF4, 0xF1])).astype(
        np.uint8
    )
