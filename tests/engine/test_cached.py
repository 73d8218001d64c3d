"""A teacher that is asked once: cached equals uncached in any mode, whoever filled it, killed anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kd_engine import cached, models, nearby
from kd_engine import events as e
from kd_engine.cache import Shelf
from kd_engine.cached import CHUNK, CachedTeacher
from kd_engine.classroom import Classroom
from kd_engine.codes import Highest
from kd_engine.data import plan
from kd_engine.recipe import Recipe
from kd_engine.session import Session
from kd_engine.teacher import LiveTeacher
from tests.engine import tiny

METHODS = [{"method": "kd"}, {"method": "at", "weight": 10.0}]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("KD_CACHE", str(folder))
    return folder


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images the teacher was run for, batch by batch."""
    asked: list[int] = []
    signals = LiveTeacher.signals

    def count(self: Any, batch: Any) -> Any:
        asked.append(len(batch.inputs))
        return signals(self, batch)

    monkeypatch.setattr(LiveTeacher, "signals", count)
    return asked


def recipe(teacher: Path, mode: str = "disk", **changes: Any) -> Recipe:
    made = {"stages__0__methods": METHODS, "data__views": 2, "stages__0__epochs": 4, **changes}
    return tiny.recipe(teacher, hardware__cache=mode, **made)


def losses(run: Any) -> list[float]:
    return [event.train["loss"] for event in run.events() if isinstance(event, e.EpochDone)]


def answers(room: Classroom, *taps: str) -> CachedTeacher:
    teacher = room.teacher()
    assert isinstance(teacher, CachedTeacher)
    teacher.listen(taps)
    return teacher


def batch(room: Classroom, epoch: int = 0) -> Any:
    (made, *_) = room.batches("train").stream(plan(len(room.data.train), 16, epoch, 0, room.data.views))
    return made._replace(inputs=room.backend.lay_out(made.inputs))


def test_a_cached_run_is_an_uncached_one_within_half_precision(teacher: Path, tmp_path: Path) -> None:
    runs = {mode: tiny.run(recipe(teacher, mode), tmp_path) for mode in ("off", "disk", "memory")}
    exact = losses(runs["off"])
    assert losses(runs["disk"]) == pytest.approx(exact, rel=2e-3)
    assert losses(runs["disk"]) != exact
    tiny.assert_same_run(runs["disk"], runs["memory"])


def test_filled_before_or_not_the_bits_are_the_same(teacher: Path, tmp_path: Path, live: list[int]) -> None:
    first = tiny.run(recipe(teacher), tmp_path)
    filling = sum(live)
    live.clear()
    again = tiny.run(recipe(teacher), tmp_path)
    tiny.assert_same_run(first, again)
    assert filling >= 2 * 45  # two views of 45 images
    assert sum(live) <= cached.CHUNK  # for the check when the answers are taken up


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixed_and_erased_views_are_kept_exactly(
    teacher: Path, tmp_path: Path, live: list[int], mix: str
) -> None:
    """Filled before or not the bits are the same, and within half precision those without a cache."""
    changes = {"data__mix": mix, "data__erase": 0.5, "data__labels_per_class": 2, "data__views": 3}
    first = tiny.run(recipe(teacher, **changes), tmp_path)
    live.clear()
    again = tiny.run(recipe(teacher, **changes), tmp_path)
    assert sum(live) <= cached.CHUNK
    tiny.assert_same_run(first, again)
    uncached = losses(tiny.run(recipe(teacher, "off", **changes), tmp_path))
    assert losses(first) == pytest.approx(uncached, rel=2e-3)


def test_the_teacher_is_run_once_for_each_view_whatever_the_epochs(
    teacher: Path, tmp_path: Path, live: list[int]
) -> None:
    tiny.run(recipe(teacher, "memory", stages__0__epochs=6), tmp_path)
    batches = 2 * tiny.STEPS  # of the first two epochs; each filled up to whole chunks
    assert len(live) == batches


