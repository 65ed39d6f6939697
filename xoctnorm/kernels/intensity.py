"""The scale that intensities are stored on, and the way back to linear intensity."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.backend import namespace
from xoctnorm.threads import in_threads

Plane = NDArray[np.float32]

SCALES = ("linear", "amplitude", "db")
"""What a volume may hold: linear intensity, its square root, or 10 · log10 of it. The index is the code."""

_TILES = 8  # along y and x
_FEWEST = 50  # pixels of agarose in a tile
_TRIMMED = (0.05, 0.95)  # of a tile: beyond may be tissue at the rim
_SURE = 0.25  # standard error of the slope beyond which nothing is told
_DB_BELOW, _LINEAR_ABOVE = 0.3, 0.6  # the slope is 0 in decibels, and 1 on linear intensity and amplitude


def linearize(plane: Plane, code: int) -> Plane:
    """Linear intensity of a plane, in place, from the scale with this index in `SCALES`; 0 is empty and stays."""
    if SCALES[int(code)] == "amplitude":
        plane *= plane
        return plane
    if SCALES[int(code)] == "db":
        xp, has = namespace(plane), plane != 0
        plane *= np.float32(np.log(10) / 10)
        plane[...] = xp.where(has, xp.exp(plane), plane)
        return plane
    return plane


def spread_slope(planes: Iterable[tuple[Plane, NDArray[np.bool_]]]) -> tuple[float, float]:
    """Slope of log spread on log mean over tiles of agarose, and its standard error; NaN where nothing tells it.

    Speckle is multiplicative: its spread follows the mean on linear intensity and on amplitude, and does not in
    decibels, where means may even be negative: the slope is then 0.
    """
    found = list(in_threads(_of_tiles, planes))
    mean, spread = np.concatenate(found, axis=1) if found else np.empty((2, 0))
    if mean.size < 8:
        return np.nan, np.nan
    if np.mean(mean <= 0) > 0.05:
        return 0.0, 0.0
    known = (mean > 0) & (spread > 0)
    x, y = np.log(mean[known]), np.log(spread[known])
    if known.sum() < 8 or np.ptp(x) == 0:
        return np.nan, np.nan
    x = x - x.mean()
    slope = float(np.sum(x * y) / np.sum(x**2))
    residual = y - y.mean() - slope * x
    return slope, float(np.sqrt(np.sum(residual**2) / (len(x) - 2) / np.sum(x**2)))


def _of_tiles(given: tuple[Plane, NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Means and spreads of the tiles of a plane that have enough agarose, `(2, tile)`."""
    plane, agarose = given
    kept = np.where(agarose & np.isfinite(plane) & (plane != 0), plane, np.float32(np.inf))
    rows, columns = (np.array_split(np.arange(n), min(n, _TILES)) for n in plane.shape)
    tiles = np.full((len(rows), len(columns), rows[0].size * columns[0].size), np.float32(np.inf))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            tiles[i, j, : row.size * column.size] = kept[row[0] : row[-1] + 1, column[0] : column[-1] + 1].ravel()
    tiles = tiles[np.isfinite(tiles).sum(axis=2) >= _FEWEST]
    ordered = np.sort(tiles, axis=1).astype(np.float64)  # what does not count comes last
    has = np.isfinite(ordered)
    count = has.sum(axis=1, keepdims=True)
    ordered[~has] = 0
    mean = ordered.sum(axis=1) / count[:, 0]
    # Not by a median: that of few integer values stays the same while the spread grows.
    low, high = (_quantile(ordered, count, q) for q in _TRIMMED)
    trimmed = np.clip(ordered, low, high)
    trimmed -= trimmed.sum(axis=1, where=has, keepdims=True) / count
    return np.stack([mean, np.sqrt((trimmed**2).sum(axis=1, where=has) / count[:, 0])])


def _quantile(ordered: NDArray[np.float64], count: NDArray[np.int64], q: float) -> NDArray[np.float64]:
    """Quantile of the first `count` values of every row, which are sorted."""
    place = q * (count - 1)
    below = place.astype(np.int64)
    low = np.take_along_axis(ordered, below, axis=1)
    high = np.take_along_axis(ordered, np.minimum(below + 1, count - 1), axis=1)
    return low + (place - below) * (high - low)


def scale_of_slope(slope: float, error: float) -> str | None:
    """The scale that a slope of spread on mean tells; None where it tells none."""
    if not error <= _SURE:
        return None
    if slope < _DB_BELOW:
        return "db"
    return "linear" if slope > _LINEAR_ABOVE else None
