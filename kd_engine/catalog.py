"""What exists, as plain data: every dataset, model, method, probe, stage, exporter and its knobs; what is
missing, and why.

Describing the plug-ins means importing them, and torch with them. So the description is kept in the user's
cache under a fingerprint of all plug-in files: `cached()` answers in milliseconds and imports no torch;
`load()` builds it when needed.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kd_engine import paths, registry
from kd_engine.errors import KdError, did_you_mean
from kd_engine.knobs import Knob, Knobs, knobs_of
from kd_engine.recipe_knobs import OPTIMIZERS, SCHEDULES


@dataclass(frozen=True)
class Entry:
    """One thing that exists. facts: more plain values, by kind (a model family's `models`, a stage's
    `parts`)."""

    kind: str
    name: str
    title: str
    help: str
    knobs: tuple[Knob, ...]
    source: str = ""
    caution: str = ""
    unavailable: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "knobs": [knob.to_json() for knob in self.knobs]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entry:
        return cls(**{**data, "knobs": tuple(Knob.from_json(knob) for knob in data["knobs"])})


@dataclass(frozen=True)
class Catalog:
    """All entries, and the plug-ins that could not be imported (kind, module, reason)."""

    entries: tuple[Entry, ...]
    broken: tuple[Mapping[str, str], ...] = ()

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], Entry]:
        return {(entry.kind, entry.name): entry for entry in self.entries}

    def of(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind]

    def names(self, kind: str) -> list[str]:
        return [entry.name for entry in self.of(kind)]

    def find(self, kind: str, name: str) -> Entry | None:
        return self._by_name.get((kind, name))

    def entry(self, kind: str, name: str) -> Entry:
        """KdError, with a suggestion, when there is none."""
        found = self.find(kind, name)
        if found is None:
            raise KdError(f"no {kind.rstrip('s')} '{name}'{did_you_mean(name, self.names(kind))}")
        return found

    def knobs(self, kind: str, name: str) -> tuple[Knob, ...]:
        return self.entry(kind, name).knobs

    def models(self) -> list[str]:
        """All model names that families list."""
        return [name for family in self.of("models") for name in family.facts["models"]]

    def family(self, model: str) -> Entry | None:
        """The family that builds `model`, listed or by its pattern (as in wrn_16_3)."""
        for family in self.of("models"):
            pattern = family.facts.get("pattern")
            if model in family.facts["models"] or (pattern and re.fullmatch(pattern, model)):
                return family
        return None

    def model_knobs(self, model: str) -> tuple[Knob, ...]:
        family = self.family(model)
        if family is None:
            raise KdError(f"no model '{model}'{did_you_mean(model, self.models())}")
        return family.knobs

    def to_json(self) -> dict[str, Any]:
        return {
            "entries": [entry.to_json() for entry in self.entries],
            "broken": [dict(b) for b in self.broken],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Catalog:
        return cls(tuple(Entry.from_json(entry) for entry in data["entries"]), tuple(data["broken"]))


def load() -> Catalog:
    """The catalog, from the cache when nothing has changed, else built now (imports torch: seconds)."""
    found = cached()
    if found is None:
        found = build()
        _keep(found)
    return found


def cached() -> Catalog | None:
    """The catalog as it was last built, or None when a plug-in changed since. Imports no torch."""
    try:
        return Catalog.from_json(json.loads(_file().read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or unreadable: it is only a cache, and `load` makes it anew


def build() -> Catalog:
    """The catalog, from the plug-ins themselves."""
    from kd_engine.methods import FAMILIES  # imports torch

    entries: list[Entry] = []
    broken: list[Mapping[str, str]] = []
    for kind in registry.KINDS:
        found = registry.discover(kind)
        entries += [_describe(kind, plugin) for plugin in found.plugins.values()]
        broken += [vars(b) for b in found.broken]
    entries += [Entry("families", name, name, text, ()) for name, text in FAMILIES.items()]
    for kind, classes in (("optimizers", OPTIMIZERS), ("schedules", SCHEDULES)):
        entries += [_describe_knobs(kind, name, knobs) for name, knobs in classes.items()]
    return Catalog(tuple(entries), tuple(broken))


def _describe(kind: str, plugin: type[registry.Plugin]) -> Entry:
    return Entry(
        kind=kind,
        name=plugin.name,
        title=plugin.title or plugin.name,
        help=plugin.help or (plugin.__doc__ or "").strip().split("\n")[0],
        knobs=knobs_of(plugin.Knobs),
        source=plugin.source,
        caution=plugin.caution,
        unavailable=plugin.unavailable() or "",
        facts=dict(plugin.facts()),
    )


def _describe_knobs(kind: str, name: str, knobs: type[Knobs]) -> Entry:
    return Entry(kind, name, name, (knobs.__doc__ or "").strip(), knobs_of(knobs))


def _file() -> Path:
    return paths.cache() / f"catalog-{registry.fingerprint()}.json"


def _keep(catalog: Catalog) -> None:
    """Write the cache; where that is not possible (a read-only home), the next start builds it again."""
    file = _file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for old in file.parent.glob("catalog-*.json"):
            old.unlink()
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as temporary:
            json.dump(catalog.to_json(), temporary)
        os.replace(temporary.name, file)
    except OSError:
        return
