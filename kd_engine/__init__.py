"""kd_engine: knowledge distillation without a screen. The face of the engine; importing it imports nothing
heavy.

from kd_engine import Recipe, Session for event in Session(Recipe.load("quickstart"), runs="runs"): ...
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd_engine.deploy import load_model
    from kd_engine.recipe import Recipe
    from kd_engine.remote import open_session
    from kd_engine.session import Session
    from kd_engine.store import Store

_HOMES = {
    "Recipe": "kd_engine.recipe",
    "Session": "kd_engine.session",
    "Store": "kd_engine.store",
    "load_model": "kd_engine.deploy",
    "open_session": "kd_engine.remote",
}

__all__ = ["Recipe", "Session", "Store", "load_model", "open_session"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is asked for: `Session` costs seconds, because it needs torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'kd_engine' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
