"""Compiled loops behind figures of merit; see `compiled` for how and when such loops are compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.compiled import Floats, _index, compiled

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
    totals, counts = np.empty(mean.shape[1]), np.empty(mean.shape[1], np.int64)
    for row in range(mean.shape[0]):
        n_rows = min(factor, n_y - row * factor)
        totals[:], counts[:] = 0, 0
        for y in range(row * factor, row * factor + n_rows):
            for column in range(mean.shape[1]):
                for x in range(column * factor, min((column + 1) * factor, n_x)):
                    value = values[_index(y * n_x + x)]
                    finite = abs(value) <= _LARGEST
                    totals[_index(column)] += np.float64(value if finite else np.float32(0))
                    counts[_index(column)] += finite
        for column in range(mean.shape[1]):
            n_pixels = n_rows * min(factor, n_x - column * factor)
            few = 2 * counts[column] < n_pixels
            mean[row, column] = np.float32(np.nan) if few else np.float32(totals[column] / counts[column])


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
    largest = np.float32(np.nan)
    for y in range(n_y):
        row = y // factor
        for x in range(n_x):
            label = labels[row, x // factor]
            value = values[y * n_x + x]
            if label == OUTSIDE or not np.isfinite(value):
                continue
            counts[0] += 1
            counts[1] += value != 0
            if label != MASKED and label != FIRST_CLASS:
                counts[2] += 1
                counts[3] += value <= 0
            if value == largest:
                counts[4] += 1
            elif not value <= largest:
                largest = value
                counts[4] = 1
            if label >= FIRST_CLASS:
                kind = np.int64(label) - FIRST_CLASS
                exact = np.float64(value)
                moments[kind, 0] += 1
                moments[kind, 1] += exact
                moments[kind, 2] += exact * exact
                place = np.int64(0)
                if value > 0:
                    place = np.int64(bits[y * n_x + x] >> np.uint32(SHIFT))
                histograms[kind, place] += 1
    return float(largest)


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
            total, squares, alike = 0.0, 0.0, True
            shift = np.float64(values[top * n_x + left])
            for y in range(top, top + size):
                for x in range(left, left + size):
                    value = values[y * n_x + x]
                    alike = alike and labels[y // factor, x // factor] == label and np.isfinite(value)
                    away = np.float64(value) - shift
                    total += away
                    squares += away * away
            count = size * size
            mean = total / count
            variance = (squares - count * mean * mean) / (count - 1)
            signal = mean + shift - floor
            if alike and signal > 0:
                found[n, 0], found[n, 1] = label - FIRST_CLASS, variance / (signal * signal)
                n += 1
    return n
