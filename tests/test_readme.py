"""The README tells the truth: its tree is the tree, its commands and its Python run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from kd_engine import cli
from kd_engine.store import Store

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
FEWER = {"bench": ["--seeds", "1"], "advise": ["--epochs", "1"]}  # the last of an option holds
SMALL = {"data.subset": 80, "data.validation": 0.2, "stages.0.epochs": 6, "stages.0.batch_size": 32}


def block(containing: str) -> str:
    return next(text for _, text in BLOCKS if containing in text)


def test_the_tree_names_what_is_there_and_every_module_of_the_engine() -> None:
    tree = block("kd_engine/          the engine")
    engine = tree.split("kd_gui/ ")[0]
    named = set(re.findall(r"(\w+\.py)\b", engine))
    there = {file.name for file in (ROOT / "kd_engine").glob("*.py") if not file.name.startswith("_")}
    assert named == there
    for folder in re.findall(r"^\s*(\w+)/ ", tree, flags=re.MULTILINE):
        assert any((ROOT / base / folder).is_dir() for base in (".", "kd_gui", "kd_engine")), folder


def test_every_picture_of_the_readme_is_there() -> None:
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert len(pictures) >= 2
    assert [picture for picture in pictures if not (ROOT / picture).is_file()] == []


@pytest.mark.slow
def test_the_commands_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KD_RUNS", str(tmp_path / "runs"))
    less = [
        part
        for path, value in {**SMALL, "stages.0.epochs": 1}.items()
        for part in ("--set", f"{path}={value}")
    ]
    lines = [line for line in block("kd catalog  ").splitlines() if line.startswith("kd ")]
    assert len(lines) == 11
    for line in lines:
        words = shlex.split(line.split("   ")[0])[1:] if "   " in line else shlex.split(line)[1:]
        if words[0] in ("run", "bench", "advise"):
            words += less
        words += FEWER.get(words[0], [])
        if words[0] == "resume":
            continue  # the run above is complete: going on is refused, which test_cli covers
        monkeypatch.setattr("sys.argv", ["kd", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code in (0, None), f"{line}\n{capsys.readouterr().err}"
    assert (tmp_path / "look.png").is_file()
    assert (tmp_path / "student.safetensors").is_file()


@pytest.mark.slow
def test_the_session_of_the_readme_runs_and_takes_its_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = block("session.send").replace(
        'Recipe.load("quickstart")', f'Recipe.load("quickstart").with_changes({SMALL})'
    )
    exec(compile(code, "README", "exec"), {})
    (run,) = Store(tmp_path / "runs").runs()
    assert run.status == "done"
    assert run.summary["temperature"] == 8.0


def test_the_method_call_of_the_readme_gives_one_term() -> None:
    space: dict[str, object] = {}
    exec(compile(block('create("kd"'), "README", "exec"), space)
    terms = space["terms"]
    assert isinstance(terms, dict)
    assert list(terms) == ["kd"]
    assert float(terms["kd"]) > 0


def test_the_method_of_the_readme_is_found_by_dropping_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "logit_matching.py").write_text(block("LogitMatching"))
    monkeypatch.setenv("KD_PLUGINS", str(tmp_path))
    from kd_engine import catalog
    from kd_engine.registry import find
    from tests.contracts.test_methods import check_method

    assert "power" in [knob.name for knob in catalog.load().knobs("methods", "logit-matching")]
    check_method(find("methods", "logit-matching"))
