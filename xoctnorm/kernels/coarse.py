"""Planes on a coarser grid: enough to tell classes and their means, and small for many sections."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.backend import alike, kernels_for, namespace

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
    kernels, regions = kernels_for(plane), kernels_for(plane, "compiled_regions")
    mean: NDArray[np.float32] = namespace(plane).empty(tuple(-(-n // factor) for n in plane.shape), dtype=np.float32)
    regions.block_means(kernels.frozen(plane), plane.shape[1], factor, mean)
    return mean


def coarse_seeds(seeds: NDArray[np.bool_] | None, factor: int) -> NDArray[np.bool_] | None:
    """Blocks of which more than half is marked; where there is none, blocks with any mark."""
    if seeds is None or factor == 1:
        return seeds
    mostly = coarse_mask(seeds, factor)
    return mostly if mostly.any() else _block_counts(seeds, factor) > 0


def coarse_mask(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Blocks of which more than half is True."""
    if factor == 1:
        return mask
    rows, columns = (np.minimum(factor, n - np.arange(0, n, factor)) for n in mask.shape)
    covered: NDArray[np.bool_] = 2 * _block_counts(mask, factor) > alike(rows[:, None] * columns, mask)
    return covered


def _block_counts(mask: NDArray[np.bool_], factor: int) -> NDArray[np.int64]:
    """Marked pixels of every block: what `block_sums` finds, in a tenth of its time."""
    counts: NDArray[np.int64] = namespace(mask).zeros(tuple(-(-n // factor) for n in mask.shape), dtype=np.int64)
    kernels_for(mask, "compiled_images").count_blocks(mask, factor, counts)
    return counts


def block_sums(values: NDArray[Any], factor: int) -> NDArray[np.float64]:
    """Sums of blocks of a plane, in float64; those at its far edges may be smaller."""
    sums: NDArray[np.float64] = namespace(values).zeros(tuple(-(-n // factor) for n in values.shape))
    for y, x in np.ndindex(min(factor, values.shape[0]), min(factor, values.shape[1])):
        part = values[y::factor, x::factor]
        sums[: part.shape[0], : part.shape[1]] += part
    return sums
