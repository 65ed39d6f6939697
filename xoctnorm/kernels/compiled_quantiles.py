"""The compiled map from quantiles to quantiles; see `compiled` for how and when such loops are compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.compiled import Floats, _index, compiled, frozen
from xoctnorm.kernels.prefetch import BLOCK, fetch
from xoctnorm.kernels.strips import single

Series = NDArray[np.float64]

_CELLS = 2048  # equal parts of the range of knots, which tell the knot next to a value
_LARGEST = float(np.finfo(np.float32).max)


def moved(
    plane: NDArray[np.float32], knots: Series, shift: Series, tilt_below: float, tilt_above: float
) -> NDArray[np.float32]:
    """Values moved by a shift that is linear from knot to knot, with a slope of its own beyond the outermost.

    Shifts between knots are those of ``np.interp``, to the bit.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # between equal knots there is nothing
        slopes = np.diff(shift) / np.diff(knots)
    lines = np.empty((knots.size + 1, 3))
    lines[:, 0] = tilt_below, *slopes, tilt_above
    lines[0, 1:], lines[1:, 1], lines[1:, 2] = (knots[0], shift[0]), knots, shift
    edges = np.concatenate([[-np.inf], knots, [np.nan]])  # no value lies beyond NaN, infinity neither
    out = np.empty(plane.shape, np.float32)
    _move(frozen(single(plane)), edges, lines, out.reshape(-1))
    return out


@compiled
def _move(values: Floats, edges: Series, lines: Series, out: Floats) -> None:
    """Move values by `lines`, slope and a point of each, that hold from one of `edges` to the next."""
    low, high = np.float32(edges[1]), np.float32(edges[edges.size - 2])
    width = (edges[edges.size - 2] - edges[1]) / _CELLS
    per_value = np.float32(min(1 / width, _LARGEST) if width > 0 else 0)
    first, line = np.empty(_CELLS + 1, np.int32), 1
    for cell in range(_CELLS + 1):
        while edges[line + 1] <= edges[1] + cell * width:
            line += 1
        first[cell] = line
    cells, most = np.empty(BLOCK, np.int32), np.float32(_CELLS)
    block = np.empty(BLOCK, np.float32)
    for start in range(0, values.size, BLOCK):
        n = min(BLOCK, values.size - start)
        fetch(values, _index(start))
        for i in range(n):
            value = values[_index(start + i)]
            inside = value if value > low else low
            inside = inside if inside < high else high
            place = (inside - low) * per_value
            cells[_index(i)] = np.int32(place if place < most else most)
        for i in range(n):
            value, at = np.float64(values[_index(start + i)]), first[_index(cells[_index(i)])]
            while value >= edges[_index(at + 1)]:
                at += np.int32(1)
            while value < edges[_index(at)]:
                at -= np.int32(1)
            shift = lines[_index(at), 0] * (value - lines[_index(at), 1]) + lines[_index(at), 2]
            block[_index(i)] = np.float32(value + shift)
        for i in range(n):
            out[_index(start + i)] = block[_index(i)]
