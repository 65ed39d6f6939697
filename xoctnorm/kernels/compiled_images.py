"""Compiled loops over single pixels of images of sections; see `compiled` for how and when such loops are compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.compiled import Floats, Number, _index, compiled

Bool = NDArray[np.bool_]
Image = NDArray[np.float32]
Series = NDArray[np.float64]

_TO_WHOLE = np.float32(1.5 * 2**23)  # what is added to it, and it taken off again, is a whole number, half to even


@compiled
def to_steps(
    values: Floats, scaled: Floats, first: Number, per_step: Number, most: Number, code: NDArray[np.uint8]
) -> None:
    """Number of the step, from 1 to ``most + 1``, of ``(scaled - first) * per_step``; 0 where a value is no data.

    What has no place, as the log of a negative value, is in the first step.
    """
    for i in range(values.size):
        value = values[_index(i)]
        step = (scaled[_index(i)] - first) * per_step
        step = step if step > 0 else np.float32(0)  # NaN too
        step = step if step < most else most
        number = np.int32((step + _TO_WHOLE) - _TO_WHOLE) + np.int32(1)
        has = (abs(value) < np.float32(np.inf)) & (value != 0)
        code[_index(i)] = np.uint8(number if has else np.int32(0))


@compiled
def pick(table: Bool, number: NDArray[np.signedinteger], out: Bool) -> None:
    """``out[:] = table[number]`` of flat arrays."""
    for i in range(number.size):
        out[_index(i)] = table[_index(number[_index(i)])]


@compiled
def count_blocks(mask: Bool, factor: int, count: NDArray[np.int64]) -> None:
    """Add how many pixels of each block of `factor` x `factor` are marked."""
    n_y, n_x = mask.shape
    of_columns = np.empty(n_x, np.int32)
    for row in range(count.shape[0]):
        of_columns[:] = 0
        for y in range(row * factor, min((row + 1) * factor, n_y)):
            for x in range(n_x):
                of_columns[_index(x)] += np.int32(mask[y, _index(x)])
        for column in range(count.shape[1]):
            for x in range(column * factor, min((column + 1) * factor, n_x)):
                count[row, column] += of_columns[x]


@compiled
def interpolate(grid: Series, y: Series, x: Series, out: Image) -> None:
    """Values of a grid at the coordinates of rows and columns, between points in proportion, beyond ends as there.

    The bits of `scipy.ndimage.map_coordinates` at order 1.
    """
    n_y, n_x = grid.shape
    left, along = np.empty(x.size, np.int64), np.empty((2, x.size))
    for column in range(x.size):
        at = min(max(x[column], 0.0), n_x - 1.0)
        left[column] = min(int(at), max(n_x - 2, 0))
        along[0, column] = 1 - (at - left[column])
        along[1, column] = 1 - along[0, column]
    for row in range(y.size):
        at = min(max(y[row], 0.0), n_y - 1.0)
        up = min(int(at), max(n_y - 2, 0))
        down = min(up + 1, n_y - 1)
        upper = 1 - (at - up)
        lower = 1 - upper
        for column in range(x.size):
            first, second = left[column], min(left[column] + 1, n_x - 1)
            value = grid[up, first] * upper * along[0, column]
            value += grid[up, second] * upper * along[1, column]
            value += grid[down, first] * lower * along[0, column]
            value += grid[down, second] * lower * along[1, column]
            out[row, column] = np.float32(value)
