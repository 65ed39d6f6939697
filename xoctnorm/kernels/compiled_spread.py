"""Compiled means and spreads of the tiles of a plane; see `compiled` for how and when such loops are compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.compiled import Number, _index, compiled

Image = NDArray[np.float32]
Index = NDArray[np.int64]
Series = NDArray[np.float64]


@compiled
def fill_tiles(
    plane: Image, where: NDArray[np.bool_], rows: Index, columns: Index, tiles: NDArray[np.float32], count: Index
) -> None:
    """Copy the finite values at `where`, other than 0, of each tile into its row of `tiles`, and count them.

    A tile of `rows` and `columns` goes from one of these to the next. What is left of a row becomes infinite.
    """
    for i in range(rows.size - 1):
        for j in range(columns.size - 1):
            number, n = i * (columns.size - 1) + j, 0
            values = tiles[number]
            for y in range(rows[i], rows[i + 1]):
                for x in range(columns[j], columns[j + 1]):
                    value = plane[y, x]
                    values[_index(n)] = value  # which the next overwrites where it does not count
                    n += where[y, x] & (abs(value) < np.float32(np.inf)) & (value != 0)
            values[n:] = np.float32(np.inf)
            count[number] = n


@compiled
def means_and_spreads(tiles: NDArray[np.float32], count: Index, low: Number, high: Number, found: Series) -> None:
    """Mean of the first so many values of every row, which are sorted, and standard deviation once they are trimmed.

    What lies beyond the quantiles `low` and `high` is taken for these; `found` is `(2, row)`.
    """
    for row in range(count.size):
        values = tiles[row, : count[row]]
        least, most = _quantile(values, low), _quantile(values, high)
        total, trimmed = 0.0, 0.0
        for value in values:
            total += value
            trimmed += min(max(np.float64(value), least), most)
        centre, squares = trimmed / values.size, 0.0
        for value in values:
            squares += (min(max(np.float64(value), least), most) - centre) ** 2
        found[0, row] = total / values.size
        found[1, row] = np.sqrt(squares / values.size) if most > least else 0.0


@compiled
def _quantile(ordered: NDArray[np.float32], q: Number) -> float:
    """Quantile of sorted values, linearly interpolated."""
    place = q * (ordered.size - 1)
    below = int(place)
    low, high = np.float64(ordered[below]), np.float64(ordered[min(below + 1, ordered.size - 1)])
    return low + (place - below) * (high - low)
