"""What went wrong, in words for the person who runs it: a code, what happened, and the way out."""

from __future__ import annotations

import torch

from kd_engine.errors import DataError, KdError, RecipeError, StoreError, WeightsError

CODES: dict[type[BaseException], str] = {
    RecipeError: "recipe",
    DataError: "data",
    WeightsError: "weights",
    StoreError: "store",
    KdError: "setup",
}


def explain(error: BaseException, batch_size: int) -> tuple[str, str, str]:
    """(code, message, hint) for a RunFailed event. An error that nobody foresaw has the code "error"."""
    for kind, code in CODES.items():
        if isinstance(error, kind):
            assert isinstance(error, KdError)
            return code, error.message, error.hint
    if is_out_of_memory(error):
        half = max(1, batch_size // 2)
        return "memory", f"Out of memory at batch size {batch_size}.", f"Try batch size {half}."
    message = f"{type(error).__name__}: {error}"
    return (
        "error",
        message,
        "This is a fault of the program; failure.txt in the run's folder has the details.",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the machine, ran out of memory. The CPU allocator says so in a plain
    RuntimeError."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def cause_of_nan(terms: tuple[str, ...], lr: float) -> str:
    """The likely cause of a loss that is not a number."""
    blamed = f" in {', '.join(terms)}" if terms else ""
    return f"the learning rate {lr:g} is likely too high" + (
        f" (the first bad number was{blamed})" if terms else ""
    )
