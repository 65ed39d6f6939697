"""Compiled sums behind the normal equations of the drift model; see `compiled` for how and when they are compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.compiled import Floats, _index, compiled
from xoctnorm.kernels.tile_series import TILES

Series = NDArray[np.float64]
Index = NDArray[np.int32]


@compiled
def add_tiles(values: Floats, n_x: int, images: NDArray[np.uint8], total: Series, count: Series) -> None:
    """Add the pixels of a plane that are finite and not 0 to sums and counts of sets, `(set, tile)`.

    `images` are `(image, pixel)`: the set of a pixel counted from 1, or 0. No set is in two images.
    """
    n_y = values.size // n_x
    column = np.arange(n_x) * TILES // n_x
    for image in images:
        for y in range(n_y):
            row = y * TILES // n_y * TILES
            for x in range(n_x):
                one = image[_index(y * n_x + x)]
                if one:
                    value = values[_index(y * n_x + x)]
                    if abs(value) < np.float32(np.inf) and value != 0:
                        tile = row + column[x]
                        total[one - 1, tile] += np.float64(value)
                        count[one - 1, tile] += 1


@compiled
def covariances(
    known: NDArray[np.bool_],
    error: Series,
    inflation: Series,
    doubt: Series,
    kind: NDArray[np.int64],
    shared: Series,
    anatomy: float,
    least: float,
    own: Series,
) -> None:
    """Covariances of the observations of planes `(plane, slot, slot)`, the identity where they are not known.

    Parameters
    ----------
    known, inflation, doubt
        Of every observation, `(plane, slot)`: whether there is one, what a floor makes of relative errors, and the
        factor on its standard error.
    error, shared
        Variance of every observation by its pixels, without inflation, and its covariance by pixels in common with
        the first slot of its class.
    kind
        Class of every slot; 0, agarose, has no anatomy.
    anatomy, least
        Variances that all slots of a class share, and that every observation has at least.
    """
    n_planes, n = known.shape
    first = np.full(kind.max() + 1, -1)
    for i in range(n):
        if first[kind[i]] < 0:
            first[kind[i]] = i
    for z in range(n_planes):
        for i in range(n):
            for j in range(i):
                value = 0.0
                if known[z, i] and known[z, j] and kind[i] == kind[j] and kind[i] > 0:
                    value = anatomy
                    if j == first[kind[i]]:
                        value += shared[z, i] * inflation[z, j] * inflation[z, i]
                own[z, i, j] = own[z, j, i] = value
            own[z, i, i] = 1.0
            if known[z, i]:
                variance = error[z, i] * inflation[z, i] ** 2 + least + (anatomy if kind[i] > 0 else 0.0)
                # Doubt is an error of its own: scaled together, sets with common pixels would get absurd weights.
                own[z, i, i] = variance * doubt[z, i] ** 2


@compiled
def invert_blocks(own: Series, known: NDArray[np.bool_], common: Series, weight: Series) -> float:
    """Inverse covariances of planes into `weight`, and the log determinant of all together.

    `own` is the covariance of the observations of every plane, the identity where they are not known, and `common` the
    variance that all of a plane share.
    """
    n_planes, n = known.shape
    lower, inverse = np.zeros((n, n)), np.zeros((n, n))
    log_det = 0.0
    for z in range(n_planes):
        for i in range(n):
            for j in range(i + 1):
                value = own[z, i, j] + (common[z] if known[z, i] and known[z, j] else 0.0)
                for k in range(j):
                    value -= lower[i, k] * lower[j, k]
                lower[i, j] = np.sqrt(value) if i == j else value / lower[j, j]
            if known[z, i]:
                log_det += 2 * np.log(lower[i, i])
        for j in range(n):
            for i in range(j, n):
                value = 1.0 if i == j else 0.0
                for k in range(j, i):
                    value -= lower[i, k] * inverse[k, j]
                inverse[i, j] = value / lower[i, i]
        for i in range(n):
            for j in range(i + 1):
                value = 0.0
                if known[z, i] and known[z, j]:
                    for k in range(i, n):
                        value += inverse[k, i] * inverse[k, j]
                weight[z, i, j] = weight[z, j, i] = value
    return log_det


@compiled
def times(starts: Index, columns: Index, values: Series, vector: Series, product: Series) -> None:
    """Sparse rows times a vector."""
    for row in range(product.size):
        total = 0.0
        for a in range(starts[row], starts[row + 1]):
            total += values[a] * vector[columns[a]]
        product[row] = total
