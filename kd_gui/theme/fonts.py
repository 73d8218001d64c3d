"""Which letters: the system's own font with Chinese fallbacks, three sizes, figures that line up."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from PySide6.QtGui import QFont, QFontDatabase

Role = Literal["caption", "text", "figure"]

_SIZES: dict[str, int] = {"caption": 11, "text": 13, "figure": 22}
_LATIN = ("Inter", "SF Pro Text", "Segoe UI", "Noto Sans", "Ubuntu", "Cantarell", "DejaVu Sans")
_CHINESE = (
    "PingFang SC",
    "Microsoft YaHei UI",
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "Droid Sans Fallback",
)


def font(role: Role = "text", *, bold: bool = False) -> QFont:
    """A font by role: caption (11 px), text (13 px), figure (22 px, semi-bold). Digits are tabular."""
    made = QFont(list(_families()))
    made.setPixelSize(_SIZES[role])
    made.setFeature(QFont.Tag("tnum"), 1)
    if bold or role == "figure":
        made.setWeight(QFont.Weight.DemiBold)
    return made


def title_font() -> QFont:
    """A panel's name: spaced capitals in the size of a caption."""
    made = font("caption", bold=True)
    made.setCapitalization(QFont.Capitalization.AllUppercase)
    made.setLetterSpacing(QFont.SpacingType.AbsoluteSpacing, 0.9)
    return made


@lru_cache(maxsize=1)
def _families() -> tuple[str, ...]:
    """The system's font, then those of ours that exist: a missing family costs a search and a warning."""
    there = set(QFontDatabase.families())
    system = QFontDatabase.systemFont(QFontDatabase.SystemFont.GeneralFont).family()
    named = [family for family in (*_LATIN, *_CHINESE) if family in there]
    first = [system] if system in there and system not in ("Sans Serif", "Sans") else []
    return tuple(dict.fromkeys([*first, *named])) or (system,)
