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
    from xoctnorm.kernels.compiled_spread import fill_tiles, means_and_spreads

    plane, agarose = given
    rows, columns = (_edges(n) for n in plane.shape)
    n_tiles = (rows.size - 1) * (columns.size - 1)
    # One value more, which does not count, may be written behind the last.
    tiles = np.empty((n_tiles, int(rows[1] * columns[1]) + 1), np.float32)
    count = np.empty(n_tiles, np.int64)
    fill_tiles(np.ascontiguousarray(plane), np.ascontiguousarray(agarose), rows, columns, tiles, count)
    enough = count >= _FEWEST
    found = np.empty((2, int(enough.sum())))
    # The spread is not told by a median: that of few integer values stays the same while the spread grows.
    means_and_spreads(np.sort(tiles[enough], axis=1), count[enough], *_TRIMMED, found)
    return found


def _edges(n: int) -> NDArray[np.int64]:
    """Where tiles begin along an axis, and where the last ends; the first are the largest."""
    n_tiles = min(n, _TILES)
    number = np.arange(n_tiles + 1)
    edges: NDArray[np.int64] = number * (n // n_tiles) + np.minimum(number, n % n_tiles)
    return edges


def scale_of_slope(slope: float, error: float) -> str | None:
    """The scale that a slope of spread on mean tells; None where it tells none."""
    if not error <= _SURE:
        return None
    if slope < _DB_BELOW:
        return "db"
    return "linear" if slope > _LINEAR_ABOVE else None