def test_another_seed_and_rivals_share_the_answers(teacher: Path, tmp_path: Path, live: list[int]) -> None:
    tiny.run(recipe(teacher), tmp_path)
    live.clear()
    twin = {"name": "twin", "label_weight": 0.5, "methods": [{"method": "kd", "temperature": 8.0}]}
    tiny.run(
        recipe(teacher, seed=7, stages__0__rivals=[twin], stages__0__methods=[{"method": "kd"}]), tmp_path
    )
    assert sum(live) <= cached.CHUNK


@pytest.mark.parametrize(
    "change",
    [
        {"data__seed": 1},
        {"data__augment": "flip"},
        {"data__normalize": "imagenet"},
        {"data__subset": 50},
        {"data__mix": "mixup"},
    ],
)
def test_other_data_are_other_answers(
    teacher: Path, tmp_path: Path, live: list[int], change: dict[str, Any]
) -> None:
    tiny.run(recipe(teacher), tmp_path)
    live.clear()
    tiny.run(recipe(teacher, **change), tmp_path)
    assert sum(live) > cached.CHUNK


def test_answers_do_not_depend_on_the_batch_they_were_asked_in(teacher: Path, tmp_path: Path) -> None:
    room = Classroom(recipe(teacher), tmp_path)
    one, other = (
        answers(room, "stage1", "activity2.stage2"),
        LiveTeacher(room.model(room.recipe.teacher, "t"), room.backend),
    )
    other.listen(("stage1", "activity2.stage2"))
    made = batch(room)
    whole = other.signals(made)
    for part in ([0], [3, 1, 2], list(range(16))):
        some = made._replace(
            draw=type(made.draw)(made.draw.indices[part], made.draw.views[part]), inputs=made.inputs[part]
        )
        said = one.signals(some)
        assert torch.equal(said.logits, whole.logits[part].half().float())
        for name in ("stage1", "activity2.stage2"):
            assert torch.equal(said.taps[name], whole.taps[name][part].half().float())
    assert said.classifier is not None
    one.close()
    other.close()


ZOO = ("resnet8", "wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2", "vit-tiny")


