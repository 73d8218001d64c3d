"""Classification's loss against a float64 reference, its metrics against scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support, top_k_accuracy_score

from kd_engine.tasks import UNLABELLED
from kd_engine.tasks.classification import BINS, CONFUSION_CLASSES, Classification

TASK = Classification()


def answers(n: int = 200, classes: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.integers(classes, size=n)
    logits = rng.normal(0, 2, (n, classes)).astype(np.float32)
    logits[np.arange(n), target] += 2
    return logits, target


def test_the_label_loss_is_the_mean_cross_entropy_of_the_labelled_samples():
    logits, target = answers()
    target[::3] = UNLABELLED
    known = target != UNLABELLED
    exact = logits.astype(np.float64)[known]
    wanted = np.log(np.exp(exact).sum(1)) - exact[np.arange(known.sum()), target[known]]
    loss = TASK.label_loss(torch.from_numpy(logits), torch.from_numpy(target))
    assert loss.item() == pytest.approx(wanted.mean(), rel=1e-5)


def test_soft_targets_are_learned_in_their_shares_and_rows_of_zero_not_at_all():
    logits, first = answers()
    second = (first + 3) % 10
    share = np.linspace(0.5, 1, 200)
    rows = share[:, None] * np.eye(10)[first] + (1 - share[:, None]) * np.eye(10)[second]
    rows[::3] = 0
    known = rows.any(1)
    exact = logits.astype(np.float64)
    each = -(rows * (exact - np.log(np.exp(exact).sum(1, keepdims=True)))).sum(1)
    target = torch.from_numpy(rows.astype(np.float32))
    student = torch.from_numpy(logits).requires_grad_()
    loss = TASK.label_loss(student, target)
    loss.backward()
    assert loss.item() == pytest.approx(each[known].mean(), rel=1e-5)
    assert not student.grad[::3].any()
    hard = torch.from_numpy(np.where(known, first, UNLABELLED))
    assert TASK.right(student, target) == TASK.right(student, hard)
    assert TASK.counted(target) == TASK.counted(hard) == known.sum()
    one_hot = torch.eye(10)[torch.from_numpy(first)]
    assert torch.allclose(
        TASK.label_loss(student, one_hot), TASK.label_loss(student, torch.from_numpy(first))
    )
    assert TASK.label_loss(student, torch.zeros(200, 10)).item() == 0


def test_without_a_label_the_loss_and_its_gradient_are_exactly_zero():
    logits = torch.randn(8, 10, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = TASK.label_loss(logits, torch.full((8,), UNLABELLED))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(8, 10))


def test_unlabelled_samples_get_no_gradient():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    TASK.label_loss(logits, torch.tensor([0, UNLABELLED, 2, UNLABELLED])).backward()
    assert logits.grad[[0, 2]].abs().min() > 0
    assert torch.equal(logits.grad[[1, 3]], torch.zeros(2, 3))


def test_logits_may_have_more_dimensions():
    logits, target = answers(24)
    flat = TASK.label_loss(torch.from_numpy(logits), torch.from_numpy(target))
    deep = TASK.label_loss(torch.from_numpy(logits.reshape(4, 6, 10)), torch.from_numpy(target.reshape(4, 6)))
    assert torch.equal(flat, deep)
    assert TASK.metrics(logits.reshape(4, 6, 10), target.reshape(4, 6)) == TASK.metrics(logits, target)


def test_metrics_agree_with_scikit_learn():
    logits, target = answers()
    logits[:, 4] = -20  # never predicted: a precision of 0, not a division by zero
    target[target == 7] = 6  # never true
    found = TASK.metrics(logits, target)
    labels = np.arange(10)
    predicted = logits.argmax(1)
    figures = precision_recall_fscore_support(target, predicted, labels=labels, zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), figures, strict=True):
        np.testing.assert_allclose([row[name] for row in found["per_class"]], values)
    macro = precision_recall_fscore_support(
        target, predicted, labels=labels, average="macro", zero_division=0
    )
    assert list(found["macro"].values()) == pytest.approx(macro[:3])
    np.testing.assert_array_equal(found["confusion"], confusion_matrix(target, predicted, labels=labels))
    exact = logits.astype(np.float64)
    chances = np.exp(exact) / np.exp(exact).sum(1, keepdims=True)
    assert found["nll"] == pytest.approx(log_loss(target, chances, labels=labels))
    assert found["top1"] == pytest.approx(np.mean(predicted == target))
    assert found["top5"] == pytest.approx(top_k_accuracy_score(target, logits, k=5, labels=labels))
    assert found["samples"] == 200


def test_metrics_are_plain_values():
    found = TASK.metrics(*answers())
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(("classes", "there"), [(5, False), (6, True)])
def test_top5_is_told_only_where_it_can_be_wrong(classes, there):
    assert ("top5" in TASK.metrics(*answers(classes=classes))) is there


def test_unlabelled_samples_do_not_count():
    logits, target = answers()
    hidden = target.copy()
    hidden[100:] = UNLABELLED
    assert TASK.metrics(logits, hidden) == TASK.metrics(logits[:100], target[:100])


def test_equal_scores_rank_as_argmax_ranks_them():
    found = TASK.metrics(np.zeros((10, 10), np.float32), np.arange(10))
    assert found["top1"] == 0.1
    assert found["top5"] == 0.5


def test_scores_that_are_not_numbers_are_never_right():
    logits, target = answers(20)
    logits[:] = np.nan
    found = TASK.metrics(logits, np.maximum(target, 1))
    assert found["top1"] == found["top5"] == 0
    assert np.isnan(found["nll"])


def test_nothing_to_measure_on_is_refused():
    with pytest.raises(ValueError, match="no labelled sample"):
        TASK.metrics(np.zeros((3, 10)), np.full(3, UNLABELLED))


def test_extreme_scores_do_not_overflow():
    found = TASK.metrics(np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([0, 0]))
    assert found["nll"] == pytest.approx(5e3)


# -- calibration ---------------------------------------------------------------------------------------------


def test_the_bins_of_a_reliability_diagram_agree_with_scikit_learn():
    logits, target = answers(500)
    found = TASK.metrics(logits, target)
    exact = logits.astype(np.float64)
    chances = np.exp(exact) / np.exp(exact).sum(1, keepdims=True)
    right, sure = chances.argmax(1) == target, chances.max(1)
    accuracy, confidence = calibration_curve(right, sure, n_bins=BINS, strategy="uniform")
    bins = found["calibration"]
    seen = [found for found in bins if found["count"]]
    np.testing.assert_allclose([found["accuracy"] for found in seen], accuracy)
    np.testing.assert_allclose([found["confidence"] for found in seen], confidence)
    counts = np.histogram(sure, np.linspace(0, 1, BINS + 1))[0]
    assert [found["count"] for found in bins] == counts.tolist()
    error = (counts[counts > 0] / 500 * abs(accuracy - confidence)).sum()
    assert found["ece"] == pytest.approx(error)
    assert [(found["low"], found["high"]) for found in (bins[0], bins[-1])] == [(0, 1 / 15), (14 / 15, 1)]


def scores(confidence: float, right: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Two classes; the first is always named, with this probability."""
    margin = np.log(confidence / (1 - confidence))
    return np.tile([margin, 0.0], (len(right), 1)), np.where(right, 0, 1)


