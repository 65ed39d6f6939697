"""Steps that change values, compiled by Numba, see `compiled` and `steps`: a block of values takes all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.compiled import Floats, Number, _count, _index, compiled
from xoctnorm.kernels.compiled_histograms import bin_of, scale_of_places
from xoctnorm.kernels.prefetch import BLOCK, fetch
from xoctnorm.kernels.steps import CLIP, CUT, DIVIDE, INTERPOLATE, MULTIPLY, SUBTRACT


@compiled
def take(
    values: NDArray[Any],
    kinds: NDArray[np.int64],
    numbers: NDArray[np.float64],
    knots: Floats,
    lines: NDArray[np.float64],
    out: Floats,
) -> None:
    """Change values by all steps; `out` may be `values`."""
    block, bins, within = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    per_value, bits, near = scale_of_places(knots)
    for start in range(0, values.size, BLOCK):
        n = min(BLOCK, values.size - start)
        fetch(values, _index(start))
        fetch(out, _index(start))
        for i in range(n):
            block[_index(i)] = np.float32(values[_index(start + i)])
        for step in range(kinds.size):
            kind, first, second = kinds[step], numbers[step, 0], numbers[step, 1]
            if kind == CUT:
                _cut(block, n, first, second)
            elif kind == SUBTRACT:
                _subtract(block, n, first)
            elif kind == MULTIPLY:
                _multiply(block, n, first)
            elif kind == DIVIDE:
                _divide(block, n, first)
            elif kind == CLIP:
                _clip(block, n)
            elif kind == INTERPOLATE:
                _interpolate(block, n, knots, lines, first, second, per_value, bits, near, bins, within)
        for i in range(n):
            out[_index(start + i)] = block[_index(i)]


@compiled
def _cut(block: Floats, n: int, floor: Number, cap: Number) -> None:
    floor, cap = np.float32(floor), np.float32(cap)
    for i in range(n):
        value = block[_index(i)]
        value = value if (value <= cap) | (value != value) else cap  # NaN, too, where the cap is NaN
        value = floor if value < floor else value
        block[_index(i)] = value - floor


@compiled
def _subtract(block: Floats, n: int, level: Number) -> None:
    level = np.float32(level)
    for i in range(n):
        value = block[_index(i)]
        block[_index(i)] = value - level if value != 0 else value


@compiled
def _multiply(block: Floats, n: int, factor: Number) -> None:
    factor = np.float32(factor)
    for i in range(n):
        block[_index(i)] *= factor


@compiled
def _divide(block: Floats, n: int, divisor: Number) -> None:
    divisor = np.float32(divisor)
    for i in range(n):
        block[_index(i)] /= divisor


@compiled
def _clip(block: Floats, n: int) -> None:
    zero, one = np.float32(0), np.float32(1)
    for i in range(n):
        value = block[_index(i)]
        value = zero if value < zero else value
        block[_index(i)] = one if value > one else value


@compiled
def _interpolate(
    block: Floats,
    n: int,
    knots: Floats,
    lines: NDArray[np.float64],
    threshold: Number,
    strength: Number,
    per_value: np.float32,
    bits: np.int32,
    near: np.int32,
    bins: NDArray[np.int32],
    within: Floats,
) -> None:
    """Map values above a threshold, linear between knots, constant beyond; NaN stays NaN.

    A value from knot ``i`` on becomes ``lines[i, 0] * value + lines[i, 1]``, or goes a share of that way, as
    `strength` says.
    """
    n_bins, threshold = knots.size - 1, np.float32(threshold)
    first, last, mask = knots[0], knots[n_bins], np.int32((1 << bits) - 1)
    twice, end, n_near = np.int32(2 * near), np.int32(n_bins << bits), _count(0)
    for i in range(n):
        value = block[_index(i)]
        value = value if value > first else first
        value = value if value < last else last
        place = np.int32((value - first) * per_value) if value < last else end
        n_near = _count(n_near + ((np.int32((place + near) & mask) < twice) & (value > first) & (value < last)))
        bins[_index(i)] = place >> bits
        within[_index(i)] = value
    if n_near:
        for i in range(n):
            value = within[_index(i)]
            place = np.int32((value - first) * per_value)
            if (np.int32((place + near) & mask) < twice) & (value > first) & (value < last):
                bins[_index(i)] = bin_of(value, bins[_index(i)], knots)
    if strength == 1:
        for i in range(n):
            at = _index(bins[_index(i)])
            within[_index(i)] = np.float32(lines[at, 0] * np.float64(within[_index(i)]) + lines[at, 1])
    else:
        for i in range(n):
            at = _index(bins[_index(i)])
            mapped = lines[at, 0] * np.float64(within[_index(i)]) + lines[at, 1]
            within[_index(i)] = np.float32((1 - strength) * np.float64(block[_index(i)]) + strength * mapped)
    for i in range(n):
        value = block[_index(i)]
        block[_index(i)] = within[_index(i)] if value > threshold else value
