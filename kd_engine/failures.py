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


def explain(error: BaseException, batch_size: int | None = None) -> tuple[str, str, str]:
    """(code, message, hint) for a RunFailed event. An error that nobody foresaw has the code "error".

    batch_size: of the run; None when there is none yet, and no folder of its own.
    """
    for kind, code in CODES.items():
        if isinstance(error, kind):
            assert isinstance(error, KdError)
            return code, error.message, error.hint
    if is_out_of_memory(error):
        return "memory", *_out_of_memory(batch_size)
    where = "engine.log in the cache folder" if batch_size is None else "failure.txt in the run's folder"
    hint = f"This is a fault of the program; {where} has the details."
    return "error", f"{type(error).__name__}: {error}", hint


def _out_of_memory(batch_size: int | None) -> tuple[str, str]:
    if batch_size is None or batch_size < 2:
        return "Out of memory.", "Try a smaller model, or close other programs."
    return f"Out of memory at batch size {batch_size}.", f"Try batch size {batch_size // 2}."


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the machine, ran out of memory. The CPU allocator and cuDNN say so in a plain
    RuntimeError."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    signs = ("can't allocate memory", "not enough memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def cause_of_nan(terms: tuple[str, ...], lr: float) -> str:
    """The likely cause of a loss that is not a number."""
    blamed = f" in {', '.join(terms)}" if terms else ""
    return f"the learning rate {lr:g} is likely too high" + (
        f" (the first bad number was{blamed})" if terms else ""
    )
