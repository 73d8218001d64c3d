"""Attention of transformers: against a float64 reference, its identities, its maps of heads and blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.errors import KdError
from kd_engine.methods import Terms, create
from kd_engine.methods.vit_attention import relations
from kd_engine.signals import Signals

T = 5


def draw(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def vit(blocks: int, heads: int, seed: int, batch: int = 3, tokens: int = T, width: int = 4) -> Signals:
    """A transformer's attention weights and values in every block."""
    attention = {
        f"block{k}": (2 * draw((batch, heads, tokens, tokens), seed + k)).softmax(-1)
        for k in range(1, blocks + 1)
    }
    values = {f"value.{name}": draw((batch, heads, tokens, width), seed + 50) for name in attention}
    return Signals(torch.zeros(batch, 2), values, attention)


def loss(student: Signals, teacher: Signals, **knobs: object) -> Terms:
    return create("vit-attention", **knobs)(student, teacher, torch.zeros(1))


def reference(ours: np.ndarray, theirs: np.ndarray, heads: str) -> float:
    """MiniLM's equation 3, averaged over samples, head by head and row by row."""
    number = 1 if heads == "mean" else min(ours.shape[1], theirs.shape[1])
    total, rows = 0.0, 0
    for sample in range(len(ours)):
        for head in range(number):
            sides = []
            for weights in (ours[sample], theirs[sample]):
                each = len(weights) // number
                sides.append(weights[head * each : (head + 1) * each].mean(0))
            for s, t in zip(*sides, strict=True):
                total += sum(t * (np.log(t) - np.log(s)))
                rows += 1
    return total / rows


def related(values: np.ndarray) -> np.ndarray:
    """MiniLM's equation 4."""
    scores = np.einsum("nhid,nhjd->nhij", values, values) / np.sqrt(values.shape[-1])
    power = np.exp(scores - scores.max(-1, keepdims=True))
    return power / power.sum(-1, keepdims=True)


