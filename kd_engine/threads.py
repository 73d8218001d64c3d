"""Let torch's CPU threads wait asleep: set before torch is imported, in the processes that are ours.

GNU OpenMP lets a thread that waits for another spin at full speed, for hundreds of thousands of rounds. Where
a window, or anything else, wants one of the cores, the thread that is waited for is the one that does not
run: on two cores with one busy neighbour a step then takes three to five times as long as with the spin that
is asked for here. Not to spin at all takes up to twice as long when nobody else is there, and is faster only
beside that neighbour. `python -m benchmarks.waiting` measures all of it. It changes no number.
"""

from __future__ import annotations

from collections.abc import MutableMapping

SPINS = "10000"  # rounds of the waiting loop, then sleep
CHOSEN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # who set one of these knows better


def wait_asleep(environ: MutableMapping[str, str]) -> None:
    """Ask for it in the environment of a process that has not imported torch yet."""
    if not any(name in environ for name in CHOSEN):
        environ["GOMP_SPINCOUNT"] = SPINS
