"""Compiled loops over matrices with a band and a border, see `bordered`, and `compiled` for how they are compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.compiled import _index, compiled

Series = NDArray[np.float64]
Index = NDArray[np.int32]


@compiled
def add_blocks(
    starts: Index,
    columns: Index,
    values: Series,
    weight: Series,
    target: Series,
    n_first: int,
    width: int,
    entries: Series,
    right: Series,
) -> None:
    """Add weighed observations to normal equations: `design.T @ W @ design`, and `design.T @ W @ target`.

    The rows of `design` are sparse, from `starts[row]` on, with ascending columns; `W` has a block for each plane.
    Of the equations, which are symmetric, only the lower triangle is made.
    """
    n_planes, n, _ = weight.shape
    n_border = right.size - n_first
    for z in range(n_planes):
        for i in range(n):
            for j in range(n):
                factor = weight[z, i, j]
                if factor == 0:
                    continue
                for a in range(starts[z * n + i], starts[z * n + i + 1]):
                    first = factor * values[_index(a)]
                    if first == 0:
                        continue
                    row = columns[_index(a)]
                    right[_index(row)] += first * target[z, j]
                    for b in range(starts[z * n + j], starts[z * n + j + 1]):
                        column = columns[_index(b)]
                        if column > row:
                            break
                        entries[_entry(row, column, n_first, n_border, width)] += first * values[_index(b)]


@compiled
def add_rows(
    starts: Index, columns: Index, values: Series, weight: Series, n: int, n_first: int, width: int, entries: Series
) -> None:
    """Add the squares of sparse rows, each times its weight, to the lower triangle of equations for `n` unknowns."""
    for row in range(weight.size):
        square = weight[row] ** 2
        if square == 0:
            continue
        for a in range(starts[row], starts[row + 1]):
            for b in range(starts[row], starts[row + 1]):
                if columns[b] <= columns[a]:
                    at = _entry(columns[a], columns[b], n_first, n - n_first, width)
                    entries[at] += square * values[a] * values[b]


@compiled
def _entry(row: np.int32, column: np.int32, n_first: int, n_border: int, width: int) -> np.uint64:
    """Where an entry of the lower triangle is: the band comes first, then the border, then the corner."""
    if row < n_first:
        return _index(row * (width + 1) + column - row + width)
    if column < n_first:
        return _index(n_first * (width + 1) + column * n_border + row - n_first)
    return _index(n_first * (width + 1 + n_border) + (row - n_first) * n_border + column - n_first)


@compiled
def scale_parts(band: Series, border: Series, corner: Series, scale: Series, ridge: float, scaled: Series) -> None:
    """Multiply by the scales of row and column, and add a ridge to the diagonal: in place, the corner into `scaled`."""
    n_first, width = band.shape[0], band.shape[1] - 1
    for row in range(n_first):
        for column in range(max(row - width, 0), row + 1):
            band[row, column - row + width] *= scale[row] * scale[column]
        band[row, width] += ridge
        for column in range(corner.shape[0]):
            border[row, column] *= scale[row] * scale[n_first + column]
    for row in range(corner.shape[0]):
        for column in range(row + 1):
            scaled[row, column] = corner[row, column] * (scale[n_first + row] * scale[n_first + column])
        scaled[row, row] += ridge


@compiled
def factor_band(band: Series) -> bool:
    """Lower factor of a band, in place; False where it is not positive definite."""
    width = band.shape[1] - 1
    for row in range(band.shape[0]):
        first = max(row - width, 0)
        for column in range(first, row + 1):
            value = band[row, column - row + width]
            for k in range(max(first, column - width), column):
                value -= band[row, k - row + width] * band[column, k - column + width]
            if column < row:
                band[row, column - row + width] = value / band[column, width]
            elif value > 0:
                band[row, width] = np.sqrt(value)
            else:
                return False
    return True


@compiled
def divide_by_band(band: Series, right: Series) -> None:
    """Solve equations with the lower factor of a band, for all columns of the right-hand side, in place."""
    width, n = band.shape[1] - 1, right.shape[1]
    for row in range(band.shape[0]):
        for column in range(max(row - width, 0), row):
            factor = band[row, column - row + width]
            if factor != 0:
                for i in range(n):
                    right[row, _index(i)] -= factor * right[column, _index(i)]
        for i in range(n):
            right[row, _index(i)] /= band[row, width]


@compiled
def divide_by_transposed_band(band: Series, right: Series) -> None:
    """Solve equations with the transposed lower factor of a band, in place."""
    width = band.shape[1] - 1
    for row in range(band.shape[0] - 1, -1, -1):
        right[row] /= band[row, width]
        for column in range(max(row - width, 0), row):
            right[column] -= band[row, column - row + width] * right[row]
