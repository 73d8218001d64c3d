"""How long a run has been at work, how fast it goes, and how long it will take; pauses do not count."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from kd_gui.state.curves import Floats

MEANINGFUL_SECONDS = 2.0  # of steps seen, before a guess at the end is worth showing
MEANINGFUL_SHARE = 0.02
RECENT = 64  # steps over which the pace is measured


class Clock:
    """Fed with the times and numbers of steps. `active`: seconds at work."""

    def __init__(self) -> None:
        self.active = 0.0
        self._last: float | None = None  # the time up to which work is counted; None while it stands still
        self._first: tuple[float, int] | None = None  # (active, step) where the pace starts to be measured
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT)

    def step(self, time: float, step: int) -> None:
        """`step` was reached at `time`, in seconds since the epoch."""
        self.steps(np.array([time]), np.array([step]))

    def steps(self, times: Floats, steps: NDArray[np.int_]) -> None:
        """Each of `steps` (n,) was reached at its time, one after the other; n > 0."""
        began = times[0] if self._last is None else self._last
        worked = np.maximum(np.diff(times, prepend=began), 0.0)
        active = np.cumsum(np.concatenate(([self.active], worked)))[1:]
        self.active, self._last = float(active[-1]), float(times[-1])
        if self._first is None:
            self._first = (float(active[0]), int(steps[0]))
        self._recent.extend(zip(active[-RECENT:].tolist(), steps[-RECENT:].tolist(), strict=True))

    def pause(self, time: float) -> None:
        if self._last is not None:
            self.active += max(time - self._last, 0.0)
        self.stop()

    def go_on(self, time: float) -> None:
        self._last = time

    def stop(self) -> None:
        self._last = None

    def restart(self) -> None:
        """A run goes on in another process: the time between does not count, nor does the old pace."""
        self._last = self._first = None
        self._recent.clear()

    def pace(self) -> float | None:
        """Steps a second of late."""
        if len(self._recent) < 2:
            return None
        (then, old), (now, new) = self._recent[0], self._recent[-1]
        return (new - old) / (now - then) if now > then else None

    def eta(self, step: int, total: int) -> float | None:
        """Seconds until `total` steps, from the mean pace so far, evaluations included."""
        if self._first is None or total <= step:
            return None
        seconds, steps = self.active - self._first[0], step - self._first[1]
        if seconds < MEANINGFUL_SECONDS or steps < MEANINGFUL_SHARE * total:
            return None
        return seconds / steps * (total - step)
