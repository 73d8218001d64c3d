"""Changes of an experiment that touch more than one value: another model, a method more, a rival on or off.

Pure functions from a document to a new document; nothing is changed in place. `kd_engine.recipe.complete`
fills in what the change leaves open, so nothing here names a method, a model or one of their settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kd_engine.catalog import Catalog
from kd_engine.knobs import knobs_of
from kd_engine.recipe import DataKnobs, get_at, set_at

Document = dict[str, Any]
NO_KD = "no KD"  # the rival that learns from labels alone


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


def methods_at(document: Mapping[str, Any], stage: str) -> list[str]:
    """The names of the methods at `stage` ("stages.0"), in order."""
    return [str(method["method"]) for method in get_at(document, stage).get("methods", ())]


def with_method(document: Mapping[str, Any], stage: str, method: str, catalog: Catalog) -> Document:
    """One method more, with its defaults, in the catalog's order among the others."""
    order = catalog.names("methods")
    methods = [*get_at(document, stage).get("methods", ())]
    place = next(
        (i for i, other in enumerate(methods) if _rank(order, other["method"]) > _rank(order, method)),
        len(methods),
    )
    defaults = {knob.name: knob.default for knob in catalog.knobs("methods", method)}
    methods.insert(place, {"method": method, **defaults})
    return with_value(document, f"{stage}.methods", methods)


def without_method(document: Mapping[str, Any], stage: str, method: str) -> Document:
    """Without any method of that name."""
    kept = [other for other in get_at(document, stage).get("methods", ()) if other["method"] != method]
    return with_value(document, f"{stage}.methods", kept)


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


def _rank(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)
