"""A recipe as a document, a dict as in a file: read, completed, looked into and changed.

All knobs are read from the catalog: a new plug-in needs no edit here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_engine import paths
from kd_engine.catalog import Catalog
from kd_engine.errors import Problem, RecipeError, did_you_mean
from kd_engine.knobs import Knob, knobs_of
from kd_engine.recipe_knobs import DataKnobs, HardwareKnobs, RecipeKnobs

VERSION = 1


@dataclass(frozen=True)
class LiveKnob:
    """A knob that may change while a run is live, where it stands and what it is set to."""

    path: str
    owner: str  # the method, stage or optimizer it belongs to, by name
    knob: Knob
    value: Any


def preset_files() -> dict[str, Path]:
    """The bundled recipes by name, `quickstart` first."""
    files = {file.stem: file for file in sorted((paths.resources() / "recipes").glob("*.json"))}
    return dict(sorted(files.items(), key=lambda item: (item[0] != "quickstart", item[0])))


def read_document(name: str | Path) -> dict[str, Any]:
    """The document of a preset or a file, unchecked. RecipeError when there is none, or when it is not
    JSON."""
    presets = preset_files()
    file = Path(presets.get(str(name), name))
    try:
        if file.is_dir():
            file = file / "recipe.json"
        document = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        known = ", ".join(presets)
        near = did_you_mean(str(name), presets)
        raise RecipeError(
            [Problem("", f"no recipe '{name}'{near}: not a file, and the presets are {known}")]
        ) from None
    except RecursionError:
        raise RecipeError([Problem(str(file), "not a recipe: nested too deep")]) from None
    except (
        ValueError
    ) as error:  # no JSON, no text, a number of thousands of digits, a null in the file's name
        raise RecipeError([Problem(str(file), f"not a JSON file: {error}")]) from None
    except OSError as error:
        raise RecipeError([Problem(str(file), f"cannot be read: {error.strerror}")]) from None
    if not isinstance(document, dict):
        raise RecipeError([Problem(str(file), "not a recipe: expected a JSON object")])
    return document


def complete(document: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    """A copy of a checked document in which every knob has a value."""
    full: dict[str, Any] = {"version": VERSION, **_defaults(knobs_of(RecipeKnobs)), **_copy(document)}
    data = full["data"]
    full["data"] = {
        **_defaults(knobs_of(DataKnobs)),
        **_defaults(catalog.knobs("datasets", data["dataset"])),
        **data,
    }
    for role in ("teacher", "student"):
        full[role] = None if full.get(role) is None else _complete_model(full[role], catalog)
    if full.get("more_teachers"):
        full["more_teachers"] = [_complete_model(model, catalog) for model in full["more_teachers"]]
    full["stages"] = [_complete_stage(stage, catalog) for stage in full["stages"]]
    full["hardware"] = {**_defaults(knobs_of(HardwareKnobs)), **full.get("hardware", {})}
    return full


def live_knobs(document: Mapping[str, Any], catalog: Catalog) -> list[LiveKnob]:
    """Every live knob of a completed document, methods first, in the order in which a form should show
    them."""
    found = []
    for i, stage in enumerate(document["stages"]):
        where = f"stages.{i}"
        for j, method in enumerate(stage.get("methods", ())):
            name = method["method"]
            found += _live(catalog.knobs("methods", name), method, f"{where}.methods.{j}", name)
        found += _live(catalog.knobs("stages", stage["stage"]), stage, where, stage["stage"])
        optimizer = stage["optimizer"]
        found += _live(
            catalog.knobs("optimizers", optimizer["name"]), optimizer, f"{where}.optimizer", optimizer["name"]
        )
    return found


def get_at(document: Any, path: str) -> Any:
    """The value at a dotted path. KeyError, IndexError or ValueError when there is no such place."""
    for part in path.split("."):
        document = document[_index(part)] if isinstance(document, Sequence) else document[part]
    return document


def set_at(document: dict[str, Any], path: str, value: Any) -> None:
    """Put `value` at a dotted path, in place; missing objects on the way are made. An error when it
    leads through a value or past the end of a list."""
    *way, last = path.split(".")
    place: Any = document
    for part in way:
        place = place[_index(part)] if isinstance(place, list) else place.setdefault(part, {})
    if isinstance(place, list):
        place[_index(last)] = value
    else:
        place[last] = value


def parse_change(text: str) -> tuple[str, Any]:
    """`path=value` from a command line. The value is read as JSON where it is JSON, else it is a text."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise RecipeError([Problem(text, "expected path=value, as in stages.0.epochs=3")])
    try:
        return path, json.loads(value)
    except (ValueError, RecursionError):
        return path, value


def _index(part: str) -> int:
    """A place in a list, counted from 0: one place has one name, so none is counted from the end."""
    if not part.isdecimal():
        raise ValueError(f"{part!r} is no place in a list")
    return int(part)


def _complete_model(section: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    return {"weights": None, **_defaults(catalog.model_knobs(section["model"])), **section}


def _complete_stage(stage: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    entry = catalog.entry("stages", stage["stage"])
    full = {**_defaults(entry.knobs), **stage}
    for kind, default in (("optimizer", "sgd"), ("schedule", "cosine")):
        section = full.get(kind, {"name": default})
        full[kind] = {**_defaults(catalog.knobs(f"{kind}s", section["name"])), **section}
    if full.get("student") is not None:
        full["student"] = _complete_model(full["student"], catalog)
    if "methods" in entry.facts["parts"]:
        full["methods"] = [_complete_method(method, catalog) for method in full.get("methods", ())]
    if "rivals" in entry.facts["parts"]:
        full["rivals"] = [
            {**rival, "methods": [_complete_method(m, catalog) for m in rival.get("methods", ())]}
            for rival in full.get("rivals", ())
        ]
    return full


def _complete_method(method: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    return {**_defaults(catalog.knobs("methods", method["method"])), **method}


def _defaults(knobs: Sequence[Knob]) -> dict[str, Any]:
    return {knob.name: knob.default for knob in knobs}


def _live(knobs: Sequence[Knob], values: Mapping[str, Any], path: str, owner: str) -> list[LiveKnob]:
    return [
        LiveKnob(f"{path}.{knob.name}", owner, knob, values.get(knob.name, knob.default))
        for knob in knobs
        if knob.live
    ]


def _copy(document: Mapping[str, Any]) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(document))
    return copied
