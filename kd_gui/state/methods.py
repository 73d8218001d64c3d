"""The methods there are, as a list to choose from: by family, in the engine's order, and which cannot work
here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from kd_engine.catalog import Catalog, Entry
from kd_gui.state import edits
from kd_gui.state.draft import Draft

_YEAR = re.compile(r"((?:[A-Z][A-Za-z]+ )?(?:19|20)\d\d)\b")


@dataclass(frozen=True)
class Offer:
    """A method that could be added. used: it is already there. refusal: why it cannot work between the
    models that are chosen. brings_a_stage: adding it puts a stage of its own before this one."""

    entry: Entry
    used: bool = False
    refusal: str = ""
    brings_a_stage: bool = False

    def is_about(self, text: str) -> bool:
        """Whether every word of `text` occurs in what is known of it."""
        entry = self.entry
        known = f"{entry.name} {entry.title} {entry.help} {entry.source} {entry.facts.get('family', '')}"
        return all(word in known.lower() for word in text.lower().split())


@dataclass(frozen=True)
class Family:
    """Methods that hand over the same kind of thing. help: what it is."""

    name: str
    title: str
    help: str
    offers: list[Offer] = field(default_factory=list)


def families(draft: Draft, stage: str) -> list[Family]:
    """All methods, for a stage ("stages.0"), by family, the oldest first; families that the catalog does not
    explain stand last."""
    assert draft.catalog is not None
    catalog, document = draft.catalog, draft.document
    chosen = edits.methods_at(document, stage)
    refusals = draft.refusals(int(stage.split(".")[1]))
    found = _known(catalog)
    for entry in sorted(catalog.of("methods"), key=lambda entry: _year(entry.source)):
        name = str(entry.facts.get("family", ""))
        family = found.setdefault(name, Family(name, name, ""))
        brings = edits.wants_a_stage(document, stage, entry.name, catalog)
        family.offers.append(Offer(entry, entry.name in chosen, refusals.get(entry.name, ""), brings))
    return [family for family in found.values() if family.offers]


def cited(source: str) -> str:
    """Who published it first, where and when, in short: "Zagoruyko, ICLR 2017"; "" where that is not told."""
    authors, colon, rest = source.partition(":")
    if not colon:
        return source if len(source) < 24 else ""
    names = re.split(r",| et al", authors)
    who = next((name.strip() for name in names if name.strip() not in ("", "Ours")), "")
    when = _YEAR.search(re.split(r"arXiv|;", rest)[0])
    return ", ".join(part for part in (who, when.group(1) if when else "") if part)


def _year(source: str) -> str:
    """When it was published; what does not tell stands last."""
    found = re.search(r"\d{4}$", cited(source))
    return found.group() if found else "9999"


def _known(catalog: Catalog) -> dict[str, Family]:
    return {entry.name: Family(entry.name, entry.title, entry.help) for entry in catalog.of("families")}
