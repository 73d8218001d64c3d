"""Probes against closed forms and float64 numpy; heat measured on objects; asking several models at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kd_engine import models
from kd_engine.errors import KdError
from kd_engine.looking import Looked, ask, resolve
from kd_engine.probes import grid, share_on_object, similarity, to_heat, words
from kd_engine.probes.attention import Attention
from kd_engine.probes.grad_cam import GradCam
from kd_engine.probes.rollout import Rollout, rollout
from kd_engine.probes.soft_targets import SoftTargets
from kd_engine.taps import ATTENTION, Tap


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def picture(height: int = 8, width: int = 8) -> Tensor:
    return randn(3, height, width, seed=9)


def upsample(heat: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear between cell centres, held beyond the outer ones, then scaled to a maximum of 1."""

    def along(size: int, cells: int) -> np.ndarray:
        at = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
        low = np.minimum(np.floor(at).astype(int), cells - 1)
        high = np.minimum(low + 1, cells - 1)
        matrix = np.zeros((size, cells))
        for i in range(size):
            matrix[i, low[i]] += 1 - (at[i] - low[i])
            matrix[i, high[i]] += at[i] - low[i]
        return matrix

    out = along(height, heat.shape[0]) @ heat @ along(width, heat.shape[1]).T
    return out / out.max() if out.max() > 0 else out


class Linear(nn.Module):
    """A convolution, average pooling, a linear layer: its Grad-CAM has a closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 6, 2, stride=2)
        self.head = nn.Linear(6, 4)
        for number, parameter in enumerate(self.parameters()):
            parameter.data = randn(*parameter.shape, seed=number)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


MAP = {"stage1": Tap("stage1", "body")}


def linear() -> Looked:
    return Linear(), MAP


class Tokens(nn.Module):
    """Says fixed tokens and attention weights; the logits are the tokens' mean (or the first one alone)."""

    def __init__(self, tokens: Tensor, weights: list[Tensor], first_only: bool = False) -> None:
        super().__init__()
        self.tokens, self.first_only = nn.Parameter(tokens), first_only
        self.weights = nn.ParameterList(weights)
        self.block1, self.block2 = nn.Identity(), nn.Identity()
        self.heard = nn.ModuleList(nn.Identity() for _ in weights)

    def forward(self, x: Tensor) -> Tensor:
        for ear, weights in zip(self.heard, self.weights, strict=True):
            ear(weights.unsqueeze(0))
        tokens = self.block1(self.tokens.unsqueeze(0) + 0 * x.mean())
        if self.first_only:
            mixed = tokens.mean(1, keepdim=True).expand_as(tokens)
            return self.block2(tokens + mixed)[:, 0]
        return self.block2(tokens).mean(1)


def transformer(tokens: int, blocks: int = 3, first_only: bool = False) -> Looked:
    weights = [randn(2, tokens, tokens, seed=k).softmax(-1) for k in range(blocks)]
    taps = {name: Tap(name, name, "tokens") for name in ("block1", "block2")}
    for k in range(blocks):
        name = f"{ATTENTION}block{k + 1}"
        taps[name] = Tap(name, f"heard.{k}", "attention")
    return Tokens(randn(tokens, 5, seed=42), weights, first_only).eval(), taps


# ---- attention


def test_attention_is_the_mean_square_over_channels_drawn_over_the_image() -> None:
    model, taps = linear()
    image = picture(8, 12)
    look = Attention.look(model, taps, "stage1", image, Attention.Knobs())
    energy = (model.body(image[None])[0].detach().double().numpy() ** 2).mean(0)
    np.testing.assert_allclose(look.arrays["heat"], upsample(energy, 8, 12), rtol=1e-5, atol=1e-6)
    assert look.arrays["heat"].max() == 1.0
    assert look.shape == (6, 4, 6)


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_attention_of_tokens_leaves_out_those_that_are_no_patches(extra: int) -> None:
    model, taps = transformer(extra + 8)
    image = picture(8, 16)  # 2 rows of 4 patches
    heat = Attention.look(model, taps, "block2", image, Attention.Knobs()).arrays["heat"]
    energy = (model.tokens.detach().double().numpy()[extra:] ** 2).mean(1).reshape(2, 4)
    np.testing.assert_allclose(heat, upsample(energy, 8, 16), rtol=1e-5, atol=1e-6)


