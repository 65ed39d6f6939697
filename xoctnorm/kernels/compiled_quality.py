"""Compiled loops behind figures of merit; see `compiled` for how and when such loops are compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.compiled import Floats, _count, _index, compiled
from xoctnorm.kernels.prefetch import BLOCK, fetch

Labels = NDArray[np.uint8]
Numbers = NDArray[np.float64]

OUTSIDE, UNSURE, MASKED, FIRST_CLASS = 0, 1, 2, 3  # labels: no field; tissue or agarose of no class; then the classes
N_CLASSES = 3
BINS = 4096
_LARGEST = np.finfo(np.float32).max
SHIFT = 19  # of the bits of a float32: 16 bins for every doubling


@compiled
def coarse_means(values: Floats, n_x: int, factor: int, mean: NDArray[np.float32]) -> None:
    """Means of the finite values of blocks, zeros among them; NaN where less than half of a block is finite."""
    n_y = values.size // n_x
    totals, counts = np.empty(n_x), np.empty(n_x, np.int32)
    for row in range(mean.shape[0]):
        n_rows = min(factor, n_y - row * factor)
        for first in range(0, n_x, BLOCK):  # whose sums are in the nearest cache
            columns = slice(first, min(first + BLOCK, n_x))
            _add_finite(values, row * factor * n_x + first, n_x, n_rows, totals[columns], counts[columns])
        for column in range(mean.shape[1]):
            first, stop = column * factor, min((column + 1) * factor, n_x)
            total, count = 0.0, 0
            for x in range(first, stop):
                total += totals[_index(x)]
                count += counts[_index(x)]
            few = 2 * count < n_rows * (stop - first)
            mean[row, column] = np.float32(np.nan) if few else np.float32(total / count)


@compiled
def _add_finite(values: Floats, start: int, n_x: int, n_rows: int, totals: Numbers, counts: NDArray[np.int32]) -> None:
    """Sums and counts of the finite values of some columns of some rows."""
    totals[:], counts[:] = 0, 0
    for y in range(n_rows):
        at = start + y * n_x
        fetch(values, _index(at))
        for x in range(totals.size):
            value = values[_index(at + x)]
            finite = abs(value) <= _LARGEST
            totals[_index(x)] += np.float64(value if finite else np.float32(0))
            counts[_index(x)] += np.int32(finite)


@compiled
def look_at_plane(
    values: Floats,
    n_x: int,
    labels: Labels,
    factor: int,
    bits: NDArray[np.uint32],
    counts: NDArray[np.int64],
    moments: Numbers,
    histograms: NDArray[np.int64],
) -> float:
    """Count and sum the finite values of the field; returns the largest of them, NaN without any.

    `labels` has one for every block of pixels, `bits` are those of `values`. `counts` gets the voxels of the field,
    those other than 0, those of tissue, those of tissue not above 0, and those that equal the largest; `moments` the
    number, sum and sum of squares of every class; `histograms` how often its values fall into bins of equal ratio,
    what is not above 0 into the first.
    """
    n_y = values.size // n_x
    largest, label = np.float32(np.nan), np.empty(n_x, np.uint8)
    for y in range(n_y):
        if y % factor == 0:
            for column in range(labels.shape[1]):
                label[column * factor : (column + 1) * factor] = labels[y // factor, column]
        largest = _count_line(values, y * n_x, label, largest, counts)
        _add_line(values, bits, y * n_x, labels[y // factor], factor, n_x, moments, histograms)
    return float(largest)


@compiled
def _count_line(
    values: Floats, start: int, label: Labels, largest: np.float32, counts: NDArray[np.int64]
) -> np.float32:
    """Count the values of a line, see `look_at_plane`; returns the largest so far."""
    here, some, tissue, empty, as_large = _count(0), _count(0), _count(0), _count(0), _count(0)
    for x in range(label.size):
        value, one = values[_index(start + x)], np.int32(label[_index(x)])
        has = (one != OUTSIDE) & (abs(value) <= _LARGEST)
        of_tissue = has & (one != MASKED) & (one != FIRST_CLASS)
        here = _count(here + has)
        some = _count(some + (has & (value != 0)))
        tissue = _count(tissue + of_tissue)
        empty = _count(empty + (of_tissue & (value <= 0)))
        as_large = _count(as_large + (has & (not value < largest)))
    counts[0] += here
    counts[1] += some
    counts[2] += tissue
    counts[3] += empty
    if as_large:  # as in few lines
        for x in range(label.size):
            value = values[_index(start + x)]
            if label[x] == OUTSIDE or not abs(value) <= _LARGEST or value < largest:
                continue
            counts[4] = counts[4] + 1 if value == largest else 1
            largest = value
    return largest


@compiled
def _add_line(
    values: Floats,
    bits: NDArray[np.uint32],
    start: int,
    labels: Labels,
    factor: int,
    n_x: int,
    moments: Numbers,
    histograms: NDArray[np.int64],
) -> None:
    """Add the values of a line to moments and histograms, see `look_at_plane`, those of one class after another."""
    column = 0
    while column < labels.size:
        label, first = labels[column], column
        while column < labels.size and labels[column] == label:
            column += 1
        if label < FIRST_CLASS:
            continue
        kind = np.int64(label) - FIRST_CLASS
        n, total, squares = 0, moments[kind, 1], moments[kind, 2]
        for x in range(start + first * factor, start + min(column * factor, n_x)):
            value = values[_index(x)]
            if abs(value) <= _LARGEST:
                exact = np.float64(value)
                n += 1
                total += exact
                squares += exact * exact
                place = bits[_index(x)] >> np.uint32(SHIFT) if value > 0 else np.uint32(0)
                histograms[kind, _index(place)] += 1
        moments[kind, 0] += n
        moments[kind, 1], moments[kind, 2] = total, squares


@compiled
def contrasts_of_blocks(
    values: Floats, n_x: int, labels: Labels, factor: int, size: int, floor: float, found: Numbers
) -> int:
    """Squared speckle contrast of the blocks of `size` pixels across that lie within one class.

    Writes `(class, squared contrast)` into the rows of `found` and returns how many there are. The contrast is that of
    intensity above the floor.
    """
    n_y = values.size // n_x
    n = 0
    for top in range(0, n_y - size + 1, size):
        for left in range(0, n_x - size + 1, size):
            label = labels[top // factor, left // factor]
            if label < FIRST_CLASS:
                continue
            alike = True
            for row in range(top // factor, (top + size - 1) // factor + 1):
                for column in range(left // factor, (left + size - 1) // factor + 1):
                    alike = alike and labels[row, column] == label
            if not alike:
                continue
            total, squares = 0.0, 0.0
            shift = np.float64(values[top * n_x + left])
            for y in range(top, top + size):
                for x in range(left, left + size):
                    away = np.float64(values[_index(y * n_x + x)]) - shift
                    total += away
                    squares += away * away
            if not np.isfinite(squares):
                continue
            count = size * size
            mean = total / count
            variance = (squares - count * mean * mean) / (count - 1)
            signal = mean + shift - floor
            if signal > 0:
                found[n, 0], found[n, 1] = label - FIRST_CLASS, variance / (signal * signal)
                n += 1
    return n
