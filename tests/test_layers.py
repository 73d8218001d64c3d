"""Who may import whom, read from the imports: panels, plots, views to state to the engine's light modules.

The rules are functions over a source tree, so that they are also tried on a small tree that breaks them all.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
QT = ("PySide6", "shiboken6", "pyqtgraph")
KINDS = ("tasks", "datasets", "models", "methods", "probes", "stages", "exporters")
# No torch in these, nor in what they import: the desktop shows its window before torch is imported anywhere.
LIGHT = (
    "errors",
    "knobs",
    "events",
    "commands",
    "registry",
    "paths",
    "threads",
    "recipe",
    "recipe_knobs",
    "document",
    "check",
    "conflicts",
    "cli_options",
    "catalog",
    "store",
    "run_log",
    "disk",
    "cache",
    "child",
    "remote",
)
# What of kd_gui each layer may use, beside itself. Modules not listed (app, main_window, ...) compose.
GUI: dict[str, tuple[str, ...]] = {
    "startup": (),
    "theme": (),
    "engine_thread": (),
    "state": ("engine_thread",),
    "forms": ("state", "theme"),
    "plots": ("state", "theme"),
    "log": (),
    "actions": ("state",),
    "views": ("state", "theme", "actions", "log"),
    "panels": ("state", "theme", "forms", "plots", "views"),
}
HEAVY = {"torch", "torchvision", "sklearn", "PySide6"}
SESSIONS = ("kd_engine.session", "kd_engine.Session", "kd_engine.open_session")
ENGINES = ("kd_engine.remote.Engine", "kd_engine.remote.LocalEngine")  # what starts them


@dataclass(frozen=True)
class Import:
    """`where` imports `what`, both dotted. lazy: inside a function, or for type checkers only."""

    where: str
    what: str
    lazy: bool

    def __str__(self) -> str:
        return f"{self.where} imports {self.what}"

    def of(self, *modules: str) -> bool:
        """Whether `what` is, or lies in, one of these modules."""
        return any(self.what == module or self.what.startswith(f"{module}.") for module in modules)


def imports(root: Path, package: str) -> list[Import]:
    """Every import statement of a package, in every file. `from a import b` counts as a.b."""
    found: list[Import] = []
    for file in sorted((root / package).rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        inside = parts[:-1]
        where = ".".join(inside if parts[-1] == "__init__" else parts)
        for node, lazy in _statements(ast.parse(file.read_text(encoding="utf-8")), lazy=False):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                near = ".".join(inside[: len(inside) - node.level + 1]) if node.level else ""
                base = ".".join(part for part in (near, node.module) if part)
                names = [f"{base}.{alias.name}" for alias in node.names]
            found += [Import(where, name, lazy) for name in names]
    return found


def _statements(node: ast.AST, *, lazy: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, lazy
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        inner = lazy or typing_only or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from _statements(child, lazy=inner)


# -- the rules: each gives the imports that break it --


def engine_knows_the_desktop(root: Path) -> list[Import]:
    return [i for i in imports(root, "kd_engine") if i.of(*QT, "kd_gui")]


def light_modules_use_heavy_ones(root: Path) -> list[Import]:
    """At import time, light modules use light ones only, and no torch at all."""
    eager = [i for i in imports(root, "kd_engine") if i.where in _light() and not i.lazy]
    return [i for i in eager if i.of(*HEAVY, "scipy", "safetensors") or _is_heavy_part_of_engine(i, root)]


def _light() -> tuple[str, ...]:
    return ("kd_engine", *(f"kd_engine.{name}" for name in LIGHT))


def _is_heavy_part_of_engine(i: Import, root: Path) -> bool:
    """Whether a module below the torch line is imported; `kd_engine.Recipe` is the face, no module."""
    package, _, name = i.what.partition(".")
    path = root / package / name.split(".")[0]
    return (
        i.of("kd_engine") and (path.is_dir() or path.with_suffix(".py").exists()) and not i.of(*_light()[1:])
    )


def plugins_know_each_other_or_the_session(root: Path) -> list[Import]:
    """A plug-in may use every kind's base (the folder's `__init__`), and `_shared` files of its own kind."""
    broken = []
    for i in imports(root, "kd_engine"):
        kind = i.where.split(".")[1] if i.where.count(".") == 2 else ""
        if kind not in KINDS:
            continue
        others = [
            f"kd_engine.{k}.{file.stem}"
            for k in KINDS
            for file in (root / "kd_engine" / k).glob("*.py")
            if file.stem != "__init__" and not (k == kind and file.stem.startswith("_"))
        ]
        if i.of(*others, "kd_engine.cli", "kd_engine.remote", *SESSIONS):
            broken.append(i)
    return broken


def desktop_layers_look_upwards(root: Path) -> list[Import]:
    broken = []
    for i in imports(root, "kd_gui"):
        layer = i.where.split(".")[1] if "." in i.where else ""
        if layer in GUI and i.of("kd_gui"):
            below = [f"kd_gui.{name}" for name in (layer, *GUI[layer])]
            if not i.of(*below, "kd_gui.app.show_alone"):  # a panel run by itself, as a program
                broken.append(i)
    return broken


def desktop_uses_heavy_engine_modules(root: Path) -> list[Import]:
    """Of the engine, the desktop knows the light modules and the face; of torch and the session, nothing."""
    forbidden = ("torch", "torchvision", *SESSIONS)
    return [i for i in imports(root, "kd_gui") if i.of(*forbidden) or _is_heavy_part_of_engine(i, root)]


def layers_start_engines(root: Path) -> list[Import]:
    """Engines are started where the window is composed, and handed down."""
    layers = tuple(f"kd_gui.{name}" for name in GUI if name != "engine_thread")
    return [i for i in imports(root, "kd_gui") if i.of(*ENGINES) and i.where.startswith(layers)]


RULES = (
    engine_knows_the_desktop,
    light_modules_use_heavy_ones,
    plugins_know_each_other_or_the_session,
    desktop_layers_look_upwards,
    desktop_uses_heavy_engine_modules,
    layers_start_engines,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_nobody_breaks_the_rule_that(rule):
    assert [str(broken) for broken in rule(ROOT)] == []


def test_there_is_something_to_read():
    """The rules would hold for an empty folder, too."""
    assert len(imports(ROOT, "kd_engine")) > 100
    assert len(imports(ROOT, "kd_gui")) > 20
    assert [name for name in LIGHT if (ROOT / "kd_engine" / f"{name}.py").exists()][:6] == list(LIGHT[:6])
    assert all((ROOT / "kd_engine" / kind / "__init__.py").exists() for kind in KINDS)


TREE = {
    "kd_engine/__init__.py": "from kd_engine.recipe import Recipe",
    "kd_engine/recipe.py": "from kd_engine import errors, signals",
    "kd_engine/errors.py": "def f():\n    import torch",
    "kd_engine/events.py": "import torch.nn",
    "kd_engine/signals.py": "import torch\nfrom kd_gui.state import feed",
    "kd_engine/session.py": "from PySide6.QtCore import QObject",
    "kd_engine/methods/__init__.py": "from kd_engine.signals import Signals",
    "kd_engine/methods/_shared.py": "from kd_engine.methods import Method",
    "kd_engine/methods/at.py": "from kd_engine.methods import Method, _shared\nfrom .kd import KD",
    "kd_engine/methods/kd.py": "def f():\n    from kd_engine.session import Session",
    "kd_gui/app.py": "from kd_gui.panels import curves\nfrom kd_engine import Recipe, Session, recipe",
    "kd_gui/engine_thread.py": "from kd_engine.remote import Engine\nfrom kd_engine.session import Session",
    "kd_gui/state/feed.py": "from kd_gui.panels.curves import Curves\nfrom kd_engine.remote import Engine",
    "kd_gui/panels/curves.py": "from kd_gui.state.feed import Feed\nfrom kd_gui import engine_thread",
    "kd_gui/plots/line.py": "from kd_engine import signals\nimport torch",
}
BROKEN = {
    engine_knows_the_desktop: {
        "kd_engine.signals imports kd_gui.state.feed",
        "kd_engine.session imports PySide6.QtCore.QObject",
    },
    light_modules_use_heavy_ones: {
        "kd_engine.recipe imports kd_engine.signals",
        "kd_engine.events imports torch.nn",
    },
    plugins_know_each_other_or_the_session: {
        "kd_engine.methods.at imports kd_engine.methods.kd.KD",
        "kd_engine.methods.kd imports kd_engine.session.Session",
    },
    desktop_layers_look_upwards: {
        "kd_gui.state.feed imports kd_gui.panels.curves.Curves",
        "kd_gui.panels.curves imports kd_gui.engine_thread",
    },
    desktop_uses_heavy_engine_modules: {
        "kd_gui.app imports kd_engine.Session",
        "kd_gui.engine_thread imports kd_engine.session.Session",
        "kd_gui.plots.line imports kd_engine.signals",
        "kd_gui.plots.line imports torch",
    },
    layers_start_engines: {"kd_gui.state.feed imports kd_engine.remote.Engine"},
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_tree_that_breaks_the_rule_is_caught(rule, tmp_path):
    for name, source in TREE.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source, encoding="utf-8")
    assert {str(broken) for broken in rule(tmp_path)} == BROKEN[rule]


# -- and in truth: import everything and look what came along --


def came_along(modules: list[str]) -> set[str]:
    """Which heavy packages a fresh interpreter holds after importing these modules."""
    code = (
        f"import importlib, sys\nfor m in {modules!r}: importlib.import_module(m)\n"
        f"print(*sorted({{m.split('.')[0] for m in sys.modules}} & {HEAVY!r}))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_the_light_modules_bring_neither_torch_nor_qt():
    there = [f"kd_engine.{name}" for name in LIGHT if (ROOT / "kd_engine" / f"{name}.py").exists()]
    assert came_along(["kd_engine", *there]) == set()


def test_the_whole_desktop_brings_no_torch():
    files = [f.relative_to(ROOT).with_suffix("") for f in sorted((ROOT / "kd_gui").rglob("*.py"))]
    modules = [".".join(file.parts).removesuffix(".__init__") for file in files if file.name != "__main__"]
    assert came_along(modules) == {"PySide6"}
