"""The set-up behind `make run` and `make test`: once, in either order, and never half.

Tried on a copy of the Makefile with a Python that writes down what it is asked to do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FAKE_PYTHON = """#!/bin/sh
case "$*" in
    *sys.version_info*|*"import ensurepip"*|"-c 0"|"-m pip --version") ;;
    *compileall*|"-m kd_gui.startup"|"catalog --json") ;;
    "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    *"pip install"*) echo install >> log; [ ! -e break ] && cp "$0" .venv/bin/kd ;;
    *) echo "$*" >> log ;;
esac
"""

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is for those who have it")


@pytest.fixture
def checkout(tmp_path: Path):
    """A folder with the Makefile and a Python that makes empty environments; `make` returns its exit code."""
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    for name in ("Makefile", "pyproject.toml", "setup.py", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python3.99"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)

    class Checkout:
        folder = tmp_path
        told = ""

        def make(self, *args: str) -> int:
            outer = ("MAKE", "MFLAGS", "ARGS", "PYTHON")  # what the `make test` that we may run in hands down
            environ = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
            command = ["make", f"PYTHON={python}", *args]
            run = subprocess.run(
                command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
            )
            self.told = run.stdout + run.stderr
            return run.returncode

        def did(self) -> list[str]:
            """What was installed and started since the last call."""
            log = tmp_path / "log"
            lines = log.read_text().splitlines() if log.exists() else []
            log.unlink(missing_ok=True)
            return lines

    return Checkout()


WINDOW, TESTS = "-m kd_gui", "-m pytest"


@needs_make
@pytest.mark.parametrize(("first", "second"), [("run", "test"), ("test", "run")])
def test_the_first_command_installs_and_the_second_does_not(checkout, first, second):
    started = {"run": WINDOW, "test": TESTS}
    assert checkout.make(first) == 0, checkout.told
    assert [line.strip() for line in checkout.did()] == ["install", started[first]]
    assert checkout.make(second) == 0, checkout.told
    assert [line.strip() for line in checkout.did()] == [started[second]]


@needs_make
@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed(checkout, name):
    assert checkout.make("setup") == 0, checkout.told
    checkout.did()
    later = os.path.getmtime(checkout.folder / ".venv" / ".installed") + 5
    os.utime(checkout.folder / name, (later, later))
    assert checkout.make("setup") == 0, checkout.told
    assert checkout.did() == ["install"]


@needs_make
def test_an_interrupted_install_starts_over_with_an_empty_environment(checkout):
    (checkout.folder / "break").touch()
    assert checkout.make("run") != 0
    assert checkout.did() == ["install"]  # and no window
    half = checkout.folder / ".venv" / "half-a-package"
    half.touch()
    (checkout.folder / "break").unlink()
    assert checkout.make("run") == 0, checkout.told
    assert [line.strip() for line in checkout.did()] == ["install", WINDOW]
    assert not half.exists()


@needs_make
def test_a_set_up_under_way_is_not_trampled_on(checkout):
    venv = checkout.folder / ".venv"
    venv.mkdir()
    (venv / ".installing").write_text(str(os.getpid()))
    assert checkout.make("run") != 0
    assert "Another set-up" in checkout.told
    assert checkout.did() == []


@needs_make
def test_an_environment_whose_python_has_gone_is_made_anew(checkout):
    assert checkout.make("setup") == 0, checkout.told
    checkout.did()
    (checkout.folder / ".venv" / "bin" / "python").unlink()
    assert checkout.make("test") == 0, checkout.told
    assert [line.strip() for line in checkout.did()] == ["install", TESTS]


@needs_make
def test_without_a_fitting_python_the_way_out_is_told(checkout):
    (checkout.folder / "python3.99").write_text("#!/bin/sh\nexit 127\n")
    assert checkout.make("run") != 0
    assert "Python 3.11 or newer is needed" in checkout.told
    assert "PYTHON=" in checkout.told
    (checkout.folder / "python3.99").write_text(
        '#!/bin/sh\ncase "$*" in *version_info*) ;; *) exit 1 ;; esac\n'
    )
    assert checkout.make("run") != 0
    assert "python3-venv" in checkout.told
    assert not (checkout.folder / ".venv").exists()
