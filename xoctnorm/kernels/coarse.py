"""Planes on a coarser grid: enough to tell classes and their means, and small for many sections."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from xoctnorm.threads import in_threads

_MOST_PIXELS = 2**17


def coarse_factor(n_y: int, n_x: int) -> int:
    """Pixels of a plane along y and x that become one."""
    factor = 1
    while -(-n_y // factor) * -(-n_x // factor) > _MOST_PIXELS:
        factor += 1
    return factor


def coarse_plane(plane: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Means of blocks, in an array of their own; NaN where less than half of a block has data (not NaN nor 0)."""
    if factor == 1:
        return plane.copy()
    from xoctnorm.kernels import compiled

    mean = np.empty([-(-n // factor) for n in plane.shape], np.float32)
    compiled.block_means(compiled.frozen(plane), plane.shape[1], factor, mean)
    return mean


def coarse_images(images: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Means of blocks of every image `(n, y, x)`, as of a plane."""
    return images if factor == 1 else np.stack(list(in_threads(partial(coarse_plane, factor=factor), images)))


def coarse_seeds(seeds: NDArray[np.bool_] | None, factor: int) -> NDArray[np.bool_] | None:
    """Blocks of which more than half is marked; where there is none, blocks with any mark."""
    if seeds is None or factor == 1:
        return seeds
    mostly = coarse_mask(seeds, factor)
    return mostly if mostly.any() else block_sums(seeds, factor) > 0


def coarse_mask(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Blocks of which more than half is True."""
    if factor == 1:
        return mask
    covered: NDArray[np.bool_] = 2 * block_sums(mask, factor) > block_sums(np.ones(mask.shape, bool), factor)
    return covered


def block_sums(values: NDArray[np.generic], factor: int) -> NDArray[np.float64]:
    """Sums of blocks of a plane, in float64; those at its far edges may be smaller."""
    rows, columns = (np.arange(0, n, factor) for n in values.shape)
    sums: NDArray[np.float64] = np.add.reduceat(
        np.add.reduceat(values, rows, axis=0, dtype=np.float64), columns, axis=1, dtype=np.float64
    )
    return sums
