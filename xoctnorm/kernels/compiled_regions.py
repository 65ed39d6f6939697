"""Compiled loops over pixels and their neighbours; see `compiled` for how and when such loops are compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.compiled import Floats, Number, _index, compiled
from xoctnorm.kernels.prefetch import BLOCK, fetch

Bool = NDArray[np.bool_]
Image = NDArray[np.float32]

ACROSS = np.float64(np.float32(0.7))  # weight of a neighbour over a corner


@compiled
def flood(surface: Image, start: Bool) -> Image:
    """Lowest level that has to be passed on a way to every pixel, over sides and corners, from the nearest `start`.

    Sweeps to and fro go on until nothing sinks any more.
    """
    n_y, n_x = surface.shape
    level = np.full((n_y + 2, n_x + 2), np.float32(np.inf))
    for y in range(n_y):
        for x in range(n_x):
            if start[y, x]:
                level[y + 1, x + 1] = surface[y, x]
    sinking = True
    while sinking:
        sinking = False
        for y in range(1, n_y + 1):
            for x in range(1, n_x + 1):
                above = min(min(level[y - 1, x - 1], level[y - 1, x]), min(level[y - 1, x + 1], level[y, x - 1]))
                lowest = max(above, surface[y - 1, x - 1])
                if lowest < level[y, x]:
                    level[y, x] = lowest
        for y in range(n_y, 0, -1):
            for x in range(n_x, 0, -1):
                below = min(min(level[y + 1, x - 1], level[y + 1, x]), min(level[y + 1, x + 1], level[y, x + 1]))
                lowest = max(below, surface[y - 1, x - 1])
                if lowest < level[y, x]:
                    level[y, x] = lowest
                    sinking = True
    return level[1:-1, 1:-1].copy()


@compiled
def weigh_neighbours(belief: Image, evidence: Image, weighed: Image) -> None:
    """Half of the evidence and of what the eight neighbours believe, corners less, borders being repeated outwards."""
    n_y, n_x = belief.shape
    for y in range(n_y):
        up, down = max(y - 1, 0), min(y + 1, n_y - 1)
        for x in range(n_x):
            left, right = max(x - 1, 0), min(x + 1, n_x - 1)
            around = ACROSS * belief[up, left]
            around += belief[up, x]
            around += ACROSS * belief[up, right]
            around += belief[y, left]
            around += belief[y, right]
            around += ACROSS * belief[down, left]
            around += belief[down, x]
            around += ACROSS * belief[down, right]
            weighed[y, x] = (evidence[y, x] + np.float32(around)) / np.float32(2)


@compiled
def near(mask: Bool, radius: Number) -> Bool:
    """Pixels within a distance of those of a mask."""
    n_y, n_x = mask.shape
    found = mask.copy()
    reach = int(radius)
    for y in range(n_y):
        for x in range(n_x):
            inner = 0 < y < n_y - 1 and 0 < x < n_x - 1
            if not mask[y, x]:
                continue
            if inner and mask[y - 1, x] and mask[y + 1, x] and mask[y, x - 1] and mask[y, x + 1]:
                continue  # what is near to it is near to those beside it too, or in the mask
            for other in range(max(y - reach, 0), min(y + reach, n_y - 1) + 1):
                width = int(np.sqrt(radius * radius - (other - y) ** 2))
                for beside in range(max(x - width, 0), min(x + width, n_x - 1) + 1):
                    found[other, beside] = True
    return found


@compiled
def block_means(values: Floats, n_x: int, factor: int, mean: Image) -> None:
    """Means of blocks of a plane, `(y, x)`; NaN where less than half of a block has data (neither NaN nor 0)."""
    n_y = values.size // n_x
    totals, counts = np.empty(n_x), np.empty(n_x, np.int32)
    for row in range(mean.shape[0]):
        n_rows = min(factor, n_y - row * factor)
        totals[:], counts[:] = 0, 0
        for y in range(n_rows):
            start = (row * factor + y) * n_x
            for first in range(0, n_x, BLOCK):
                fetch(values, _index(start + first))
                for x in range(first, min(first + BLOCK, n_x)):
                    value = values[_index(start + x)]
                    has = (value == value) & (value != 0)
                    totals[_index(x)] += np.float64(value if has else np.float32(0))
                    counts[_index(x)] += np.int32(has)
        for column in range(mean.shape[1]):
            n_columns = min(factor, n_x - column * factor)
            total, count = 0.0, 0
            for x in range(column * factor, column * factor + n_columns):
                total += totals[_index(x)]
                count += counts[_index(x)]
            mean[row, column] = np.float32(total / count) if 2 * count >= n_rows * n_columns and count else np.nan
