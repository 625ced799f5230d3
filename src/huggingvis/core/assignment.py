"""The assignment of rows to columns that costs least.

By shortest augmenting paths with potentials, O(n^3): Jonker & Volgenant 1987, "A shortest augmenting path algorithm for
dense and sparse linear assignment problems"; Crouse 2016, "On implementing 2D rectangular assignment algorithms".
"""

from __future__ import annotations

import numpy as np

from huggingvis.core.errors import UsageError


def assignment(cost: np.ndarray) -> np.ndarray:
    """The column of each row, int64 [n], for finite costs [n, n]: sum_i cost[i, column[i]] is least."""
    n = len(cost)
    if cost.shape != (n, n) or not np.isfinite(cost).all():
        raise UsageError(
            f"An assignment needs finite costs [n, n]; found {list(cost.shape)}. Look for NaN in the data."
        )
    u, v = cost.min(1, initial=np.inf), np.zeros(n)  # potentials: cost >= u + v, equal where assigned
    column, row = np.full(n, -1), np.full(n, -1)
    for start in range(n):
        _augment(cost, u, v, column, row, start)
    return column


def _augment(cost: np.ndarray, u: np.ndarray, v: np.ndarray, column: np.ndarray, row: np.ndarray, start: int) -> None:
    """Assign row `start`, by the path of least reduced cost from it to a free column (Dijkstra's search)."""
    n = len(cost)
    far, before, done = np.full(n, np.inf), np.full(n, start), np.zeros(n, dtype=bool)
    i, reach = start, 0.0
    while True:
        through = reach + cost[i] - u[i] - v
        nearer = ~done & (through < far)
        far[nearer], before[nearer] = through[nearer], i
        j = int(np.where(done, np.inf, far).argmin())
        reach = float(far[j])
        done[j] = True
        if row[j] < 0:
            break
        i = int(row[j])
    u[start] += reach
    settled = done & (row >= 0)
    u[row[settled]] += reach - far[settled]
    v[done] -= reach - far[done]
    while True:  # turn the path around
        i = int(before[j])
        row[j] = i
        column[i], j = j, int(column[i])
        if i == start:
            return