@settings(max_examples=25, derandomize=True, deadline=None, database=None)
@given(
    batch=st.integers(1, 3),
    numbers=st.sampled_from([(1, 1), (2, 4), (6, 3), (3, 3)]),
    widths=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    tokens=st.integers(1, 6),
    heads=st.sampled_from(["mean", "match"]),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formulas(
    batch: int, numbers: tuple[int, int], widths: tuple[int, int], tokens: int, heads: str, seed: int
) -> None:
    student = vit(2, numbers[0], seed, batch, tokens, widths[0])
    teacher = vit(3, numbers[1], seed + 100, batch, tokens, widths[1])
    terms = loss(student, teacher, heads=heads, values=0.5)
    weights = reference(student.attention["block2"].numpy(), teacher.attention["block3"].numpy(), heads)
    ours, theirs = (s.taps[f"value.block{k}"].numpy() for s, k in ((student, 2), (teacher, 3)))
    values = reference(related(ours), related(theirs), heads)
    assert terms["vit-attention_block2"].item() == pytest.approx(weights, rel=1e-5, abs=1e-12)
    assert terms["vit-attention_values_block2"].item() == pytest.approx(0.5 * values, rel=1e-5, abs=1e-12)
    assert len(terms) == 2


@pytest.mark.parametrize("heads", ["mean", "match"])
def test_it_is_zero_with_a_finite_gradient_at_equality(heads: str) -> None:
    student = vit(3, 4, 1)
    student.attention["block3"].requires_grad_()
    terms = loss(student, student.detach(), heads=heads, values=1.0, layers="all")
    assert len(terms) == 6
    assert all(term.item() == 0 for term in terms.values())
    (grad,) = torch.autograd.grad(terms["vit-attention_block3"], student.attention["block3"])
    assert grad.isfinite().all()


def test_it_is_positive_for_other_weights_and_not_symmetric() -> None:
    a, b = vit(1, 2, 1), vit(1, 2, 2)
    one, other = (loss(*pair)["vit-attention_block1"] for pair in ((a, b), (b, a)))
    assert one > 0
    assert other > 0
    assert one != other


def test_the_order_of_heads_matters_only_where_heads_are_matched() -> None:
    student, teacher = vit(1, 2, 1), vit(1, 4, 2)
    swapped = Signals(teacher.logits, {}, {"block1": teacher.attention["block1"].flip(1)})
    for heads, same in (("mean", True), ("match", False)):
        pair = [loss(student, other, heads=heads)["vit-attention_block1"] for other in (teacher, swapped)]
        assert torch.allclose(*pair, rtol=1e-12, atol=0) is same


def test_values_turned_by_one_rotation_relate_alike() -> None:
    values = draw((2, 3, T, 4), 1)
    turn, _ = torch.linalg.qr(draw((4, 4), 2))
    torch.testing.assert_close(relations(values @ turn), relations(values))


def test_matched_heads_are_neighbours_averaged_in_the_model_that_has_more() -> None:
    small, large = vit(1, 2, 1), vit(1, 4, 2)
    paired = large.attention["block1"].unflatten(1, (2, 2)).mean(2)
    merged = Signals(large.logits, {}, {"block1": paired})
    for student, teacher, bare in (
        (small, large, (small, merged)),
        (large, small, (merged, small)),
    ):
        torch.testing.assert_close(
            loss(student, teacher)["vit-attention_block1"], loss(*bare)["vit-attention_block1"]
        )


@pytest.mark.parametrize(
    ("blocks", "layers", "pairs"),
    [
        ((3, 6), "last", {3: 6}),
        ((3, 6), "uniform", {1: 2, 2: 4, 3: 6}),
        ((4, 6), "uniform", {1: 2, 2: 3, 3: 5, 4: 6}),
        ((4, 2), "uniform", {1: 1, 2: 1, 3: 2, 4: 2}),
        ((2, 2), "all", {1: 1, 2: 2}),
        ((11, 11), "last", {11: 11}),
    ],
)
def test_blocks_meet_at_the_same_share_of_the_depth(
    blocks: tuple[int, int], layers: str, pairs: dict[int, int]
) -> None:
    student, teacher = vit(blocks[0], 2, 1), vit(blocks[1], 2, 2)
    terms = loss(student, teacher, layers=layers)
    assert list(terms) == [f"vit-attention_block{k}" for k in pairs]
    for ours, theirs in pairs.items():
        sides = student.attention[f"block{ours}"].numpy(), teacher.attention[f"block{theirs}"].numpy()
        assert terms[f"vit-attention_block{ours}"].item() == pytest.approx(reference(*sides, "match"))
    method = create("vit-attention", layers=layers, values=1.0)
    wanted = method.teacher_taps(student.shapes(), teacher.shapes())
    assert wanted == tuple(f"{kind}.block{k}" for kind in ("attention", "value") for k in pairs.values())


def test_what_cannot_be_compared_is_refused_with_the_way_out() -> None:
    student = vit(2, 2, 1)
    silent = Signals(torch.zeros(3, 2), {}, dict(vit(2, 2, 2).attention))
    none = Signals(torch.zeros(3, 2), {"stage1": torch.zeros(3, 4, 2, 2)})
    for teacher, knobs, why in (
        (vit(2, 2, 2, tokens=9), {}, "block2 to the teacher's block2: the student has 5 tokens and the te"),
        (vit(2, 3, 2), {}, "2 heads cannot be matched evenly with 3; set heads to 'mean'"),
        (vit(3, 2, 2), {"layers": "all"}, "has 2 blocks and the teacher 3.*'uniform'"),
        (silent, {"values": 1.0}, "the values of the teacher cannot be heard; set values to 0"),
        (none, {}, "no attention weights can be heard in the teacher; use a method on logits"),
    ):
        with pytest.raises(KdError, match=why):
            loss(student, teacher, **knobs)
    assert loss(student, silent).keys() == {"vit-attention_block2"}
    assert loss(student, vit(2, 3, 2), heads="mean").keys() == {"vit-attention_block2"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_of_exactly_zero_and_one_give_finite_terms_and_gradients(dtype: torch.dtype) -> None:
    hard = torch.eye(T).expand(2, 2, T, T).to(dtype).contiguous().requires_grad_()
    tiny = torch.full((2, 2, T, T), 1e-7).to(dtype).requires_grad_()
    teacher = Signals(torch.zeros(2, 2), {}, {"block1": torch.eye(T).flip(0).expand(2, 2, T, T).to(dtype)})
    for weights in (hard, tiny):
        term = loss(Signals(torch.zeros(2, 2), {}, {"block1": weights}), teacher)["vit-attention_block1"]
        (grad,) = torch.autograd.grad(term, weights)
        assert term.isfinite()
        assert term > 0
        assert grad.isfinite().all()


def test_large_values_in_half_precision_do_not_overflow() -> None:
    student, teacher = (
        Signals(
            s.logits, {"value.block1": (6e4 * s.taps["value.block1"]).clamp(-6e4, 6e4).half()}, s.attention
        )
        for s in (vit(1, 2, 1), vit(1, 2, 2))
    )
    assert all(term.isfinite() for term in loss(student, teacher, values=1.0).values())
