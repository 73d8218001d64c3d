"""Whatever a recipe says, `check` names problems or finds none, and never raises; what passes can be made."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from kd_engine import catalog as catalogs
from kd_engine.catalog import Catalog
from kd_engine.check import check
from kd_engine.document import live_knobs, read_document
from kd_engine.errors import Problem, RecipeError
from kd_engine.recipe import Recipe

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2.5,
    -0.0,
    10**9,
    10**30,
    10**400,
    -(10**400),
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    "kdd",
    "null",
    "1",
    "ÄÖ✓\u202e",
    "\ud800",
    "\0",
    "a" * 5000,
    "~nobody-of-this-name/x",
    "../..",
    "run:",
    "bundled:",
    "bundled:digits-resnet20",
    "torchvision",
    ":best",
    [],
    [None],
    [[]],
    [1, "a", {}],
    {},
    {"name": None},
    {"": ""},
    {"a": {"b": [{}]}},
)


def _deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"x": [value]}
    return value


def _places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield way
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*way, key))


def _mutate(document: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A copy with one to four places removed, replaced, doubled, renamed or extended."""
    changed = copy.deepcopy(document)
    for _ in range(rng.randint(1, 4)):
        way = rng.choice([place for place in _places(changed) if place] or [("version",)])
        home: Any = changed
        for key in way[:-1]:
            home = home[key]
        key = way[-1]
        kind = rng.choice(("replace", "replace", "remove", "double", "rename", "extend"))
        if kind == "replace":
            home[key] = copy.deepcopy(rng.choice(ODD))
        elif kind == "remove":
            del home[key]
        elif kind == "double" and isinstance(home, list):
            home.append(copy.deepcopy(home[key]))
        elif kind == "rename" and isinstance(home, dict):
            home[rng.choice(("", "x", str(key) + "s", str(key).upper()))] = home.pop(key)
        elif kind == "extend" and isinstance(home[key], dict):
            home[key][rng.choice(("path", "weight", "model", "name", "é"))] = copy.deepcopy(rng.choice(ODD))
    return changed


def _hold(document: Any, catalog: Catalog) -> bool:
    """Check a document, and make the recipe where there is no problem. Whether there was none."""
    problems = check(document, catalog)
    assert all(isinstance(problem, Problem) and problem.message for problem in problems)
    for problem in problems:
        assert len(str(problem)) < 2000, "a message that nobody can read"
        str(problem).encode("utf-8")  # can be shown
    if problems:
        with pytest.raises(RecipeError):
            Recipe.from_document(document, catalog)
        return False
    recipe = Recipe.from_document(document, catalog)
    full = recipe.document()
    assert check(full, catalog) == []
    assert Recipe.from_document(json.loads(json.dumps(full, allow_nan=False)), catalog) == recipe
    assert live_knobs(full, catalog)
    return True


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return catalogs.load()


@pytest.fixture(scope="module")
def quickstart() -> dict[str, Any]:
    return read_document("quickstart")


@pytest.mark.parametrize("seed", range(8))
def test_a_mutated_recipe_yields_problems_or_a_recipe(
    seed: int, catalog: Catalog, quickstart: dict[str, Any]
) -> None:
    rng = random.Random(seed)
    passed = sum(_hold(_mutate(quickstart, rng), catalog) for _ in range(150))
    assert 0 < passed < 150, "the mutations should be neither all harmless nor all fatal"


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:20])
def test_any_value_at_any_place_is_judged(odd: Any, catalog: Catalog, quickstart: dict[str, Any]) -> None:
    for way in list(_places(quickstart)):
        if not way:
            continue
        changed = copy.deepcopy(quickstart)
        home: Any = changed
        for key in way[:-1]:
            home = home[key]
        home[way[-1]] = copy.deepcopy(odd)
        _hold(changed, catalog)


@pytest.mark.parametrize("document", [{}, {"stages": {}}, _deep(400), {"data": _deep(400)}], ids=str)
def test_documents_that_are_no_recipes_are_judged(document: dict[str, Any], catalog: Catalog) -> None:
    assert not _hold(document, catalog)


@pytest.mark.parametrize("document", [None, [], "x", 3, [["version", 1]]], ids=repr)
def test_what_is_no_object_is_judged(document: Any, catalog: Catalog) -> None:
    assert not _hold(document, catalog)