@pytest.mark.parametrize("name", ZOO)
def test_every_family_says_the_same_of_an_image_in_any_batch(name: str) -> None:
    torch.manual_seed(0)
    model = models.create(name, 10, 32).to(memory_format=torch.channels_last).eval()
    images = torch.randn(2 * CHUNK, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        whole = model(images)
        for part in (range(CHUNK), range(CHUNK, 2 * CHUNK), np.resize([7, 40], CHUNK)):
            rows = torch.as_tensor(np.array(part))
            alone = model(images[rows].contiguous(memory_format=torch.channels_last))
            assert torch.equal(alone, whole[rows])


def test_kept_answers_that_are_not_what_the_teacher_says_are_made_anew(
    teacher: Path, tmp_path: Path, own_cache: Path
) -> None:
    room = Classroom(recipe(teacher), tmp_path)
    first = answers(room)
    said = first.signals(batch(room)).logits
    rows, _ = first._kept["logits"]
    rows.put(rows.filled(), np.full((len(rows.filled()), 10), 15000, np.uint16))  # whole, and wrong
    first.close()
    second = answers(room)
    assert torch.equal(second.signals(batch(room)).logits, said)
    assert any(level == "warning" and "made anew" in text for level, text, _ in second.take_notes())
    second.close()


def test_a_file_of_rubbish_in_the_cache_harms_nobody(teacher: Path, tmp_path: Path, own_cache: Path) -> None:
    first = tiny.run(recipe(teacher), tmp_path)
    for file in (own_cache / "teachers").rglob("*"):
        if file.suffix in (".rows", ".sums", ".npy", ".json"):
            file.write_bytes(b"rubbish")
    tiny.assert_same_run(first, tiny.run(recipe(teacher), tmp_path))


def test_killed_while_filling_then_resumed_the_bits_are_the_same(teacher: Path, tmp_path: Path) -> None:
    whole = tiny.run(recipe(teacher), tmp_path / "whole")
    Shelf().clear()

    def die_in_the_middle() -> None:
        for event in Session(recipe(teacher), tmp_path / "killed"):
            if isinstance(event, e.StepDone) and event.step >= 4:
                tiny.die()

    tiny.in_child(die_in_the_middle)
    (folder,) = (tmp_path / "killed").iterdir()
    resumed = Session.resume(folder)
    tiny.finish(resumed)
    tiny.assert_same_run(whole, tiny.folder(resumed))


def test_what_does_not_fit_the_budget_runs_live_and_says_so(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "SHARE", 0.001)
    room = Classroom(recipe(teacher, hardware__cache_mb=16), tmp_path)
    big = answers(room, "stage1", "stem")
    ((level, text, _),) = big.take_notes()
    assert (level, big._kept) == ("info", {})
    assert "runs live: its answers would take 1 MB" in text
    big.close()


def test_a_disk_that_fills_up_ends_the_keeping_and_not_the_run(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny.run(recipe(teacher), tmp_path)
    Shelf().clear()
    calls: list[int] = []
    put = cached.Rows.put

    def full(self: Any, rows: Any, values: Any) -> None:
        calls.append(1)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        put(self, rows, values)

    monkeypatch.setattr(cached.Rows, "put", full)
    told = tiny.finish(session := Session(recipe(teacher), tmp_path))
    tiny.assert_same_run(whole, tiny.folder(session))
    assert any("No space left" in n.message for n in tiny.of(e.Notice, told))
    assert len(calls) == 4


def test_a_cache_that_cannot_be_written_at_all_means_a_live_teacher(
    teacher: Path, tmp_path: Path, own_cache: Path
) -> None:
    own_cache.mkdir()
    (own_cache / "teachers").write_text("a file is in the way")
    told = tiny.finish(Session(recipe(teacher), tmp_path))
    assert any("runs live" in n.message for n in tiny.of(e.Notice, told))


def test_gradients_of_the_labels_are_never_kept(teacher: Path, tmp_path: Path) -> None:
    room = Classroom(recipe(teacher), tmp_path)
    teacher_ = answers(room, "gradient.input")
    assert "depends on the labels" in teacher_.take_notes()[0][1]
    assert teacher_._kept == {}
    teacher_.close()


def test_what_it_costs_to_keep_the_highest_logits_only_is_told_once(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "code_for", lambda name, shape: Highest(shape[0], 3))
    room = Classroom(recipe(teacher, stages__0__methods=METHODS[:1]), tmp_path)
    one, made = answers(room), batch(room)
    one.take_notes()
    one.signals(made)
    one.signals(batch(room, epoch=1))
    (note,) = one.take_notes()
    said = LiveTeacher(room.model(room.recipe.teacher, "t"), room.backend).signals(made).logits
    assert "the highest 3 are kept" in note.message
    assert note.values["kl"] == pytest.approx(float(Highest(10, 3).error(said).mean()), rel=1e-4)
    one.close()


# -- on the device that trains --


def test_answers_near_the_arithmetic_are_the_same_and_read_once(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: what was met once is not read from the disk again."""
    far = tiny.run(recipe(teacher), tmp_path)
    monkeypatch.setattr(nearby, "free_bytes", lambda _: 10**9)
    read: list[int] = []
    get = cached.Rows.get

    def count(self: Any, rows: np.ndarray) -> Any:
        read.extend(rows.tolist())
        return get(self, rows)

    monkeypatch.setattr(cached.Rows, "get", count)
    near = tiny.run(recipe(teacher), tmp_path)
    tiny.assert_same_run(far, near)
    kinds = 4  # logits, and the maps of three stages
    asked = kinds * (2 * 45 + cached.CHECKED)  # two views of 45 images, and some rows looked at
    assert len(read) == asked


def test_a_device_without_room_leaves_answers_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    device, words = torch.device("cpu"), {"logits": 10}
    assert nearby.nearby(1, words, device) is None  # the CPU has them at hand
    monkeypatch.setattr(nearby, "free_bytes", lambda _: 8000)
    assert nearby.nearby(100, words, device) is not None
    assert nearby.nearby(101, words, device) is None
