"""Every module that measures something works at a tiny size, and hands over figures that are numbers."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import apart, epoch, gpu, growth, loops, memory, stacked, step, waiting, window
from benchmarks.__main__ import MODULES
from benchmarks.apart import Apart
from benchmarks.figures import MISSED, Figure
from benchmarks.loops import Pair
from kd_engine import journal, keeper
from kd_engine.allocation import nothing_free
from kd_engine.threads import SPINS

QUICK = {"images": 32, "repeats": 1, "steps": 4}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The modules choose where answers are kept, for their own process."""
    monkeypatch.setenv("KD_CACHE", str(tmp_path / "cache"))
    yield
    assert torch.is_grad_enabled()


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair("cnn", "cnn", 32, 64, tmp_path).write()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops run in this process: others take seconds to begin."""

    def in_turn(makers: dict[str, Apart], epochs: int) -> dict[str, list[float]]:
        return loops.in_turn({name: maker.make for name, maker in makers.items()}, epochs)

    monkeypatch.setattr(apart, "in_turn", in_turn)


def asked(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{**QUICK, **more})


def sound(found: list[Figure]) -> list[Figure]:
    assert found
    for figure in found:
        assert figure.value is not None
        assert math.isfinite(figure.value)
        assert figure.low is None or figure.low <= figure.value <= (figure.high or 0)
    return found


def test_all_loops_go_on_epoch_by_epoch(pair: Pair) -> None:
    makers = {
        name: lambda make=make: make(pair)
        for name, make in {"floor": loops.floor, "ours": loops.ours, "teacher": loops.teacher_pass}.items()
    }
    times = loops.in_turn(makers, 2)
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in times.values())


def test_a_warm_epoch_asks_the_teacher_nothing_and_a_filling_one_all(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kd_engine.teacher import LiveTeacher

    heard: list[int] = []
    signals = LiveTeacher.signals

    def count(self: LiveTeacher, batch: Any) -> Any:
        heard.append(len(batch.inputs))
        return signals(self, batch)

    monkeypatch.setattr(LiveTeacher, "signals", count)
    warm, filling = loops.ours(pair), loops.filling(pair)
    next(warm)
    heard.clear()
    next(warm)
    assert heard == []
    next(filling)
    heard.clear()
    next(filling)
    assert sum(heard) == pair.images
    for moving in (warm, filling):
        moving.close()  # type: ignore[attr-defined]


def test_the_views_of_a_session_are_augmented(pair: Pair) -> None:
    from kd_engine.classroom import Classroom
    from kd_engine.data import plan

    room = Classroom(loops.recipe(pair), pair.folder)
    batches = room.batches("train")
    for draw in plan(pair.images, pair.batch, 0, 0, room.data.views):
        assert not torch.equal(batches.inputs(*draw), batches.inputs(draw.indices))


def test_a_run_that_fails_is_not_timed(pair: Pair) -> None:
    (pair.folder / "teacher.pth").write_bytes(b"no weights")
    with pytest.raises(RuntimeError, match=r"teacher\.pth"):
        next(loops.ours(pair))


@pytest.mark.usefixtures("here")
def test_epoch_hands_over_a_figure_for_each_ratio() -> None:
    found = sound(epoch.measured(asked(pairs="cnn:cnn", batch="16", without_reference=True)))
    assert [figure.name for figure in found] == [
        "warm epoch ÷ floor",
        "filling epoch ÷ (floor + one teacher pass)",
        "cached maps, epoch ÷ floor",
        "cached maps, epoch ÷ floor",
        "student and rival ÷ two floors",
        "five rivals ÷ five floors",
    ]
    assert found[0].case == "cnn → cnn, batch 16"


@pytest.mark.usefixtures("here")
def test_the_reference_trains_and_is_to_be_slower(pair: Pair) -> None:
    (reference,) = [f for f in sound(epoch.by_batch(pair, 4.1, 1, True)) if f.name.startswith("reference")]
    assert (reference.must, reference.better) == (4.1, "more")


def test_five_rivals_are_a_sweep_over_five_temperatures() -> None:
    others = [rival["methods"][0]["temperature"] for rival in epoch.rivals(5)]
    assert sorted([epoch.TEMPERATURES[0], *others]) == sorted(epoch.TEMPERATURES)
    assert epoch.rivals(1) == []


@pytest.mark.usefixtures("here")
def test_waiting_compares_what_is_settled_for_a_process() -> None:
    found = sound(waiting.measured(asked(students="cnn", batch=4, steps=1)))
    assert len(found) == 5
    assert found[-1].name.startswith("epoch, freed memory kept")


def in_its_process() -> Iterator[float]:
    """What the process says of itself, as numbers: how threads wait, and its number."""
    yield float(os.environ.get("GOMP_SPINCOUNT", -1))
    yield float(os.getpid())


def breaks_off() -> Iterator[float]:
    yield 1.0
    raise ZeroDivisionError("no more")


def test_a_loop_of_ours_has_a_process_as_kd_run_has_and_others_have_pythons() -> None:
    makers = {"theirs": Apart(in_its_process), "ours": Apart(in_its_process, ours=True)}
    before = dict(os.environ)
    told = apart.in_turn(makers, 2)
    assert [spins for spins, _ in told.values()] == [-1, float(SPINS)]
    assert len({os.getpid(), *(process for _, process in told.values())}) == 3
    assert dict(os.environ) == before


def test_a_loop_that_breaks_off_says_why() -> None:
    with pytest.raises(RuntimeError, match="no more"):
        apart.in_turn({"broken": Apart(breaks_off)}, 2)


def test_what_was_asked_for_a_process_comes_before_what_ours_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")  # of who measures, not of who is measured
    assert "GOMP_SPINCOUNT" not in Apart(breaks_off).environ()
    assert Apart(breaks_off, ours=True).environ()["GOMP_SPINCOUNT"] == SPINS
    assert Apart(breaks_off, ours=True, waits={"GOMP_SPINCOUNT": "3"}).environ()["GOMP_SPINCOUNT"] == "3"
    assert "OMP_WAIT_POLICY" not in Apart(breaks_off).environ()


def test_stacked_students_are_compared_with_students_in_turn() -> None:
    (figure,) = sound(stacked.measured(asked(rivals=2, students="cnn", batch=4)))
    assert figure.value is not None
    assert figure.value > 0


def test_step_hands_over_augmentation_overhead_parts_and_checkpoints() -> None:
    patched = [(owner, name, getattr(owner, name)) for owner, name in step.PARTS.values()]
    patched += [(keeper.Keeper, "begin", keeper.Keeper.begin)]
    patched += [
        (journal.Journal, name, getattr(journal.Journal, name))
        for name in ("begin_checkpoint", "checkpointed")
    ]
    found = sound(step.measured(asked()))
    assert all(getattr(owner, name) is before for owner, name, before in patched)  # put back
    assert len(found) == 7 + len(step.PARTS)
    overhead = [figure for figure in found if figure.unit == "ms" and figure.name.startswith("events")]
    assert [figure.must for figure in overhead] == [0.3] * 4
    assert journal.REPORT_S == 0.05  # put back


def test_a_loop_that_is_slowed_down_shows_in_the_overhead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calm = step.overhead(asked(repeats=3), tmp_path)
    due = journal.Journal.due

    def slow(self: journal.Journal) -> bool:
        sum(range(200_000))  # a few milliseconds
        return due(self)

    monkeypatch.setattr(journal.Journal, "due", slow)
    slowed = step.overhead(asked(repeats=3), tmp_path)
    assert all((s.value or 0) > (c.value or 0) + 0.5 for s, c in zip(slowed, calm, strict=True))
    assert {figure.kept for figure in slowed} == {MISSED}


@pytest.mark.skipif(not memory.STATUS.exists(), reason="Linux only")
def test_memory_hands_over_what_kept_rows_take() -> None:
    found = sound(memory.measured(argparse.Namespace(rows=1000, classes=10, batch=100)))
    assert [figure.case.split(",")[0] for figure in found] == ["rows", "teacher"]


@pytest.mark.skipif(not memory.STATUS.exists(), reason="Linux only")
def test_growth_of_memory_is_seen() -> None:
    with nothing_free() as possible:
        assert possible
        grown = memory.Growth()
        taken = bytearray(os.urandom(64)) * 10**6
        grown.look()
        del taken
    assert 55 < grown.most["RssAnon"] < 90


def test_memory_cannot_be_measured_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "STATUS", Path("/no/such/file"))
    (figure,) = memory.measured(argparse.Namespace(rows=1000, classes=10, batch=100))
    assert figure.value is None
    assert "Linux" in figure.note


def test_growth_hands_over_three_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "TEACHER", "cnn")
    monkeypatch.setattr(growth, "STUDENT", "cnn")
    found = sound(growth.measured(asked(times="1,2", rivals=2, runs="0,3")))
    assert [[x for x, _ in figure.points] for figure in found] == [[1, 2], [1, 2], [1, 4]]


def test_cost_in_proportion_is_one_and_the_slope_is_told() -> None:
    figure = growth.grown("x", [1, 2, 4], [[0.1, 0.1], [0.2, 0.2], [0.4, 0.4]])
    assert figure.value == pytest.approx(1)
    assert figure.points == ((1, 1), (2, pytest.approx(2)), (4, pytest.approx(4)))
    assert figure.note.endswith("slope 100 ms")
    assert growth.grown("x", [1, 4], [[1.0], [8.0]]).kept == MISSED


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one here")
def test_without_a_gpu_its_figures_are_told_as_missing() -> None:
    found = gpu.measured(asked(pair="resnet56:resnet20", batch=512, workers=1))
    assert [figure.value for figure in found] == [None, None]


def test_times_on_a_gpu_become_ratios() -> None:
    times = {"floor": [0.9], "graphed": [0.5], "launched": [1.8], "warm": [1.0], "reference": [12.0]}
    faster, share = gpu.summed_up("here", times)
    assert (faster.value, faster.kept) == (12.0, "must")
    assert (share.value, share.kept) == (50.0, MISSED)
    assert share.note == "kernel by kernel ÷ floor: 2.00×; ÷ replayed: 1.80×"


def test_the_window_hands_over_latency_and_rate() -> None:
    late_ms = [[1.0] * 98 + [10.0, 60.0], [1.0] * 100, [1.0] * 98 + [20.0, 50.0]]
    rates = [(940.0, 1000.0), (95.0, 100.0), (1960.0, 2000.0)]
    late, worst, share = sound(window.summed_up(late_ms, rates))
    assert (late.low, late.value) == (pytest.approx(5.75), pytest.approx(10.5))
    assert (worst.value, worst.kept) == (60.0, MISSED)
    assert (share.value, share.kept) == (95.0, "must")


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_a_command(name: str) -> None:
    text = (Path(loops.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    assert text.endswith('if __name__ == "__main__":\n    main()\n')
