"""What can be undone and done again: the changes of a document, from one immutable state to another.

In place of Qt's QUndoStack. That owns its commands, and a command written in Python lives twice: where a
stack and its commands came into one garbage collection of Python, PySide 6.10 freed a command before the
stack that deletes it, and the process died, in the middle of what came next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Change:
    """From one state to another. text: what undo calls it; path: the setting that it is of, "" for all;
    more: it goes on with the change before it, if that was of the same setting."""

    text: str
    old: Any
    new: Any
    path: str
    more: bool = False


class History:
    """The changes in order, and how many of them are in force. It changes no document: that is for the
    caller, with what is handed back."""

    def __init__(self) -> None:
        self._changes: list[Change] = []
        self._done = 0

    def __len__(self) -> int:
        """How many steps there are, back and forth."""
        return len(self._changes)

    @property
    def undo_text(self) -> str | None:
        """What would be undone, None for nothing."""
        return self._changes[self._done - 1].text if self._done else None

    @property
    def redo_text(self) -> str | None:
        """What would be done again, None for nothing."""
        return self._changes[self._done].text if self._done < len(self._changes) else None

    def add(self, change: Change) -> None:
        """One that was just made. What had been undone before it cannot be done again."""
        del self._changes[self._done :]
        if change.more and self._changes and self._changes[-1].path == change.path:
            change = replace(self._changes.pop(), new=change.new)
        self._changes.append(change)
        self._done = len(self._changes)

    def back(self) -> Change | None:
        """The last change in force, which from now on is not; None when there is none."""
        if self._done == 0:
            return None
        self._done -= 1
        return self._changes[self._done]

    def forth(self) -> Change | None:
        """The change that was undone last, which from now on is in force again; None when there is none."""
        if self._done == len(self._changes):
            return None
        self._done += 1
        return self._changes[self._done - 1]

    def clear(self) -> None:
        self._changes.clear()
        self._done = 0