def test_a_silent_layer_gives_an_empty_heatmap_not_nan() -> None:
    assert to_heat(torch.zeros(4, 4), picture()).tolist() == np.zeros((8, 8)).tolist()


def test_tokens_that_make_no_grid_are_refused() -> None:
    assert grid(65, picture()) == (8, 8, 1)
    assert grid(19, picture(6, 12)) == (3, 6, 1)
    with pytest.raises(KdError, match="13 tokens make no grid over an image of 8×8"):
        grid(13, picture())


# ---- Grad-CAM


@pytest.mark.parametrize("target", [None, 0, 1, 2, 3])
def test_grad_cam_of_a_linear_network_is_its_class_weights_on_the_map(target: int | None) -> None:
    model, taps = linear()
    image = picture()
    look = GradCam.look(model, taps, "stage1", image, GradCam.Knobs(target=target))
    features = model.body(image[None])[0].detach().double().numpy()
    logits = model(image[None])[0].detach().double().numpy()
    c = int(logits.argmax()) if target is None else target
    # the logit is w · mean(f) + b: the gradient is w / places everywhere
    weights = model.head.weight.detach().double().numpy()[c] / features[0].size
    cam = np.maximum(np.einsum("c,chw->hw", weights, features), 0)
    np.testing.assert_allclose(look.arrays["heat"], upsample(cam, 8, 8), rtol=1e-4, atol=1e-5)
    assert look.numbers["class"] == c
    assert look.numbers["confidence"] == pytest.approx(np.exp(logits[c]) / np.exp(logits).sum(), rel=1e-5)


@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_grad_cam_works_on_a_frozen_model_and_where_gradients_are_off(context: type) -> None:
    model, taps = linear()
    free = GradCam.look(model, taps, "stage1", picture(), GradCam.Knobs()).arrays["heat"]
    model.requires_grad_(False)
    with context():
        frozen = GradCam.look(model, taps, "stage1", picture(), GradCam.Knobs()).arrays["heat"]
    assert np.array_equal(free, frozen)
    assert free.max() == 1.0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_grad_cam_of_tokens_uses_the_patches() -> None:
    model, taps = transformer(17)
    heat = GradCam.look(model, taps, "block2", picture(), GradCam.Knobs(target=3)).arrays["heat"]
    # the logits are the tokens' mean: class 3 has the slope 1/17 in dimension 3 of every token, 0 elsewhere
    cam = np.maximum(model.tokens.detach().double().numpy()[1:, 3], 0).reshape(4, 4)
    np.testing.assert_allclose(heat, upsample(cam, 8, 8), rtol=1e-5, atol=1e-6)


def test_grad_cam_after_the_last_mixing_of_tokens_is_refused_and_auto_takes_the_block_before() -> None:
    model, taps = transformer(17, first_only=True)
    with pytest.raises(KdError, match=r"'block2'.*only the class token.*earlier block"):
        ask("grad-cam", {"student": (model, taps)}, "block2", picture())
    arrays, _ = ask("grad-cam", {"student": (model, taps)}, "auto", picture())
    assert str(arrays["student_tap"]).startswith("block 1")
    assert arrays["student"].max() == 1.0


def test_a_class_that_the_model_does_not_have_is_refused() -> None:
    model, taps = linear()
    with pytest.raises(KdError, match="got 4, expected 0 to 3"):
        ask("grad-cam", {"student": (model, taps)}, "auto", picture(), knobs=GradCam.Knobs(target=4))


# ---- rollout


def plain_rollout(weights: list[Tensor]) -> np.ndarray:
    size = weights[0].shape[-1]
    out = np.eye(size)
    for heads in weights:
        mixed = np.zeros((size, size))
        for i in range(size):
            for j in range(size):
                mixed[i, j] = 0.5 * np.mean([h[i, j].item() for h in heads]) + 0.5 * (i == j)
            mixed[i] /= mixed[i].sum()
        out = mixed @ out
    return out


