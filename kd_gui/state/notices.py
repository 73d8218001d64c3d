"""What the user is told without being stopped: a sentence, the way out, and at most a few things to click."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from PySide6.QtCore import QObject, Signal

Level = Literal["info", "good", "warning", "error"]


@dataclass(frozen=True)
class Offer:
    """A button of a notice. After `act` the notice goes away, unless `stays`."""

    label: str
    act: Callable[[], object]
    stays: bool = False


@dataclass(frozen=True)
class Post:
    """One notice. key: a later post with the same key takes its place. hint: a second, quieter sentence."""

    key: str
    level: Level
    text: str
    hint: str = ""
    offers: tuple[Offer, ...] = ()


class Notices(QObject):
    """What is posted now, newest last. At most `MOST`: the oldest gives way."""

    changed = Signal()
    MOST = 3

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._posts: dict[str, Post] = {}

    @property
    def posts(self) -> list[Post]:
        return list(self._posts.values())

    def post(self, post: Post) -> None:
        self._posts.pop(post.key, None)
        self._posts[post.key] = post
        while len(self._posts) > self.MOST:
            self._posts.pop(next(iter(self._posts)))
        self.changed.emit()

    def find(self, key: str) -> Post | None:
        return self._posts.get(key)

    def withdraw(self, *keys: str) -> None:
        """Take posts down; those that are not there are no matter."""
        if [key for key in keys if self._posts.pop(key, None) is not None]:
            self.changed.emit()

    def withdraw_all(self) -> None:
        self.withdraw(*self._posts)

    def take(self, post: Post, offer: Offer) -> None:
        """The user clicked an offer."""
        if not offer.stays:
            self.withdraw(post.key)
        offer.act()
