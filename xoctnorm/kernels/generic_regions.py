"""What the compiled loops over pixels and their neighbours compute, for arrays of any library, see `generic`.

Every operation rounds as it does in the loops, and sums are added in their order, so that bits are the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xoctnorm.kernels.backend import namespace
from xoctnorm.kernels.compiled_gaussian import weights_of
from xoctnorm.kernels.compiled_regions import ACROSS
from xoctnorm.kernels.generic import sums_of_blocks


def gaussian(image: Any, sigma: float) -> Any:
    """Smooth an image by a Gaussian with reflecting edges, cut at 4 sigma; a copy of the image at sigma 0."""
    if sigma <= 0:
        return image.copy()
    xp, smooth, weights = namespace(image), image, weights_of(sigma).tolist()
    reach = len(weights) - 1
    for _ in range(2):
        n = smooth.shape[0]
        at = xp.arange(-reach, n + reach) % (2 * n)
        padded = smooth[xp.minimum(at, 2 * n - 1 - at)].astype(np.float64)
        total = padded[reach : reach + n] * weights[reach]
        for far in range(reach):
            last = 2 * reach - far
            total += (padded[far : far + n] + padded[last : last + n]) * weights[far]
        smooth = total.astype(image.dtype).T
    return xp.ascontiguousarray(smooth)


def weigh_neighbours(belief: Any, evidence: Any, weighed: Any) -> None:
    """Half of the evidence and of what the eight neighbours believe, corners less, borders being repeated outwards."""
    xp = namespace(belief)
    rows, columns = (xp.clip(xp.arange(-1, n + 1), 0, n - 1) for n in belief.shape)
    exact = belief[rows[:, None], columns].astype(np.float64)
    up, here, down = exact[:-2], exact[1:-1], exact[2:]
    around = ACROSS * up[:, :-2]
    around += up[:, 1:-1]
    around += ACROSS * up[:, 2:]
    around += here[:, :-2]
    around += here[:, 2:]
    around += ACROSS * down[:, :-2]
    around += down[:, 1:-1]
    around += ACROSS * down[:, 2:]
    weighed[...] = (evidence + around.astype(np.float32)) / np.float32(2)


def block_means(values: Any, n_x: int, factor: int, mean: Any) -> None:
    """Means of blocks of a plane, `(y, x)`; NaN where less than half of a block has data (neither NaN nor 0)."""
    xp = namespace(values)
    plane = values.reshape(-1, n_x)
    total, count, whole = sums_of_blocks(plane, (plane == plane) & (plane != 0), factor, mean.shape)
    enough = (2 * count >= whole) & (count > 0)
    mean[...] = xp.where(enough, total / xp.maximum(count, 1), np.nan)


def pick(table: Any, number: Any, out: Any) -> None:
    """``out[:] = table[number]`` of flat arrays."""
    out[...] = table[number]


def count_blocks(mask: Any, factor: int, count: Any) -> None:
    """Add how many pixels of each block of `factor` x `factor` are marked."""
    count += sums_of_blocks(mask, mask, factor, count.shape)[1].astype(np.int64)
