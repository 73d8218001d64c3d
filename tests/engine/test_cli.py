"""The command line as a newcomer and as a careless user meet it: what it prints where, and how it ends."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from kd_engine import catalog as catalogs
from kd_engine import cli, events
from kd_engine.commands import Stop
from kd_engine.corruptions import CORRUPTIONS
from kd_engine.events import EpochDone, RunStopped, StepDone
from kd_engine.methods.kd import Kd as Kd_
from kd_engine.session import Session
from kd_engine.signals import Signals
from kd_engine.store import RunFolder
from tests.engine import tiny


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Kd = Callable[..., Ended]


@pytest.fixture
def kd(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Kd:
    """Run one command in this process: its exit code and what it wrote."""

    def call(*words: object) -> Ended:
        monkeypatch.setattr("sys.argv", ["kd", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        code = left.value.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Ended(0 if code is None else int(code), out, err)

    return call


@pytest.fixture
def recipe(teacher: Path, tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.json", tiny.document(teacher))


def write(file: Path, document: object) -> Path:
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def refused(ended: Ended, *words: str) -> None:
    """The request was wrong: told on stderr, and nothing else."""
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(("kd: ", "Usage: "))
    assert [word for word in words if word not in ended.err] == [], ended.err


# -- what exists ---------------------------------------------------------------------------------------------

CONTRACT = {
    "catalog": ["--json"],
    "check": ["RECIPE"],
    "run": ["RECIPE", "--set", "--runs", "--jsonl"],
    "resume": ["RUN"],
    "runs": ["--json"],
    "evaluate": ["RUN", "--json", "--model", "--weights", "--data", "--set", "--robust"],
    "probe": ["RUN", "--probe", "--sample", "--out"],
    "export": ["RUN", "--format", "--out"],
    "bench": ["RECIPE", "--set", "--seeds", "--runs", "--out", "--jobs", "--vary-data"],
    "advise": ["RECIPE", "--set", "--epochs", "--subset", "--runs", "--out", "--write"],
}


def test_help_names_every_command_and_how_to_begin(kd: Kd) -> None:
    help = kd("--help")
    assert help.code == 0
    assert [command for command in CONTRACT if f"  {command} " not in help.out] == []
    assert "kd run quickstart" in help.out


@pytest.mark.parametrize("command", CONTRACT)
def test_the_help_of_a_command_names_what_it_takes(kd: Kd, command: str) -> None:
    help = kd(command, "--help")
    assert help.code == 0
    assert [word for word in CONTRACT[command] if word not in help.out] == []


def test_the_help_of_run_names_the_presets(kd: Kd) -> None:
    assert "quickstart" in kd("run", "--help").out


def test_the_catalog_is_the_catalog(kd: Kd) -> None:
    found = catalogs.load()
    assert json.loads(kd("catalog", "--json").out) == found.to_json()
    shown = kd("catalog").out
    for entry in found.entries:
        names = entry.facts.get("models") or [entry.name]
        assert names[0] in shown
        assert [knob.name for knob in entry.knobs if knob.name not in shown] == []
    assert "path: a text, required" in shown


def test_a_broken_plug_in_is_shown_with_the_reason(
    kd: Kd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "sad.py").write_text("import no_such_package\n")
    monkeypatch.setenv("KD_PLUGINS", str(tmp_path))
    monkeypatch.setenv("KD_CACHE", str(tmp_path / "cache"))
    shown = kd("catalog")
    assert shown.code == 0
    assert "No module named 'no_such_package'" in shown.out


def test_nothing_heavy_is_imported_for_a_light_question() -> None:
    catalogs.load()  # warm
    code = (
        "import sys; from kd_engine import cli\n"
        "for words in (['--help'], ['runs'], ['check', 'quickstart'], ['catalog'], ['check', 'nothing']):\n"
        "    sys.argv = ['kd', *words]\n"
        "    try: cli.main()\n"
        "    except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'PIL', 'sklearn', 'torchvision', 'PySide6'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_python_m_kd_engine_is_kd_and_leaves_quietly_when_nobody_reads_on() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "kd_engine", "catalog", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1) == b"{"
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_terminal_without_our_letters_is_served_too(kd: Kd, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setattr("sys.argv", ["kd", "catalog"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 0
    screen.flush()
    assert b"32?32" in screen.buffer.getvalue()  # type: ignore[attr-defined]


# -- check ---------------------------------------------------------------------------------------------------


def test_a_good_recipe_has_no_problems(kd: Kd, recipe: Path) -> None:
    assert kd("check", "quickstart") == (0, "quickstart: no problems.\n", "")
    assert kd("check", recipe).code == 0


def test_all_problems_are_named_at_once(kd: Kd) -> None:
    changes = ("data.dataset=digts", "student.model=resnet9", "stages.0.methods.0.method=kdd", "sed=1")
    ended = kd("check", "quickstart", *(word for change in changes for word in ("--set", change)))
    refused(ended, "4 problems", "did you mean 'digits'", "did you mean 'resnet8'", "did you mean 'kd'")
    assert "sed: no such setting (did you mean 'seed'?)" in ended.err


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("foo", "expected path=value"),
        ("=1", "expected path=value"),
        ("", "expected path=value"),
        ("..=1", "no such setting"),
        ("stages.0.epochs.x=1", "stages.0.epochs.x: no such place"),
        ("stages.7.epochs=1", "stages.7.epochs: no such place"),
        ("stages.-1.epochs=1", "stages.-1.epochs: no such place"),
        ("stages.x=1", "stages.x: no such place"),
        ("stages.0.epochs=many", "stages.0.epochs: got 'many', expected a whole number"),
        ("stages.0.methods.0.temperature=0.5", "stages.0.methods.0.temperature: got 0.5, expected 1 to 20"),
        ("stages.0.optimizer.lr=NaN", "stages.0.optimizer.lr: got nan, expected 0 to 10"),
        ("version=2", "made by a newer version"),
        ("teacher=null", "teacher: missing: stage 'distill' learns from one"),
        ('stages.0.rivals.0.name="teacher"', "stages.0.rivals.0.name: got 'teacher'"),
        ("student=3", "student: got 3, expected an object"),
        ("seed=" + "9" * 5000, "seed: got"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(kd: Kd, change: str, word: str) -> None:
    refused(kd("check", "quickstart", "--set", change), word)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "not a JSON file"),
        (b"{", "not a JSON file"),
        (bytes(range(256)), "not a JSON file"),
        (b"[1, 2]", "expected a JSON object"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"seed": ' + b"9" * 6000 + b"}", "not a JSON file"),
        (b'{"a": 1}', "data: missing"),
    ],
    ids=["empty", "cut", "bytes", "list", "deep", "huge", "foreign"],
)
def test_what_is_no_recipe_is_refused(kd: Kd, tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "bad.json").write_bytes(content)
    refused(kd("check", tmp_path / "bad.json"), word)


@pytest.mark.parametrize("name", ["quikstart", "", "no\0thing", "/", "a" * 5000])
def test_a_recipe_that_is_not_there_is_refused(kd: Kd, name: str) -> None:
    refused(kd("check", name), "kd: ")


def test_a_misspelt_preset_is_suggested(kd: Kd) -> None:
    refused(kd("run", "quikstart"), "did you mean 'quickstart'?", "the presets are quickstart")


# -- run and resume ------------------------------------------------------------------------------------------


def test_a_run_tells_its_way_and_ends_with_one_line(kd: Kd, recipe: Path, tmp_path: Path) -> None:
    ended = kd("run", recipe, "--runs", tmp_path / "runs", "--set", "stages.0.epochs=1")
    assert (ended.code, ended.err) == (0, "")
    assert "epoch 1: student" in ended.out
    assert "epoch 2" not in ended.out
    assert ended.out.splitlines()[-1].startswith("Student: ")
    assert "\x1b" not in ended.out  # no terminal: no colours, no bar
    assert "" not in ended.out.splitlines()
    [stored] = (tmp_path / "runs").iterdir()
    assert stored.name in ended.out


def test_jsonl_is_the_log_line_by_line_and_nothing_else(kd: Kd, recipe: Path, tmp_path: Path) -> None:
    ended = kd("run", recipe, "--runs", tmp_path / "runs", "--jsonl")
    assert (ended.code, ended.err) == (0, "")
    [stored] = (tmp_path / "runs").iterdir()
    assert ended.events == [json.loads(line) for line in (stored / "events.jsonl").read_text().splitlines()]
    assert ended.events[-1]["event"] == "RunDone"


def test_a_folder_of_a_run_in_place_of_a_recipe_repeats_it(
    kd: Kd, undisturbed: RunFolder, tmp_path: Path
) -> None:
    assert kd("run", undisturbed.folder, "--runs", tmp_path).code == 0
    [stored] = tmp_path.iterdir()
    tiny.assert_same_run(RunFolder(stored), undisturbed)


def test_ctrl_c_stops_and_keeps_a_run(kd: Kd, recipe: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kd_engine", "run", str(recipe), "--runs", str(tmp_path / "runs")]
    command += ["--jsonl", "--set", "stages.0.epochs=10000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told = []
        for line in process.stdout:
            told.append(events.from_json(json.loads(line)))
            if isinstance(told[-1], EpochDone) and told[-1].epoch == 1:
                process.send_signal(signal.SIGINT)
        assert "Ctrl+C again ends at once" in process.stderr.read()
    assert process.returncode == 130
    assert isinstance(told[-1], RunStopped)
    assert told[-1].kept
    [row] = json.loads(kd("runs", "--runs", tmp_path / "runs", "--json").out)
    assert (row["status"], row["resumable"]) == ("stopped", True)


def test_a_stopped_run_is_resumed_by_a_part_of_its_name(
    kd: Kd, teacher: Path, undisturbed: RunFolder, tmp_path: Path
) -> None:
    session = Session(tiny.recipe(teacher), tmp_path)
    tiny.until(session, StepDone)
    session.send(Stop(keep=True))
    list(session)
    folder = tiny.folder(session)
    ended = kd("resume", folder.name[-4:], "--runs", tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert f"going on with {folder.name}" in ended.out
    tiny.assert_same_run(folder, undisturbed)
    refused(kd("resume", "last", "--runs", tmp_path), "this run is complete")


def test_two_processes_cannot_resume_the_same_run(kd: Kd, teacher: Path, tmp_path: Path) -> None:
    session = Session(tiny.recipe(teacher), tmp_path)
    tiny.until(session, StepDone)
    refused(kd("resume", "last", "--runs", tmp_path), "another process is training this run")
    session.send(Stop(keep=True))
    assert isinstance(list(session)[-1], RunStopped)
    assert kd("resume", "last", "--runs", tmp_path).code == 0


@pytest.mark.parametrize("jsonl", [(), ("--jsonl",)])
def test_a_failure_is_told_on_stderr_and_its_run_is_kept(
    kd: Kd, recipe: Path, tmp_path: Path, jsonl: tuple[str, ...]
) -> None:
    ended = kd("run", recipe, "--runs", tmp_path / "runs", "--set", "data.subset=5", *jsonl)
    assert ended.code == 2
    assert ended.err == "kd: data.subset: 5 samples cannot hold all 10 classes. Ask for 10 or more.\n"
    assert [row["status"] for row in json.loads(kd("runs", "--runs", tmp_path / "runs", "--json").out)] == [
        "failed"
    ]


def test_a_loss_that_is_no_number_ends_the_run_with_the_way_out(
    kd: Kd, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sick(self: Kd_, student: Signals, *_: object) -> dict[str, Tensor]:
        return {"kd": student.logits.sum() * float("nan")}

    monkeypatch.setattr(Kd_, "terms", sick)
    ended = kd("run", recipe, "--runs", tmp_path / "runs")
    assert ended.code == 1
    assert "became no number (NaN or infinite) at step 1" in ended.err
    assert "--set stages.0.optimizer.lr=" in ended.err


def test_a_disk_that_refuses_in_mid_run_is_a_failed_run(
    kd: Kd, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: str, target: Path) -> None:
        if Path(target).name == "best.safetensors":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("os.replace", full)
    ended = kd("run", recipe, "--runs", tmp_path / "runs")
    assert ended.code == 1
    assert "No space left on device. Free some space" in ended.err
    assert "Go on with: kd resume" in ended.err


def test_a_folder_of_runs_that_cannot_be_made_is_a_wrong_request(
    kd: Kd, recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    ended = kd("run", recipe, "--runs", tmp_path / "file" / "runs")
    assert ended.code == 2
    assert "cannot be written" in ended.err


def picture_folder(folder: Path, classes: tuple[str, ...], count: int, broken: int = 0) -> Path:
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in classes:
            (folder / part / name).mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{k:03}.png")
    for k in range(broken):
        (folder / "train" / classes[0] / f"{k:03}.png").write_bytes(b"no picture")
    return folder


def of_pictures(folder: Path, teacher: Path | None = None) -> dict[str, Any]:
    document = tiny.document(teacher)
    document["data"] = {"dataset": "image-folder", "path": str(folder)}
    if teacher is None:
        del document["teacher"]
        document["stages"] = [{"stage": "train", "epochs": 1, "batch_size": 16}]
    return document


@pytest.mark.parametrize(
    ("classes", "count", "broken", "word"),
    [
        (("a",), 4, 0, "one class only, a"),
        (("a", "b"), 0, 0, "no pictures"),
        (("a", "b"), 10, 3, "3 of 40 pictures cannot be read"),
    ],
)
def test_folders_that_cannot_be_learned_from_are_refused(
    kd: Kd, tmp_path: Path, classes: tuple[str, ...], count: int, broken: int, word: str
) -> None:
    folder = picture_folder(tmp_path / "pictures", classes, count, broken)
    ended = kd("run", write(tmp_path / "r.json", of_pictures(folder)), "--runs", tmp_path / "runs")
    assert (ended.code, word in ended.err) == (2, True), ended.err


def test_a_few_broken_pictures_are_skipped_by_name_and_odd_names_are_printed_as_they_are(
    kd: Kd, tmp_path: Path
) -> None:
    folder = picture_folder(tmp_path / "pictures", ("[red]a", "b:smile:"), 60, broken=1)
    document = {**of_pictures(folder), "name": "[bold]mine[/bold] :cat:"}
    ended = kd("run", write(tmp_path / "r.json", document), "--runs", tmp_path / "runs")
    assert ended.code == 0
    assert "1 of 240 pictures cannot be read: train/[red]a/000.png" in ended.out
    assert "[bold]mine[/bold] :cat:" in kd("runs", "--runs", tmp_path / "runs").out
    assert "b:smile:" in kd("evaluate", "last", "--runs", tmp_path / "runs").out


def test_a_teacher_of_other_classes_is_refused(kd: Kd, teacher: Path, tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures", ("a", "b", "c"), 8)
    document = write(tmp_path / "r.json", of_pictures(folder, teacher))
    ended = kd("run", document, "--runs", tmp_path / "runs")
    assert (ended.code, "the file has 10 classes, the data 3" in ended.err) == (2, True), ended.err


def test_methods_without_a_common_place_to_look_are_refused_all_at_once(
    kd: Kd, recipe: Path, tmp_path: Path
) -> None:
    changes = {
        "student": {"model": "vit-tiny", "depth": 1, "width": 8, "heads": 1, "patch": 16},
        "stages.0.methods": [{"method": "at"}, {"method": "fitnet"}],
    }
    words = [word for path, value in changes.items() for word in ("--set", f"{path}={json.dumps(value)}")]
    ended = kd("run", recipe, "--runs", tmp_path / "runs", *words)
    assert ended.code == 2
    assert "stages.0.methods.0: no common map taps" in ended.err
    assert "stages.0.methods.1: no common taps" in ended.err


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("was-run",)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"hello", "not a checkpoint"),
        (b"", "is empty"),
        (pickle.dumps(Evil()), "not safe to read"),
        (pickle.dumps(Evil(), protocol=2), "which could run code when loaded. Nothing was run"),
    ],
    ids=["text", "empty", "pickle", "evil"],
)
def test_a_file_that_is_no_checkpoint_is_refused_and_never_run(
    kd: Kd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pt").write_bytes(content)
    refused(kd("evaluate", "--model", "cnn", "--weights", "bad.pt", "--data", "digits"), "bad.pt", word)
    assert not (tmp_path / "was-run").exists()


# -- runs ----------------------------------------------------------------------------------------------------


def test_no_runs_is_no_error(kd: Kd, tmp_path: Path) -> None:
    ended = kd("runs", "--runs", tmp_path / "none")
    assert (ended.code, "kd run quickstart" in ended.out) == (0, True)
    assert kd("runs", "--runs", tmp_path / "none", "--json") == (0, "[]\n", "")


def test_the_table_of_runs_cuts_nothing_off(
    kd: Kd, undisturbed: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    shown = kd("runs", "--runs", undisturbed.folder.parent)
    assert (shown.code, len(shown.out.splitlines())) == (0, 2)
    assert undisturbed.name in shown.out
    assert "done" in shown.out


def test_runs_as_json_say_what_the_summary_says(kd: Kd, undisturbed: RunFolder) -> None:
    [row] = json.loads(kd("runs", "--json", "--runs", undisturbed.folder.parent).out)
    summary = undisturbed.read_json("summary.json")
    assert summary is not None
    assert row["run"] == undisturbed.name
    assert row["folder"] == str(undisturbed.folder)
    assert (row["status"], row["resumable"]) == ("done", False)
    assert row["top1_test"] == summary["students"]["student"]["top1_test_last"]
    assert row["retention"] == summary["retention"]


@pytest.mark.parametrize(
    "summary", ["", "[]", "{}", '{"students": [1], "retention": "x", "seconds": null, "temperature": {}}']
)
def test_a_run_with_an_odd_summary_is_still_listed(
    kd: Kd, tmp_path: Path, recipe: Path, summary: str
) -> None:
    (tmp_path / "runs" / "odd").mkdir(parents=True)
    (tmp_path / "runs" / "odd" / "recipe.json").write_bytes(recipe.read_bytes())
    (tmp_path / "runs" / "odd" / "summary.json").write_text(summary)
    shown = kd("runs", "--runs", tmp_path / "runs")
    assert (shown.code, "odd" in shown.out, "interrupted" in shown.out) == (0, True, True)


@pytest.mark.parametrize(
    "words",
    [
        ("resume",),
        ("evaluate",),
        ("probe", "--probe", "attention", "--sample", "0"),
        ("export", "--format", "pt2", "--out", "x.pt2"),
    ],
    ids=lambda words: words[0],
)
def test_a_run_of_a_newer_version_and_one_that_is_not_there_are_refused(
    kd: Kd, undisturbed: RunFolder, tmp_path: Path, words: tuple[str, ...]
) -> None:
    command, *options = words
    document = {**tiny.document(), "version": 9}
    (tmp_path / "new").mkdir()
    write(tmp_path / "new" / "recipe.json", document)
    refused(kd(command, tmp_path / "new", *options), "newer version", "Update kd-studio")
    runs = undisturbed.folder.parent
    refused(kd(command, "nothing", "--runs", runs, *options), "no run 'nothing'")


# -- evaluate ------------------------------------------------------------------------------------------------


def test_a_stored_run_measures_as_it_did_at_its_end(kd: Kd, undisturbed: RunFolder) -> None:
    ended = kd("evaluate", undisturbed.folder, "--json")
    figures = json.loads(ended.out)
    summary = undisturbed.read_json("summary.json")
    assert summary is not None
    student = summary["students"]["student"]
    assert set(figures) == {"teacher", "last", "best"}
    assert figures["last"]["top1"] == student["top1_test_last"]
    assert figures["best"]["top1"] == student["top1_test_best"]
    assert figures["last"]["agreement"] == student["agreement"]
    assert figures["teacher"]["top1"] == summary["teacher"]["top1_test"]
    assert len(figures["last"]["per_class"]) == len(figures["last"]["confusion"]) == 10


def test_the_table_of_figures_says_them_in_words(kd: Kd, undisturbed: RunFolder) -> None:
    shown = kd("evaluate", undisturbed.folder).out
    metrics = json.loads(kd("evaluate", undisturbed.folder, "--json").out)["last"]
    assert f"{metrics['top1']:.2%}" in shown
    assert f"{metrics['parameters']:,}" in shown
    for label in ("accuracy (top-1)", "weights on disk", "one image takes (median)", "recall", "precision"):
        assert label in shown
    assert shown.splitlines()[-1] == metrics["protocol"]["text"]
    assert "with noise" not in shown


def test_robustness_is_measured_when_asked_for(kd: Kd, undisturbed: RunFolder) -> None:
    figures = json.loads(kd("evaluate", undisturbed.folder, "--robust", "--json").out)
    for metrics in figures.values():
        each = [metrics[f"top1_{name}"] for name in CORRUPTIONS]
        assert metrics["top1_corrupted"] == pytest.approx(np.mean(each))
    assert "with noise" in kd("evaluate", undisturbed.folder, "--robust").out


def test_a_model_from_a_file_is_measured_on_any_data(kd: Kd, teacher: Path, undisturbed: RunFolder) -> None:
    words = ("evaluate", "--model", "cnn", "--weights", teacher, "--data", "digits", "--set", "model.width=2")
    ended = kd(*words, "--json")
    assert (ended.code, ended.err) == (0, "")
    summary = undisturbed.read_json("summary.json")
    assert summary is not None
    assert json.loads(ended.out)["cnn"]["top1"] == summary["teacher"]["top1_test"]
    assert "top1_noise" in json.loads(kd(*words, "--json", "--robust").out)["cnn"]


def test_a_model_on_other_data_than_its_card_says_is_noted(kd: Kd) -> None:
    words = ("--model", "resnet20", "--weights", "bundled:digits-resnet20", "--data", "scenes")
    ended = kd("evaluate", *words, "--set", "data.samples=60", "--json")
    assert ended.code == 0
    assert "its classes are 0, 1, 2, 3 and 6 more, the data's circle" in ended.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name a run, or give --model, --weights and --data"),
        (("last", "--model", "cnn"), "name a run, or give"),
        (("--model", "cnn"), "name a run, or give"),
        (("last", "--set", "model.width=2"), "name a run, or give"),
        (("--model", "vgg", "--weights", "x", "--data", "digits"), "--model: no model 'vgg' (did you mean"),
        (("--model", "cnn", "--weights", "x.pt", "--data", "digits"), "--weights: no such file: 'x.pt'"),
        (("--model", "cnn", "--weights", "x", "--data", "nowhere"), "--data: no dataset 'nowhere'; nor is"),
        (("--set", "model=3"), "model: expected model.KNOB=VALUE"),
        (("--set", "model.model=3"), "model.model: say it with --model"),
        (("--set", "data=3"), "data: expected"),
        (("--set", "seed=3"), "seed: expected"),
        (("--set", "model.width.x=3"), "model.width.x: expected"),
        (("--set", "model.width=x"), "model.width: got 'x', expected a whole number from 1 to 256"),
        (("--set", "model.widht=2"), "model.widht: no such setting (did you mean 'width'?)"),
    ],
)
def test_an_evaluation_that_makes_no_sense_is_refused(
    kd: Kd, teacher: Path, words: tuple[str, ...], told: str
) -> None:
    if words[:1] == ("--set",):
        words = ("--model", "cnn", "--weights", str(teacher), "--data", "digits", *words)
    refused(kd("evaluate", *words), told)


# -- probe and export ----------------------------------------------------------------------------------------


def test_a_probe_is_a_picture_or_arrays_or_a_file_of_the_run(
    kd: Kd, undisturbed: RunFolder, tmp_path: Path
) -> None:
    words = ("probe", undisturbed.folder, "--probe", "attention", "--sample", "3")
    drawn = kd(*words, "--out", tmp_path / "new" / "look.png")
    assert drawn.code == 0
    assert drawn.out.splitlines()[-1] == str(tmp_path / "new" / "look.png")
    with Image.open(tmp_path / "new" / "look.png") as picture:
        assert picture.format == "PNG"
    assert kd(*words, "--out", tmp_path / "look.npz").code == 0
    with np.load(tmp_path / "look.npz") as arrays:
        assert {"image", "teacher", "student", "label", "classes"} <= set(arrays)
    kept = kd(*words)
    assert Path(kept.out.splitlines()[-1]).parent == undisturbed.folder / "probes"


def test_a_probe_says_classes_by_name_and_shares_in_percent(kd: Kd, undisturbed: RunFolder) -> None:
    shown = kd("probe", undisturbed.folder, "--probe", "soft-targets", "--sample", "0").out
    assert "teacher class: " in shown
    assert ".000" not in shown
    assert "%" in shown


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--probe", "attentio"), "did you mean 'attention'"),
        (("--sample", "99999"), "no sample 99999 in the validation part"),
        (("--sample", "-1"), "no sample -1"),
        (("--sample", "x"), "--sample"),
        (("--tap", "stag2"), "did you mean 'stage2'"),
        (("--part", "tset"), "train, validation and test"),
        (("--probe", "rollout"), "needs attention weights"),
        (("--weights", "worst"), "last, and best"),
        (("--out", "look.jpg"), ".png or .npz"),
        (("--out", "tiny.json/look.png"), "cannot be written"),
        (("--out", "tiny.json/look.npz"), "cannot be written"),
    ],
)
def test_a_probe_that_makes_no_sense_is_refused(
    kd: Kd,
    undisturbed: RunFolder,
    recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, str],
    word: str,
) -> None:
    monkeypatch.chdir(recipe.parent)
    asked = {"--probe": "attention", "--sample": "0"} | dict([options])
    refused(kd("probe", undisturbed.folder, *(word for pair in asked.items() for word in pair)), word)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--format", "pt3"), "did you mean 'pt2'"),
        (("--out", "."), "is a folder. Name a file in it"),
        (("--out", "x.md"), "ends in .pt2. Name it x.pt2"),
        (("--out", "tiny.json/x.pt2"), "cannot be written"),
        (("--out", "a" * 300 + ".pt2"), "File name too long"),
        (("--weights", "worst"), "last, and best"),
    ],
)
def test_an_export_that_makes_no_sense_is_refused(
    kd: Kd,
    undisturbed: RunFolder,
    recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, str],
    word: str,
) -> None:
    monkeypatch.chdir(recipe.parent)
    before = sorted(recipe.parent.rglob("*"))
    asked = {"--format": "pt2", "--out": "x.pt2"} | dict([options])
    refused(kd("export", undisturbed.folder, *(word for pair in asked.items() for word in pair)), word)
    assert sorted(recipe.parent.rglob("*")) == before


def test_a_run_without_weights_is_neither_exported_nor_measured(kd: Kd, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "recipe.json").write_bytes(recipe.read_bytes())
    refused(kd("export", tmp_path / "bare", "--format", "pt2", "--out", "x.pt2"), "no last weights yet")
    refused(kd("evaluate", tmp_path / "bare"), "no weights yet")
