"""A student in a file, used by those who only have the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kd_engine import card, models, weights
from kd_engine.deploy import load_model
from kd_engine.errors import KdError, WeightsError

CARD: dict[str, Any] = {
    "model": "cnn",
    "knobs": {"width": 2},
    "classes": ["a", "b", "c"],
    "input": {"size": 16, "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]},
    "made_with": {"kd-studio": "0"},
}


def save(folder: Path, card_: object) -> Path:
    file = folder / "model.safetensors"
    weights.save_state(
        file,
        models.create("cnn", 3, 16, width=2).state_dict(),
        {card.KEY: card_ if isinstance(card_, str) else json.dumps(card_)},
    )
    return file


def test_whole_numbers_to_255_and_fractions_of_1_are_the_same_image(tmp_path: Path) -> None:
    model = load_model(save(tmp_path, CARD))
    assert not model.training
    assert model.classes == ["a", "b", "c"]
    codes = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(model(codes), model(codes.float() / 255))
        normed = (codes.float() / 255 - torch.tensor(CARD["input"]["mean"])[:, None, None]) / torch.tensor(
            CARD["input"]["std"]
        )[:, None, None]
        torch.testing.assert_close(model(codes), model.model(normed))


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 16, 16, 3), (2, 1, 16, 16), (5,)])
def test_what_is_no_batch_of_rgb_images_is_told(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected RGB images \(N, 3, 16, 16\), channels first; got"):
        load_model(save(tmp_path, CARD))(torch.rand(*shape))


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "{",
        "[" * 10_000,
        [],
        {},
        {**CARD, "classes": []},
        {**CARD, "classes": [1, 2, 3]},
        {**CARD, "classes": "abc"},
        {**CARD, "knobs": None},
        {**CARD, "model": 3},
        {**CARD, "input": {}},
        {**CARD, "input": {**CARD["input"], "size": 10**9}},
        {**CARD, "input": {**CARD["input"], "size": True}},
        {**CARD, "input": {**CARD["input"], "mean": [0.5]}},
        {**CARD, "input": {**CARD["input"], "std": ["x", "y", "z"]}},
        {**CARD, "figures": []},
    ],
    ids=lambda bad: str(bad)[:60],
)
def test_a_card_that_is_none_is_told_and_harms_nobody(tmp_path: Path, bad: object) -> None:
    file = save(tmp_path, bad)
    with pytest.raises(WeightsError, match="no model card that can be read"):
        load_model(file)
    assert card.read(file) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "cnnn"}, "no model 'cnnn'"),
        ({"knobs": {"width": 4}}, "does not fit the model"),
        ({"knobs": {"width": "os.system"}}, "width: got 'os.system'"),
        ({"classes": ["a", "b"]}, "the file has 3 classes"),
    ],
)
def test_a_card_that_does_not_fit_its_weights_is_told(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(KdError, match=words):
        load_model(save(tmp_path, {**CARD, **change}))


def test_a_file_that_is_not_there_or_has_no_card_is_told(tmp_path: Path, teacher: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        load_model(tmp_path / "nothing.safetensors")
    with pytest.raises(WeightsError, match="Export it from a run: kd export"):
        load_model(teacher)
