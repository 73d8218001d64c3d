"""Confusion, recall, calibration as arrays: against counts made by hand and by the engine's own code."""

from __future__ import annotations

import numpy as np
import pytest

from kd_engine import evaluate
from kd_gui.state import demo_evaluation, measures
from kd_gui.state.measures import Confusion

LABELS = np.array([0, 0, 0, 1, 1, 2])
SAID = np.array([0, 1, 1, 1, 1, 0])


def test_rows_are_the_truth_and_columns_the_answer() -> None:
    found = measures.confusion_of(LABELS, SAID, 4)
    assert found.counts.tolist() == [[1, 2, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert found.support.tolist() == [3, 2, 1, 0]
    assert found.top1 == pytest.approx(0.5)


def test_a_class_without_a_sample_has_no_recall_and_no_mistakes() -> None:
    found = measures.confusion_of(LABELS, SAID, 4)
    np.testing.assert_allclose(found.recall, [1 / 3, 1, 0, np.nan])
    assert not found.mistakes[3].any()
    assert not found.mistakes.diagonal().any()


def test_the_worst_mistake_is_the_most_frequent_then_the_largest_share() -> None:
    assert measures.confusion_of(LABELS, SAID, 4).worst(5) == [(0, 1), (2, 0)]
    assert Confusion(np.array([[9, 1], [1, 1]])).worst() == [(1, 0)]
    assert Confusion(np.diag([3, 4])).worst() == []


def test_predictions_give_the_engines_own_figures() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, 200)
    student, teacher = random.normal(0, 1, (2, 200, 5)) + 1.5 * np.eye(5)[labels]
    close = evaluate.against_teacher(student, teacher, labels)
    ours = measures.predicted(labels, student.argmax(-1), teacher.argmax(-1), 5)
    theirs = measures.predicted(labels, teacher.argmax(-1), None, 5)
    assert ours.agreement == pytest.approx(close["agreement"])
    assert ours.top1 is not None
    assert theirs.top1 is not None
    assert ours.top1 / theirs.top1 == pytest.approx(close["retention"])
    np.testing.assert_allclose(measures.gaps(ours, theirs), evaluate.gaps(student, teacher, labels))


def test_what_is_no_number_is_unknown() -> None:
    found = measures.figures({"top1": float("nan"), "ece": None, "kl": 0.5, "confusion": None})
    assert (found.top1, found.ece, found.kl, found.confusion, found.bins) == (None, None, 0.5, None, None)


def test_many_classes_have_recalls_without_a_matrix() -> None:
    told = {**demo_evaluation.told(0.9, 300, 4), "confusion": None}
    found = measures.figures(told)
    assert found.confusion is None
    assert found.recall is not None
    assert len(found.recall) == 300
    many = measures.predicted(np.arange(300), np.arange(300), None, 300)
    assert many.confusion is None
    assert many.top1 == 1.0


def test_the_bins_add_up_to_the_engines_ece() -> None:
    found = measures.figures(demo_evaluation.told(0.8, seed=4))
    assert found.bins is not None
    there = found.bins.count > 0
    apart = np.abs(found.bins.confidence - found.bins.accuracy)[there]
    assert (found.bins.count[there] * apart).sum() / found.bins.count.sum() == pytest.approx(found.ece)
    assert found.bins.too_sure > 0  # as it was made up


def test_few_samples_leave_a_wide_interval_open() -> None:
    found = measures.figures(
        {
            "calibration": [
                {"low": 0.0, "high": 0.5, "count": 1, "confidence": 0.4, "accuracy": 1.0},
                {"low": 0.5, "high": 1.0, "count": 400, "confidence": 0.9, "accuracy": 0.9},
            ]
        }
    ).bins
    assert found is not None
    low, high = found.interval()
    np.testing.assert_allclose(low, [0.2065, 0.8668], atol=1e-3)  # as in tables of Wilson's interval
    np.testing.assert_allclose(high, [1.0, 0.9257], atol=1e-3)


@pytest.mark.parametrize(
    ("student", "rival", "teacher", "closed"),
    [(0.9, 0.8, 1.0, 0.5), (0.7, 0.8, 1.0, -0.5), (0.9, 0.95, 0.9, None), (None, 0.8, 1.0, None)],
)
def test_the_gap_closed_is_negative_for_a_lost_race(
    student: float | None, rival: float, teacher: float, closed: float | None
) -> None:
    assert measures.gap_closed(student, rival, teacher) == (None if closed is None else pytest.approx(closed))
