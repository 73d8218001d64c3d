"""The pictures and what the models say of them: choosing, filtering, scrubbing, asking, unfit files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from kd_engine.errors import StoreError
from kd_engine.events import ProbeReady
from kd_gui.state import demo_samples
from kd_gui.state.sample_files import read_pictures, read_snapshot
from kd_gui.state.samples import Samples

CLASSES = ["cat", "dog", "owl"]
LABELS = [0, 1, 2, 0]
TEACHER = [[9, 0, 0], [0, 9, 0], [0, 0, 9], [0, 9, 0]]  # wrong about the last


def write_pictures(path: Path, **others: Any) -> Path:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "images": rng.integers(0, 256, (4, 3, 8, 8), dtype=np.uint8),
        "labels": np.array(LABELS),
        "indices": np.array([5, 50, 7, 70]),
        "classes": np.array(CLASSES),
        "teacher_logits": np.array(TEACHER, float),
        "teacher_heat": rng.random((4, 8, 8), dtype=np.float32),
        **others,
    }
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def write_snapshot(path: Path, logits: list[list[float]], heat: float = 0.5) -> Path:
    np.savez(path, epoch=1, student_logits=np.array(logits), student_heat=np.full((4, 8, 8), heat))
    return path


def add(qtbot: QtBot, samples: Samples, epoch: int, path: Path) -> None:
    with qtbot.waitSignal(samples.epochs_changed):
        samples.add_snapshot(epoch, path)


@pytest.fixture
def samples(qtbot: QtBot, tmp_path: Path) -> Samples:
    made = Samples()
    made.load(write_pictures(tmp_path / "samples.npz"))
    return made


STUDENT: list[list[float]] = [
    [9, 0, 0],
    [3, 0, 0],
    [9, 0, 0],
    [9, 0, 0],
]  # dog is a cat, owl surely a cat; last right


def test_the_engines_own_files_are_what_is_read(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "samples.npz", masks=np.ones((4, 8, 8), bool))
    with np.load(path) as file:
        images, heat = file["images"], file["teacher_heat"]
    pictures = read_pictures(path)
    np.testing.assert_array_equal(pictures.images.transpose(0, 3, 1, 2), images)
    np.testing.assert_allclose(pictures.teacher_heat / 255, heat, atol=0.5 / 255 + 1e-6)
    assert pictures.classes == tuple(CLASSES)
    assert pictures.masks is not None
    assert pictures.part == "validation"


def test_a_picture_can_be_looked_at_before_any_student(samples: Samples) -> None:
    look, soft = samples.look(), samples.soft_targets()
    assert look is not None
    assert soft is not None
    assert (look.label, look.teacher_says, look.student_says) == (0, 0, None)
    assert look.student_heat is None
    assert look.similarity is None
    assert soft.student is None
    assert samples.shown == [0, 1, 2, 3]
    samples.set_filter("wrong")
    assert samples.shown == []


def test_wrong_and_disagree_are_the_students_and_disagreement_falls_by_kl(
    qtbot: QtBot, samples: Samples, tmp_path: Path
) -> None:
    add(qtbot, samples, 1, write_snapshot(tmp_path / "a.npz", STUDENT))
    samples.set_filter("wrong")
    assert samples.shown == [1, 2]
    samples.set_filter("disagree")
    assert samples.shown == [2, 3, 1]  # picture 1: the student is unsure, so nearer to the teacher
    order = list(samples.shown)
    samples.set_temperature(20.0)
    assert samples.shown == order
    assert samples.marks(3) == (False, True)
    assert samples.predictions(3) == (1, 0)


def test_a_filter_that_hides_the_current_picture_chooses_the_first_it_shows(
    qtbot: QtBot, samples: Samples, tmp_path: Path
) -> None:
    add(qtbot, samples, 1, write_snapshot(tmp_path / "a.npz", STUDENT))
    with qtbot.waitSignal(samples.selected):
        samples.set_filter("wrong")
    assert samples.current == 1
    with qtbot.assertNotEmitted(samples.selected):
        samples.set_filter("all")
    assert samples.current == 1


def test_moving_follows_the_strips_order_and_stops_at_its_ends(
    qtbot: QtBot, samples: Samples, tmp_path: Path
) -> None:
    add(qtbot, samples, 1, write_snapshot(tmp_path / "a.npz", STUDENT))
    samples.set_filter("disagree")
    visited = [samples.current]
    for by in (1, 1, 1, -1, -1, -1):
        samples.move(by)
        visited.append(samples.current)
    assert visited == [2, 3, 1, 1, 3, 2, 2]


def test_scrubbing_back_shows_the_student_of_then_and_the_end_follows_the_newest(
    qtbot: QtBot, samples: Samples, tmp_path: Path
) -> None:
    early: list[list[float]] = [[0, 5, 0]] * 4
    add(qtbot, samples, 0, write_snapshot(tmp_path / "a.npz", early, 0.2))
    add(qtbot, samples, 1, write_snapshot(tmp_path / "b.npz", STUDENT, 0.8))
    assert heat_of(samples) == pytest.approx(0.8, abs=0.01)
    samples.set_epoch(0)
    assert heat_of(samples) == pytest.approx(0.2, abs=0.01)
    assert samples.look().student_says == 1
    assert samples.marks(0) == (True, True)
    with qtbot.waitSignal(samples.epochs_changed):
        samples.add_snapshot(2, write_snapshot(tmp_path / "c.npz", STUDENT, 1.0))
    assert samples.epoch == 0, "a new snapshot does not take the scrubber away"
    assert heat_of(samples) == pytest.approx(0.2, abs=0.01)
    samples.set_epoch(2)
    assert samples.epoch is None
    assert heat_of(samples) == pytest.approx(1.0, abs=0.01)
    samples.set_epoch(17)
    assert samples.epoch is None, "an epoch without a snapshot is no place to go"


def test_a_new_run_forgets_the_student_and_late_snapshots_of_the_old_one(
    qtbot: QtBot, samples: Samples, tmp_path: Path
) -> None:
    add(qtbot, samples, 1, write_snapshot(tmp_path / "a.npz", STUDENT))
    samples.select(2)
    samples.add_snapshot(2, write_snapshot(tmp_path / "b.npz", STUDENT))
    samples.forget_student()
    add(qtbot, samples, 0, tmp_path / "a.npz")
    assert samples.epochs == [0]
    assert samples.current == 2


def test_many_snapshots_at_once_are_drawn_once(qtbot: QtBot, samples: Samples, tmp_path: Path) -> None:
    path, drawn = write_snapshot(tmp_path / "a.npz", STUDENT), []
    samples.looks_changed.connect(lambda: drawn.append(len(samples.epochs)))
    for epoch in range(40):
        samples.add_snapshot(epoch, path)
    qtbot.waitUntil(lambda: drawn[-1:] == [40])
    assert len(drawn) < 10


def test_loading_again_keeps_the_current_picture_when_it_is_still_there(
    samples: Samples, tmp_path: Path
) -> None:
    samples.select(2)  # sample 7
    samples.load(write_pictures(tmp_path / "b.npz", indices=np.array([7, 8, 9, 10])))
    assert samples.current == 0
    samples.select(3)
    samples.load(write_pictures(tmp_path / "c.npz", classes=np.array(["a", "b", "c"])))
    assert samples.current == 0


def answer_to(want: dict[str, Any], path: Path, **numbers: float) -> ProbeReady:
    asked = {key: want[key] for key in ("id", "probe", "sample", "tap")}
    return ProbeReady(**asked, step=3, epoch=1, path=str(path), numbers=numbers)


def test_another_map_is_asked_for_and_its_answer_drawn(
    qtbot: QtBot, samples: Samples, tmp_path: Path
) -> None:
    samples.set_maps(
        [
            {"name": "attention", "title": "Attention", "taps": [{"name": "stage3", "words": "last stage"}]},
            {"name": "grad-cam", "title": "Grad-CAM", "taps": [{"name": "stage3", "words": "last stage"}]},
        ]
    )
    samples.select(1)
    with qtbot.waitSignal(samples.wanted) as asked:
        samples.choose("grad-cam")
    want = asked.args[0]
    assert (want["probe"], want["sample"], want["tap"], want["part"]) == (
        "grad-cam",
        50,
        "auto",
        "validation",
    )
    assert samples.look().teacher_heat is None
    path = tmp_path / "answer.npz"
    np.savez(
        path, teacher=np.full((8, 8), 0.6), student=np.full((8, 8), 0.4), teacher_tap=np.array("last stage")
    )
    with qtbot.waitSignal(samples.looks_changed):
        samples.take_probe(answer_to(want, path, teacher_on_object=0.4))
    look = samples.look()
    assert int(look.student_heat[0, 0]) == 102
    assert look.similarity == pytest.approx(1.0)
    assert look.place == "last stage"
    assert (look.teacher_on_object, look.student_on_object) == (0.4, None)
    samples.choose("attention")
    assert samples.look().student_heat is None


def test_holding_an_arrow_key_asks_only_for_the_picture_it_stops_at(qtbot: QtBot, samples: Samples) -> None:
    asked: list[dict[str, Any]] = []
    samples.wanted.connect(asked.append)
    samples.set_maps([{"name": "grad-cam", "title": "Grad-CAM"}])
    for index in (1, 2, 3):
        samples.select(index)
    qtbot.waitUntil(lambda: bool(asked))
    assert [want["sample"] for want in asked] == [70]


def test_while_paused_an_answer_replaces_the_snapshot_until_the_next_one(
    qtbot: QtBot, samples: Samples, tmp_path: Path
) -> None:
    add(qtbot, samples, 1, write_snapshot(tmp_path / "a.npz", STUDENT, 0.2))
    with qtbot.waitSignal(samples.wanted) as asked:
        samples.ask()
    path = tmp_path / "answer.npz"
    np.savez(path, student=np.full((8, 8), 0.9), student_logits=np.array([0.0, 0.0, 7.0]))
    with qtbot.waitSignal(samples.looks_changed):
        samples.take_probe(answer_to(asked.args[0], path))
    assert heat_of(samples) == pytest.approx(0.9, abs=0.01)
    assert samples.look().student_says == 2
    add(qtbot, samples, 2, write_snapshot(tmp_path / "b.npz", STUDENT, 0.4))
    assert heat_of(samples) == pytest.approx(0.4, abs=0.01)
    assert samples.look().student_says == 0


def test_a_map_that_no_snapshot_holds_says_when_it_is_newer_than_the_epoch(
    qtbot: QtBot, samples: Samples, tmp_path: Path
) -> None:
    for epoch in (0, 1):
        add(qtbot, samples, epoch, write_snapshot(tmp_path / f"{epoch}.npz", STUDENT))
    with qtbot.waitSignal(samples.wanted) as asked:
        samples.set_maps([{"name": "grad-cam", "title": "Grad-CAM"}])
    path = tmp_path / "answer.npz"
    np.savez(path, teacher=np.ones((8, 8)), student=np.ones((8, 8)))
    with qtbot.waitSignal(samples.looks_changed):
        samples.take_probe(answer_to(asked.args[0], path))
    assert not samples.look().newest
    samples.set_epoch(0)
    assert samples.look().newest


def test_a_refusal_is_told_once_and_only_for_what_was_asked_here(qtbot: QtBot, samples: Samples) -> None:
    told: list[str] = []
    samples.trouble.connect(told.append)
    with qtbot.waitSignal(samples.wanted) as asked:
        samples.ask()
    samples.refuse("someone else's", "no")
    samples.refuse(asked.args[0]["id"], "it has no fitting tap")
    samples.refuse(asked.args[0]["id"], "it has no fitting tap")
    assert told == ["it has no fitting tap"]


def test_a_map_that_is_gone_gives_way_to_the_first(samples: Samples) -> None:
    samples.set_maps([{"name": "rollout", "title": "Rollout", "taps": []}])
    assert (samples.map, samples.tap) == ("rollout", "auto")
    samples.set_maps([])
    assert samples.map == "attention"


def test_without_a_teacher_only_the_student_speaks(qtbot: QtBot, tmp_path: Path) -> None:
    samples = Samples()
    samples.load(write_pictures(tmp_path / "s.npz", teacher_logits=None, teacher_heat=None))
    assert samples.soft_targets() is None
    add(qtbot, samples, 1, write_snapshot(tmp_path / "a.npz", STUDENT))
    look, soft = samples.look(), samples.soft_targets()
    assert look is not None
    assert soft is not None
    assert (look.teacher_says, look.student_says, look.similarity) == (None, 0, None)
    assert soft.kl is None
    samples.set_filter("disagree")
    assert samples.shown == []


def test_a_snapshot_of_other_pictures_is_told_and_not_drawn(
    qtbot: QtBot, samples: Samples, tmp_path: Path
) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, student_logits=np.zeros((9, 3)))
    with qtbot.waitSignal(samples.trouble) as told:
        samples.add_snapshot(1, path)
    assert "other.npz" in told.args[0]
    assert samples.epochs == []


@pytest.mark.parametrize(
    "broken",
    [
        {"images": np.zeros((4, 3, 8, 8))},  # not uint8
        {"images": None},
        {"labels": np.zeros(3, int)},
        {"teacher_logits": np.zeros((4, 2))},
        {"masks": np.zeros((4, 9, 9), bool)},
    ],
)
def test_pictures_that_do_not_fit_together_are_refused_and_the_old_ones_stay(
    samples: Samples, tmp_path: Path, broken: dict[str, Any]
) -> None:
    before = samples.pictures
    with pytest.raises(StoreError, match=r"broken\.npz"):
        samples.load(write_pictures(tmp_path / "broken.npz", **broken))
    assert samples.pictures is before


def test_a_missing_file_and_one_with_code_in_it_are_refused(samples: Samples, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        samples.load(tmp_path / "none.npz")
    np.savez(tmp_path / "pickle.npz", images=np.array([{"code": 1}], dtype=object), labels=np.zeros(1))
    with pytest.raises(StoreError, match="cannot be read"):
        samples.load(tmp_path / "pickle.npz")
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(StoreError, match="cannot be read"):
        samples.load(tmp_path / "single.npy")
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(StoreError, match="cannot be read"):
        samples.load(tmp_path / "torn.npz")


def test_the_demo_is_a_run_whose_student_comes_closer_to_the_teacher(qtbot: QtBot) -> None:
    samples = demo_samples.demo_samples(6)
    alike = []
    for epoch in samples.epochs:
        samples.set_epoch(epoch)
        alike.append(samples.look().similarity)
    assert samples.epochs == list(range(7))
    assert alike[-1] > alike[0]


def heat_of(samples: Samples) -> float:
    look = samples.look()
    assert look is not None
    assert look.student_heat is not None
    return float(look.student_heat.mean()) / 255


# ---- the validation part


HELD_OUT = {
    "validation_labels": np.array([0, 1, 2, 2, 1]),
    "teacher_validation_predictions": np.array([0, 1, 2, 2, 0], np.uint8),
}


def test_the_validation_part_is_told_at_the_epoch_that_is_looked_at(qtbot: QtBot, tmp_path: Path) -> None:
    samples = Samples()
    samples.load(write_pictures(tmp_path / "samples.npz", **HELD_OUT))
    assert samples.held_out() is None
    for epoch, said in ((1, [0, 0, 0, 0, 0]), (2, [0, 1, 2, 0, 0])):
        path = tmp_path / f"epoch_{epoch:03d}.npz"
        np.savez(path, student_logits=np.array(STUDENT), validation_predictions=np.array(said, np.uint8))
        add(qtbot, samples, epoch, path)
    newest = samples.held_out()
    samples.set_epoch(1)
    first = samples.held_out()
    assert newest is not None
    assert first is not None
    assert (newest.epoch, newest.student.tolist()) == (2, [0, 1, 2, 0, 0])
    assert (first.epoch, first.student.tolist()) == (1, [0, 0, 0, 0, 0])
    assert first.teacher is not None
    assert first.teacher.tolist() == [0, 1, 2, 2, 0]


def test_runs_that_kept_no_predictions_have_no_validation_part(
    samples: Samples, qtbot: QtBot, tmp_path: Path
) -> None:
    add(qtbot, samples, 1, write_snapshot(tmp_path / "epoch_001.npz", STUDENT))
    assert samples.held_out() is None


@pytest.mark.parametrize("said", [[0, 1], [0, 1, 2, 2, 3]], ids=["too few", "no such class"])
def test_predictions_that_do_not_fit_are_refused(tmp_path: Path, said: list[int]) -> None:
    path = write_pictures(tmp_path / "samples.npz", **HELD_OUT)
    snapshot = tmp_path / "epoch_001.npz"
    np.savez(snapshot, student_logits=np.array(STUDENT), validation_predictions=np.array(said))
    with pytest.raises(StoreError, match="validation part"):
        read_snapshot(1, snapshot, read_pictures(path))
    wrong = write_pictures(
        tmp_path / "wrong.npz", **{**HELD_OUT, "teacher_validation_predictions": np.array(said)}
    )
    with pytest.raises(StoreError, match="do not fit"):
        read_pictures(wrong)
