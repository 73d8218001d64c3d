"""Where things lie: bundled resources (read-only), the user's cache, datasets and runs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

APP = "kd-studio"


def resources() -> Path:
    """The bundled resources: inside the installed package, or at the top of a source tree."""
    installed = Path(__file__).parent / "resources"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "resources"


def cache() -> Path:
    """The user's cache folder, or `$KD_CACHE`."""
    return Path(os.environ.get("KD_CACHE") or platformdirs.user_cache_path(APP))


def datasets() -> Path:
    """Where downloaded datasets lie, or `$KD_DATA`."""
    return Path(os.environ.get("KD_DATA") or platformdirs.user_data_path(APP) / "datasets")


def runs() -> Path:
    """The default folder of runs: `$KD_RUNS`, or `runs` in the user's data folder."""
    return Path(os.environ.get("KD_RUNS") or platformdirs.user_data_path(APP) / "runs")


def plugins() -> list[Path]:
    """Folders of plug-ins beside the package's own, from `$KD_PLUGINS` (as in `methods/toy.py`)."""
    return [Path(part) for part in os.environ.get("KD_PLUGINS", "").split(os.pathsep) if part]