@pytest.mark.parametrize(("tap", "depth"), [("block1", 1), ("block2", 2), ("block3", 3)])
def test_rollout_is_the_product_of_the_blocks_up_to_the_chosen_one(tap: str, depth: int) -> None:
    model, taps = transformer(17)
    heat = Rollout.look(model, taps, ATTENTION + tap, picture(), Rollout.Knobs()).arrays["heat"]
    row = plain_rollout(list(model.weights)[:depth])[0, 1:].reshape(4, 4)
    np.testing.assert_allclose(heat, upsample(row, 8, 8), rtol=1e-5, atol=1e-6)


def test_rollout_without_a_class_token_is_the_mean_row() -> None:
    model, taps = transformer(16)
    heat = Rollout.look(model, taps, f"{ATTENTION}block3", picture(), Rollout.Knobs()).arrays["heat"]
    row = plain_rollout(list(model.weights)).mean(0).reshape(4, 4)
    np.testing.assert_allclose(heat, upsample(row, 8, 8), rtol=1e-5, atol=1e-6)


def test_rollout_rows_sum_to_one_and_no_mixing_keeps_every_token_at_its_place() -> None:
    weights = [randn(9, 9, seed=k).softmax(-1) for k in range(4)]
    torch.testing.assert_close(rollout(weights).sum(-1), torch.ones(9))
    torch.testing.assert_close(rollout([3 * heads for heads in weights]).sum(-1), torch.ones(9))
    torch.testing.assert_close(rollout([torch.eye(9)] * 3), torch.eye(9))


# ---- soft targets


def test_soft_targets_are_the_models_logits_and_need_no_tap() -> None:
    model, _ = linear()
    arrays, numbers = ask(SoftTargets, {"teacher": (model, {})}, "auto", picture())
    logits = model(picture()[None])[0].detach()
    assert arrays["teacher"].tolist() == logits.tolist()
    assert numbers["teacher_class"] == logits.argmax()
    assert numbers["teacher_confidence"] == pytest.approx(logits.softmax(0).max().item())
    assert str(arrays["teacher_tap"]) == "logits, 4 values"


# ---- measures


def test_share_on_object_is_1_inside_0_outside_and_the_area_for_a_flat_map() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[2:4, 2:6] = True
    assert share_on_object(mask.astype(np.float32), mask) == 1.0
    assert share_on_object((~mask).astype(np.float32), mask) == 0.0
    assert share_on_object(np.full((8, 8), 0.3, np.float32), mask) == pytest.approx(mask.mean(), rel=1e-6)
    assert share_on_object(np.zeros((8, 8), np.float32), mask) == 0.0
    with pytest.raises(ValueError, match="differ in shape"):
        share_on_object(np.zeros((4, 4), np.float32), mask)


def test_similarity_is_a_cosine() -> None:
    a, b = np.abs(randn(6, 6, seed=1).numpy()), np.abs(randn(6, 6, seed=2).numpy())
    assert similarity(a, a) == pytest.approx(1.0)
    assert similarity(a, 7 * a) == pytest.approx(1.0)
    assert similarity(a, b) == pytest.approx((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()), rel=1e-6)
    left = np.zeros((4, 4), np.float32)
    left[:, :2] = 1
    assert similarity(left, 1 - left) == 0.0
    assert similarity(left, np.zeros_like(left)) == 0.0
    with pytest.raises(ValueError, match="differ in shape"):
        similarity(left, a)


def test_places_have_words() -> None:
    assert words(Tap("stage3", ""), (64, 8, 8), last=True) == "last stage, 8×8, 64 channels"
    assert words(Tap("stage2", ""), (32, 16, 16)) == "stage 2, 16×16, 32 channels"
    assert words(Tap("stem", ""), (16, 32, 32)) == "stem, 32×32, 16 channels"
    assert words(Tap("block6", "", "tokens"), (65, 128), last=True) == "last block, 65 tokens of 128"
    assert words(Tap("attention.block2", "", "attention"), (4, 65, 65)) == "attention in block 2, 4 heads"
    assert words(Tap("embedding", "", "vector"), (64,)) == "embedding, 64 values"


# ---- asking several models


