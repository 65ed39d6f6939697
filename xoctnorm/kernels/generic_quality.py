"""What the compiled loops behind figures of merit compute, for arrays of any library, see `generic`.

Counts are exact. Sums of many values have no order, so that they agree but for the last digits of float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xoctnorm.kernels.backend import namespace, numbers, to_host
from xoctnorm.kernels.compiled_quality import BINS, FIRST_CLASS, MASKED, N_CLASSES, OUTSIDE, SHIFT
from xoctnorm.kernels.generic import sums_of_blocks


def coarse_means(values: Any, n_x: int, factor: int, mean: Any) -> None:
    """Means of the finite values of blocks, zeros among them; NaN where less than half of a block is finite."""
    xp = namespace(values)
    plane = values.reshape(-1, n_x)
    total, count, whole = sums_of_blocks(plane, xp.isfinite(plane), factor, mean.shape)
    mean[...] = xp.where(2 * count >= whole, total / xp.maximum(count, 1), np.nan)


def look_at_plane(
    values: Any, n_x: int, labels: Any, factor: int, bits: Any, counts: Any, moments: Any, histograms: Any
) -> float:
    """Count and sum the finite values of the field; returns the largest of them, NaN without any.

    See `compiled_quality`.
    """
    xp = namespace(values)
    label = xp.where(xp.isfinite(values), _of_pixels(labels, n_x, values.size // n_x, factor), OUTSIDE)
    field = label != OUTSIDE
    tissue = field & (label != MASKED) & (label != FIRST_CLASS)
    largest = xp.max(xp.where(field, values, -np.inf))
    wanted = (field, field & (values != 0), tissue, tissue & (values <= 0), field & (values == largest))
    counts += xp.stack([xp.sum(where, dtype=np.int64) for where in wanted])
    place = xp.where(values > 0, bits >> np.uint32(SHIFT), np.uint32(0)) + (label - FIRST_CLASS) * BINS
    place = xp.where(label >= FIRST_CLASS, place, N_CLASSES * BINS)
    found = xp.bincount(place, minlength=N_CLASSES * BINS + 1)[:-1].reshape(N_CLASSES, BINS)
    histograms += found
    moments[:, 0] += xp.sum(found, axis=1)
    for kind in range(N_CLASSES):
        exact = xp.where(label == FIRST_CLASS + kind, values, np.float32(0)).astype(np.float64)
        moments[kind, 1:] += xp.stack([xp.sum(exact), xp.sum(exact * exact)])
    most = float(numbers(largest)[0])
    return most if np.isfinite(most) else np.nan


def contrasts_of_blocks(values: Any, n_x: int, labels: Any, factor: int, size: int, floor: float, found: Any) -> int:
    """Write `(class, squared contrast)` of the blocks that lie within one class into the rows of `found`.

    Returns how many there are, see `compiled_quality`.
    """
    xp = namespace(values)
    n_rows, n_columns = values.size // n_x // size, n_x // size
    if not n_rows * n_columns:
        return 0

    def in_blocks(pixels: Any) -> Any:
        """Pixels as `(row, column, pixel of a block)`."""
        whole = pixels.reshape(-1, n_x)[: n_rows * size, : n_columns * size]
        blocks = xp.moveaxis(whole.reshape(n_rows, size, n_columns, size), 2, 1)
        return blocks.reshape(n_rows, n_columns, size**2)

    finite = xp.isfinite(values)
    label = in_blocks(xp.where(finite, _of_pixels(labels, n_x, values.size // n_x, factor), OUTSIDE))
    exact = in_blocks(xp.where(finite, values, np.float32(0))).astype(np.float64)
    kind, shift = label[..., 0], exact[..., 0]
    away = exact - shift[..., None]
    count = size**2
    mean = xp.sum(away, axis=2) / count
    variance = (xp.sum(away * away, axis=2) - count * mean * mean) / (count - 1)
    signal = mean + shift - floor
    chosen = (kind >= FIRST_CLASS) & xp.all(label == kind[..., None], axis=2) & (signal > 0)
    n = int(to_host(xp.sum(chosen)))
    found[:n, 0] = kind[chosen] - FIRST_CLASS
    found[:n, 1] = variance[chosen] / (signal[chosen] * signal[chosen])
    return n


def _of_pixels(labels: Any, n_x: int, n_y: int, factor: int) -> Any:
    """Label of every pixel of a flat plane, of those of blocks."""
    xp = namespace(labels)
    rows, columns = xp.arange(n_y) // factor, xp.arange(n_x) // factor
    return labels[rows[:, None], columns].astype(np.int64).reshape(-1)
