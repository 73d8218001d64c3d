"""Measuring a model leaves it as it was; figures agree with closed forms; the examination at a run's end."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score
from torch import nn

from kd_engine import evaluate
from kd_engine import events as e
from kd_engine.backend import Backend, mix, seeded, set_threads, threads_kept
from kd_engine.classroom import Classroom
from kd_engine.commands import AskProbe
from kd_engine.evaluate import against_teacher, at_rest, cost, gaps, latency, pace, predict, working_memory
from kd_engine.gallery import Gallery
from kd_engine.models import count_parameters, create
from kd_engine.recipe_knobs import HardwareKnobs
from kd_engine.session import Session
from kd_engine.store import RunFolder
from kd_engine.summary import closing_line, summarise
from kd_engine.validation import Validation
from kd_engine.weights import save_state
from tests.engine import tiny

CPU = Backend(HardwareKnobs(device="cpu"))


@pytest.fixture(scope="module")
def room(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Classroom:
    return Classroom(tiny.recipe(teacher, hardware__cache="off"), tmp_path_factory.mktemp("runs"))


class Dropping(nn.Module):
    """Everything that remembers, or draws lots: BatchNorm, dropout, a frozen part in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4)
        self.norm = nn.BatchNorm2d(4)
        self.frozen = nn.BatchNorm2d(4).eval()
        self.drop = nn.Dropout(0.5)
        self.linear = nn.Linear(4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.frozen(self.norm(self.conv(x))).mean((2, 3))
        logits: torch.Tensor = self.linear(self.drop(x))
        return logits


def trace(module: nn.Module) -> Any:
    """All that measuring might change."""
    modes = [part.training for part in module.modules()]
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    return modes, state, torch.get_rng_state(), [p.grad for p in module.parameters()]


def unchanged(before: Any, after: Any) -> bool:
    modes, state, lots, gradients = before
    return (
        modes == after[0]
        and all(torch.equal(state[name], after[1][name]) for name in state)
        and torch.equal(lots, after[2])
        and all(a is b for a, b in zip(gradients, after[3], strict=True))
    )


@pytest.mark.parametrize(
    "measure",
    [
        lambda module, room: predict(module, room.batches("validation"), CPU),
        lambda module, room: latency(module, 32, CPU, repeats=2),
        lambda module, room: cost(module, 32),
        lambda module, room: pace(module, torch.zeros(4, 3, 32, 32), CPU, "no counter"),
    ],
    ids=["predict", "latency", "cost", "pace"],
)
def test_measuring_leaves_modes_statistics_gradients_and_generators(room: Classroom, measure: Any) -> None:
    torch.manual_seed(0)
    module = Dropping()
    module(torch.randn(2, 3, 32, 32)).sum().backward()
    assert not module.frozen.training
    before = trace(module)
    measure(module, room)
    assert unchanged(before, trace(module))


def test_modes_are_put_back_after_an_error() -> None:
    module = Dropping()
    seen = []
    with contextlib.suppress(ZeroDivisionError), at_rest(module):
        seen += [part.training for part in module.modules()]
        raise ZeroDivisionError
    assert not any(seen)
    assert module.training
    assert not module.frozen.training
    assert torch.is_grad_enabled()


def test_predictions_are_of_every_sample_in_order(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    module = create("cnn", 10, 32, width=2)
    batches = room.batches("validation")
    monkeypatch.setattr(evaluate, "BATCH", 4)
    answers = predict(module, batches, CPU)
    assert answers.shape == (len(batches), 10)
    assert answers.dtype == np.float32
    one = 7
    with torch.no_grad():
        alone = module.eval()(batches.inputs(np.array([one]))).numpy()[0]
    assert np.allclose(answers[one], alone, atol=1e-5)


def test_a_model_is_its_own_best_student() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32)
    target = np.arange(50) % 10
    same = against_teacher(logits, logits + 3, target)  # a constant changes no distribution
    assert same["agreement"] == 1.0
    assert same["kl"] == pytest.approx(0, abs=1e-6)
    assert same["retention"] == 1.0


def test_closeness_against_torch() -> None:
    random = np.random.default_rng(1)
    student, teacher = (random.normal(size=(40, 5)).astype(np.float32) * 4 for _ in range(2))
    target = random.integers(0, 5, 40)
    found = against_teacher(student, teacher, target)
    log_s, log_t = (torch.log_softmax(torch.from_numpy(x).double(), -1) for x in (student, teacher))
    kl = nn.functional.kl_div(log_s, log_t, reduction="batchmean", log_target=True)
    assert found["kl"] == pytest.approx(kl.item())
    right_s, right_t = ((x.argmax(-1) == target).mean() for x in (student, teacher))
    assert found["agreement"] == (student.argmax(-1) == teacher.argmax(-1)).mean()
    assert found["retention"] == pytest.approx(right_s / right_t)


def test_retention_of_a_teacher_that_gets_nothing_right_is_no_number() -> None:
    wrong = np.eye(2)[[0, 0]]
    assert np.isnan(against_teacher(wrong, wrong, np.array([1, 1]))["retention"])


def test_gaps_are_differences_of_recall_by_class() -> None:
    random = np.random.default_rng(2)
    target = random.integers(0, 4, 60)
    student, teacher = (random.normal(size=(60, 5)) for _ in range(2))  # the fifth class has no sample
    of_s, of_t = (
        recall_score(target, logits.argmax(1), labels=range(4), average=None) for logits in (student, teacher)
    )
    found = gaps(student, teacher, target)
    assert found[:4] == pytest.approx(list(of_s - of_t))
    assert found[4:] == [None]
    assert gaps(student, student, target)[:4] == [0] * 4


def test_costs_are_those_of_the_files(tmp_path: Path) -> None:
    module = create("resnet8", 10, 32)
    found = cost(module, 32)
    save_state(tmp_path / "weights", module.state_dict())
    assert found["bytes"] == pytest.approx((tmp_path / "weights").stat().st_size, abs=64)  # the header's
    assert found["parameters"] == count_parameters(module) == sum(p.numel() for p in module.parameters())
    assert found["macs"] > 10 * found["parameters"]


def test_shared_weights_are_counted_once_and_do_not_trip_the_count_of_bytes() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(3 * 4 * 4, 3 * 4 * 4)
            self.two = nn.Linear(3 * 4 * 4, 3 * 4 * 4)
            self.two.weight = self.one.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.two(self.one(x.flatten(1)))
            return y

    found = cost(Tied(), 4)
    assert found["parameters"] == 48 * 48 + 2 * 48
    assert found["bytes"] > 4 * (2 * 48 * 48 + 2 * 48)


def test_latency_is_a_median_and_a_percentile_of_calls_after_a_warm_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pace = iter([100.0] * 5 + [1.0] * 19 + [10.0])  # seconds: the first calls are slow, one is late
    clock = [0.0]

    class Slow(Dropping):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            clock[0] += next(pace)
            return super().forward(x)

    monkeypatch.setattr(evaluate.time, "perf_counter", lambda: clock[0])
    found = latency(Slow(), 32, CPU, repeats=20)
    assert found["latency_ms_p50"] == 1000.0
    assert 1000.0 < found["latency_ms_p95"] < 10_000.0


class Clock(Dropping):
    """Every pass takes a second, and the chip five joules."""

    name = "a clock"

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.now = 0.0
        monkeypatch.setattr(evaluate.time, "perf_counter", lambda: self.now)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.now += 1
        return super().forward(x)

    def joules(self) -> float:
        return 5 * self.now


def test_pace_counts_images_and_joules_of_the_same_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    found = pace(clock, torch.zeros(4, 3, 32, 32), CPU, clock, seconds=10)
    assert (found["batch"], found["images_per_s"], found["counter"]) == (4, 4.0, "a clock")
    assert found["energy_j_per_1000"] == 5 * 1000 / 4
    assert "energy_j_per_1000" not in found["unmeasured"]


def test_what_cannot_be_measured_says_why_and_the_rest_is_measured() -> None:
    found = pace(Dropping(), torch.zeros(4, 3, 32, 32), CPU, "no counter here")
    assert found["energy_j_per_1000"] is None
    assert found["counter"] is None
    assert found["unmeasured"]["energy_j_per_1000"] == "no counter here"
    assert found["images_per_s"] > 0


class Hungry(nn.Module):
    """Takes so many bytes, writes to them, and gives them back before it answers."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.ones(self.size // 4)[0]


on_linux = pytest.mark.skipif(
    not (evaluate.PROC / "clear_refs").exists(), reason="this system does not tell how memory grows"
)


@on_linux
@pytest.mark.parametrize("megabytes", [20, 60])
def test_working_memory_is_the_peak_of_a_pass_though_it_gives_all_back(megabytes: int) -> None:
    size = megabytes * 2**20
    found = working_memory(Hungry(size), torch.zeros(1), CPU)
    assert found == pytest.approx(size, rel=0.05, abs=2**21)  # the kernel may give pages of 2 MiB


@on_linux
def test_an_earlier_peak_does_not_count() -> None:
    assert torch.ones(100 * 2**18)[0] == 1  # 100 MiB, given back at once
    found = working_memory(Hungry(20 * 2**20), torch.zeros(1), CPU)
    assert found == pytest.approx(20 * 2**20, rel=0.05, abs=2**21)


def test_where_memory_is_not_told_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "PROC", tmp_path)
    assert "does not tell" in str(working_memory(Dropping(), torch.zeros(1, 3, 32, 32), CPU))


def test_where_freed_memory_would_hide_it_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "nothing_free", lambda: contextlib.nullcontext(False))
    assert "does not say" in str(working_memory(Dropping(), torch.zeros(1, 3, 32, 32), CPU))


# -- on the validation part, while a student learns --


def test_validation_asks_the_teacher_once(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student = room.teacher(), room.student()
    asked: list[nn.Module] = []
    original = evaluate.predict
    monkeypatch.setattr(evaluate, "predict", lambda m, *more: (asked.append(m), original(m, *more))[1])
    validation = Validation(room, teacher)
    (trainee,) = room.trainees(0, student, teacher)
    for _ in range(3):
        told = validation.figures(trainee)
    assert teacher is not None
    assert asked == [teacher.module, *3 * [trainee.module]]
    assert set(told) == {"top1", "loss", "agreement", "kl"}
    labels = room.batches("validation").subset.labels
    logits = torch.from_numpy(original(trainee.module, room.batches("validation"), CPU))
    assert told["loss"] == pytest.approx(
        nn.functional.cross_entropy(logits, torch.from_numpy(labels)).item(), rel=1e-5
    )
    trainee.close()


# -- what the run's pictures leave behind --


def test_pictures_and_probes_leave_student_and_teacher_as_they_were(room: Classroom, teacher: Path) -> None:
    frozen, student = room.teacher(), room.student()
    assert frozen is not None
    gallery = Gallery(room, frozen, student)
    student.module.train()
    before = [trace(module) for module in (frozen.module, student.module)]
    gallery.samples()
    gallery.snapshot(student.module, student.taps, 0)
    for probe in ("attention", "grad-cam", "soft-targets"):
        gallery.probe(AskProbe(probe, 0), student.module, student.taps)
    after = [trace(module) for module in (frozen.module, student.module)]
    assert all(unchanged(*both) for both in zip(before, after, strict=True))


# -- at the end --


@pytest.fixture(scope="module")
def examined(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    made = tiny.recipe(teacher, stages__0__rivals=[tiny.PLAIN])
    return tiny.run(made, tmp_path_factory.mktemp("examined"))


def test_everybody_is_examined_once(examined: RunFolder) -> None:
    told = tiny.of(e.Evaluated, examined.events())
    assert [(figures.student, figures.weights) for figures in told] == [
        ("teacher", "last"),
        ("student", "last"),
        ("student", "best"),
        ("no KD", "last"),
    ]
    written = examined.read_json("evaluation.json")
    assert written == {f"{figures.student}/{figures.weights}": figures.metrics for figures in told}
    for figures in told:
        metrics = figures.metrics
        assert np.sum(metrics["confusion"]) == metrics["samples"] == 360
        assert np.trace(metrics["confusion"]) == round(360 * metrics["top1"])
        assert len(metrics["per_class"]) == 10
        assert {"precision", "recall", "f1"} <= set(metrics["per_class"][0])
        assert metrics["top5"] >= metrics["top1"]
    assert "agreement" not in told[0].metrics
    own = {"ece", "calibration", "macro", "nll"}
    close = {"agreement", "kl", "retention", "gaps"}
    assert all(own <= set(figures.metrics) for figures in told)
    assert all(close | {"parameters", "macs", "bytes"} <= set(figures.metrics) for figures in told[1:])
    recall = [[row["recall"] for row in figures.metrics["per_class"]] for figures in told]
    for of_student, figures in zip(recall[1:], told[1:], strict=True):
        assert figures.metrics["gaps"] == pytest.approx(list(np.subtract(of_student, recall[0])))


def test_the_end_of_a_run_measures_nothing_that_takes_long(examined: RunFolder) -> None:
    for metrics in (examined.read_json("evaluation.json") or {}).values():
        assert not {"top1_noise", "images_per_s", "memory_bytes", "energy_j_per_1000"} & set(metrics)
    assert not examined.path("measured.json").exists()


def test_the_summary_compares_teacher_student_and_rival(examined: RunFolder) -> None:
    summary = examined.read_json("summary.json")
    assert summary is not None
    student, plain, teacher = (
        summary["students"]["student"],
        summary["students"]["no KD"],
        summary["teacher"],
    )
    assert summary["status"] == "done"
    assert summary["retention"] == student["top1_test_last"] / teacher["top1_test"]
    assert summary["gain"] == student["top1_test_last"] - plain["top1_test_last"]
    assert summary["size_ratio"] == teacher["bytes"] / student["bytes"]
    assert {"latency_ms_p50", "latency_ms_p95", "parameters", "macs", "bytes"} <= set(teacher)
    assert summary["best_validation"]["student"]["epoch"] == student["best_epoch"]
    json.dumps(summary, allow_nan=False)


def test_the_examination_is_that_of_the_weights_in_the_store(
    examined: RunFolder, teacher: Path, tmp_path: Path
) -> None:
    room = Classroom(tiny.recipe(teacher), tmp_path)
    student = room.student().module
    written = examined.read_json("evaluation.json")
    assert written is not None
    for which in ("last", "best"):
        student.load_state_dict(tiny.weights(examined, f"{which}.safetensors"))
        logits = predict(student, room.batches("test"), CPU)
        top1 = (logits.argmax(-1) == room.data.test.labels).mean()
        assert written[f"student/{which}"]["top1"] == top1


def test_without_a_teacher_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    plain = [{"stage": "train", "epochs": 1, "batch_size": 16}]
    session = Session(tiny.recipe(teacher=None, stages=plain), tmp_path)
    told = tiny.finish(session)
    assert not tiny.of(e.TeacherReady, told)
    summary = told[-1].summary  # type: ignore[attr-defined]
    assert (summary["teacher"], summary["retention"], summary["gain"], summary["size_ratio"]) == (None,) * 4
    assert "agreement" not in tiny.of(e.EpochDone, told)[0].validation


def test_the_closing_line_is_honest_when_negative() -> None:
    student = {"top1_test_last": 0.5, "bytes": 100}
    rival = {"top1_test_last": 0.75}
    teacher = {"top1_test": 0.8, "bytes": 1250}
    line = closing_line(summarise({"student": student, "plain": rival}, teacher, {}))
    assert "50.0%" in line
    assert "62.5%" in line
    assert "12.5" in line
    assert "-25.0 points" in line
    alone = closing_line(summarise({"student": student}, None, {}))
    assert "50.0%" in alone
    assert "teacher" not in alone
    assert "points" not in alone


# -- seeds and threads --


def test_seeds_differ_by_any_part_and_are_the_same_for_ever() -> None:
    parts = [(0,), (1,), (0, "step"), (0, "step", 1), (0, "step", 2), (0, "st", "ep", 1), (1, 11), (11, 1)]
    assert len({mix(*part) for part in parts}) == len(parts)
    assert mix(0, "step", 0) == 987659192145217166


def test_a_seeded_block_is_repeatable_and_leaves_the_generator() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with seeded(1, "a"):
        one = torch.rand(3)
    with contextlib.suppress(ZeroDivisionError), seeded(1, "a"):
        other = torch.rand(3)
        raise ZeroDivisionError
    assert torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded(1, "b"):
        assert not torch.equal(torch.rand(3), one)


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with contextlib.suppress(ZeroDivisionError), threads_kept():
        set_threads(before + 1)
        assert torch.get_num_threads() == before + 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == before
