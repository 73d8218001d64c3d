"""Means, deviations and intervals, against scipy, numpy and printed tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kd_engine.statistics import (
    difference_error,
    paired,
    share_error,
    spread,
    t_quantile,
    z_for,
)

figures = st.floats(-1, 1, allow_nan=False)
pairs = st.lists(st.tuples(figures, figures), min_size=2, max_size=12)


@given(st.lists(figures, min_size=2, max_size=20))
def test_spread_is_mean_and_sample_deviation(values: list[float]) -> None:
    found = spread(values)
    assert found is not None
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-12)
    assert found.sd == pytest.approx(np.std(values, ddof=1), abs=1e-9)


def test_one_value_has_a_mean_and_no_deviation() -> None:
    found = spread([0.5])
    assert found is not None
    assert (found.n, found.mean, found.sd) == (1, 0.5, None)
    assert spread([]) is None


# Two-sided 95 % points as printed in any table of Student's t.
@pytest.mark.parametrize(
    ("freedom", "point"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042), (120, 1.980)],
)
def test_quantiles_are_those_of_the_printed_table(freedom: int, point: float) -> None:
    assert t_quantile(freedom, 0.975) == pytest.approx(point, abs=5e-4)


@given(pairs)
def test_the_interval_is_that_of_a_paired_t_test(values: list[tuple[float, float]]) -> None:
    ours, theirs = zip(*values, strict=True)
    differences = np.subtract(ours, theirs)
    found = paired(ours, theirs)
    assert found is not None
    assert found.interval is not None
    assert found.spread.mean == pytest.approx(differences.mean(), abs=1e-12)
    if differences.std() < 1e-9:  # scipy divides by it
        assert found.interval == pytest.approx((differences.mean(), differences.mean()), abs=1e-6)
        return
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-9)
    assert found.clear == (stats.ttest_rel(ours, theirs).pvalue < 0.05)


def test_what_is_common_to_a_pair_does_not_widen_the_interval() -> None:
    hard_and_easy = [0.5, 0.9, 0.7, 0.6]
    found = paired([value + 0.01 for value in hard_and_easy], hard_and_easy)
    assert found is not None
    assert found.interval == pytest.approx((0.01, 0.01))
    assert found.clear


def test_a_single_pair_has_a_gain_without_an_interval() -> None:
    found = paired([0.9], [0.8])
    assert found is not None
    assert (found.interval, found.clear) == (None, False)
    assert paired([], []) is None


def test_pairs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired([0.1, 0.2], [0.1])


def test_the_error_of_a_share_is_what_repeated_samples_show() -> None:
    rng = np.random.default_rng(0)
    shares = rng.binomial(300, 0.9, size=20_000) / 300
    assert share_error(0.9, 300) == pytest.approx(shares.std(), rel=0.02)
    others = rng.binomial(300, 0.8, size=20_000) / 300
    assert difference_error(0.9, 0.8, 300) == pytest.approx((shares - others).std(), rel=0.02)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_all_or_nothing_is_not_certain(share: float) -> None:
    assert 0 < share_error(share, 100) < 0.01


def test_more_looks_ask_for_more_errors() -> None:
    assert z_for(1) == pytest.approx(1.959964, abs=1e-6)
    assert z_for(8) == pytest.approx(stats.norm.isf(0.05 / 16), abs=1e-9)
    assert math.isclose(z_for(0), z_for(1))
