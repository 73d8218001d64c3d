"""Name every problem of a recipe at once, without loading data or models: path, what was expected, "did you
mean".

What only shows with data and models at hand (class counts, common taps) is found by
kd_engine.answers.describe and, at the latest, when a session prepares.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kd_engine import conflicts, paths
from kd_engine.catalog import Catalog
from kd_engine.document import VERSION
from kd_engine.errors import Problem, did_you_mean, shown
from kd_engine.knobs import Knob, check_knobs, knobs_of
from kd_engine.recipe import Recipe
from kd_engine.recipe_knobs import DataKnobs, HardwareKnobs, RecipeKnobs


def check(document: Mapping[str, Any], catalog: Catalog) -> list[Problem]:
    """Every problem of a recipe that shows without loading anything; empty when there is none."""
    if not isinstance(document, Mapping):
        return [Problem("", f"got {shown(document)}, expected a recipe: an object with settings")]
    return [Problem(_readable(problem.path), problem.message) for problem in _Check(catalog).recipe(document)]


class _Check:
    """Walks a document and yields its problems."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def recipe(self, document: Mapping[str, Any]) -> Iterator[Problem]:
        known = tuple(Recipe.model_fields)
        for name in document:
            if name not in known:
                yield Problem(name or "''", f"no such setting{did_you_mean(name, known)}")
        yield from self._version(document.get("version", VERSION))
        own = {knob.name: knob for knob in knobs_of(RecipeKnobs)}
        for name, knob in own.items():
            if name in document and (why := knob.problem(document[name])) is not None:
                yield Problem(name, why)
        yield from self._data(document.get("data"))
        yield from self._model(document.get("student"), "student")
        if document.get("teacher") is not None:
            yield from self._model(document["teacher"], "teacher")
        yield from self._more_teachers(document)
        yield from self._stages(document)
        yield from conflicts.view_problems(document, self.catalog)
        hardware = document.get("hardware", {})
        if not isinstance(hardware, Mapping):
            yield _not_an_object("hardware", hardware)
        else:
            yield from check_knobs(knobs_of(HardwareKnobs), hardware, "hardware")

    def _version(self, version: Any) -> Iterator[Problem]:
        if isinstance(version, int) and version > VERSION:
            yield Problem(
                "version", f"made by a newer version ({version}); this one reads {VERSION}: update kd-studio"
            )
        elif version != VERSION or isinstance(version, bool):
            yield Problem("version", f"got {shown(version)}, expected {VERSION}")

    def _data(self, data: Any) -> Iterator[Problem]:
        if not isinstance(data, Mapping):
            yield _not_an_object("data", data)
            return
        known, own = yield from self._named("datasets", data.get("dataset"), "data.dataset")
        knobs = (*knobs_of(DataKnobs), *own)
        if known:
            yield from check_knobs(knobs, _without(data, "dataset"), "data")
        for setting in own:
            value = data.get(setting.name)
            if known and setting.name == "path" and isinstance(value, str) and not _exists(value):
                yield Problem(f"data.{setting.name}", f"nothing there: {shown(value)}")

    def _more_teachers(self, document: Mapping[str, Any]) -> Iterator[Problem]:
        more = document.get("more_teachers", ())
        if not isinstance(more, Sequence) or isinstance(more, str):
            yield Problem("more_teachers", f"got {shown(more)}, expected a list of models")
            return
        if more and document.get("teacher") is None:
            yield Problem("teacher", "missing: more_teachers stand beside one")
        for i, section in enumerate(more):
            yield from self._model(section, f"more_teachers.{i}")

    def _model(self, section: Any, role: str) -> Iterator[Problem]:
        if not isinstance(section, Mapping):
            yield _not_an_object(role, section)
            return
        model = section.get("model")
        family = self.catalog.family(model) if isinstance(model, str) else None
        if family is None:
            near = did_you_mean(str(model), self.catalog.models())
            yield Problem(
                f"{role}.model",
                f"no model {shown(model)}{near}" if model else "missing, expected a model's name",
            )
        else:
            if family.unavailable:
                yield Problem(f"{role}.model", f"{shown(model)} is unavailable: {family.unavailable}")
            yield from check_knobs(family.knobs, _without(section, "model", "weights"), role)
        yield from self._weights(section.get("weights"), role)

    def _weights(self, weights: Any, role: str) -> Iterator[Problem]:
        where = f"{role}.weights"
        published = {str(family.facts.get("published", "")) for family in self.catalog.of("models")} - {""}
        if weights is None:
            return
        if not isinstance(weights, str):
            yield Problem(
                where,
                f"got {shown(weights)}, expected null, bundled:NAME, run:NAME, "
                f"{', '.join(sorted(published))} or a file",
            )
        elif weights in published:
            return
        elif weights.startswith("bundled:"):
            known = [file.stem for file in (paths.resources() / "teachers").glob("*.safetensors")]
            name = weights.removeprefix("bundled:")
            if name not in known:
                yield Problem(where, f"no bundled weights {shown(name)}{did_you_mean(name, known)}")
        elif not weights.startswith("run:") and not _exists(weights.removesuffix(":best")):
            yield Problem(where, f"no such file: {shown(weights)}")

    def _stages(self, document: Mapping[str, Any]) -> Iterator[Problem]:
        stages = document.get("stages")
        if not isinstance(stages, Sequence) or isinstance(stages, str) or not stages:
            yield Problem("stages", "expected a list of at least one stage")
            return
        for i, stage in enumerate(stages):
            if not isinstance(stage, Mapping):
                yield _not_an_object(f"stages.{i}", stage)
            else:
                yield from self._stage(stage, f"stages.{i}", document)

    def _stage(self, stage: Mapping[str, Any], path: str, document: Mapping[str, Any]) -> Iterator[Problem]:
        known, knobs = yield from self._named("stages", stage.get("stage"), f"{path}.stage")
        if not known:
            return
        entry = self.catalog.entry("stages", stage["stage"])
        yield from conflicts.place_problems(stage, path, document, entry, self.catalog)
        parts = entry.facts["parts"]
        yield from check_knobs(knobs, _without(stage, "stage", *parts), path)
        if "student" in parts and stage.get("student") is not None:
            yield from self._model(stage["student"], f"{path}.student")
        for kind in ("optimizer", "schedule"):
            if kind in stage:
                yield from self._section(f"{kind}s", stage[kind], "name", f"{path}.{kind}")
        if "methods" in parts:
            yield from self._methods(stage.get("methods", ()), f"{path}.methods")
        if "rivals" in parts:
            yield from self._rivals(stage.get("rivals", ()), f"{path}.rivals", knobs)

    def _methods(self, methods: Any, path: str) -> Iterator[Problem]:
        if not isinstance(methods, Sequence) or isinstance(methods, str):
            yield Problem(path, f"got {shown(methods)}, expected a list of methods")
            return
        for i, method in enumerate(methods):
            yield from self._section("methods", method, "method", f"{path}.{i}")

    def _rivals(self, rivals: Any, path: str, stage_knobs: Sequence[Knob]) -> Iterator[Problem]:
        if not isinstance(rivals, Sequence) or isinstance(rivals, str):
            yield Problem(path, f"got {shown(rivals)}, expected a list of rivals")
            return
        weight = [knob for knob in stage_knobs if knob.name == "label_weight"]
        names = ["student", "teacher"]  # whom events and figures speak of beside the rivals
        for i, rival in enumerate(rivals):
            where = f"{path}.{i}"
            if not isinstance(rival, Mapping):
                yield _not_an_object(where, rival)
                continue
            name = rival.get("name")
            if not isinstance(name, str) or not name or name in names:
                yield Problem(
                    f"{where}.name", f"got {shown(name)}, expected a name that no other student here has"
                )
            names.append(str(name))
            values = _without(rival, "name", "methods")
            yield from check_knobs(weight, values, where)
            if "label_weight" not in rival:
                yield Problem(f"{where}.label_weight", "missing, expected a number")
            yield from self._methods(rival.get("methods", ()), f"{where}.methods")

    def _section(self, kind: str, section: Any, key: str, path: str) -> Iterator[Problem]:
        if not isinstance(section, Mapping):
            yield _not_an_object(path, section)
            return
        known, knobs = yield from self._named(kind, section.get(key), f"{path}.{key}")
        if known:
            yield from check_knobs(knobs, _without(section, key), path)

    def _named(
        self, kind: str, name: Any, path: str
    ) -> Generator[Problem, None, tuple[bool, tuple[Knob, ...]]]:
        """Yields problems with a plug-in's name; returns (whether it is usable, its knobs)."""
        entry = self.catalog.find(kind, name) if isinstance(name, str) else None
        if entry is None:
            noun = kind.rstrip("s")
            near = did_you_mean(str(name), self.catalog.names(kind))
            yield Problem(
                path, f"no {noun} {shown(name)}{near}" if name else f"missing, expected a {noun}'s name"
            )
            return False, ()
        if entry.unavailable:
            yield Problem(path, f"'{name}' is unavailable: {entry.unavailable}")
        return True, entry.knobs


def _not_an_object(path: str, value: Any) -> Problem:
    return Problem(
        path, "missing" if value is None else f"got {shown(value)}, expected an object with settings"
    )


def _exists(path: str) -> bool:
    """Whether there is a file or folder; no for what cannot be a path."""
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long; a null in it; the home of nobody
        return False


def _readable(path: str) -> str:
    """A path into the document as it can be shown: its parts may be any text."""
    parts = path.split(".") if path else []
    return ".".join(part if part and part.isprintable() and len(part) < 80 else shown(part) for part in parts)


def _without(section: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name not in names}
