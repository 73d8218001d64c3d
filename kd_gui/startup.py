"""Say in one line why the window cannot open, before Qt says it by a loader's message or by aborting.

Call `problem` before the first import of Qt; up to there nothing but the standard library is used. A healthy
start pays for loading what Qt is about to load anyway, and under a millisecond for a greeting to the display.
`python -m kd_gui.startup` says it without starting anything.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

SUPPORTED = ">=6.10.3,<6.11"
BROKEN = {(6, 9, 1), (6, 9, 2), (6, 11, 0), (6, 11, 1)}

# Library to Debian package. Every Qt program needs these, also one that draws offscreen.
BASE = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libz.so.1": "zlib1g",
    "libzstd.so.1": "libzstd1",
}
# And each platform plugin these.
BY_PLATFORM = {
    "xcb": {
        "libX11-xcb.so.1": "libx11-xcb1",
        "libxcb-cursor.so.0": "libxcb-cursor0",
        "libxcb-icccm.so.4": "libxcb-icccm4",
        "libxcb-image.so.0": "libxcb-image0",
        "libxcb-keysyms.so.1": "libxcb-keysyms1",
        "libxcb-randr.so.0": "libxcb-randr0",
        "libxcb-render-util.so.0": "libxcb-render-util0",
        "libxcb-render.so.0": "libxcb-render0",
        "libxcb-shape.so.0": "libxcb-shape0",
        "libxcb-shm.so.0": "libxcb-shm0",
        "libxcb-sync.so.1": "libxcb-sync1",
        "libxcb-util.so.1": "libxcb-util1",
        "libxcb-xfixes.so.0": "libxcb-xfixes0",
        "libxcb-xkb.so.1": "libxcb-xkb1",
        "libxcb.so.1": "libxcb1",
        "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    },
    "wayland": {
        "libwayland-client.so.0": "libwayland-client0",
        "libwayland-cursor.so.0": "libwayland-cursor0",
        "libwayland-egl.so.1": "libwayland-egl1",
    },
}
NO_DISPLAY = "There is no display to open a window on. Without one: `make demo`, or `kd run quickstart`."


def problem(environ: Mapping[str, str]) -> str | None:
    """Why no window can open with these environment variables and what to do about it, or None. One line."""
    platforms = _platforms(environ) if sys.platform.startswith("linux") else []
    if platforms is None:
        return NO_DISPLAY
    if (why := _qt_problem(platforms)) is not None:
        return why
    # Qt tries one platform after the other: it is enough that one of them works.
    reasons = [_platform_problem(platform, environ) for platform in platforms]
    return None if None in reasons or not reasons else reasons[0]


def _platforms(environ: Mapping[str, str]) -> list[str] | None:
    """The platform plugins that Qt will try, in its order, or None where no display is named."""
    if chosen := environ.get("QT_QPA_PLATFORM"):
        return [part.split(":")[0] for part in chosen.split(";") if part]
    wayland = bool(environ.get("WAYLAND_DISPLAY")) or environ.get("XDG_SESSION_TYPE") == "wayland"
    named = ["wayland"] * wayland + ["xcb"] * bool(environ.get("DISPLAY"))
    return named or None


def _qt_problem(platforms: Iterable[str]) -> str | None:
    """Why Qt itself cannot be used: not installed, a version known to break, a system library missing."""
    install = f'pip install "PySide6-Essentials{SUPPORTED}"'
    try:
        version = importlib.import_module("PySide6").__version__
    except ImportError:
        return f"PySide6 (Qt for Python) is not installed: {install}"
    if _is_broken(version, sys.version_info[:2]):
        return f"PySide6 {version} breaks this window on this Python: {install}"
    try:
        importlib.import_module("PySide6.QtWidgets")
    except ImportError as error:
        return _explain(str(error), platforms) or f"PySide6 cannot be loaded ({error}): {install}"
    return None


def _is_broken(version: str, python: tuple[int, ...]) -> bool:
    """Seen to fail: four break pyqtgraph or docks; 6.12 loses references to None on Python 3.10 and 3.11."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    return numbers in BROKEN or (numbers[:2] == (6, 12) and python <= (3, 11))


