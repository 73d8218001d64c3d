"""What a machine that cannot open the window is told: one line, exit before Qt, the way out named."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from kd_gui import startup

ROOT = Path(__file__).parent.parent
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="displays are Linux's affair")
GONE = "{}: cannot open shared object file: No such file or directory"


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch):
    """A loader that has every library but those named, and so lacks what links them (`libqxcb.so`), too.

    Which of Qt's optional libraries this machine has does not matter then. libxcb itself stays the true one.
    """

    def hide(*libraries: str, linked_by: str = "") -> None:
        def load(name: str) -> ctypes.CDLL | None:
            if name in libraries:
                raise OSError(GONE.format(name))
            if linked_by and name.endswith(linked_by):
                raise OSError(GONE.format(libraries[0]))
            return ctypes.CDLL(name) if name == "libxcb.so.1" else None

        monkeypatch.setattr(startup, "_load", load)

    return hide


@pytest.fixture
def importing(monkeypatch: pytest.MonkeyPatch):
    """Make the import of a module fail with the message given."""

    def fail(module: str, message: str) -> None:
        load = startup.importlib.import_module

        def import_module(name: str):
            if name == module:
                raise ImportError(message)
            return load(name)

        monkeypatch.setattr(startup.importlib, "import_module", import_module)

    return fail


@linux
@pytest.mark.parametrize("environ", [{}, {"DISPLAY": ""}, {"QT_QPA_PLATFORM": "xcb"}])
def test_without_a_display_the_headless_demo_is_named(environ):
    told = startup.problem(environ)
    assert told is not None
    assert "make demo" in told
    assert "\n" not in told


@linux
def test_a_missing_display_is_told_before_qt_is_imported():
    """In a process of its own: PySide6 stays out, and nothing but the standard library came in."""
    code = (
        "import sys, kd_gui.startup as s; assert 'make demo' in s.problem({});"
        "assert not [m for m in sys.modules if m.startswith(('PySide6', 'torch', 'numpy', 'pydantic'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@linux
def test_the_check_alone_can_be_asked_for():
    environ = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    for platform, code in (("offscreen", 0), ("xcb", 2)):
        command = [sys.executable, "-m", "kd_gui.startup"]
        environ["QT_QPA_PLATFORM"] = platform
        asked = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        assert asked.returncode == code
        assert ("make demo" in asked.stderr) == (code == 2)


@pytest.mark.parametrize("platform", ["offscreen", "minimal", "offscreen:size=10x10", "no-such;offscreen"])
def test_platforms_that_need_no_display_are_fine(platform):
    assert startup.problem({"QT_QPA_PLATFORM": platform}) is None


@linux
def test_an_unknown_platform_is_answered_with_the_known_ones():
    told = startup.problem({"QT_QPA_PLATFORM": "offscren"})
    assert told is not None
    assert "'offscren'" in told
    assert "offscreen" in told


@linux
def test_a_missing_qt_library_is_named_with_its_debian_package(importing, without):
    importing("PySide6.QtWidgets", GONE.format("libEGL.so.1"))
    without("libEGL.so.1")
    assert startup.problem({"QT_QPA_PLATFORM": "offscreen"}) == (
        "Qt lacks the system library libEGL.so.1. Debian, Ubuntu: apt-get install libegl1"
    )


@linux
def test_all_missing_libraries_are_told_at_once(importing, without):
    importing("PySide6.QtWidgets", GONE.format("libEGL.so.1"))
    without("libEGL.so.1", "libglib-2.0.so.0", "libgthread-2.0.so.0", "libxcb-cursor.so.0")
    told = startup.problem({"DISPLAY": ":0"})
    assert told is not None
    assert told.endswith("apt-get install libegl1 libglib2.0-0 libxcb-cursor0")


@linux
def test_a_library_of_no_known_package_is_still_named(importing, without):
    without()
    importing("PySide6.QtWidgets", GONE.format("libodd-2.so.7"))
    told = startup.problem({"QT_QPA_PLATFORM": "offscreen"})
    assert told is not None
    assert "library libodd-2.so.7" in told
    assert "apt-file search libodd-2.so.7" in told


def test_a_damaged_installation_is_not_mistaken_for_a_missing_system_library(importing):
    importing("PySide6.QtWidgets", GONE.format("libQt6Gui.so.6"))
    told = startup.problem({"QT_QPA_PLATFORM": "offscreen"})
    assert told is not None
    assert "apt" not in told
    assert "pip install" in told


def test_a_missing_pyside_is_told(importing):
    importing("PySide6", "No module named 'PySide6'")
    told = startup.problem({"QT_QPA_PLATFORM": "offscreen"})
    assert told is not None
    assert "not installed" in told


@linux
def test_a_platform_plugin_that_cannot_load_is_told_with_its_package(without):
    """Qt itself aborts here, with a hint to xcb-cursor0 whatever the library is."""
    without("libxcb-icccm.so.4", linked_by="libqxcb.so")
    told = startup.problem({"DISPLAY": ":0"})
    assert (
        told == "Qt lacks the system library libxcb-icccm.so.4. Debian, Ubuntu: apt-get install libxcb-icccm4"
    )


@linux
def test_a_display_that_nobody_serves_is_named(without):
    without()
    told = startup.problem({"DISPLAY": ":987"})
    assert told is not None
    assert "DISPLAY=:987" in told
    assert "make demo" in told


@pytest.fixture
def x_server() -> Iterator[tuple[str, list[bytes]]]:
    """A display on a local socket that gives one client the reply put in the list, as an X server would."""
    number = next(n for n in range(900, 1000) if not Path(f"/tmp/.X11-unix/X{n}").exists())
    reply: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0/tmp/.X11-unix/X{number}")
        listening.listen()
        listening.settimeout(5)

        def serve() -> None:
            client, _ = listening.accept()
            with client:
                client.recv(4096)
                client.sendall(reply[0])

        thread = threading.Thread(target=serve)
        thread.start()
        yield f":{number}", reply
        thread.join()


@linux
def test_a_display_that_refuses_is_told(x_server, without):
    without()
    display, reply = x_server
    why = b"not allowed!"
    reply.append(b"\0" + bytes([len(why)]) + (11).to_bytes(2, "little") + b"\0\0\3\0" + why)
    told = startup.problem({"DISPLAY": display})
    assert told is not None
    assert f"DISPLAY={display}" in told


@linux
def test_a_display_that_greets_is_fine(x_server, without):
    without()
    display, reply = x_server
    setup = bytearray(32)  # no vendor, no formats, no screens: enough to be let in
    setup[8:12] = (0x1FFFFF).to_bytes(4, "little")  # the mask from which resource names are made
    reply.append(b"\1\0" + (11).to_bytes(2, "little") + b"\0\0\x08\0" + bytes(setup))
    assert startup.problem({"DISPLAY": display}) is None


@linux
def test_one_working_display_of_two_is_enough(x_server, without, tmp_path):
    without()
    display, reply = x_server
    reply.append(b"\1\0" + (11).to_bytes(2, "little") + b"\0\0\x08\0" + bytes(32))
    environ = {"WAYLAND_DISPLAY": "wayland-9", "XDG_RUNTIME_DIR": str(tmp_path), "DISPLAY": display}
    assert startup.problem(environ) is None


@linux
def test_a_wayland_display_that_nobody_serves_is_named(without, tmp_path):
    without()
    told = startup.problem({"WAYLAND_DISPLAY": "wayland-9", "XDG_RUNTIME_DIR": str(tmp_path)})
    assert told is not None
    assert "WAYLAND_DISPLAY=wayland-9" in told


@linux
def test_a_wayland_display_that_listens_is_fine(without, tmp_path):
    without()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "wayland-9"))
        listening.listen()
        assert startup.problem({"WAYLAND_DISPLAY": "wayland-9", "XDG_RUNTIME_DIR": str(tmp_path)}) is None


@pytest.mark.parametrize(
    ("version", "python", "broken"),
    [
        ("6.12.0", (3, 11), True),
        ("6.12.0", (3, 12), False),
        ("6.9.1", (3, 13), True),
        ("6.11.1", (3, 11), True),
        ("6.10.3", (3, 11), False),
        ("6.9.3", (3, 11), False),
    ],
)
def test_versions_of_qt_that_break_the_window_are_known(version, python, broken):
    assert startup._is_broken(version, python) is broken


def test_a_broken_version_is_told_with_the_one_to_install(monkeypatch):
    import PySide6

    monkeypatch.setattr(PySide6, "__version__", "6.11.0")
    told = startup.problem({"QT_QPA_PLATFORM": "offscreen"})
    assert told is not None
    assert "6.11.0" in told
    assert startup.SUPPORTED in told


def test_the_version_told_is_the_one_that_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"PySide6-Essentials{startup.SUPPORTED}" in project["dependencies"]


@linux
def test_the_tables_hold_every_system_library_that_qt_links():
    """Against the real thing: what Qt, its offscreen and its X11 plugin ask of the loader."""
    import PySide6

    folder = Path(PySide6.__file__).parent / "Qt"
    known = startup.BASE | startup.BY_PLATFORM["xcb"]
    files = [folder / "plugins/platforms" / name for name in ("libqoffscreen.so", "libqxcb.so")]
    files += [folder / f"lib/libQt6{name}.so.6" for name in ("Core", "Gui", "Widgets", "Svg", "XcbQpa")]
    for file in files:
        outside = {name for name in _linked(file) if not name.startswith(("libQt6", "libicu"))}
        always_there = {n for n in outside if re.match(r"lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+)\.so|ld-", n)}
        assert outside - always_there <= set(known), file.name


def _linked(file: Path) -> set[str]:
    """DT_NEEDED of a 64-bit little-endian ELF file, read by hand."""
    data = file.read_bytes()

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    headers = [number(32, 8) + i * number(54, 2) for i in range(number(56, 2))]
    loads = [(number(h + 16, 8), number(h + 8, 8), number(h + 32, 8)) for h in headers if number(h, 4) == 1]
    dynamic = next(h for h in headers if number(h, 4) == 2)
    start, size = number(dynamic + 8, 8), number(dynamic + 32, 8)
    entries = [(number(at, 8), number(at + 8, 8)) for at in range(start, start + size, 16)]
    address = next(value for tag, value in entries if tag == 5)
    strings = next(address - low + offset for low, offset, length in loads if low <= address < low + length)
    ends = [(strings + value, data.index(b"\0", strings + value)) for tag, value in entries if tag == 1]
    return {data[begin:end].decode() for begin, end in ends}


def test_a_healthy_check_is_quick_once_qt_is_loaded():
    """The window has a second to show; what this adds to Qt's own loading must not be felt."""

    def seconds() -> float:
        start = time.perf_counter()
        assert startup.problem({"QT_QPA_PLATFORM": "offscreen"}) is None
        return time.perf_counter() - start

    assert min(seconds() for _ in range(10)) < 0.02
