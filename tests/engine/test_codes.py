"""How a teacher's answers are written: half precision, or of very many classes the highest."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_engine.codes import Halves, Highest


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(5,), (3, 4), (2, 3, 3)]))
def test_halves_come_back_as_halves(seed: int, shape: tuple[int, ...]) -> None:
    values = torch.randn(4, *shape, generator=torch.Generator().manual_seed(seed)) * 100
    code = Halves(shape)
    words = code.encode(values)
    assert words.shape == (4, code.words)
    assert torch.equal(code.decode(words), values.half().float())


def test_what_half_precision_cannot_hold_is_cut() -> None:
    assert Halves((2,)).decode(Halves((2,)).encode(torch.tensor([[1e9, -1e9]]))).tolist() == [
        [65504.0, -65504.0]
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1001, 3000))
def test_of_many_classes_the_highest_are_kept_and_the_rest_share_what_is_left(
    seed: int, classes: int
) -> None:
    logits = 3 * torch.randn(3, classes, generator=torch.Generator().manual_seed(seed))
    code = Highest(classes)
    words = code.encode(logits)
    assert words.shape == (3, code.words)
    back, exact = code.decode(words).double().softmax(-1).numpy(), logits.double().softmax(-1).numpy()
    top = np.argsort(-exact)[:, :100]
    for i in range(3):
        np.testing.assert_allclose(back[i, top[i]], exact[i, top[i]], rtol=0.01)
        rest = np.setdiff1d(np.arange(classes), top[i])
        assert back[i, rest].sum() == pytest.approx(exact[i, rest].sum(), rel=0.01)
        assert np.ptp(back[i, rest]) < 1e-12
    assert math.isclose(back.sum(), 3, rel_tol=1e-6)


def test_the_error_of_keeping_the_highest_is_a_kl() -> None:
    logits = 3 * torch.randn(4, 1200, generator=torch.Generator().manual_seed(0))
    code = Highest(1200)
    exact = logits.double().softmax(-1).numpy()
    kept = code.decode(code.encode(logits)).double().softmax(-1).numpy()
    wanted = (exact * np.log(exact / kept)).sum(-1)
    np.testing.assert_allclose(code.error(logits).numpy(), wanted, rtol=1e-3, atol=1e-6)
    assert (wanted > 0.01).all()  # logits of no meaning: there is much in the rest
