"""What exists, as plain data: kept in the cache, read without torch; a new plug-in is one file, found
everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kd_engine import catalog as catalogs
from kd_engine import events as e
from kd_engine import registry
from kd_engine.catalog import Catalog
from kd_engine.check import check
from kd_engine.commands import SetKnob
from kd_engine.document import live_knobs
from kd_engine.errors import KdError
from kd_engine.session import Session
from tests.engine import tiny

TOY = '''
"""Toy: the squared distance of logits."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from kd_engine.knobs import Knobs, knob
from kd_engine.methods import Method, MethodKnobs, Terms
from kd_engine.signals import Signals


class ToyKnobs(MethodKnobs):
    stretch: float = knob(1.0, "How far the student should go beyond.", low=0.5, high=2, live=True)


class Toy(Method):
    name: ClassVar[str] = "toy"
    title: ClassVar[str] = "Toy"
    help: ClassVar[str] = "Logits as close as can be."
    Knobs: ClassVar[type[Knobs]] = ToyKnobs

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        return {"toy": (student.logits - self.knobs.stretch * teacher.logits).square().mean()}
'''


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one."""
    monkeypatch.setenv("KD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of plug-ins beside the package's own."""
    folder = tmp_path / "plugins"
    (folder / "methods").mkdir(parents=True)
    monkeypatch.setenv("KD_PLUGINS", str(folder))
    yield folder
    registry._import_file.cache_clear()


@pytest.fixture
def toy(plugins: Path) -> Path:
    file = plugins / "methods" / "toy.py"
    file.write_text(TOY)
    return file


# -- the cache --


def test_the_catalog_is_built_once_and_then_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert catalogs.cached() is None
    built = catalogs.load()
    assert len(list(cache.glob("catalog-*.json"))) == 1

    def never() -> Catalog:
        raise AssertionError("built again")

    monkeypatch.setattr(catalogs, "build", never)
    assert catalogs.load() == catalogs.cached() == built


@pytest.mark.parametrize("content", ["", "{", "[]", '{"entries": 3, "broken": []}', '{"entries": [{}]}'])
def test_a_broken_cache_is_made_anew(cache: Path, content: str) -> None:
    built = catalogs.load()
    (file,) = cache.glob("catalog-*.json")
    file.write_text(content)
    assert catalogs.load() == built
    assert json.loads(file.read_text())["entries"]


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KD_CACHE", str(tmp_path / "file"))
    assert catalogs.load().find("methods", "kd") is not None


def test_a_new_an_edited_and_a_removed_plugin_make_the_cache_stale(cache: Path, toy: Path) -> None:
    seen = []
    for text in (TOY, TOY.replace('"Toy"', '"Another title"'), None):
        if text is None:
            toy.unlink()
        else:
            toy.write_text(text)
        assert catalogs.cached() is None
        found = catalogs.load().find("methods", "toy")
        seen.append(found.title if found else None)
    assert seen == ["Toy", "Another title", None]


def test_a_cached_catalog_is_read_without_torch_and_quickly(tmp_path: Path) -> None:
    catalogs.load()
    code = (
        "import sys, time; from kd_engine import catalog; t = time.perf_counter(); found = catalog.cached(); "
        "t = time.perf_counter() - t; assert found; print('torch' in sys.modules, t)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    torch, seconds = run.stdout.split()
    assert torch == "False"
    assert float(seconds) < 1


def test_a_catalog_is_the_same_after_a_round_trip() -> None:
    found = catalogs.load()
    again = Catalog.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert again.entries == found.entries
    assert list(again.broken) == list(found.broken)


# -- what is in it --


def test_everything_of_the_design_is_there() -> None:
    found = catalogs.load()
    assert found.broken == ()
    assert {"digits", "scenes", "mnist", "cifar10", "image-folder", "arrays"} <= set(found.names("datasets"))
    assert {"kd", "hard-label", "at", "fitnet"} <= set(found.names("methods"))
    assert {"train", "distill"} <= set(found.names("stages"))
    assert {"attention", "grad-cam", "rollout", "soft-targets"} <= set(found.names("probes"))
    assert {"sgd", "adamw"} == set(found.names("optimizers"))
    assert {"constant", "step", "cosine"} == set(found.names("schedules"))
    assert {"resnet8", "resnet110", "resnet8x4", "cnn", "vit-tiny"} <= set(found.models())


def test_every_default_is_allowed_and_every_knob_is_explained() -> None:
    for entry in catalogs.load().entries:
        for knob in entry.knobs:
            where = f"{entry.kind} {entry.name}: {knob.name}"
            required = knob.default is None and not knob.optional
            assert required or knob.problem(knob.default) is None, where
            assert knob.help, where
            assert knob.label, where


def test_models_are_found_by_name_and_by_pattern() -> None:
    found = catalogs.load()
    for model in ("resnet20", "wrn_16_2", "wrn_16_3"):
        assert found.family(model) is not None
    assert found.family("resnet21") is None
    with pytest.raises(KdError, match="did you mean 'resnet20'"):
        found.model_knobs("resnt20")
    with pytest.raises(KdError, match=r"no method 'kdd' \(did you mean 'kd'\?\)"):
        found.entry("methods", "kdd")


# -- a method that is one file --


@pytest.mark.usefixtures("cache")
def test_a_toy_method_is_in_the_catalog_the_check_and_the_live_knobs(toy: Path) -> None:
    found = catalogs.load()
    entry = found.entry("methods", "toy")
    assert (entry.title, entry.help) == ("Toy", "Logits as close as can be.")
    assert [knob.name for knob in entry.knobs if not knob.advanced] == ["weight", "stretch"]
    wrong = tiny.document(None, stages__0__methods=[{"method": "toy", "stretch": 5}])
    assert [str(problem) for problem in check(wrong, found)] == [
        "stages.0.methods.0.stretch: got 5, expected 0.5 to 2"
    ]
    made = tiny.recipe(None, stages__0__methods=[{"method": "toy"}]).document()
    assert "stages.0.methods.0.stretch" in [live.path for live in live_knobs(made, found)]


@pytest.mark.usefixtures("cache", "toy")
def test_a_toy_method_is_trained_steered_and_resumed(teacher: Path, tmp_path: Path) -> None:
    made = tiny.recipe(teacher, stages__0__methods=[{"method": "toy"}, {"method": "kd"}])
    session = Session(made, tmp_path / "runs")
    session.send(SetKnob("stages.0.methods.0.stretch", 1.5))
    told = tiny.finish(session)
    (changed,) = tiny.of(e.KnobChanged, told)
    assert (changed.old, changed.new) == (1.0, 1.5)
    assert {"label", "toy", "kd"} == set(tiny.of(e.StepDone, told)[-1].terms)
    again = Session.repeat(tiny.folder(session).folder, tmp_path / "runs")
    tiny.finish(again)
    tiny.assert_same_run(tiny.folder(again), tiny.folder(session))


@pytest.mark.usefixtures("cache", "toy")
def test_the_command_line_lists_a_toy_method(capsys: pytest.CaptureFixture[str]) -> None:
    from kd_engine import cli

    cli.catalog(as_json=True)
    listed = json.loads(capsys.readouterr().out)
    assert "toy" in [entry["name"] for entry in listed["entries"] if entry["kind"] == "methods"]
    cli.catalog(as_json=False)
    assert "toy" in capsys.readouterr().out


# -- plug-ins that are broken --


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "import no_such_package_anywhere",
            "ModuleNotFoundError: No module named 'no_such_package_anywhere'",
        ),
        ("def f(:", "SyntaxError"),
        ("raise SystemError('at once')", "SystemError: at once"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_broken_plugin_is_listed_with_the_reason_and_takes_nothing_down(
    plugins: Path, toy: Path, source: str, reason: str
) -> None:
    (plugins / "methods" / "broken.py").write_text(source)
    found = catalogs.load()
    (broken,) = found.broken
    assert (broken["kind"], Path(broken["module"]).name) == ("methods", "broken.py")
    assert broken["reason"].startswith(reason)
    assert {"toy", "kd"} <= set(found.names("methods"))
    with pytest.raises(KdError, match="failed to import"):
        registry.find("methods", "broken")


@pytest.mark.usefixtures("cache")
def test_a_plugin_that_cannot_be_used_here_is_listed_and_refused(plugins: Path, toy: Path) -> None:
    refusing = "\n    @classmethod\n    def unavailable(cls):\n        return 'it needs a moon'\n"
    toy.write_text(TOY + refusing)
    found = catalogs.load()
    assert found.entry("methods", "toy").unavailable == "it needs a moon"
    (problem,) = check(tiny.document(None, stages__0__methods=[{"method": "toy"}]), found)
    assert "'toy' is unavailable: it needs a moon" in str(problem)
    with pytest.raises(KdError, match="unavailable: it needs a moon"):
        registry.find("methods", "toy")


@pytest.mark.usefixtures("cache")
def test_helpers_and_bases_are_no_plugins(plugins: Path) -> None:
    (plugins / "methods" / "_shared.py").write_text("raise SystemError('never imported')")
    (plugins / "methods" / "imports.py").write_text("from kd_engine.methods.kd import Kd")
    found = catalogs.load()
    assert found.broken == ()
    assert len(found.names("methods")) == len(set(found.names("methods")))


def test_finding_a_plugin_is_quick() -> None:
    """A session looks them up when a knob is moved."""
    registry.find("methods", "kd")
    started = time.perf_counter()
    for _ in range(20):
        registry.find("methods", "kd")
    assert time.perf_counter() - started < 2
