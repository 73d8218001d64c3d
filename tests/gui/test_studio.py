"""The studio over a fake engine: what each control does, what each event leads to, and the calls after rare
paths."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from kd_engine import commands as c
from kd_engine.store import Store
from kd_gui.state.phase import Phase
from kd_gui.state.studio import Studio
from tests.gui.conftest import catalog
from tests.gui.fake_engine import STEPS_PER_EPOCH, FakeEngine

Make = Callable[..., Studio]
T = "stages.0.methods.1.temperature"
LR = "stages.0.optimizer.lr"


def reach(qtbot: QtBot, studio: Studio, *phases: Phase) -> None:
    qtbot.waitUntil(lambda: studio.phase in phases, timeout=5000)


def run_to_end(qtbot: QtBot, studio: Studio) -> str:
    studio.distill()
    reach(qtbot, studio, Phase.DONE)
    return studio.live


def paused(qtbot: QtBot, studio: Studio) -> None:
    studio.distill()
    reach(qtbot, studio, Phase.RUNNING)
    studio.pause()
    reach(qtbot, studio, Phase.PAUSED)


def interrupted(make_studio: Make, qtbot: QtBot) -> Studio:
    """One whose run has come past its first epoch."""
    studio = make_studio(FakeEngine(catalog(), pace=0.01))
    reach(qtbot, studio, Phase.READY)
    studio.distill()
    qtbot.waitUntil(lambda: studio.feed.saved_at == 1)
    return studio


def test_it_is_usable_before_the_engine_is_there(make_studio: Make, qtbot: QtBot) -> None:
    engine = FakeEngine(catalog(), slow_boot=True)
    studio = make_studio(engine)
    assert studio.phase is Phase.BOOT
    assert not studio.can("distill")
    with qtbot.waitSignal(studio.became_ready):
        engine.boot()
    assert studio.phase is Phase.READY
    assert studio.can("distill")


def test_a_run_goes_from_start_to_done_and_is_in_the_store(studio: Studio, qtbot: QtBot) -> None:
    studio.distill()
    assert studio.phase is Phase.PREPARING  # at once, before the engine answers
    reach(qtbot, studio, Phase.DONE)
    assert [info.status for info in studio.store.runs()] == ["done"]
    assert studio.feed.status == "done"
    assert studio.feed.step == 3 * STEPS_PER_EPOCH
    qtbot.waitUntil(lambda: studio.samples.epochs == [0, 1, 2, 3])


def test_the_done_line_tells_retention_size_and_gain_and_offers_the_next_steps(
    studio: Studio, qtbot: QtBot
) -> None:
    run_to_end(qtbot, studio)
    post = studio.notices.find("end")
    assert post is not None
    assert post.text == "Student keeps 98.0 % of the teacher at 1/3.5 the size, +19.1 points over no KD."
    assert [offer.label for offer in post.offers] == ["Export student…", "Try T = 1", "Evaluation"]


def test_try_t_1_changes_the_experiment_and_runs_again(
    studio: Studio, fake: FakeEngine, qtbot: QtBot
) -> None:
    run_to_end(qtbot, studio)
    post = studio.notices.find("end")
    assert post is not None
    studio.notices.take(post, post.offers[1])
    assert studio.phase is Phase.PREPARING
    reach(qtbot, studio, Phase.DONE)
    documents = [heard[1] for heard in fake.heard if isinstance(heard, tuple) and heard[0] == "run"]
    assert [d["stages"][0]["methods"][1]["temperature"] for d in documents] == [4.0, 1.0]


def test_a_paused_run_steps_by_batch_and_by_epoch_and_goes_on(studio: Studio, qtbot: QtBot) -> None:
    paused(qtbot, studio)
    before = studio.feed.step
    studio.step("batch")
    qtbot.waitUntil(lambda: studio.feed.step > before and studio.phase is Phase.PAUSED)
    assert studio.feed.step == before + 1
    studio.step("epoch")
    qtbot.waitUntil(lambda: studio.feed.step % STEPS_PER_EPOCH == 0 and studio.phase is Phase.PAUSED)
    studio.go_on()
    reach(qtbot, studio, Phase.DONE)


def test_stop_and_keep_leaves_a_run_that_can_be_resumed(studio: Studio, qtbot: QtBot) -> None:
    paused(qtbot, studio)
    studio.stop_and_keep()
    assert studio.phase is Phase.STOPPING
    reach(qtbot, studio, Phase.STOPPED)
    [info] = studio.store.runs()
    assert info.resumable
    assert studio.can("export")
    studio.resume(info.name)
    reach(qtbot, studio, Phase.DONE)
    assert studio.live == info.name


def test_discard_leaves_nothing_and_shows_the_experiment_again(studio: Studio, qtbot: QtBot) -> None:
    paused(qtbot, studio)
    studio.discard()
    reach(qtbot, studio, Phase.STOPPED)
    assert studio.store.runs() == []
    assert studio.feed.empty
    assert studio.live == ""
    run_to_end(qtbot, studio)  # and it can be used again


def test_a_stop_that_comes_before_the_run_exists_is_not_lost(
    studio: Studio, fake: FakeEngine, qtbot: QtBot
) -> None:
    send, heard = fake.send, []
    fake.send = lambda command: heard.append(command) if not studio.live else send(command)  # type: ignore[method-assign]
    studio.distill()
    studio.discard()
    assert heard == [c.Stop(keep=False)]
    reach(qtbot, studio, Phase.STOPPED)
    assert studio.store.runs() == []


def test_a_live_edit_is_sent_and_confirmed(studio: Studio, fake: FakeEngine, qtbot: QtBot) -> None:
    paused(qtbot, studio)
    with qtbot.waitSignal(studio.knob_confirmed) as told:
        studio.draft.set_value(T, 8.0)
    assert told.args == [T, 8.0]
    assert fake.asked(c.SetKnob) == [c.SetKnob(T, 8.0)]
    assert studio.feed.markers[-1].new == 8.0


def test_a_drag_sends_its_latest_value_only_now_and_then(
    studio: Studio, fake: FakeEngine, qtbot: QtBot
) -> None:
    paused(qtbot, studio)
    for i in range(50):
        studio.draft.set_value(T, 4.0 + 0.1 * (i + 1), more=i > 0)
    with qtbot.waitSignal(studio.knob_confirmed):
        pass
    assert [command.value for command in fake.asked(c.SetKnob)] == [9.0]


def test_an_edit_without_a_run_is_not_sent(studio: Studio, fake: FakeEngine, qtbot: QtBot) -> None:
    studio.draft.set_value(T, 8.0)
    assert studio.samples.temperature == 8.0
    run_to_end(qtbot, studio)
    assert fake.asked(c.SetKnob) == []


def test_an_edit_is_not_sent_where_the_live_run_has_another_knob(
    studio: Studio, fake: FakeEngine, qtbot: QtBot
) -> None:
    paused(qtbot, studio)
    document = studio.draft.document
    document["stages"][0]["methods"].reverse()  # now kd stands where the run has at
    studio.draft.edit("turn round", document)
    studio.draft.set_value("stages.0.methods.0.weight", 0.5)
    studio.draft.set_value(LR, 0.01)
    with qtbot.waitSignal(studio.knob_confirmed):
        pass
    assert fake.asked(c.SetKnob) == [c.SetKnob(LR, 0.01)]


def test_nan_pauses_and_a_tenth_of_the_rate_goes_on(make_studio: Make, qtbot: QtBot) -> None:
    engine = FakeEngine(catalog(), nan_at=5)
    studio = make_studio(engine)
    reach(qtbot, studio, Phase.READY)
    studio.distill()
    reach(qtbot, studio, Phase.PAUSED)
    post = studio.notices.find("nan")
    assert post is not None
    assert post.text == "Loss became NaN at step 5; lr 0.05 is likely too high."
    assert [offer.label for offer in post.offers] == ["lr / 10", "Continue", "Stop and keep"]
    studio.notices.take(post, post.offers[0])
    reach(qtbot, studio, Phase.DONE)
    assert engine.asked(c.SetKnob) == [c.SetKnob(LR, pytest.approx(0.005))]
    assert studio.notices.find("nan") is None


def test_too_little_memory_offers_half_the_batch(make_studio: Make, qtbot: QtBot) -> None:
    engine = FakeEngine(catalog(), fail_at=5)
    studio = make_studio(engine)
    reach(qtbot, studio, Phase.READY)
    studio.distill()
    reach(qtbot, studio, Phase.FAILED)
    post = studio.notices.find("end")
    assert post is not None
    assert post.offers[0].label == "Batch size 64"
    engine.fail_at = 0
    studio.notices.take(post, post.offers[0])
    reach(qtbot, studio, Phase.DONE)
    assert studio.draft.value("stages.0.batch_size") == 64


def test_a_dead_engine_is_started_again_and_the_run_goes_on(
    studio: Studio, fake: FakeEngine, qtbot: QtBot
) -> None:
    fake.pace = 0.01
    studio.distill()
    qtbot.waitUntil(lambda: studio.feed.saved_at == 1)
    fake.die()
    reach(qtbot, studio, Phase.FAILED)
    qtbot.waitUntil(lambda: studio.can("distill"))
    post = studio.notices.find("end")
    assert post is not None
    [offer] = post.offers
    assert offer.label == "Resume run"
    studio.notices.take(post, offer)
    reach(qtbot, studio, Phase.DONE)


def test_an_engine_that_dies_before_it_is_ready_is_not_started_for_ever(
    make_studio: Make, qtbot: QtBot
) -> None:
    engine = FakeEngine(catalog(), slow_boot=True)
    studio = make_studio(engine)
    engine.started = False
    engine.die("exit code 1")
    qtbot.waitUntil(lambda: studio.notices.find("engine") is not None)
    assert not engine.started
    post = studio.notices.find("engine")
    assert post is not None
    studio.notices.take(post, post.offers[0])
    engine.boot()
    reach(qtbot, studio, Phase.READY)


def test_looking_at_a_stored_run_and_back_to_the_live_one_loses_nothing(
    studio: Studio, fake: FakeEngine, qtbot: QtBot
) -> None:
    first = run_to_end(qtbot, studio)
    fake.pace = 0.002
    studio.distill()
    reach(qtbot, studio, Phase.RUNNING)
    studio.look_at(first)
    qtbot.waitUntil(lambda: studio.feed.run == first and studio.feed.status == "done")
    assert studio.can("back")
    studio.back()
    qtbot.waitUntil(lambda: studio.feed.run == studio.live)
    reach(qtbot, studio, Phase.DONE)
    live = studio.feed.curves["student"].loss
    assert live.size == 3 * STEPS_PER_EPOCH
    assert list(live.x) == sorted(set(live.x))  # none twice


def test_looking_at_a_run_fills_the_same_panels_and_can_be_exported(studio: Studio, qtbot: QtBot) -> None:
    first = run_to_end(qtbot, studio)
    second = run_to_end(qtbot, studio)
    assert first != second
    studio.look_at(first)
    qtbot.waitUntil(lambda: studio.feed.run == first and studio.feed.status == "done")
    qtbot.waitUntil(lambda: studio.samples.epochs == [0, 1, 2, 3])
    assert studio.folder() == studio.store.root / first
    assert studio.can("export")


def test_a_run_that_cannot_be_read_is_told_and_the_window_stays_usable(
    studio: Studio, qtbot: QtBot, tmp_path: Path
) -> None:
    name = run_to_end(qtbot, studio)
    newer = tmp_path / "runs" / "newer"
    newer.mkdir()
    (newer / "recipe.json").write_text(json.dumps({"version": 99}))
    studio.look_at("newer")
    qtbot.waitUntil(lambda: studio.notices.find("error") is not None)
    post = studio.notices.find("error")
    assert post is not None
    assert "newer version" in post.text
    studio.look_at(name)
    qtbot.waitUntil(lambda: studio.feed.status == "done" and not studio.show.stored)


def test_an_interrupted_run_is_offered_at_the_start(make_studio: Make, qtbot: QtBot, tmp_path: Path) -> None:
    studio = interrupted(make_studio, qtbot)
    studio.shut_down()
    again = make_studio(FakeEngine(catalog()))
    qtbot.waitUntil(lambda: again.notices.find("interrupted") is not None)
    post = again.notices.find("interrupted")
    assert post is not None
    assert "was interrupted after epoch" in post.text
    reach(qtbot, again, Phase.READY)
    again.notices.take(post, post.offers[0])
    reach(qtbot, again, Phase.DONE)


def test_a_declined_restore_is_not_offered_again(make_studio: Make, qtbot: QtBot) -> None:
    interrupted(make_studio, qtbot).shut_down()
    second = make_studio(FakeEngine(catalog()))
    qtbot.waitUntil(lambda: second.notices.find("interrupted") is not None)
    post = second.notices.find("interrupted")
    assert post is not None
    second.notices.take(post, post.offers[1])
    second.shut_down()
    third = make_studio(FakeEngine(catalog()))
    reach(qtbot, third, Phase.READY)
    qtbot.wait(50)
    assert third.notices.find("interrupted") is None


def test_an_export_is_answered_with_the_file_and_the_code_that_loads_it(
    studio: Studio, qtbot: QtBot, tmp_path: Path
) -> None:
    run_to_end(qtbot, studio)
    folder = studio.folder()
    assert folder is not None
    target = tmp_path / "student.safetensors"
    with qtbot.waitSignal(studio.questions.exported) as told:
        studio.questions.export(folder, "safetensors", str(target), "best")
    assert target.is_file()
    assert len(told.args[0]["code"].splitlines()) == 3


def test_an_export_to_an_impossible_place_says_why(studio: Studio, qtbot: QtBot, tmp_path: Path) -> None:
    run_to_end(qtbot, studio)
    folder = studio.folder()
    assert folder is not None
    with qtbot.waitSignal(studio.questions.export_failed) as told:
        studio.questions.export(folder, "safetensors", str(tmp_path / "no" / "where"), "last")
    assert "No such file" in told.args[0]


def test_deleting_the_run_that_is_shown_shows_the_experiment(studio: Studio, qtbot: QtBot) -> None:
    name = run_to_end(qtbot, studio)
    studio.delete_run(name)
    assert studio.store.runs() == []
    assert studio.feed.empty
    assert not studio.can("export")


def test_problems_of_the_experiment_are_posted_and_block_the_start(studio: Studio) -> None:
    studio.draft.set_value("stages.0.epochs", 0)
    post = studio.notices.find("problems")
    assert post is not None
    assert post.text.startswith("stages.0.epochs: got 0")
    assert not studio.can("distill")
    studio.draft.undo()
    assert studio.notices.find("problems") is None
    assert studio.can("distill")


def test_a_recipe_is_saved_and_opened_again(studio: Studio, tmp_path: Path) -> None:
    studio.draft.set_value(T, 7.0)
    studio.save_recipe(str(tmp_path / "mine.json"))
    studio.draft.undo()
    studio.open_recipe(tmp_path / "mine.json")
    assert studio.draft.value(T) == 7.0


def test_a_recipe_that_is_none_is_told_and_changes_nothing(studio: Studio, tmp_path: Path) -> None:
    before = studio.draft.document
    (tmp_path / "broken.json").write_text("{")
    studio.open_recipe(tmp_path / "broken.json")
    assert studio.notices.find("draft") is not None
    assert studio.draft.document == before


def test_keep_training_lets_the_engine_go_without_closing_it(
    studio: Studio, fake: FakeEngine, qtbot: QtBot
) -> None:
    paused(qtbot, studio)
    studio.shut_down(detach=True)
    assert fake.detached
    assert "leave" in fake.heard
    assert not fake.closed


def test_another_folder_of_runs_shows_its_runs(studio: Studio, qtbot: QtBot, tmp_path: Path) -> None:
    name = run_to_end(qtbot, studio)
    studio.set_runs_folder(tmp_path / "elsewhere")
    assert studio.feed.empty
    assert Store(tmp_path / "runs").open(name).name == name
    studio.open_run(tmp_path / "runs" / name)
    qtbot.waitUntil(lambda: studio.feed.run == name)


def test_a_run_that_another_process_trains_is_followed_to_its_end(
    make_studio: Make, studio: Studio, fake: FakeEngine, qtbot: QtBot
) -> None:
    fake.pace = 0.02
    studio.distill()
    reach(qtbot, studio, Phase.RUNNING)
    other = make_studio(FakeEngine(catalog()))
    reach(qtbot, other, Phase.READY)
    other.look_at(studio.live)
    qtbot.waitUntil(lambda: other.feed.run == studio.live and other.feed.status == "running")
    qtbot.waitUntil(lambda: other.feed.status == "done", timeout=10_000)
    qtbot.waitUntil(lambda: other.samples.epochs == [0, 1, 2, 3])
    x = list(other.feed.curves["student"].loss.x)
    assert len(x) == 3 * STEPS_PER_EPOCH
    assert x == sorted(set(x))
