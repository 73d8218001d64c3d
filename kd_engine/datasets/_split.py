"""Choose samples by lot, evenly by class, the same on every machine and with every numpy version.

Only PCG64's raw stream and SeedSequence are used: numpy promises to keep both for ever, and promises that of
no method of its `Generator` (NEP 19). A shuffle that changed with an update would move samples from training
to test.
"""

from __future__ import annotations

import numpy as np


def shuffled(n: int, *key: int) -> np.ndarray:
    """0 ... n-1 in an order that `key` (whole numbers from 0) alone decides. (n,) int64."""
    return np.argsort(np.random.PCG64(key).random_raw(n), kind="stable").astype(np.int64, copy=False)


def stratified(labels: np.ndarray, count: int, *key: int, leave: int = 0) -> np.ndarray:
    """`count` sample indices, ascending, with the class shares of `labels` (rounded by largest remainder).

    leave: so many samples of every class are not chosen, even if fewer than `count` are left to choose from.
    """
    classes, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    quotas = _quotas(sizes, count, np.maximum(sizes - leave, 0))
    order = shuffled(len(labels), *key)
    by_class = order[np.argsort(inverse[order], kind="stable")]
    starts = np.cumsum(sizes) - sizes
    chosen = [by_class[starts[k] : starts[k] + quotas[k]] for k in range(len(classes))]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))


def _quotas(sizes: np.ndarray, count: int, most: np.ndarray) -> np.ndarray:
    exact = sizes * (min(count, int(sizes.sum())) / max(int(sizes.sum()), 1))
    quotas: np.ndarray = np.minimum(np.floor(exact).astype(np.int64), most)
    for k in np.argsort(quotas - exact, kind="stable"):  # the largest remainder first
        if quotas.sum() < count and quotas[k] < most[k]:
            quotas[k] += 1
    return quotas
