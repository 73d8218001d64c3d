"""A probe's answer as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd_engine import picture
from kd_engine.errors import StoreError

SIZE = 16
CLASSES = ("cat", "a class with a name that is far too long for the room that there is", "Ü×\n")


def arrays(roles: tuple[str, ...] = ("teacher", "student"), heat: float = 0.5) -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {
        "image": np.full((3, SIZE, SIZE), 128, np.uint8),
        "label": np.array(1),
        "classes": np.array(CLASSES),
    }
    for k, role in enumerate(roles):
        made[role] = np.full((SIZE, SIZE), heat, np.float32)
        made[f"{role}_tap"] = np.array("last stage, 8×8, 64 channels")
        made[f"{role}_logits"] = np.eye(len(CLASSES), dtype=np.float32)[k]
    return made


def draw(folder: Path, made: dict[str, np.ndarray]) -> np.ndarray:
    np.savez(folder / "probe.npz", **made)
    picture.save(folder / "probe.npz", folder / "look.png")
    with Image.open(folder / "look.png") as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def tile(sheet: np.ndarray, k: int) -> np.ndarray:
    """The inner part of the k-th picture, away from its edges."""
    left = picture.GAP + k * (picture.TILE + picture.GAP)
    return sheet[picture.GAP + 20 : picture.TILE - 20, left + 20 : left + picture.TILE - 20]


def rgb(code: str) -> np.ndarray:
    return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)])


@pytest.mark.parametrize(
    ("values", "anchors", "code"),
    [
        (0.0, picture.MAGMA, "000004"),
        (1.0, picture.MAGMA, "fcfdbf"),
        (0.5, picture.DIVERGING, "f4f4f1"),
        (0.0, picture.DIVERGING, "0072b2"),
        (1.0, picture.DIVERGING, "d55e00"),
    ],
)
def test_colours_meet_their_anchors(values: float, anchors: tuple[str, ...], code: str) -> None:
    assert (picture.colour(np.full((2, 3), values), anchors) == rgb(code)).all()


@pytest.mark.parametrize(
    ("roles", "tiles"), [(("teacher", "student"), 4), (("student",), 2)], ids=["both", "student"]
)
def test_there_is_a_tile_for_the_image_every_model_and_the_difference(
    tmp_path: Path, roles: tuple[str, ...], tiles: int
) -> None:
    sheet = draw(tmp_path, arrays(roles))
    assert sheet.shape[1] == tiles * (picture.TILE + picture.GAP) + picture.GAP
    assert (tile(sheet, 0) == 128).all()
    assert len(np.unique(sheet[picture.TILE + 2 * picture.GAP :])) > 2  # words below


def test_models_that_look_alike_do_not_differ(tmp_path: Path) -> None:
    assert (tile(draw(tmp_path, arrays()), 3) == rgb("f4f4f1")).all()


def test_where_the_student_looks_more_the_difference_is_orange(tmp_path: Path) -> None:
    made = arrays()
    made["teacher"][:] = 0
    made["student"][:] = 1
    assert (tile(draw(tmp_path, made), 3) == rgb("d55e00")).all()


def test_scores_are_bars_the_likeliest_on_top(tmp_path: Path) -> None:
    made = arrays()
    made["teacher"] = made["student"] = np.array([0.0, 3.0, 1.0], np.float32)
    sheet = draw(tmp_path, made)
    assert sheet.shape[1] == 3 * (picture.TILE + picture.GAP) + picture.GAP
    orange = (sheet == rgb("d55e00")).all(-1)
    height = picture.TILE // picture.SHOWN
    lengths = [int(orange[picture.GAP + row * height + height // 2].sum()) for row in range(len(CLASSES) + 1)]
    assert lengths[0] > lengths[1] > lengths[2] > lengths[3] == 0


def test_a_place_that_cannot_be_written_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    np.savez(tmp_path / "probe.npz", **arrays())
    with pytest.raises(StoreError, match="cannot be written"):
        picture.save(tmp_path / "probe.npz", tmp_path / "probe.npz" / "look.png")
    assert [file.name for file in tmp_path.iterdir()] == ["probe.npz"]
