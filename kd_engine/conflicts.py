"""What in a recipe does not go together: a stage with the recipe around it, a method with mixed images.

Part of the recipe check, so without data or models, and of any document, however broken. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kd_engine.catalog import Catalog, Entry
from kd_engine.errors import Problem


def place_problems(
    stage: Mapping[str, Any], path: str, document: Mapping[str, Any], entry: Entry, catalog: Catalog
) -> Iterator[Problem]:
    """What a stage asks of the recipe around it: a teacher, an earlier stage, a later one, a method."""
    first, last = path == "stages.0", path == f"stages.{len(document['stages']) - 1}"
    previous = stage.get("taught_by") == "previous"
    if previous and first:
        yield Problem(f"{path}.taught_by", "no stage stands before this one: expected teacher")
    if not previous and document.get("teacher") is None and _asks_a_teacher(stage, entry, catalog):
        yield Problem("teacher", f"missing: stage '{entry.name}' learns from one")
    if last and stage.get("student") is not None:
        yield Problem(f"{path}.student", "the last stage trains the recipe's student: leave this out")
    if not last:
        yield from _grafts(stage, path, catalog)
    if entry.facts["needs_methods"] and not stage.get("methods"):
        yield Problem(f"{path}.methods", f"missing: stage '{entry.name}' needs a method, such as dml")


def view_problems(document: Mapping[str, Any], catalog: Catalog) -> Iterator[Problem]:
    """What does not go together with erasing and mixing."""
    data, stages = document.get("data"), document.get("stages")
    if not isinstance(data, Mapping):
        return
    mixes = data.get("mix", "none") != "none"
    if data.get("views") == 1 and (mixes or data.get("erase")):
        yield Problem(
            "data.views",
            "got 1, expected 2 or more: the first is the image itself, which nothing changes",
        )
    for i, stage in enumerate(stages if mixes and isinstance(stages, Sequence) else ()):
        for where, section, entry in _methods_of(stage, f"stages.{i}", catalog):
            settings = {**{knob.name: knob.default for knob in entry.knobs}, **section}
            refusal = mixing_refusal(entry.name, entry.facts.get("hard_targets", False), settings)
            if refusal is not None:
                yield Problem(f"{where}.{refusal.path}", refusal.message)


def mixing_refusal(
    name: str, hard_targets: bool | Mapping[str, str], settings: Mapping[str, Any]
) -> Problem | None:
    """Why a method cannot learn from mixed images, and by which of its settings; None when it can.

    hard_targets: as it declares, see kd_engine.methods.Method. settings: the values of all its knobs.
    """
    if not isinstance(hard_targets, Mapping):
        where, who = "method", f"'{name}'" if hard_targets else ""
    else:
        where = next((knob for knob, value in hard_targets.items() if settings.get(knob) == value), "")
        who = f"'{name}' with {where} {hard_targets[where]}" if where else ""
    if not who:
        return None
    return Problem(
        where,
        f"{who} asks which class an image is of, and mixed ones are of two: set data.mix to none, or leave "
        "it out",
    )


def _methods_of(stage: Any, path: str, catalog: Catalog) -> Iterator[tuple[str, Mapping[str, Any], Entry]]:
    """Every known method of a stage and its rivals: where it stands, its section, what is known of it."""
    given = stage.get("rivals", ()) if isinstance(stage, Mapping) else ()
    rivals = given if isinstance(given, Sequence) else ()
    owners = [(path, stage), *((f"{path}.rivals.{i}", one) for i, one in enumerate(rivals))]
    for where, owner in owners:
        methods = owner.get("methods", ()) if isinstance(owner, Mapping) else ()
        for j, method in enumerate(methods if isinstance(methods, Sequence) else ()):
            name = method.get("method") if isinstance(method, Mapping) else None
            found = catalog.find("methods", name) if isinstance(name, str) else None
            if found is not None:
                yield f"{where}.methods.{j}", method, found


def _grafts(stage: Mapping[str, Any], path: str, catalog: Catalog) -> Iterator[Problem]:
    """Methods that no later stage could go on from."""
    for where, _, entry in _methods_of(stage, path, catalog):
        if entry.facts.get("grafts"):
            yield Problem(
                f"{where}.method",
                f"'{entry.name}' only in the last stage: a student with the teacher's classifier cannot be "
                "trained by a later one",
            )


def _asks_a_teacher(stage: Mapping[str, Any], entry: Entry, catalog: Catalog) -> bool:
    """Whether it cannot do without: unless all its methods learn from the student itself."""
    methods = stage.get("methods", ())
    if not entry.facts["needs_teacher"] or not isinstance(methods, Sequence):
        return bool(entry.facts["needs_teacher"])
    names = [method.get("method") for method in methods if isinstance(method, Mapping)]
    found = [catalog.find("methods", name) for name in names if isinstance(name, str)]
    return not found or any(one is None or one.facts.get("needs_teacher", True) for one in found)