def series(prefix: str, count: int, layout: str = "map") -> dict[str, Tap]:
    names = [f"{prefix}{k + 1}" for k in range(count)]
    stem = {"stem": Tap("stem", "")} if prefix == "stage" else {}
    return {**stem, **{name: Tap(name, "", layout) for name in names}}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tap", "teacher", "student"),
    [
        ("auto", "block6", "stage3"),
        ("stage3", "block6", "stage3"),
        ("stage2", "block4", "stage2"),
        ("stage1", "block2", "stage1"),
        ("block6", "block6", "stage3"),
        ("block5", "block5", "stage3"),
        ("block4", "block4", "stage2"),
        ("block1", "block1", "stage1"),
    ],
)
def test_a_tap_of_one_model_stands_for_the_place_as_far_from_the_end_in_the_other(
    tap: str, teacher: str, student: str
) -> None:
    both = {"teacher": series("block", 6, "tokens"), "student": series("stage", 3)}
    assert resolve(Attention, both, tap) == {"teacher": teacher, "student": student}


def test_a_tap_that_both_have_is_taken_by_name_and_a_missing_one_counts_from_the_end() -> None:
    both = {"teacher": series("stage", 12), "student": series("stage", 3)}
    assert resolve(Attention, both, "stage2") == {"teacher": "stage2", "student": "stage2"}
    assert resolve(Attention, both, "stage12") == {"teacher": "stage12", "student": "stage3"}
    assert resolve(Attention, both, "stage10") == {"teacher": "stage10", "student": "stage3"}
    assert resolve(Attention, both, "stem") == {"teacher": "stem", "student": "stem"}


def test_what_cannot_be_looked_at_is_refused_with_what_there_is() -> None:
    both = {"teacher": series("block", 2, "tokens"), "student": series("stage", 2)}
    with pytest.raises(KdError, match=r"no tap 'stage'.*did you mean 'stage\d'.*block2.*auto"):
        resolve(Attention, both, "stage")
    with pytest.raises(KdError, match=r"the teacher has no tap like 'stem'.*block2, block1, and auto"):
        resolve(Attention, both, "stem")
    with pytest.raises(KdError, match="'rollout' needs attention weights, and the student gives none"):
        resolve(Rollout, {"student": both["student"]}, "auto")


def test_teacher_and_student_are_drawn_at_one_size_with_numbers_that_compare_them() -> None:
    torch.manual_seed(0)
    pair: dict[str, Looked] = {}
    for role, name in (("teacher", "resnet14"), ("student", "vit-tiny")):
        model = models.create(name, 5, 16)
        pair[role] = model, models.taps_of(name, model)
    mask = np.zeros((16, 16), dtype=bool)
    mask[:8] = True
    image = picture(16, 16)
    arrays, numbers = ask("attention", pair, "auto", image, mask)
    assert arrays["teacher"].shape == arrays["student"].shape == (16, 16)
    assert str(arrays["teacher_tap"]) == "last stage, 4×4, 64 channels"
    assert str(arrays["student_tap"]) == "last block, 17 tokens of 128"
    assert numbers.keys() == {"student_similarity", "teacher_on_object", "student_on_object"}
    assert numbers["student_similarity"] == similarity(arrays["teacher"], arrays["student"])
    assert numbers["teacher_on_object"] == share_on_object(arrays["teacher"], mask)
    same, numbers = ask("grad-cam", {"a": pair["teacher"], "b": pair["teacher"]}, "stage2", image)
    assert np.array_equal(same["a"], same["b"])
    assert numbers["b_similarity"] == pytest.approx(1.0)
    assert "b_on_object" not in numbers


def test_training_after_a_look_goes_on_as_if_there_had_been_none() -> None:
    def train(look: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(models.create("cnn", 5, 16), nn.Dropout(0.5)).train()
        taps = {"stage2": Tap("stage2", "0.stage2")}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            model(torch.randn(4, 3, 16, 16)).square().sum().backward()
            if look:
                ask("grad-cam", {"student": (model, taps)}, "auto", picture(16, 16))
            optimizer.step()
            optimizer.zero_grad()
        return model.state_dict()

    seen, unseen = train(look=True), train(look=False)
    assert all(torch.equal(seen[name], unseen[name]) for name in unseen)
