"""`kd cache`: what is kept of teachers' answers, shown and cleared, as a command beside those of cli.py."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

from kd_engine import report
from kd_engine.cache import Kept, Shelf
from kd_engine.cli_options import JsonOption, app
from kd_engine.errors import KdError, did_you_mean
from kd_engine.summary import duration, size


@app.command()
def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove all of it, or what KEY names; never what is in use.")
    ] = False,
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="Names from the list.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What teachers said of images, kept so that they need not say it twice: most recently used first."""
    shelf = Shelf()
    kept = shelf.kept()
    _require_known(keys or [], kept)
    if clear:
        freed = shelf.clear(*(keys or ()))
        print(f"Freed {size(freed)}; {size(shelf.bytes())} are left, in {shelf.root}")
    elif as_json:
        print(json.dumps([asdict(one) for one in kept if not keys or one.key in keys], indent=1))
    else:
        _show([one for one in kept if not keys or one.key in keys], shelf)


def _show(kept: list[Kept], shelf: Shelf) -> None:
    if not kept:
        print(f"Nothing is kept in {shelf.root}.")
        return
    rows = [
        [
            one.key,
            *_of(one),
            size(one.bytes),
            f"{duration(time.time() - one.used)} ago",
            "in use" if one.busy else "",
        ]
        for one in kept
    ]
    report.table(["key", "teacher", "images", "size", "used", ""], rows, left=(0, 1, 4, 5))
    print(
        f"{size(sum(one.bytes for one in kept))} in {shelf.root}; the recipe's hardware.cache_mb is the most."
    )


def _of(kept: Kept) -> tuple[str, str]:
    """Which teacher, and how many images of what."""
    about = kept.about
    weights = f" ({about['weights']})" if about.get("weights") else ""
    part = f" {about['part']}" if about.get("part") else ""
    return f"{about.get('teacher', '?')}{weights}", f"{about.get('samples', '?')}{part}"


def _require_known(keys: list[str], kept: list[Kept]) -> None:
    known = [one.key for one in kept]
    for key in keys:
        if key not in known:
            raise KdError(f"nothing is kept under '{key}'{did_you_mean(key, known)}", "See `kd cache`.")
