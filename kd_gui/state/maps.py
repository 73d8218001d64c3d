"""The kinds of heat that both models can be asked for, and the places in them to look through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ATTENTION, AUTO = "attention", "auto"  # the map that the files of pictures and snapshots hold


@dataclass(frozen=True)
class Place:
    """A tap that a probe can look through, in words: "last stage, 8×8"."""

    name: str
    words: str


@dataclass(frozen=True)
class Map:
    """A probe that answers with heat. places: best first; empty: only the best, unnamed."""

    name: str
    title: str
    places: tuple[Place, ...] = ()

    @classmethod
    def from_json(cls, declared: Mapping[str, Any]) -> Map:
        """{"name", "title", "taps": [{"name", "words"}]}."""
        places = tuple(Place(tap["name"], tap["words"]) for tap in declared.get("taps", ()))
        return cls(declared["name"], declared["title"], places)

    def tap(self, name: str) -> str:
        """The tap to ask for: the first place and any that is not there are AUTO."""
        return name if name in [place.name for place in self.places[1:]] else AUTO

    def key(self, tap: str) -> str:
        """The name of the place that `tap` means."""
        return self.places[0].name if tap == AUTO and self.places else tap