def _platform_problem(platform: str, environ: Mapping[str, str]) -> str | None:
    """Why this one plugin cannot start. Qt would abort the process."""
    family = platform.split("-")[0]  # wayland-egl lies in the same file as wayland
    if family == "xcb" and not environ.get("DISPLAY"):
        return NO_DISPLAY
    folder = _plugins(environ)
    if folder is None:  # a Qt that is laid out differently: let it speak for itself
        return None
    plugin = folder / f"libq{family}.so"
    if not plugin.exists():
        known = ", ".join(sorted(file.stem.removeprefix("libq") for file in folder.glob("libq*.so")))
        return f"QT_QPA_PLATFORM: Qt has no platform '{platform}', it has {known}."
    try:
        _load(str(plugin))
    except OSError as error:
        return _explain(str(error), [family]) or f"Qt's platform '{platform}' cannot be loaded: {error}"
    if family == "xcb":
        return _x11_problem(environ["DISPLAY"])
    return _wayland_problem(environ) if family == "wayland" else None


def _plugins(environ: Mapping[str, str]) -> Path | None:
    """Where PySide6's platform plugins lie; None where they lie elsewhere, as the environment may say."""
    elsewhere = "QT_QPA_PLATFORM_PLUGIN_PATH" in environ or "QT_PLUGIN_PATH" in environ
    package = importlib.import_module("PySide6").__file__
    folder = Path(package or "").parent / "Qt" / "plugins" / "platforms"
    return None if elsewhere or not folder.is_dir() else folder


def _x11_problem(display: str) -> str | None:
    """Greet the X server as Qt will, through libxcb, so that permissions and forwarding are tried too."""
    xcb = _load("libxcb.so.1")
    xcb.xcb_connect.restype = ctypes.c_void_p
    connection = ctypes.c_void_p(xcb.xcb_connect(display.encode(), None))
    if not xcb.xcb_connection_has_error(connection):
        # Left open on purpose: a server that loses its only client resets, and then refuses Qt for a moment.
        return None
    xcb.xcb_disconnect(connection)
    return _unreachable(f"DISPLAY={display}")


def _wayland_problem(environ: Mapping[str, str]) -> str | None:
    name = environ.get("WAYLAND_DISPLAY") or "wayland-0"
    address = Path(environ.get("XDG_RUNTIME_DIR", ""), name)
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(address))
        except OSError:
            return _unreachable(f"WAYLAND_DISPLAY={name}")
    return None


def _unreachable(display: str) -> str:
    return f"The display {display} does not answer. Without one: `make demo`, or `kd run quickstart`."


def missing_libraries(platforms: Iterable[str]) -> dict[str, str]:
    """System libraries that Qt needs on these platforms and that do not load, to their Debian packages."""
    needed = BASE | {library: p for name in platforms for library, p in BY_PLATFORM.get(name, {}).items()}
    return {library: package for library, package in needed.items() if not _loads(library)}


def _explain(message: str, platforms: Iterable[str]) -> str | None:
    """Every system library that is missing, and the packages; the loader's message names only the first.

    None where the message is about something else, a damaged installation for instance.
    """
    match = re.search(r"(lib[\w.+-]+\.so[\d.]*): cannot open shared object file", message)
    if match is None or match[1].startswith(("libQt6", "libpyside6", "libshiboken6")):
        return None
    known = missing_libraries(platforms)
    missing = list(dict.fromkeys([match[1], *known]))
    packages = " ".join(dict.fromkeys(known.values()))
    way_out = f"apt-get install {packages}" if match[1] in known else f"apt-file search {match[1]}"
    noun = "library" if len(missing) == 1 else "libraries"
    return f"Qt lacks the system {noun} {', '.join(missing)}. Debian, Ubuntu: {way_out}"


def _loads(library: str) -> bool:
    try:
        _load(library)
    except OSError:
        return False
    return True


def _load(library: str) -> ctypes.CDLL:
    return ctypes.CDLL(library)


if __name__ == "__main__":
    if (why := problem(os.environ)) is not None:
        print(why, file=sys.stderr)
        sys.exit(2)