@pytest.mark.parametrize(("hits", "error"), [(8, 0.0), (10, 0.2), (0, 0.8)])
def test_who_says_80_percent_and_is_right_as_often_is_calibrated(hits, error):
    found = TASK.metrics(*scores(0.8, [i < hits for i in range(10)]))
    assert found["ece"] == pytest.approx(error, abs=1e-12)


def test_a_bin_without_a_sample_has_no_means():
    bins = TASK.metrics(*scores(0.8, [True]))["calibration"]
    assert bins[11] == {
        "low": 11 / 15,
        "high": 12 / 15,
        "count": 1,
        "confidence": pytest.approx(0.8),
        "accuracy": 1.0,
    }
    assert {
        (found["count"], found["confidence"], found["accuracy"]) for found in bins if found != bins[11]
    } == {(0, None, None)}


def test_the_calibration_of_scores_that_are_no_numbers_is_none():
    logits, target = answers(20)
    logits[0] = np.nan
    found = TASK.metrics(logits, target)
    assert np.isnan(found["ece"])
    assert sum(found["count"] for found in found["calibration"]) == 19


@pytest.mark.parametrize("more", [0, 1])
def test_a_confusion_matrix_too_large_to_read_is_not_told_but_the_rest_is(more):
    classes = CONFUSION_CLASSES + more
    found = TASK.metrics(*answers(classes=classes))
    assert (found["confusion"] is None) == bool(more)
    assert len(found["per_class"]) == classes
