"""Changes of an experiment that touch more than one value: another model, a method more, a rival on or off.

Pure functions from a document to a new document; nothing is changed in place. `kd_engine.document.complete`
fills in what the change leaves open, so nothing here names a method, a model or one of their settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kd_engine.catalog import Catalog
from kd_engine.document import get_at, set_at
from kd_engine.knobs import knobs_of
from kd_engine.recipe_knobs import DataKnobs

Document = dict[str, Any]
NO_KD = "no KD"  # the rival that learns from labels alone
FIRST_STAGE = 1 / 8  # of a stage's epochs, for one before it


def copy(document: Mapping[str, Any]) -> Document:
    copied: Document = json.loads(json.dumps(document))
    return copied


def with_value(document: Mapping[str, Any], path: str, value: Any) -> Document:
    """`document` with another value at a dotted path."""
    changed = copy(document)
    set_at(changed, path, value)
    return changed


def with_model(
    document: Mapping[str, Any],
    role: str,
    model: str,
    weights: str | None,
    knobs: Mapping[str, Any] | None = None,
) -> Document:
    """Another teacher or student; its settings are `knobs`, and the defaults where those say nothing."""
    return with_value(document, role, {**(knobs or {}), "model": model, "weights": weights})


def with_dataset(document: Mapping[str, Any], dataset: str) -> Document:
    """Another dataset. What is done with any dataset (validation, augmentation, ...) stays; its own settings
    do not.

    Weights that were bundled for the old dataset stay named: the check tells where they do not fit.
    """
    shared = {knob.name for knob in knobs_of(DataKnobs)}
    kept = {name: value for name, value in document["data"].items() if name in shared}
    return with_value(document, "data", {"dataset": dataset, **kept})


def with_named(document: Mapping[str, Any], path: str, name: str, catalog: Catalog) -> Document:
    """Another optimizer or schedule at `path`; values of settings that both have are kept where they are
    allowed, but for the learning rate, which means something else to each optimizer."""
    old = get_at(document, path)
    kind = path.rsplit(".", 1)[-1] + "s"
    kept = {
        knob.name: old[knob.name]
        for knob in catalog.knobs(kind, name)
        if knob.name in old and knob.name not in ("lr", "weight_decay") and not knob.problem(old[knob.name])
    }
    return with_value(document, path, {"name": name, **kept})


def models_at(document: Document) -> dict[str, tuple[str, int]]:
    """Where models stand in a recipe, who teaches first; each with its role and its number, 0 for an only
    one."""
    found: dict[str, tuple[str, int]] = {}
    more = document.get("more_teachers") or ()
    if document["teacher"] is not None:
        found["teacher"] = ("teacher", 1 if more else 0)
    found |= {f"more_teachers.{i}": ("teacher", i + 2) for i in range(len(more))}
    for i, stage in enumerate(document["stages"]):
        if stage.get("student") is not None:
            found[f"stages.{i}.student"] = ("assistant", i + 1)
    found["student"] = ("student", 0)
    return found


def is_teacher(role: str) -> bool:
    """Whether a place of a recipe is that of a teacher."""
    return role.partition(".")[0] in ("teacher", "more_teachers")


def with_teacher(document: Mapping[str, Any]) -> Document:
    """One teacher more, at the end, at first as the main one is."""
    more = [*(document.get("more_teachers") or ())]
    return with_value(document, "more_teachers", [*more, copy(document["teacher"])])


def without_teacher(document: Mapping[str, Any], role: str) -> Document:
    """Without one that stands beside the main one: role is "more_teachers.0", say."""
    more = [*document["more_teachers"]]
    del more[_index(role)]
    return with_value(document, "more_teachers", more)


def methods_at(document: Mapping[str, Any], stage: str) -> list[str]:
    """The names of the methods at `stage` ("stages.0"), in order."""
    return [str(method["method"]) for method in get_at(document, stage).get("methods", ())]


def with_method(document: Mapping[str, Any], stage: str, method: str, catalog: Catalog) -> Document:
    """One method more at `stage`, with its defaults, in the catalog's order among the others.

    One that is published with a first stage of its own brings it along, before `stage`: the same training
    without labels, for an eighth of the epochs (published: 30 and 240). Not where that stage is already
    there, or where `stage` is none that could come second.
    """
    entry = catalog.entry("methods", method)
    if not wants_a_stage(document, stage, method, catalog):
        return _with_method(document, stage, method, catalog)
    changed = copy(document)
    if entry.facts.get("accompanies", True):
        changed = _with_method(document, stage, method, catalog)
    own = {**_defaults_of(method, catalog), **entry.facts["first_stage"]}
    place, main = _index(stage), get_at(changed, stage)
    epochs = max(1, round(main["epochs"] * FIRST_STAGE))
    first = {**copy(main), "epochs": epochs, "label_weight": 0.0, "methods": [own], "rivals": []}
    main["start"] = "continue"
    changed["stages"].insert(place, first)
    return changed


def wants_a_stage(document: Mapping[str, Any], stage: str, method: str, catalog: Catalog) -> bool:
    """Whether adding `method` brings a stage before `stage`, see `with_method`."""
    here, place = get_at(document, stage), _index(stage)
    before = methods_at(document, f"stages.{place - 1}") if place else []
    taught = catalog.entry("stages", here["stage"]).facts["needs_teacher"]
    return (
        catalog.entry("methods", method).facts.get("first_stage") is not None
        and taught
        and here.get("taught_by") != "previous"
        and method not in before
    )


def without_method(document: Mapping[str, Any], stage: str, index: int) -> Document:
    """Without the method at a place of `stage`."""
    methods = [*get_at(document, stage)["methods"]]
    del methods[index]
    return with_value(document, f"{stage}.methods", methods)


def with_stage(document: Mapping[str, Any]) -> Document:
    """One stage more, at the end, as the last one is."""
    changed = copy(document)
    changed["stages"].append(copy(changed["stages"][-1]))
    return changed


def without_stage(document: Mapping[str, Any], index: int) -> Document:
    """Without a stage. What its neighbours said of their place goes too: the last stage trains the recipe's
    student, and nobody stands before the first."""
    changed = copy(document)
    del changed["stages"][index]
    changed["stages"][-1].pop("student", None)
    if changed["stages"][0].get("taught_by") == "previous":
        changed["stages"][0]["taught_by"] = "teacher"
    return changed


def with_stage_kind(document: Mapping[str, Any], index: int, kind: str, catalog: Catalog) -> Document:
    """A stage of another kind. What both kinds have is kept, but for the weight of the labels, which means
    something else beside a teacher than among peers."""
    entry, old = catalog.entry("stages", kind), document["stages"][index]
    names = {knob.name for knob in entry.knobs if knob.name != "label_weight"} | {*entry.facts["parts"]}
    kept = {name: value for name, value in old.items() if name in names}
    return with_value(document, f"stages.{index}", {"stage": kind, **kept})


def with_assistant(document: Mapping[str, Any], index: int, on: bool) -> Document:
    """A stage that trains a model of its own, which teaches the stage after it; or, off, one that trains the
    recipe's student."""
    changed = copy(document)
    stage, later = changed["stages"][index], changed["stages"][index + 1]
    if on:
        stage["student"] = {**changed["student"], "weights": None}
    else:
        stage.pop("student", None)
    if "taught_by" in later:
        later["taught_by"] = "previous" if on else "teacher"
    return changed


