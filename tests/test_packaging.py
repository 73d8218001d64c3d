"""A wheel built from this tree holds all that is needed, and starts; every requirement is pinned."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from kd_engine import paths

ROOT = Path(__file__).parent.parent
PARTS = ("kd_engine", "kd_gui", "resources")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves its own folders in the tree, and takes stale files from them."""
    copy = tmp_path_factory.mktemp("tree")
    for part in PARTS:
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    for stray in (copy / "resources/__pycache__", copy / "resources/icons/__pycache__"):
        stray.mkdir()
        (stray / "make.cpython-311.pyc").touch()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", "."],
        cwd=copy, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = (copy / "dist").glob("*.whl")
    return file


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_packages_and_the_resources(wheel):
    files = {
        file.relative_to(ROOT).as_posix()
        for part in PARTS
        for file in (ROOT / part).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    wanted = {re.sub(r"^resources/", "kd_engine/resources/", file) for file in files}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        scripts = archive.read(next(n for n in archive.namelist() if n.endswith("entry_points.txt"))).decode()
        licenses = [name for name in archive.namelist() if name.endswith("LICENSE")]
    assert held == wanted  # and so no top-level package `resources` that would clash with other people's
    for folder in ("recipes", "teachers", "icons"):
        assert any(name.startswith(f"kd_engine/resources/{folder}/") for name in held), folder
    assert "kd = kd_engine.cli:main" in scripts
    assert "kd-gui = kd_gui.app:main" in scripts
    assert licenses


@pytest.mark.slow
def test_an_unpacked_wheel_starts_without_the_tree(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}

    def python(*args: str) -> str:
        command = [sys.executable, *args]
        run = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=100
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    code = (
        "import kd_engine, kd_gui.app; from kd_engine import paths; print(kd_gui.__file__, paths.resources())"
    )
    module, resources = python("-c", code).split()
    assert Path(module).is_relative_to(tmp_path)
    assert Path(resources) == tmp_path / "kd_engine" / "resources"
    catalog = json.loads(python("-m", "kd_engine", "catalog", "--json"))
    assert {"kd", "digits", "classification"} <= {entry["name"] for entry in catalog["entries"]}
    assert catalog["broken"] == []
    python(
        "-m", "kd_engine", "check", "quickstart"
    )  # a preset is found by its name, and its teacher's weights


def test_in_the_source_tree_resources_are_those_at_its_top():
    assert paths.resources() == ROOT / "resources"


def test_every_requirement_is_pinned_within_its_range():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pins = {_canonical(pin.name): pin for pin in map(Requirement, lines)}
    assert all(re.fullmatch(r"==[\d.]+", str(pin.specifier)) for pin in pins.values())
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, wanted):
        version = str(pins[_canonical(requirement.name)].specifier).removeprefix("==")
        assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}"


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