def rivals_at(document: Mapping[str, Any], stage: str) -> list[str]:
    """The names of the rivals at `stage`, in order."""
    return [str(rival["name"]) for rival in get_at(document, stage).get("rivals", ())]


def with_plain_rival(document: Mapping[str, Any], stage: str) -> Document:
    """With the rival that learns from labels alone."""
    rivals = [*get_at(document, stage).get("rivals", ())]
    if NO_KD not in rivals_at(document, stage):
        rivals.append({"name": NO_KD, "label_weight": 1.0, "methods": []})
    return with_value(document, f"{stage}.rivals", rivals)


def without_rival(document: Mapping[str, Any], stage: str, name: str) -> Document:
    kept = [rival for rival in get_at(document, stage).get("rivals", ()) if rival["name"] != name]
    return with_value(document, f"{stage}.rivals", kept)


def _with_method(document: Mapping[str, Any], stage: str, method: str, catalog: Catalog) -> Document:
    order = catalog.names("methods")
    methods = [*get_at(document, stage).get("methods", ())]
    place = next(
        (i for i, other in enumerate(methods) if _rank(order, other["method"]) > _rank(order, method)),
        len(methods),
    )
    methods.insert(place, _defaults_of(method, catalog))
    return with_value(document, f"{stage}.methods", methods)


def _defaults_of(method: str, catalog: Catalog) -> Document:
    return {"method": method, **{knob.name: knob.default for knob in catalog.knobs("methods", method)}}


def _index(stage: str) -> int:
    return int(stage.rpartition(".")[2])


def _rank(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)
